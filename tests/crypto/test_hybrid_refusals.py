"""What ``hybrid`` refuses, by name: malformed bytes, foreign keys, forged and repeated parts."""

from __future__ import annotations

import random
import re
import struct
from typing import Any

import numpy as np
import pytest

from qfl.crypto import Header, KeyHolder, MemberKeys, Roster, SumRange, pack
from qfl.crypto.hybrid import Hybrid
from qfl.crypto.hybrid_keys import KeyOpener, identity_of, info_of
from qfl.crypto.hybrid_sum import HybridSum, check_contribution
from qfl.crypto.sealing import seal
from qfl.errors import ConfigError, OpeningRefusedError, PayloadError, RangeError

LENGTH, RECORD, HEAD = 100, 3288, 10
PLACE, ELSEWHERE = "run/1/train/0", "run/2/train/0"
SUMS = SumRange(fraction_bits=20, bound=2.0, additions=5)
SCHEME = Hybrid.for_sums(LENGTH, SUMS)
KEYS = SCHEME.generate_keys()
SIGNERS = [MemberKeys() for _ in range(5)]
ROSTER = Roster(signer.member for signer in SIGNERS)


def contribution(signer: MemberKeys | None = None, place: str = PLACE) -> bytes:
    return SCHEME.protect(np.arange(LENGTH), KEYS.public, place=place, signer=signer)


@pytest.fixture(scope="module")
def signed() -> list[bytes]:
    return [contribution(signer) for signer in SIGNERS]


def sum_of(bodies: list[bytes]) -> HybridSum:
    total = SCHEME.accumulator(LENGTH, KEYS.public)
    for body in bodies:
        total.add(body)
    return total


def opened(body: bytes, roster: Roster | None = ROSTER, place: str = PLACE) -> Any:
    return SCHEME.open(body, LENGTH, KEYS.secret, place=place, roster=roster)


def records(bodies: list[bytes]) -> bytes:
    """Keys of a sum as a server would make them up, with nothing checked."""
    head = struct.pack("<4sIH", b"qhr1", len(bodies), 1)
    return head + b"".join(body[:RECORD] for body in bodies)


# One key, too few, too many, twice


@pytest.mark.parametrize("count", [0, 1, 2])
def test_the_key_of_a_single_client_is_not_opened(signed: list[bytes], count: int) -> None:
    words = f"asked to open the keys of {count} updates; these parameters hide each of 3 or more"
    for roster in (ROSTER, None):
        with pytest.raises(OpeningRefusedError, match=words):
            opened(sum_of(signed[:count]).result(), roster)


def test_one_key_many_times_is_not_opened(signed: list[bytes]) -> None:
    name = SIGNERS[0].name
    for roster in (ROSTER, None):
        with pytest.raises(OpeningRefusedError, match=f"hold a contribution of {name} twice"):
            opened(records([signed[0], signed[1], signed[0]]), roster)
    unsigned = contribution()
    with pytest.raises(OpeningRefusedError, match="hold a contribution of 0000000000000000 twice"):
        opened(records([unsigned] * 3), None)


def test_more_keys_than_the_parameters_are_for_are_not_opened(signed: list[bytes]) -> None:
    sixth = contribution(MemberKeys())
    with pytest.raises(OpeningRefusedError, match=r"keys of 6 updates; .* sound for at most 5"):
        opened(records([*signed, sixth]), None)
    total = sum_of(signed)
    with pytest.raises(PayloadError, match=r"more than 5 contributions: .* not sound for another"):
        total.add(sixth)


def test_a_contributor_is_added_once(signed: list[bytes]) -> None:
    total = sum_of(signed[:3])
    before = total.result(), total.masked()
    for again in (signed[0], contribution(SIGNERS[0])):
        with pytest.raises(PayloadError, match=f"member {SIGNERS[0].name} contributed already"):
            total.add(again)
    assert (total.result(), total.masked()) == before
    unsigned = contribution()
    total.add(unsigned)
    with pytest.raises(PayloadError, match="member 0000000000000000 contributed already"):
        total.add(unsigned)


def test_a_key_holder_counts_the_keys_itself(signed: list[bytes]) -> None:
    """The server says five in the header, and brings the keys of three."""
    sums = SumRange(20, 2.0, 5)
    holder = KeyHolder("run", Hybrid.for_sums(LENGTH, sums), KEYS, 5, roster=ROSTER)
    header = Header("hybrid", KEYS.key_id, "run", 1, "train", LENGTH, 5)
    with pytest.raises(OpeningRefusedError, match="a sum of 5 updates; it holds 3"):
        holder.open(pack(header, sum_of(signed[:3]).result()))
    assert holder.open(pack(header, sum_of(signed).result())).shape == (2048,)
    with pytest.raises(OpeningRefusedError, match="another sum was already opened for round 1"):
        holder.open(pack(header, sum_of(signed[::-1]).result()))


# Whose, where, under which key


def test_contributions_of_another_place_are_not_opened(signed: list[bytes]) -> None:
    old = contribution(SIGNERS[2], ELSEWHERE)
    mixed = sum_of([*signed[:2], old]).result()
    words = rf"the signature on the contribution of member {SIGNERS[2].name} does not fit.*'run/1/"
    with pytest.raises(PayloadError, match=words):
        opened(mixed)
    # Without a roster the seal still tells.
    with pytest.raises(PayloadError, match="sealed message cannot be opened"):
        opened(mixed, None)
    with pytest.raises(PayloadError, match=r"not for place 'run/2/train/0'"):
        opened(sum_of(signed).result(), place=ELSEWHERE)


def test_unsigned_and_strangers_contributions_are_not_opened(signed: list[bytes]) -> None:
    with pytest.raises(PayloadError, match="is not signed: here every contributor must sign"):
        opened(sum_of([*signed[:3], contribution()]).result())
    stranger = MemberKeys()
    with pytest.raises(PayloadError, match=f"'{stranger.name}' is not on the roster of 5 members"):
        opened(sum_of([*signed[:3], contribution(stranger)]).result())


def test_a_forged_signature_is_refused(signed: list[bytes]) -> None:
    """Every byte of a record counts, be it name, signature, digest or sealed key."""
    draw = random.Random(3)
    for part in (range(8, 72), range(72, 104), range(104, RECORD)):
        forged = bytearray(signed[2])
        forged[draw.choice(part)] ^= 1 << draw.randrange(8)
        with pytest.raises(PayloadError, match="does not fit: it is damaged, forged"):
            opened(sum_of([*signed[:2], bytes(forged)]).result())
    renamed = bytes.fromhex(SIGNERS[3].name) + signed[2][8:]
    with pytest.raises(
        PayloadError, match=f"contribution of member {SIGNERS[3].name} does not fit"
    ):
        opened(records([*signed[:2], renamed]))


def test_nobody_can_send_anothers_sealed_key_as_its_own(signed: list[bytes]) -> None:
    """A dishonest client copies a sealed key and vouches for it; only the seal can tell."""
    from qfl.crypto.contribution import vouch

    thief, sealed = SIGNERS[4], signed[0][104:RECORD]
    identity = identity_of(KEYS.public)
    masked = memoryview(signed[0][RECORD:])
    stolen = vouch([sealed], masked, identity, PLACE, thief).to_bytes() + signed[0][RECORD:]
    with pytest.raises(PayloadError, match="sealed message cannot be opened"):
        opened(sum_of([*signed[:3], stolen]).result())


def test_a_key_that_no_client_draws_is_refused(signed: list[bytes]) -> None:
    from qfl.crypto.contribution import vouch

    identity = identity_of(KEYS.public)
    info = info_of(identity, SIGNERS[2].name, PLACE)
    for plain in (b"\x54" * 2048, b"\xac" * 2048, b"\x80" * 2048, b"\0" * 2047, b"", b"\0" * 2049):
        sealed = seal(plain, KEYS.public[4:], info)
        with pytest.raises(PayloadError, match="a ring key is not 2048 integers from -83 to 83"):
            KeyOpener(KEYS.secret).open(sealed, info)
    large = seal(b"\x54" * 2048, KEYS.public[4:], info)
    body = vouch([large], memoryview(signed[2][RECORD:]), identity, PLACE, SIGNERS[2]).to_bytes()
    with pytest.raises(PayloadError, match="its client does not follow the protocol"):
        opened(records([*signed[:2], body]))


def test_keys_under_another_public_key_are_refused(signed: list[bytes]) -> None:
    other = SCHEME.generate_keys()
    body = SCHEME.protect(np.arange(LENGTH), other.public, place=PLACE, signer=SIGNERS[2])
    with pytest.raises(PayloadError, match="forged, under another key or not for place"):
        opened(sum_of([*signed[:2], body]).result())
    with pytest.raises(PayloadError, match="sealed message cannot be opened"):
        opened(sum_of([*signed[:2], body]).result(), None)


def test_a_shared_key_is_refused_by_who_has_another() -> None:
    scheme = Hybrid.for_sums(LENGTH, SUMS, "shared")
    ours, theirs = scheme.generate_keys(), scheme.generate_keys()
    total = scheme.accumulator(LENGTH, ours.public)
    for _ in range(3):
        total.add(scheme.protect(np.arange(LENGTH), ours.secret, place=PLACE))
    with pytest.raises(PayloadError, match="locked content cannot be opened"):
        scheme.open(total.result(), LENGTH, theirs.secret, place=PLACE)
    with pytest.raises(PayloadError, match="locked content cannot be opened"):
        scheme.open(total.result(), LENGTH, ours.secret, place=ELSEWHERE)


def test_who_sees_the_masked_vector_can_check_it_against_what_was_vouched(
    signed: list[bytes],
) -> None:
    check = (LENGTH, KEYS.public, "key_holder", PLACE, ROSTER)
    assert check_contribution(signed[1], *check) == SIGNERS[1].name
    changed = bytearray(signed[1])
    changed[-1] ^= 1
    words = f"the masked vector of member {SIGNERS[1].name} is not the one it sent"
    with pytest.raises(PayloadError, match=words):
        check_contribution(bytes(changed), *check)
    with pytest.raises(PayloadError, match="a contribution of 100 values has 3688 bytes, not 3687"):
        check_contribution(signed[1][:-1], *check)
    with pytest.raises(PayloadError, match="not for place 'run/2/train/0'"):
        check_contribution(signed[1], LENGTH, KEYS.public, "key_holder", ELSEWHERE, ROSTER)


# Unmasking


def test_an_opened_key_that_does_not_fit_is_refused(signed: list[bytes]) -> None:
    key = opened(sum_of(signed[:3]).result())
    whole = sum_of(signed[:3]).masked()
    finish = SCHEME.finish
    assert (finish(key, whole, LENGTH, place=PLACE) == 3 * np.arange(LENGTH)).all()
    words = "the opened key does not fit the masked sum: more noise is left than can be"
    for masked, place in ((sum_of(signed).masked(), PLACE), (whole, ELSEWHERE)):
        with pytest.raises(PayloadError, match=words):
            finish(key, masked, LENGTH, place=place)
    # The mask depends on the public key as well.
    other = identity_of(SCHEME.generate_keys().public) + whole[32:]
    with pytest.raises(PayloadError, match=words):
        finish(key, other, LENGTH, place=PLACE)
    wrong = key.copy()
    wrong[5] += 1
    with pytest.raises(PayloadError, match=words):
        finish(wrong, whole, LENGTH, place=PLACE)


def test_an_opened_key_that_is_none_is_refused(signed: list[bytes]) -> None:
    masked = sum_of(signed).masked()
    for bad in (np.zeros(2047, np.int64), np.zeros((2048, 1), np.int64), np.zeros(2048)):
        shape = re.escape(str(bad.shape))
        words = rf"has shape {shape} and type {bad.dtype}; expected \(2048,\) and integers"
        with pytest.raises(PayloadError, match=words):
            SCHEME.finish(bad, masked, LENGTH, place=PLACE)
    limit = SCHEME.parameters.key
    for value in (limit + 1, -limit - 1, -(2**63)):
        bad = np.zeros(2048, np.int64)
        bad[9] = value
        with pytest.raises(PayloadError, match=f"a sum of keys lies within -{limit} to {limit}"):
            SCHEME.finish(bad, masked, LENGTH, place=PLACE)
    with pytest.raises(PayloadError, match="a masked sum of 100 values has 432 bytes, not 431"):
        SCHEME.finish(np.zeros(2048, np.int64), masked[:-1], LENGTH, place=PLACE)


# Keys of the wrong kind, values out of range


def test_keys_of_the_wrong_kind_are_refused() -> None:
    values = np.zeros(LENGTH, np.int64)
    shared = Hybrid.for_sums(LENGTH, SUMS, "shared")
    both = shared.generate_keys()
    for use in (
        lambda: SCHEME.protect(values, KEYS.secret),
        lambda: SCHEME.accumulator(LENGTH, KEYS.secret),
        lambda: shared.accumulator(LENGTH, both.secret),
    ):
        with pytest.raises(PayloadError, match="secret key: it must never leave its holder"):
            use()
    for key in (b"", b"qhp1", KEYS.public + b"\0", both.public):
        with pytest.raises(
            PayloadError, match="not a public key of scheme hybrid with trust key_h"
        ):
            SCHEME.protect(values, key)
    for key in (both.public, KEYS.public, b""):
        with pytest.raises(
            PayloadError, match="with trust shared, clients protect with the secret"
        ):
            shared.protect(values, key)
    for key in (KEYS.public, b"", KEYS.secret[:-1]):
        with pytest.raises(PayloadError, match="not a secret key of scheme hybrid"):
            SCHEME.open(records([contribution() for _ in range(3)]), LENGTH, key)


@pytest.mark.parametrize("value", [SUMS.capacity + 1, -SUMS.capacity - 1, -(2**63)])
def test_a_value_past_the_capacity_is_refused_before_anything_else(value: int) -> None:
    with pytest.raises(RangeError, match=r"a value exceeds \d+ grid steps"):
        SCHEME.protect(np.array([0, value]), b"a key that is never read")


def test_a_committee_has_no_key_to_generate_or_to_open_with() -> None:
    scheme = Hybrid.for_sums(LENGTH, SUMS, "committee")
    with pytest.raises(ConfigError, match="has no key that one party could make"):
        scheme.generate_keys()
    with pytest.raises(OpeningRefusedError, match="nobody opens alone: members agree"):
        scheme.open(b"", LENGTH, KEYS.secret)


# Malformed bytes


def test_malformed_contributions_are_refused_or_open_to_nothing(signed: list[bytes]) -> None:
    draw = random.Random(1)
    good = signed[0]
    for case in range(200):
        bad = bytearray(good)
        if case % 4 == 0:
            bad = bytearray(draw.randbytes(draw.choice([0, 1, len(good) - 1, len(good)])))
        elif case % 4 == 1:
            bad[draw.randrange(RECORD)] ^= 1 << draw.randrange(8)
        elif case % 4 == 2:
            del bad[draw.randrange(len(bad)) :]
        else:
            bad[draw.randrange(len(bad)) :] += draw.randbytes(draw.randrange(1, 9))
        with pytest.raises(PayloadError):
            opened(sum_of([*signed[1:3], bytes(bad)]).result())


def test_malformed_keys_of_a_sum_are_refused(signed: list[bytes]) -> None:
    good = sum_of(signed).result()
    assert SCHEME.contributions(good) == 5
    for bad in (b"", good[:9], b"qhr2" + good[4:]):
        with pytest.raises(PayloadError, match="not the keys of a sum: it starts with"):
            opened(bad)
    count = struct.pack("<I", 2**32 - 1)
    for bad in (
        good[:-1],
        good + b"\0",
        good[:4] + count + good[8:],
        good[:HEAD],
        good[:8] + b"\2\0" + good[HEAD:],
    ):
        with pytest.raises(
            PayloadError, match=r"keys of a sum of \d+ bytes claim \d+ contribution"
        ):
            opened(bad)
