"""Known answers of FIPS 203 and 204; ``vectors.json`` names their origin.

Neither provider lets a caller choose the coins of encapsulation, and liboqs makes no signing key
out of a seed, so that is what these do not reach.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

from qfl.crypto.algorithms import KEMS, SIGNATURES
from qfl.crypto.kems import load_kem_key
from qfl.crypto.signatures import load_signing_key, verify
from qfl.errors import PayloadError, SignatureError

Vectors = Callable[[str, str], list[dict[str, bytes]]]
ML_DSA = [name for name in SIGNATURES if name.startswith("ML-DSA")]


@pytest.mark.parametrize("algorithm", ML_DSA)
def test_a_seed_gives_the_standards_public_key(algorithm: str, vectors: Vectors) -> None:
    for case in vectors("signatures", algorithm):
        key = load_signing_key(algorithm, "cryptography", case["seed"])
        assert key.public == case["public"]
        assert key.secret == case["seed"]


@pytest.mark.parametrize("algorithm", ML_DSA)
def test_the_standards_signatures_verify(provider: str, algorithm: str, vectors: Vectors) -> None:
    for case in vectors("signatures", algorithm):
        message, signature, context = case["message"], case["signature"], case["context"]
        verify(algorithm, case["public"], message, signature, context, provider)
        for other in (b"", context[:-1], context + b"\0"):
            with pytest.raises(SignatureError):
                verify(algorithm, case["public"], message, signature, other, provider)


@pytest.mark.parametrize("algorithm", ML_DSA)
def test_the_standards_expanded_keys_sign(oqs: str, algorithm: str, vectors: Vectors) -> None:
    first, second = vectors("signatures", algorithm)
    key = load_signing_key(algorithm, oqs, first["expanded"] + first["public"])
    assert key.public == first["public"]
    signature = key.sign(b"update", b"run 1")
    verify(algorithm, first["public"], b"update", signature, b"run 1", "cryptography")
    with pytest.raises(PayloadError, match=f"^a private key of {algorithm} is damaged$"):
        load_signing_key(algorithm, oqs, first["expanded"] + second["public"])


@pytest.mark.parametrize("algorithm", KEMS)
def test_a_seed_opens_the_standards_ciphertexts(
    provider: str, algorithm: str, vectors: Vectors
) -> None:
    for case in vectors("kems", algorithm):
        key = load_kem_key(algorithm, provider, case["seed"])
        assert hashlib.sha256(key.public).digest() == case["public_sha256"]
        assert key.decapsulate(case["ciphertext"]) == case["shared"]


@pytest.mark.parametrize("algorithm", KEMS)
def test_a_damaged_ciphertext_gives_the_standards_other_key(
    provider: str, algorithm: str, vectors: Vectors
) -> None:
    case = vectors("kems", algorithm)[0]
    key = load_kem_key(algorithm, provider, case["seed"])
    assert key.decapsulate(case["damaged"]) == case["instead"]
