"""Sealing: round trips, what is refused, and vectors of the standards underneath."""

from __future__ import annotations

import hashlib
import hmac

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from qfl.crypto.sealing import PUBLIC_BYTES, SEED_BYTES, SealingKey, derive, seal
from qfl.errors import PayloadError

KEY, OTHER = SealingKey(bytes(range(32))), SealingKey(bytes(32))
OVERHEAD = 1088 + 32 + 16  # ML-KEM's ciphertext, X25519's share, a tag
CANNOT = (
    "a sealed message cannot be opened: it is damaged, sealed to somebody else, or belongs to "
    "another place"
)


@given(st.binary(max_size=300), st.binary(max_size=80))
def test_what_was_sealed_is_opened(plain: bytes, info: bytes) -> None:
    sealed = seal(plain, KEY.public, info)
    assert len(sealed) == len(plain) + OVERHEAD
    assert KEY.open(sealed, info) == plain
    assert plain not in sealed or len(plain) < 4


def test_large_things_can_be_sealed() -> None:
    plain = bytes(range(256)) * 2**12
    assert KEY.open(seal(plain, KEY.public, b"x"), b"x") == plain


def test_the_same_thing_is_never_sealed_alike() -> None:
    sealed = [seal(b"share", KEY.public, b"round 1") for _ in range(4)]
    # No two share a piece of sixteen bytes anywhere, not even in the parts for the receiver.
    pieces = [one[at : at + 16] for one in sealed for at in range(0, len(one) - 15, 16)]
    assert len(set(pieces)) == len(pieces)


@settings(max_examples=60)
@given(st.integers(0, 8 * (OVERHEAD + 5) - 1))
def test_a_single_changed_bit_is_noticed(bit: int) -> None:
    damaged = bytearray(seal(b"share", KEY.public, b"round 1"))
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(PayloadError, match=CANNOT):
        KEY.open(bytes(damaged), b"round 1")


@pytest.mark.parametrize("size", [0, 1, 31, 32, 1087, 1088, 1119, 1120, 1135, 1136, 1140])
def test_what_was_cut_is_refused(size: int) -> None:
    with pytest.raises(PayloadError, match=CANNOT):
        KEY.open(seal(b"share", KEY.public, b"")[:size], b"")


def test_what_was_lengthened_is_refused() -> None:
    with pytest.raises(PayloadError, match=CANNOT):
        KEY.open(seal(b"share", KEY.public, b"") + b"\0", b"")


@pytest.mark.parametrize("place", [b"round 2", b"", b"round 1 ", b"round 1\0"])
def test_what_belongs_to_another_place_is_refused(place: bytes) -> None:
    with pytest.raises(PayloadError, match=CANNOT):
        KEY.open(seal(b"share", KEY.public, b"round 1"), place)


def test_what_was_sealed_to_somebody_else_is_refused() -> None:
    with pytest.raises(PayloadError, match=CANNOT):
        OTHER.open(seal(b"share", KEY.public, b"round 1"), b"round 1")


@pytest.mark.parametrize("half", ["mlkem", "x25519"])
def test_one_half_of_the_key_opens_nothing(half: str) -> None:
    """Sealed to one half of the receiver's and one of somebody else's key."""
    halves = {"mlkem": slice(1184, None), "x25519": slice(0, 1184)}
    mixed = bytearray(KEY.public)
    mixed[halves[half]] = OTHER.public[halves[half]]
    sealed = seal(b"share", bytes(mixed), b"")
    for key in (KEY, OTHER):
        with pytest.raises(PayloadError, match=CANNOT):
            key.open(sealed, b"")


@pytest.mark.parametrize("size", [0, 32, 1184, 1215, 1217])
def test_a_public_key_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(
        PayloadError, match=f"a public sealing key of {size} bytes was given; expected 1216"
    ):
        seal(b"", bytes(size), b"")


def test_a_public_key_that_is_none_is_refused() -> None:
    """Coefficients past ML-KEM's modulus, and a point of small order on X25519's curve."""
    with pytest.raises(PayloadError, match="a public sealing key is malformed"):
        seal(b"", b"\xff" * 1184 + KEY.public[1184:], b"")
    with pytest.raises(PayloadError, match="a public sealing key is malformed"):
        seal(b"", KEY.public[:1184] + bytes(32), b"")


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_a_seed_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(
        PayloadError, match=f"a seed of {size} bytes was given; expected {SEED_BYTES}"
    ):
        SealingKey(bytes(size))


def test_a_key_grows_from_its_seed() -> None:
    again = SealingKey(KEY.seed)
    assert again.public == KEY.public and len(KEY.public) == PUBLIC_BYTES
    assert again.open(seal(b"share", KEY.public, b""), b"") == b"share"
    assert len({SealingKey().public for _ in range(5)} | {KEY.public, OTHER.public}) == 7
    assert len({SealingKey().seed for _ in range(5)}) == 5


def test_a_key_is_not_printed() -> None:
    assert repr(KEY) == str(KEY) == "SealingKey()"


def test_a_seed_is_no_part_of_what_is_public() -> None:
    for at in range(0, 32, 8):
        assert KEY.seed[at : at + 8] not in KEY.public
        assert OTHER.seed[at : at + 8] not in OTHER.public


# The standards underneath.


def test_derive_is_rfc_5869() -> None:
    """Test case 3: SHA-256, no salt, no info."""
    expected = (
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    )
    assert derive(b"\x0b" * 22, b"", 42).hex() == expected


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=60), st.integers(1, 200))
def test_derive_with_a_purpose(seed: bytes, purpose: bytes, size: int) -> None:
    """Written out after RFC 5869, section 2."""
    extracted = hmac.digest(bytes(32), seed, "sha256")
    block, made = b"", b""
    for count in range(1, 8):
        block = hmac.digest(extracted, block + purpose + bytes([count]), "sha256")
        made += block
    assert derive(seed, purpose, size) == made[:size]


def ladder(scalar: bytes, u: int = 9) -> bytes:
    """X25519 by the formulas of RFC 7748, section 5."""
    p, k = 2**255 - 19, bytearray(scalar)
    k[0] &= 248
    k[31] = k[31] & 127 | 64
    number = int.from_bytes(k, "little")
    x2, z2, x3, z3, swap = 1, 0, u, 1, 0
    for t in reversed(range(255)):
        bit = number >> t & 1
        if swap ^ bit:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swap = bit
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a % p, b * b % p, d * a % p, c * b % p
        e = aa - bb
        x3, z3 = (da + cb) ** 2 % p, u * (da - cb) ** 2 % p
        x2, z2 = aa * bb % p, e * (aa + 121665 * e) % p
    if swap:
        x2, z2 = x3, z3
    return (x2 * pow(z2, p - 2, p) % p).to_bytes(32, "little")


def test_the_ladder_is_rfc_7748() -> None:
    """Section 5.2, after one iteration."""
    once = "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"
    assert ladder(bytes([9]) + bytes(31)).hex() == once


def test_the_second_part_of_a_public_key_is_the_x25519_point_of_its_seed() -> None:
    for key in (KEY, OTHER):
        assert key.public[1184:] == ladder(derive(key.seed, b"qfl sealing key", 96)[64:])


def test_the_first_part_of_a_public_key_ends_with_fips_203_s_matrix_seed() -> None:
    """K-PKE.KeyGen: the last 32 bytes are the first half of SHA3-512 of the seed and the rank."""
    for key in (KEY, OTHER):
        d = derive(key.seed, b"qfl sealing key", 96)[:32]
        assert key.public[1152:1184] == hashlib.sha3_512(d + bytes([3])).digest()[:32]


def test_seeds_of_today_give_the_same_keys_tomorrow() -> None:
    """Frozen: kept seeds must go on to open what is sealed to the keys they gave."""
    assert hashlib.sha256(KEY.public).hexdigest()[:32] == "92c16e0c26df36ed14a2d62597c988f6"
