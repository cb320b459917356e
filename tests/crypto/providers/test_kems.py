"""Encapsulating and decapsulating with each provider, and what is refused."""

from __future__ import annotations

from functools import cache

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from qfl.crypto.algorithms import KEMS
from qfl.crypto.kems import KemKey, encapsulate, generate_kem_key, load_kem_key
from qfl.errors import PayloadError


@cache
def key_of(algorithm: str, provider: str) -> KemKey:
    return generate_kem_key(algorithm, provider)


@pytest.mark.parametrize("algorithm", KEMS)
def test_both_sides_have_the_key(provider: str, algorithm: str) -> None:
    key = key_of(algorithm, provider)
    made = [encapsulate(algorithm, key.public, provider) for _ in range(20)]
    for shared, ciphertext in made:
        assert len(shared) == 32
        assert key.decapsulate(ciphertext) == shared
    assert len({shared for shared, _ in made}) == len(made)


@pytest.mark.parametrize("algorithm", KEMS)
@settings(max_examples=40)
@given(at=st.integers(0))
def test_a_flipped_bit_gives_another_key_always_the_same(
    provider: str, algorithm: str, at: int
) -> None:
    key = key_of(algorithm, provider)
    shared, ciphertext = encapsulate(algorithm, key.public, provider)
    damaged = bytearray(ciphertext)
    at %= 8 * len(damaged)
    damaged[at // 8] ^= 1 << at % 8
    opened = key.decapsulate(bytes(damaged))
    assert opened != shared
    assert opened == key.decapsulate(bytes(damaged))


@pytest.mark.parametrize("algorithm", KEMS)
def test_a_seed_gives_the_key_again(provider: str, algorithm: str) -> None:
    key = key_of(algorithm, provider)
    again = load_kem_key(algorithm, provider, key.secret)
    assert again.public == key.public
    shared, ciphertext = encapsulate(algorithm, key.public, provider)
    assert again.decapsulate(ciphertext) == shared
    assert generate_kem_key(algorithm, provider).public != key.public


def test_a_key_keeps_its_secret_to_itself(provider: str) -> None:
    key = key_of("ML-KEM-768", provider)
    assert repr(key) == f"KemKey(algorithm='ML-KEM-768', provider='{provider}')"


def test_malformed_lengths_are_refused(provider: str) -> None:
    key = key_of("ML-KEM-768", provider)
    _, ciphertext = encapsulate("ML-KEM-768", key.public, provider)
    for wrong in (b"", ciphertext[:-1], ciphertext + b"\0"):
        message = f"^a ciphertext of ML-KEM-768 of {len(wrong)} bytes was given; expected 1088$"
        with pytest.raises(PayloadError, match=message):
            key.decapsulate(wrong)
    for wrong in (b"", key.public[:-1], key.public + b"\0"):
        message = f"^a public key of ML-KEM-768 of {len(wrong)} bytes was given; expected 1184$"
        with pytest.raises(PayloadError, match=message):
            encapsulate("ML-KEM-768", wrong, provider)
    for wrong in (b"", key.secret[:-1], key.secret + b"\0"):
        message = (
            f"^a private key of {len(wrong)} bytes was given; "
            f"ML-KEM-768 of provider {provider} has 64$"
        )
        with pytest.raises(PayloadError, match=message):
            load_kem_key("ML-KEM-768", provider, wrong)


@pytest.mark.parametrize("algorithm", KEMS)
def test_a_public_key_out_of_range_is_refused(provider: str, algorithm: str) -> None:
    """FIPS 203, section 7.2: coefficients are below 3329, and twelve ones say 4095."""
    public = b"\xff\xff\xff" + key_of(algorithm, provider).public[3:]
    with pytest.raises(PayloadError, match=f"^a public key of {algorithm} is malformed$"):
        encapsulate(algorithm, public, provider)
