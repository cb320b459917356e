"""Policies as bytes: one form, nothing read that was not signed, nothing that breaks a reader."""

from __future__ import annotations

import time
from typing import Any

import cbor2
import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from qfl.errors import PayloadError
from qfl.identity.description import ROLES
from qfl.identity.identity import Identity
from qfl.identity.policy import (
    MOST_MEMBERS,
    PERMISSIONS,
    POLICY,
    Enrolled,
    Policy,
    sign_policy,
)
from qfl.identity.refusal import Refusal, RefusedError

NOW = 1_800_000_000
OPERATOR = Identity.create(["operator"], now=NOW)


def a_did(number: int) -> str:
    """An identifier of nobody, another for each number; counted in base 8 from the right."""
    return "did:qfl:" + "".join("abcdefgh"[number >> 3 * at & 7] for at in range(50, -1, -1)) + "a"


CLINIC = Enrolled("clinic-1", a_did(1), ("client",))
OTHER = Enrolled("clinic-2", a_did(2), ("client",))
FIRST = sign_policy(OPERATOR, "clinics", [CLINIC, OTHER], now=NOW)


def refusal(data: bytes) -> Refusal:
    with pytest.raises(RefusedError) as caught:
        Policy.from_bytes(data)
    return Refusal(caught.value.reason)


def test_the_bytes_of_a_policy_read_by_hand() -> None:
    small = sign_policy(OPERATOR, "clinics", [OTHER, CLINIC], {"train": ["role:client"]}, now=NOW)
    outer = cbor2.loads(small.to_bytes())
    assert (outer["kind"], outer["version"], len(outer["signatures"])) == ("policy", 1, 1)
    assert cbor2.loads(outer["body"]) == {
        "federation": "clinics",
        "issuer": OPERATOR.did,
        "sequence": 1,
        "issued": NOW,
        "members": [["clinic-1", a_did(1), ["client"]], ["clinic-2", a_did(2), ["client"]]],
        "permissions": [["train", ["role:client"]]],
    }


names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,8}", fullmatch=True)
roles = st.sets(st.sampled_from(ROLES), min_size=1).filter(
    lambda some: not {"server", "key_holder"} <= some
)
grants = st.dictionaries(
    st.sampled_from(["train", "release", "serve", "submit"]),
    st.sets(st.sampled_from([f"role:{role}" for role in ROLES])),
)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(names, roles, max_size=6), grants, names, st.integers(0, 2**40), st.data())
def test_any_policy_comes_back_and_grants_the_same(
    people: dict[str, set[str]],
    to_roles: dict[str, set[str]],
    federation: str,
    now: int,
    data: st.DataObject,
) -> None:
    members = [
        Enrolled(name, a_did(number), tuple(sorted(some)))
        for number, (name, some) in enumerate(people.items())
    ]
    wanted = {
        permission: some
        | data.draw(st.sets(st.sampled_from(sorted(people))) if people else st.just(set()))
        for permission, some in to_roles.items()
    }
    made = sign_policy(OPERATOR, federation, members, wanted, now=now)
    again = Policy.from_bytes(made.to_bytes())
    assert again == made and again.to_bytes() == made.to_bytes()
    again.verify(OPERATOR.description, now)
    for one in members:
        for permission in PERMISSIONS:
            expected = one.name in wanted.get(permission, ()) or any(
                f"role:{role}" in wanted.get(permission, ()) for role in people[one.name]
            )
            assert again.may(one.did, permission) is expected


WHOLE = FIRST.to_bytes()


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 8 * len(WHOLE) - 1))
def test_any_flipped_bit_is_refused(bit: int) -> None:
    flipped = bytearray(WHOLE)
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(RefusedError):
        Policy.from_bytes(bytes(flipped)).verify(OPERATOR.description, NOW)


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.integers(0, len(WHOLE) - 1).map(lambda n: WHOLE[:n])))
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(RefusedError):
        Policy.from_bytes(data)


def with_body(changes: dict[str, Any]) -> bytes:
    """A policy whose body is whatever the operator signed."""
    body = cbor2.dumps(cbor2.loads(FIRST.body) | changes, canonical=True)
    outer = cbor2.loads(WHOLE) | {"body": body}
    outer["signatures"] = [OPERATOR.sign(body, POLICY.context)]
    return cbor2.dumps(outer, canonical=True)


plain = st.recursive(
    st.integers(0, 9) | st.text(max_size=4) | st.binary(max_size=4) | st.sampled_from(PERMISSIONS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(["federation", "issuer", "sequence", "members", "permissions"]), plain)
def test_whatever_stands_in_a_field_no_reader_breaks(key: str, value: object) -> None:
    try:
        found = Policy.from_bytes(with_body({key: value}))
    except RefusedError:
        return
    # What was read is all that was signed.
    found.verify(OPERATOR.description, NOW)
    assert found.body == cbor2.dumps(cbor2.loads(FIRST.body) | {key: value}, canonical=True)


ONE = ["clinic-1", a_did(1), ["client"]]


@pytest.mark.parametrize(
    "changes",
    [
        {"members": [["clinic-1", a_did(1)]]},
        {"members": [["clinic-1", a_did(1), "client"]]},
        {"members": [["clinic-1", a_did(1), [1]]]},
        {"members": [["clinic-1", a_did(1), ["client"] * 5]]},
        {"members": [[1, a_did(1), ["client"]]]},
        {"members": [["clinic-1", "did:qfl:x", ["client"]]]},
        {"members": [ONE, ONE]},
        {"members": {"clinic-1": ONE}},
        {"permissions": {"train": ["role:client"]}},
        {"permissions": [["train", "role:client"]]},
        {"permissions": [["train", [1]]]},
        {"permissions": [["train", ["role:client"]], ["train", ["role:client"]]]},
        {"permissions": [["train", []], ["open", []]]},
        {"permissions": [["dance", []]]},
        {"permissions": [["open", ["role:server"]]]},
        {"permissions": [[name, []] for name in sorted(PERMISSIONS)] * 2},
        {"sequence": -1},
        {"federation": 7},
        {"federation": "a" * 300},
        {"extra": 1},
    ],
    ids=range(20),
)
def test_bytes_that_say_what_cannot_be_are_refused(changes: dict[str, Any]) -> None:
    assert refusal(with_body(changes)) in (Refusal.DAMAGED, Refusal.DID, Refusal.PERMISSION)


def test_other_kinds_and_versions_are_refused() -> None:
    outer = cbor2.loads(WHOLE)
    for changes, expected in (
        ({"version": 2}, Refusal.VERSION),
        ({"kind": "revocation list"}, Refusal.DAMAGED),
        ({"signatures": []}, Refusal.NOT_SIGNED),
        ({"signatures": outer["signatures"] * 2}, Refusal.DAMAGED),
    ):
        data = cbor2.dumps(outer | changes, canonical=True)
        assert refusal(data) is expected


def many(count: int, width: int = 12) -> tuple[Enrolled, ...]:
    return tuple(Enrolled(f"{n:0{width}d}", a_did(n), ("client",)) for n in range(count))


def test_a_thousand_members_take_no_time() -> None:
    started = time.process_time()
    members = many(1000)
    made = sign_policy(OPERATOR, "clinics", members, now=NOW)
    again = Policy.from_bytes(made.to_bytes())
    again.verify(OPERATOR.description, NOW)
    assert all(again.may(one.did, "train") and not again.may(one.did, "open") for one in members)
    assert time.process_time() - started < 2
    # identifier 60 + 2, name 12 + 1, roles 8, list 1
    assert len(made.to_bytes()) == pytest.approx(1000 * 84, rel=0.06)


def test_there_is_a_most_of_members() -> None:
    with pytest.raises(RefusedError, match="at most 20000") as caught:
        sign_policy(OPERATOR, "clinics", many(MOST_MEMBERS + 1))
    assert caught.value.reason is Refusal.DAMAGED
    widest = [
        Enrolled(one.name, one.did, ("client", "key_holder", "operator"))
        for one in many(MOST_MEMBERS, 64)
    ]
    made = sign_policy(OPERATOR, "clinics", widest, now=NOW)
    assert Policy.from_bytes(made.to_bytes()) == made
    names = [one.name for one in widest]
    with pytest.raises(PayloadError, match="grant permissions to roles instead of names"):
        sign_policy(OPERATOR, "clinics", widest, {"train": names, "submit": names})


def test_a_message_names_no_twenty_thousand_others() -> None:
    with pytest.raises(RefusedError) as caught:
        sign_policy(OPERATOR, "clinics", many(MOST_MEMBERS), {"train": ["nobody"]})
    assert str(caught.value) == (
        "permission train: 'nobody' is none of the 20000 members; all in a role are role:NAME"
    )
