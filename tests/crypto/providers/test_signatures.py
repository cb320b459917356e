"""Signing and verifying with each provider, and what is refused."""

from __future__ import annotations

from functools import cache

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from qfl.crypto.algorithms import SIGNATURES
from qfl.crypto.signatures import SigningKey, generate_signing_key, load_signing_key, verify
from qfl.errors import PayloadError, SignatureError

ML_DSA = [name for name in SIGNATURES if name.startswith("ML-DSA")]
WRONG = "^a signature does not fit its message, context and public key$"


@cache
def key_of(algorithm: str, provider: str) -> SigningKey:
    return generate_signing_key(algorithm, provider)


@pytest.mark.parametrize("algorithm", ML_DSA)
@settings(max_examples=25)
@given(message=st.binary(max_size=300), context=st.binary(max_size=255))
def test_what_was_signed_verifies(
    provider: str, algorithm: str, message: bytes, context: bytes
) -> None:
    key = key_of(algorithm, provider)
    signature = key.sign(message, context)
    assert len(signature) == SIGNATURES[algorithm].signature_bytes
    verify(algorithm, key.public, message, signature, context, provider)


@pytest.mark.parametrize("algorithm", ML_DSA)
@settings(max_examples=60)
@given(part=st.sampled_from(["message", "signature", "context", "public"]), at=st.integers(0))
def test_any_flipped_bit_is_refused(provider: str, algorithm: str, part: str, at: int) -> None:
    key = key_of(algorithm, provider)
    parts = {"message": b"update of node 3", "context": b"run 1", "public": key.public}
    parts["signature"] = key.sign(parts["message"], parts["context"])
    damaged = bytearray(parts[part])
    at %= 8 * len(damaged)
    damaged[at // 8] ^= 1 << at % 8
    with pytest.raises(SignatureError, match=WRONG):
        verify(algorithm, **{**parts, part: bytes(damaged)}, provider=provider)


def test_context_and_message_do_not_run_into_each_other(provider: str) -> None:
    key = key_of("ML-DSA-65", provider)
    signature = key.sign(b"bc", b"a")
    for message, context in ((b"c", b"ab"), (b"abc", b""), (b"\0\1abc", b"")):
        with pytest.raises(SignatureError, match=WRONG):
            verify("ML-DSA-65", key.public, message, signature, context, provider)


def test_signatures_and_keys_are_never_alike(provider: str) -> None:
    key, other = (generate_signing_key("ML-DSA-65", provider) for _ in range(2))
    assert key.public != other.public
    assert key.secret != other.secret
    signature = key.sign(b"update")
    assert signature != key.sign(b"update")
    with pytest.raises(SignatureError, match=WRONG):
        verify("ML-DSA-65", other.public, b"update", signature, provider=provider)


@pytest.mark.parametrize("algorithm", ML_DSA)
def test_a_key_is_loaded_by_the_provider_that_made_it(provider: str, algorithm: str) -> None:
    key = key_of(algorithm, provider)
    again = load_signing_key(algorithm, key.provider, key.secret)
    assert (again.public, again.secret) == (key.public, key.secret)
    verify(algorithm, key.public, b"m", again.sign(b"m", b"c"), b"c", provider)


def test_a_key_keeps_its_secret_to_itself(provider: str) -> None:
    key = key_of("ML-DSA-65", provider)
    assert repr(key) == f"SigningKey(algorithm='ML-DSA-65', provider='{provider}')"


def test_malformed_lengths_are_refused(provider: str) -> None:
    key = key_of("ML-DSA-65", provider)
    signature = key.sign(b"m")
    for wrong in (b"", signature[:-1], signature + b"\0"):
        message = f"^a signature of ML-DSA-65 of {len(wrong)} bytes was given; expected 3309$"
        with pytest.raises(PayloadError, match=message):
            verify("ML-DSA-65", key.public, b"m", wrong, provider=provider)
    for wrong in (b"", key.public[:-1], key.public + b"\0"):
        message = f"^a public key of ML-DSA-65 of {len(wrong)} bytes was given; expected 1952$"
        with pytest.raises(PayloadError, match=message):
            verify("ML-DSA-65", wrong, b"m", signature, provider=provider)
    for wrong in (b"", key.secret[:-1], key.secret + b"\0"):
        with pytest.raises(PayloadError, match=f"^a private key of {len(wrong)} bytes was given"):
            load_signing_key("ML-DSA-65", provider, wrong)


def test_a_context_is_at_most_255_bytes(provider: str) -> None:
    key = key_of("ML-DSA-65", provider)
    longest = key.sign(b"m", bytes(255))
    verify("ML-DSA-65", key.public, b"m", longest, bytes(255), provider)
    message = "^a context of 256 bytes was given; at most 255 are allowed$"
    with pytest.raises(PayloadError, match=message):
        key.sign(b"m", bytes(256))
    with pytest.raises(PayloadError, match=message):
        verify("ML-DSA-65", key.public, b"m", longest, bytes(256), provider)


@pytest.mark.parametrize("algorithm", ["SLH-DSA-SHA2-128f", "SLH-DSA-SHAKE-192f"])
def test_slh_dsa_signs_for_roots(oqs: str, algorithm: str) -> None:
    key = generate_signing_key(algorithm)
    assert key.provider == oqs
    signature = load_signing_key(algorithm, oqs, key.secret).sign(b"root", b"run 1")
    verify(algorithm, key.public, b"root", signature, b"run 1")
    for message, context in ((b"root", b""), (b"roots", b"run 1")):
        with pytest.raises(SignatureError, match=WRONG):
            verify(algorithm, key.public, message, signature, context)
    half = len(key.secret) // 2  # the public half inside the private key
    damaged = key.secret[:half] + bytes(8) + key.secret[half + 8 :]
    with pytest.raises(PayloadError, match=f"^a private key of {algorithm} is damaged$"):
        load_signing_key(algorithm, oqs, damaged)


@pytest.mark.parametrize("algorithm", ["Falcon-padded-512", "Falcon-padded-1024"])
def test_falcon_is_bound_to_its_context_too(oqs: str, algorithm: str) -> None:
    key = generate_signing_key(algorithm, oqs)
    signature = key.sign(b"bc", b"a")
    verify(algorithm, key.public, b"bc", signature, b"a", oqs)
    for message, context in ((b"c", b"ab"), (b"abc", b""), (b"bc", b"b")):
        with pytest.raises(SignatureError, match=WRONG):
            verify(algorithm, key.public, message, signature, context, oqs)
