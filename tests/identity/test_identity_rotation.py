"""Rotation: chains from a pinned identifier, and what a registry takes them for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from qfl.identity.description import DESCRIPTION, ROTATION_CONTEXT, Description
from qfl.identity.identity import DAY, Identity, describe
from qfl.identity.refusal import Refusal, RefusedError
from qfl.identity.registry import Registry
from qfl.identity.rotation import MOST_LINKS, rotate, verify_chain

NOW = 1_800_000_000
FIRST = Identity.create(["client", "key_holder"], now=NOW, days=10)
SECOND = rotate(FIRST, now=NOW + 5 * DAY, days=10)
THIRD = rotate(SECOND, now=NOW + 12 * DAY, days=10)
CHAIN = [FIRST.description, SECOND.description, THIRD.description]
THEN = NOW + 13 * DAY
STRANGER = Identity.create(["client"], now=NOW)


def reason(chain: Sequence[Description], first: str = FIRST.did, now: float = THEN) -> Refusal:
    with pytest.raises(RefusedError) as caught:
        verify_chain(chain, first, now)
    return caught.value.reason


def test_a_chain_leads_from_the_pinned_identifier_to_the_present_one() -> None:
    assert verify_chain(CHAIN, FIRST.did, THEN) == THIRD.description
    assert verify_chain(CHAIN[:1], FIRST.did, NOW) == FIRST.description
    assert THIRD.description.previous == SECOND.did
    assert len({one.did for one in CHAIN}) == len({one.sealing for one in CHAIN}) == 3
    again = [Description.from_bytes(one.to_bytes()) for one in CHAIN]
    assert verify_chain(again, FIRST.did, THEN) == THIRD.description


def test_the_end_of_a_chain_must_be_valid() -> None:
    assert reason(CHAIN[:2], now=NOW + 16 * DAY) is Refusal.EXPIRED
    assert reason(CHAIN, now=NOW) is Refusal.NOT_YET_VALID


def test_chains_that_break_are_refused() -> None:
    first, second, third = CHAIN
    assert reason(CHAIN, SECOND.did) is Refusal.ROTATION
    assert reason(CHAIN[1:]) is Refusal.ROTATION
    assert reason([]) is Refusal.ROTATION
    assert reason([first, third]) is Refusal.ROTATION
    assert reason([first, second, second]) is Refusal.ROTATION
    assert reason([first, STRANGER.description], now=NOW) is Refusal.ROTATION
    assert reason(CHAIN * MOST_LINKS) is Refusal.ROTATION


def taken_over(signer: Identity, context: bytes = ROTATION_CONTEXT) -> Description:
    """A stranger's description that says it replaces the first, with somebody's word for it."""
    fresh = describe(STRANGER.signing, STRANGER.sealing, ["client"], now=NOW, previous=FIRST.did)
    return fresh.signed(fresh.signature, signer.sign(fresh.body, context))


def test_only_the_old_key_can_name_its_successor() -> None:
    first = FIRST.description
    assert verify_chain([first, taken_over(FIRST)], FIRST.did, NOW).did == STRANGER.did
    assert reason([first, taken_over(STRANGER)], now=NOW) is Refusal.SIGNATURE
    # A description that the old key signed as its own says nothing about a successor.
    other_purpose = taken_over(FIRST, DESCRIPTION.context)
    assert reason([first, other_purpose], now=NOW) is Refusal.SIGNATURE
    unsigned = replace(taken_over(FIRST), rotation=b"")
    assert reason([first, unsigned], now=NOW) is Refusal.NOT_SIGNED
    moved = replace(CHAIN[1], rotation=CHAIN[2].rotation)
    assert reason([first, moved], now=NOW + 6 * DAY) is Refusal.SIGNATURE


def test_the_new_key_must_sign_too() -> None:
    # Or somebody could have a stranger's key follow their own, and speak for the stranger.
    fresh = taken_over(FIRST)
    forged = fresh.signed(FIRST.sign(fresh.body, DESCRIPTION.context), fresh.rotation)
    assert reason([FIRST.description, forged], now=NOW) is Refusal.SIGNATURE


def test_every_link_must_be_signed_by_itself() -> None:
    # The identifier holds the signing key only; that the sealing key is its, the signature says.
    swapped = replace(FIRST.description, sealing=STRANGER.description.sealing)
    for chain in ([swapped], [swapped, *CHAIN[1:]]):
        assert reason(chain, now=THEN if len(chain) > 1 else NOW) is Refusal.SIGNATURE
        assert admit(Registry({FIRST.did: ["client"]}), chain) is Refusal.SIGNATURE
    assert reason([replace(FIRST.description, signature=b"")], now=NOW) is Refusal.NOT_SIGNED


def test_a_rotation_adds_no_roles() -> None:
    fewer = rotate(FIRST, roles=["client"], now=NOW)
    assert fewer.description.roles == ("client",)
    with pytest.raises(RefusedError) as caught:
        rotate(FIRST, roles=["client", "operator"], now=NOW)
    assert caught.value.reason is Refusal.ROLE
    more = describe(STRANGER.signing, STRANGER.sealing, ["server"], now=NOW, previous=FIRST.did)
    more = more.signed(more.signature, FIRST.sign(more.body, ROTATION_CONTEXT))
    assert reason([FIRST.description, more], now=NOW) is Refusal.ROLE


@pytest.mark.parametrize("now", [NOW - DAY, NOW + 11 * DAY])
def test_what_is_not_valid_cannot_be_rotated(now: int) -> None:
    with pytest.raises(RefusedError) as caught:
        rotate(FIRST, now=now)
    assert caught.value.reason is Refusal.ROTATION
    late = describe(STRANGER.signing, STRANGER.sealing, ["client"], now=now, previous=FIRST.did)
    late = late.signed(late.signature, FIRST.sign(late.body, ROTATION_CONTEXT))
    assert reason([FIRST.description, late], now=now) is Refusal.ROTATION


def test_a_rotation_may_change_the_algorithm() -> None:
    stronger = rotate(FIRST, algorithm="ML-DSA-87", now=NOW)
    assert stronger.algorithm == "ML-DSA-87"
    assert verify_chain([FIRST.description, stronger.description], FIRST.did, NOW).did
    with pytest.raises(RefusedError) as caught:
        rotate(FIRST, algorithm="Falcon-padded-512", now=NOW)
    assert caught.value.reason is Refusal.ALGORITHM


def known(registry: Registry, did: str, now: float) -> Refusal:
    with pytest.raises(RefusedError) as caught:
        registry.known(did, now)
    return caught.value.reason


def admit(registry: Registry, chain: Sequence[Description]) -> Refusal:
    with pytest.raises(RefusedError) as caught:
        registry.admit(chain)
    return caught.value.reason


def test_a_registry_knows_the_present_identifier_only() -> None:
    registry = Registry({FIRST.did: ["client"]})
    assert known(registry, FIRST.did, NOW) is Refusal.UNKNOWN_SENDER
    registry.admit(CHAIN[:1])
    assert registry.known(FIRST.did, NOW) == FIRST.description
    assert known(registry, FIRST.did, NOW + 10 * DAY) is Refusal.EXPIRED
    assert known(registry, FIRST.did, NOW - DAY) is Refusal.NOT_YET_VALID
    assert known(registry, STRANGER.did, NOW) is Refusal.UNKNOWN_SENDER
    registry.admit(CHAIN)
    registry.admit(CHAIN[:1])  # known already; it takes nothing back
    assert registry.known(THIRD.did, THEN) == THIRD.description
    assert known(registry, FIRST.did, NOW) is Refusal.SUPERSEDED
    assert known(registry, SECOND.did, THEN) is Refusal.SUPERSEDED


def test_a_registry_takes_nobody_who_is_not_pinned() -> None:
    registry = Registry({FIRST.did: ["client"]})
    assert admit(registry, [STRANGER.description]) is Refusal.UNKNOWN_SENDER
    assert admit(registry, CHAIN[1:]) is Refusal.UNKNOWN_SENDER
    assert admit(registry, []) is Refusal.UNKNOWN_SENDER


def test_a_key_describes_itself_once() -> None:
    # Otherwise a stolen key could write itself a longer validity, or another sealing key.
    registry = Registry({FIRST.did: ["client"]})
    registry.admit(CHAIN[:1])
    longer = describe(FIRST.signing, FIRST.sealing, ["client", "key_holder"], now=NOW, days=99)
    assert admit(registry, [longer]) is Refusal.ROTATION
    fork = rotate(FIRST, now=NOW + DAY)
    registry.admit(CHAIN)
    assert admit(registry, [FIRST.description, fork.description]) is Refusal.ROTATION


def test_nobody_rotates_into_somebody_else() -> None:
    registry = Registry({FIRST.did: ["client"], STRANGER.did: ["server"]})
    assert admit(registry, [FIRST.description, taken_over(FIRST)]) is Refusal.ROTATION
    others = Registry({FIRST.did: ["client"], THIRD.did: ["client"]})
    assert admit(others, CHAIN) is Refusal.ROTATION


def test_a_role_needs_the_word_of_both() -> None:
    registry = Registry({FIRST.did: ["client", "server"]})
    registry.admit(CHAIN)
    registry.check_role(THIRD.did, "client")
    for role in ("server", "key_holder", "operator", ""):
        with pytest.raises(RefusedError) as caught:
            registry.check_role(THIRD.did, role)
        assert caught.value.reason is Refusal.ROLE


def test_a_registry_cannot_be_made_of_nonsense() -> None:
    for pinned, operator, expected in (
        ({"did:qfl:x": ["client"]}, "", Refusal.DID),
        ({FIRST.did: ["admin"]}, "", Refusal.ROLE),
        ({FIRST.did: ["client"]}, FIRST.did, Refusal.ISSUER),
        ({FIRST.did: ["operator"]}, SECOND.did, Refusal.ISSUER),
    ):
        with pytest.raises(RefusedError) as caught:
            Registry(pinned, operator)
        assert caught.value.reason is expected
