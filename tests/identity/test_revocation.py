"""Revocation lists: who may write them, that they go forward only, and what they stop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cbor2
import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from qfl.errors import PayloadError
from qfl.identity.identity import DAY, Identity
from qfl.identity.refusal import Refusal, RefusedError
from qfl.identity.registry import Registry
from qfl.identity.revocation import LIST, REASONS, RevocationList, Revoked, revoke
from qfl.identity.rotation import rotate

NOW = 1_800_000_000
OPERATOR = Identity.create(["operator"], now=NOW)
IMPOSTOR = Identity.create(["operator"], now=NOW)
NODE, OTHER = Identity.create(["client"], now=NOW), Identity.create(["client"], now=NOW)
EMPTY = revoke(OPERATOR, None, now=NOW)
FULL = revoke(OPERATOR, EMPTY, [Revoked(NODE.did, NOW + 1, "compromised")], now=NOW + 1)


def registry() -> Registry:
    """A registry that knows the operator and two nodes."""
    pinned = {OPERATOR.did: ["operator"], NODE.did: ["client"], OTHER.did: ["client"]}
    made = Registry(pinned, operator=OPERATOR.did)
    for one in (OPERATOR, NODE, OTHER):
        made.admit([one.description])
    return made


def reason_of_update(made: Registry, fresh: RevocationList, now: float = NOW) -> Refusal:
    with pytest.raises(RefusedError) as caught:
        made.update(fresh, now)
    return caught.value.reason


def reason_of_known(made: Registry, did: str, now: float = NOW) -> Refusal:
    with pytest.raises(RefusedError) as caught:
        made.known(did, now)
    return caught.value.reason


def test_a_list_comes_back_from_its_bytes() -> None:
    again = RevocationList.from_bytes(FULL.to_bytes())
    assert again == FULL
    again.verify(OPERATOR.description, NOW)
    assert (again.sequence, again.issuer) == (2, OPERATOR.did)
    assert again.by_did[NODE.did] == Revoked(NODE.did, NOW + 1, "compromised")


dids = st.integers(0, 2**200).map(
    lambda n: "did:qfl:" + "".join("abcdefgh"[n >> 3 * i & 7] for i in range(51)) + "a"
)


@settings(max_examples=30)
@given(st.dictionaries(dids, st.tuples(st.integers(0, 2**53), st.sampled_from(REASONS))))
def test_any_list_comes_back(entries: dict[str, tuple[int, str]]) -> None:
    made = revoke(OPERATOR, None, [Revoked(did, *rest) for did, rest in entries.items()], now=NOW)
    again = RevocationList.from_bytes(made.to_bytes())
    assert again == made
    assert {one.did: (one.since, one.reason) for one in again.revoked} == entries


def test_who_is_revoked_is_refused_and_others_are_not() -> None:
    made = registry()
    made.update(EMPTY, NOW)
    assert made.known(NODE.did, NOW).did == NODE.did
    made.update(FULL, NOW)
    assert reason_of_known(made, NODE.did) is Refusal.REVOKED
    assert made.known(OTHER.did, NOW).did == OTHER.did
    assert made.revocations == FULL


def test_no_one_else_can_revoke() -> None:
    made = registry()
    forged = revoke(IMPOSTOR, None, [Revoked(NODE.did, NOW, "lost")], now=NOW)
    assert reason_of_update(made, forged) is Refusal.ISSUER
    assert reason_of_update(made, replace(forged, issuer=OPERATOR.did)) is Refusal.SIGNATURE
    assert reason_of_update(made, replace(FULL, signature=b"")) is Refusal.NOT_SIGNED
    assert reason_of_update(made, replace(FULL, revoked=())) is Refusal.SIGNATURE
    assert reason_of_update(made, replace(FULL, sequence=9)) is Refusal.SIGNATURE
    wrong_purpose = OPERATOR.sign(FULL.body, b"qfl description 1")
    assert reason_of_update(made, replace(FULL, signature=wrong_purpose)) is Refusal.SIGNATURE
    with pytest.raises(PayloadError, match="no role operator"):
        revoke(NODE, None)
    assert made.revocations is None


def test_nobody_revokes_where_no_operator_is_pinned_or_described() -> None:
    assert reason_of_update(Registry({NODE.did: ["client"]}), EMPTY) is Refusal.ISSUER
    silent = Registry({OPERATOR.did: ["operator"]}, operator=OPERATOR.did)
    assert reason_of_update(silent, EMPTY) is Refusal.ISSUER


def test_lists_go_forward_only() -> None:
    made = registry()
    made.update(FULL, NOW)
    made.update(RevocationList.from_bytes(FULL.to_bytes()), NOW)  # the same again does no harm
    assert reason_of_update(made, EMPTY) is Refusal.SEQUENCE
    second = revoke(OPERATOR, EMPTY, [Revoked(OTHER.did, NOW, "left")], now=NOW)
    assert second.sequence == FULL.sequence
    assert reason_of_update(made, second) is Refusal.SEQUENCE
    assert made.revocations == FULL
    third = revoke(OPERATOR, FULL, [Revoked(OTHER.did, NOW, "left")], now=NOW)
    made.update(third, NOW)
    assert list(third.by_did) == sorted([NODE.did, OTHER.did])


def test_what_was_revoked_keeps_its_entry() -> None:
    again = revoke(OPERATOR, FULL, [Revoked(NODE.did, NOW + 99, "left")], now=NOW)
    assert again.by_did[NODE.did] == FULL.by_did[NODE.did]


def test_without_a_current_list_nobody_counts() -> None:
    made = registry()
    assert reason_of_known(made, OTHER.did) is Refusal.STALE
    assert reason_of_update(made, EMPTY, NOW + 30 * DAY) is Refusal.STALE
    assert reason_of_update(made, EMPTY, float("nan")) is Refusal.NOT_YET_VALID
    made.update(EMPTY, NOW + 30 * DAY - 1)
    assert made.known(OTHER.did, NOW + 30 * DAY - 1)
    assert reason_of_known(made, OTHER.did, NOW + 30 * DAY) is Refusal.STALE


def test_an_operator_that_has_run_out_revokes_nothing() -> None:
    late = revoke(OPERATOR, None, now=NOW + 366 * DAY)
    assert reason_of_update(registry(), late, NOW + 366 * DAY) is Refusal.EXPIRED


def test_a_rotated_operator_goes_on() -> None:
    made = registry()
    made.update(FULL, NOW)
    fresh = rotate(OPERATOR, now=NOW)
    after = revoke(fresh, FULL, [Revoked(OTHER.did, NOW, "lost")], now=NOW)
    assert reason_of_update(made, after) is Refusal.ISSUER
    made.admit([OPERATOR.description, fresh.description])
    made.update(after, NOW)
    assert reason_of_known(made, OTHER.did) is Refusal.REVOKED
    assert reason_of_update(made, revoke(OPERATOR, after, now=NOW)) is Refusal.ISSUER


def test_a_revoked_key_names_no_successor() -> None:
    made = registry()
    made.update(FULL, NOW)
    thief = rotate(NODE, now=NOW)  # backdated: the key was revoked a second later
    with pytest.raises(RefusedError) as caught:
        made.admit([NODE.description, thief.description])
    assert caught.value.reason is Refusal.REVOKED
    earlier = registry()
    earlier.update(EMPTY, NOW)
    earlier.admit([NODE.description, thief.description])
    assert earlier.known(thief.did, NOW)
    earlier.update(FULL, NOW)
    assert reason_of_known(earlier, thief.did) is Refusal.REVOKED


@pytest.mark.parametrize(
    "changes",
    [
        {"revoked": [[NODE.did, 1]]},
        {"revoked": [[NODE.did, 1, "bored"]]},
        {"revoked": [["did:qfl:x", 1, "lost"]]},
        {"revoked": [[NODE.did, "1", "lost"]]},
        {"revoked": [{"did": NODE.did}]},
        {"revoked": [[NODE.did, 1, "lost"]] * 2},
        {"revoked": [[did, 1, "lost"] for did in sorted([NODE.did, OTHER.did], reverse=True)]},
        {"revoked": "all"},
        {"issuer": "nobody"},
        {"sequence": -1},
        {"not_after": NOW},
        {"extra": 1},
    ],
)
def test_lists_that_cannot_be_are_refused(changes: dict[str, Any]) -> None:
    body = cbor2.dumps(cbor2.loads(EMPTY.body) | changes, canonical=True)
    outer = cbor2.loads(EMPTY.to_bytes()) | {"body": body}
    outer["signatures"] = [OPERATOR.sign(body, LIST.context)]
    with pytest.raises(RefusedError) as caught:
        RevocationList.from_bytes(cbor2.dumps(outer, canonical=True))
    assert caught.value.reason in (Refusal.DAMAGED, Refusal.DID, Refusal.STALE)
