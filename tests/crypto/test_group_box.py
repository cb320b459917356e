"""One secret for several members, and content locked under it."""

from __future__ import annotations

import struct

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from qfl.crypto import MemberKeys, Roster, box_for, lock, open_box, unlock
from qfl.errors import PayloadError

KEYS = [MemberKeys(bytes([i]) * 64) for i in range(4)]
ROSTER = Roster(keys.member for keys in KEYS)
KEY = bytes(range(32))
ENTRY_BYTES = 8 + 1088 + 32 + 32 + 16
CANNOT = (
    "locked content cannot be opened: it is damaged, under another key, or belongs to another place"
)
SEALED = "a sealed message cannot be opened"


# Locks.


@given(st.binary(max_size=300), st.binary(max_size=60))
def test_what_was_locked_is_unlocked(plain: bytes, info: bytes) -> None:
    locked = lock(KEY, plain, info)
    assert len(locked) == len(plain) + 28 and unlock(KEY, locked, info) == plain


def test_unlocking_is_aes_256_gcm() -> None:
    """Test case 14 of McGrew and Viega's specification: key, nonce and content of zeros."""
    locked = bytes(12) + bytes.fromhex(
        "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"
    )
    assert unlock(bytes(32), locked, b"") == bytes(16)


def test_the_same_thing_is_never_locked_alike() -> None:
    locked = {lock(KEY, b"model", b"round 1") for _ in range(10)}
    assert len({one[:12] for one in locked}) == len({one[12:] for one in locked}) == 10


@settings(max_examples=60)
@given(st.integers(0, 8 * 33 - 1))
def test_a_single_changed_bit_is_noticed(bit: int) -> None:
    damaged = bytearray(lock(KEY, b"model", b"round 1"))
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(PayloadError, match=CANNOT):
        unlock(KEY, bytes(damaged), b"round 1")


def test_another_key_or_place_is_refused() -> None:
    locked = lock(KEY, b"model", b"round 1")
    for key, info in ((bytes(32), b"round 1"), (KEY, b"round 2"), (KEY, b"")):
        with pytest.raises(PayloadError, match=CANNOT):
            unlock(key, locked, info)


@pytest.mark.parametrize("size", [0, 1, 12, 27])
def test_what_is_too_short_to_be_locked_is_refused(size: int) -> None:
    with pytest.raises(
        PayloadError, match=f"locked content of {size} bytes is too short to be any"
    ):
        unlock(KEY, bytes(size), b"")


def test_what_was_cut_is_refused() -> None:
    locked = lock(KEY, b"model", b"")
    for changed in (locked[:-1], locked[:28], locked + b"\0"):
        with pytest.raises(PayloadError, match=CANNOT):
            unlock(KEY, changed, b"")


# Boxes.


@pytest.mark.parametrize("secret", [b"", b"secret", bytes(10_000)])
def test_every_member_opens_the_box(secret: bytes) -> None:
    box = box_for(ROSTER, secret, b"run 1")
    assert len(box) == 8 + 4 * ENTRY_BYTES + len(secret) + 28
    assert [open_box(box, keys, b"run 1") for keys in KEYS] == [secret] * 4


def test_nobody_else_opens_it() -> None:
    stranger, box = MemberKeys(), box_for(ROSTER, b"secret", b"run 1")
    with pytest.raises(
        PayloadError,
        match=f"a sealed box for 4 receivers holds nothing for member {stranger.name}",
    ):
        open_box(box, stranger, b"run 1")
    own, other = (box_for(Roster([keys.member]), b"secret", b"run 1") for keys in KEYS[:2])
    with pytest.raises(PayloadError, match="for 1 receivers holds nothing for member"):
        open_box(own, KEYS[1], b"run 1")
    # Under another's name: the entry is sealed to somebody else all the same.
    renamed = own[:8] + other[8:16] + own[16:]
    with pytest.raises(PayloadError, match=SEALED):
        open_box(renamed, KEYS[1], b"run 1")


def test_the_secret_is_not_in_the_box() -> None:
    secret = bytes(range(100, 132))
    box = box_for(ROSTER, secret, b"run 1")
    assert not any(secret[at : at + 8] in box for at in range(0, 32, 8))
    again = box_for(ROSTER, secret, b"run 1")
    assert box[8 + 8 :][:1000] != again[8 + 8 :][:1000] and box[-60:] != again[-60:]


@pytest.mark.parametrize("info", [b"run 2", b"", b"run 1 "])
def test_a_box_of_another_run_is_refused(info: bytes) -> None:
    with pytest.raises(PayloadError, match=SEALED):
        open_box(box_for(ROSTER, b"secret", b"run 1"), KEYS[0], info)


def test_contents_of_two_boxes_cannot_be_exchanged() -> None:
    first, second = (box_for(ROSTER, secret, b"run 1") for secret in (b"first", b"other"))
    end = 8 + 4 * ENTRY_BYTES
    with pytest.raises(PayloadError, match=CANNOT):
        open_box(first[:end] + second[end:], KEYS[0], b"run 1")


@settings(max_examples=60)
@given(st.data())
def test_damage_to_one_s_own_entry_or_to_the_content_is_noticed(data: st.DataObject) -> None:
    box = bytearray(box_for(ROSTER, b"secret", b"run 1"))
    at = data.draw(st.integers(0, len(box) - 1), "octet")
    box[at] ^= data.draw(st.integers(1, 255), "change")
    place = (at - 8) // ENTRY_BYTES
    owner = ROSTER.names[place] if 0 <= place < 4 else ""
    for keys in KEYS:
        if not owner or owner == keys.name:
            with pytest.raises(PayloadError):
                open_box(bytes(box), keys, b"run 1")
        else:
            assert open_box(bytes(box), keys, b"run 1") == b"secret"


@pytest.mark.parametrize("data", [b"", b"qflg", b"qflg\0\0\0", b"nonsense", bytes(100)])
def test_what_is_no_box_is_refused(data: bytes) -> None:
    with pytest.raises(PayloadError, match="not a sealed box: it starts with"):
        open_box(data, KEYS[0], b"")


@pytest.mark.parametrize("count", [5, 2**20, 2**32 - 1])
def test_more_receivers_than_there_are_is_refused(count: int) -> None:
    box = box_for(ROSTER, b"secret", b"run 1")
    lying = box[:4] + struct.pack("<I", count) + box[8:]
    with pytest.raises(
        PayloadError, match=f"a sealed box of {len(box)} bytes claims {count} receivers"
    ):
        open_box(lying, KEYS[0], b"run 1")


def test_fewer_receivers_than_there_are_is_refused() -> None:
    box = box_for(ROSTER, b"secret", b"run 1")
    lying = box[:4] + struct.pack("<I", 3) + box[8:]
    first = next(keys for keys in KEYS if keys.name == ROSTER.names[0])
    last = next(keys for keys in KEYS if keys.name == ROSTER.names[3])
    with pytest.raises(PayloadError, match=CANNOT):
        open_box(lying, first, b"run 1")
    with pytest.raises(PayloadError, match="for 3 receivers holds nothing"):
        open_box(lying, last, b"run 1")


def test_a_box_that_was_cut_is_refused() -> None:
    box = box_for(ROSTER, b"secret", b"run 1")
    for size in (8 + 4 * ENTRY_BYTES - 1, 8 + ENTRY_BYTES, 9):
        with pytest.raises(PayloadError, match="claims 4 receivers"):
            open_box(box[:size], KEYS[0], b"run 1")
    with pytest.raises(PayloadError, match="is too short to be any"):
        open_box(box[: 8 + 4 * ENTRY_BYTES + 20], KEYS[0], b"run 1")


def test_a_box_for_nobody() -> None:
    with pytest.raises(PayloadError, match="for 0 receivers holds nothing for member"):
        open_box(box_for(Roster([]), b"secret", b""), KEYS[0], b"")
