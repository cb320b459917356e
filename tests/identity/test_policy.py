"""Policies: what they grant and to whom, what none may say, and who may sign one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from qfl.errors import PayloadError
from qfl.identity.identity import Identity
from qfl.identity.policy import (
    DEFAULT_PERMISSIONS,
    PERMISSIONS,
    POLICY,
    Enrolled,
    Policy,
    sign_policy,
)
from qfl.identity.refusal import Refusal, RefusedError
from qfl.identity.rotation import rotate

NOW = 1_800_000_000
OPERATOR = Identity.create(["operator"], now=NOW)
IMPOSTOR = Identity.create(["operator"], now=NOW)


def a_did(number: int) -> str:
    """An identifier of nobody, another for each number; counted in base 8 from the right."""
    return "did:qfl:" + "".join("abcdefgh"[number >> 3 * at & 7] for at in range(50, -1, -1)) + "a"


CLINIC = Enrolled("clinic-1", a_did(1), ("client",))
OTHER = Enrolled("clinic-2", a_did(2), ("client",))
NOTARY = Enrolled("notary", a_did(3), ("key_holder",))
SERVER = Enrolled("server", a_did(4), ("server",))
BOSS = Enrolled("boss", a_did(5), ("operator",))
EVERYBODY = (BOSS, CLINIC, OTHER, NOTARY, SERVER)
FIRST = sign_policy(OPERATOR, "clinics", EVERYBODY, now=NOW)


def refused(make: Callable[[], object]) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        make()
    return caught.value


def signed(
    permissions: Mapping[str, Any], members: tuple[Enrolled, ...] = EVERYBODY
) -> Callable[[], Policy]:
    return lambda: sign_policy(OPERATOR, "clinics", members, permissions, now=NOW)


# What is granted


def test_by_default_every_role_may_do_its_own_work_and_nothing_else() -> None:
    allowed = {
        CLINIC: {"train"},
        OTHER: {"train"},
        NOTARY: {"hold_keys", "open"},
        SERVER: {"release", "serve"},
        BOSS: {"submit"},
    }
    for member, expected in allowed.items():
        may = {permission for permission in PERMISSIONS if FIRST.may(member.did, permission)}
        assert may == expected, member.name


def test_what_is_not_granted_is_denied() -> None:
    bare = sign_policy(OPERATOR, "clinics", EVERYBODY, {"train": []}, now=NOW)
    for one in EVERYBODY:
        assert not any(bare.may(one.did, permission) for permission in PERMISSIONS)
    assert not FIRST.may(a_did(9), "train")
    assert not FIRST.may(OPERATOR.did, "submit")  # it signs, and is no member
    assert not FIRST.may(CLINIC.name, "train")  # a name is no identifier
    assert not FIRST.may(CLINIC.did, "role:client")
    assert not FIRST.may(CLINIC.did, "")


def test_a_permission_is_granted_by_name_or_by_role() -> None:
    wanted = {"open": ["notary", "clinic-2"], "train": ["role:client", "role:key_holder"]}
    policy = signed(wanted)()
    assert policy.permissions == {
        "open": ("clinic-2", "notary"),
        "train": ("role:client", "role:key_holder"),
    }
    assert [one.name for one in EVERYBODY if policy.may(one.did, "open")] == ["clinic-2", "notary"]
    assert [one.name for one in EVERYBODY if policy.may(one.did, "train")] == [
        "clinic-1",
        "clinic-2",
        "notary",
    ]


def test_a_member_that_is_called_like_a_role_is_a_member() -> None:
    called = Enrolled("client", a_did(7), ("operator",))
    policy = signed({"train": ["client"]}, (called, CLINIC))()
    assert policy.may(called.did, "train") and not policy.may(CLINIC.did, "train")


def test_names_of_members_and_of_others() -> None:
    assert FIRST.name_of(NOTARY.did) == "notary"
    assert FIRST.name_of(a_did(9)) == a_did(9)


def test_later_changes_of_what_was_given_change_no_policy() -> None:
    given_to: dict[str, tuple[str, ...]] = {"train": ("role:client",)}
    policy = replace(FIRST, permissions=given_to)
    given_to["open"] = ("role:client",)
    assert not policy.may(CLINIC.did, "open") and policy.permissions == {"train": ("role:client",)}
    with pytest.raises(TypeError):
        DEFAULT_PERMISSIONS["open"] = ("role:client",)  # type: ignore[index]


# What no policy may say


@pytest.mark.parametrize("permission", ["hold_keys", "open"])
@pytest.mark.parametrize(
    ("grantee", "member"),
    [
        ("role:server", NOTARY),
        ("server", SERVER),
        ("role:client", Enrolled("both", a_did(8), ("client", "server"))),
        ("both", Enrolled("both", a_did(8), ("operator", "server"))),
    ],
    ids=["role", "name", "another role", "name of several roles"],
)
def test_no_server_opens_what_it_sums(permission: str, grantee: str, member: Enrolled) -> None:
    error = refused(signed({permission: [grantee]}, (member,)))
    assert error.reason is Refusal.PERMISSION
    named = "role:server" if grantee == "role:server" else f"member {member.name}"
    assert f"permission {permission} cannot be granted to {named}" in str(error)
    assert "the server must not open what it sums" in str(error)
    # The same grant of anything else stands.
    assert signed({"train": [grantee]}, (member,))()


def test_nobody_is_both_server_and_key_holder() -> None:
    error = refused(lambda: Enrolled("both", a_did(1), ("key_holder", "server")))
    assert error.reason is Refusal.ROLE
    assert str(error).startswith("member both cannot be both server and key_holder")


@pytest.mark.parametrize(
    ("roles", "words"),
    [
        ((), "roles [] must be at least one"),
        (("client", "client"), "each once"),
        (("key_holder", "client"), "in order"),
        (("clients",), "unknown role 'clients'; did you mean 'client'?"),
        (("",), "unknown role ''"),
    ],
    ids=["none", "twice", "order", "unknown", "empty"],
)
def test_roles_are_those_of_descriptions(roles: tuple[str, ...], words: str) -> None:
    error = refused(lambda: Enrolled("clinic", a_did(1), roles))
    assert error.reason is Refusal.ROLE
    assert str(error).startswith("member clinic: ") and words in str(error)


NAMES = ["", "A", "Clinic", "a b", "-a", ".a", "ä", "a/b", "role:client", "a" * 65, "a\n", "../a"]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_names_that_are_none(name: str) -> None:
    error = refused(lambda: Enrolled(name, a_did(1), ("client",)))
    assert error.reason is Refusal.DAMAGED and "no name of a member" in str(error)
    error = refused(lambda: sign_policy(OPERATOR, name, []))
    assert error.reason is Refusal.DAMAGED and "no name of a federation" in str(error)


@pytest.mark.parametrize("name", ["a", "7", "no", "clinic-1", "a.b_c-d", "a" * 64])
def test_names_that_are_some(name: str) -> None:
    assert Enrolled(name, a_did(1), ("client",)).name == name


@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        ({"members": (OTHER, CLINIC)}, Refusal.DAMAGED, "must name each once, in order"),
        ({"members": (CLINIC, CLINIC)}, Refusal.DAMAGED, "must name each once, in order"),
        (
            {"members": (CLINIC, replace(OTHER, did=CLINIC.did))},
            Refusal.DAMAGED,
            f"members clinic-1 and clinic-2 have one identifier, {CLINIC.did}",
        ),
        ({"issuer": "nobody"}, Refusal.DID, "'nobody' is no identifier"),
        (
            {"issuer": CLINIC.did},
            Refusal.ISSUER,
            "member clinic-1 issues the policy, but has no role operator",
        ),
        (
            {"permissions": {"trian": ()}},
            Refusal.PERMISSION,
            "unknown permission 'trian'; did you mean 'train'?",
        ),
        (
            {"permissions": {"train": ("role:clint",)}},
            Refusal.PERMISSION,
            "permission train: unknown role 'clint'; did you mean 'client'?",
        ),
        (
            {"permissions": {"train": ("clinic-3",)}},
            Refusal.PERMISSION,
            "permission train: unknown member 'clinic-3'; did you mean",
        ),
        ({"permissions": {"train": ("client",)}}, Refusal.PERMISSION, "role:NAME"),
        ({"permissions": {"train": (CLINIC.did,)}}, Refusal.PERMISSION, "unknown member"),
        (
            {"permissions": {"train": ("clinic-1", "clinic-1")}},
            Refusal.DAMAGED,
            "permission train must name each grantee once, in order",
        ),
        ({"permissions": {"train": ("clinic-2", "clinic-1")}}, Refusal.DAMAGED, "in order"),
    ],
    ids=range(12),
)
def test_policies_that_cannot_be(changes: dict[str, Any], reason: Refusal, words: str) -> None:
    error = refused(lambda: replace(FIRST, **changes))
    assert error.reason is reason
    assert words in str(error)


def test_an_issuer_that_is_a_member_is_one_as_operator() -> None:
    assert replace(FIRST, issuer=BOSS.did).issuer == BOSS.did


# Who signs


def test_only_an_operator_signs_a_policy() -> None:
    node = Identity.create(["client", "server"], now=NOW)
    with pytest.raises(PayloadError, match="no role operator"):
        sign_policy(node, "clinics", EVERYBODY)
    # One that was signed all the same is refused by whoever verifies it.
    forged = replace(FIRST, issuer=node.did)
    forged = replace(forged, signature=node.sign(forged.body, POLICY.context))
    error = refused(lambda: forged.verify(node.description, NOW))
    assert error.reason is Refusal.ISSUER and "expected operator among them" in str(error)


def test_a_policy_holds_if_the_operator_signed_just_that() -> None:
    FIRST.verify(OPERATOR.description, NOW)
    other = sign_policy(IMPOSTOR, "clinics", EVERYBODY, now=NOW)
    wrong_purpose = OPERATOR.sign(FIRST.body, b"qfl revocation list 1")
    for changed, expected in (
        (other, Refusal.ISSUER),
        (replace(other, issuer=OPERATOR.did), Refusal.SIGNATURE),
        (replace(FIRST, signature=b""), Refusal.NOT_SIGNED),
        (replace(FIRST, signature=wrong_purpose), Refusal.SIGNATURE),
        (replace(FIRST, federation="others"), Refusal.SIGNATURE),
        (replace(FIRST, sequence=2), Refusal.SIGNATURE),
        (replace(FIRST, issued=NOW - 1), Refusal.SIGNATURE),
        (replace(FIRST, members=EVERYBODY[:4]), Refusal.SIGNATURE),
        (replace(FIRST, permissions={}), Refusal.SIGNATURE),
    ):
        error = refused(lambda changed=changed: changed.verify(OPERATOR.description, NOW))
        assert error.reason is expected


@pytest.mark.parametrize("now", [NOW - 301, float("nan")], ids=["early", "no number"])
def test_a_policy_of_the_future_is_refused(now: float) -> None:
    FIRST.verify(OPERATOR.description, NOW - 300)  # a clock may run five minutes behind
    error = refused(lambda: FIRST.verify(OPERATOR.description, now))
    assert error.reason is Refusal.NOT_YET_VALID and "is the clock right?" in str(error)


def test_policies_are_numbered() -> None:
    second = sign_policy(OPERATOR, "clinics", EVERYBODY[:3], before=FIRST, now=NOW + 9)
    assert (FIRST.sequence, second.sequence, second.issued) == (1, 2, NOW + 9)
    new = rotate(OPERATOR, now=NOW)
    third = sign_policy(new, "clinics", EVERYBODY, before=second, now=NOW)
    third.verify(new.description, NOW)
    assert third.sequence == 3
    with pytest.raises(PayloadError, match="federation 'clinics's; a policy of 'others'"):
        sign_policy(OPERATOR, "others", EVERYBODY, before=FIRST)


def test_the_clock_says_when_a_policy_was_signed() -> None:
    before = int(time.time())
    assert before <= sign_policy(OPERATOR, "clinics", []).issued <= time.time()
