"""ML-DSA and ML-KEM by the package ``cryptography``. Its private keys are seeds."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import (
    MLDSA44PrivateKey,
    MLDSA44PublicKey,
    MLDSA65PrivateKey,
    MLDSA65PublicKey,
    MLDSA87PrivateKey,
    MLDSA87PublicKey,
)
from cryptography.hazmat.primitives.asymmetric.mlkem import (
    MLKEM768PrivateKey,
    MLKEM768PublicKey,
    MLKEM1024PrivateKey,
    MLKEM1024PublicKey,
)

from qfl.crypto.algorithms import Algorithm, KemAlgorithm, SignatureAlgorithm
from qfl.errors import PayloadError

NAME = "cryptography"

_SIGNING: dict[str, type[MLDSA44PrivateKey | MLDSA65PrivateKey | MLDSA87PrivateKey]] = {
    "ML-DSA-44": MLDSA44PrivateKey,
    "ML-DSA-65": MLDSA65PrivateKey,
    "ML-DSA-87": MLDSA87PrivateKey,
}
_VERIFYING: dict[str, type[MLDSA44PublicKey | MLDSA65PublicKey | MLDSA87PublicKey]] = {
    "ML-DSA-44": MLDSA44PublicKey,
    "ML-DSA-65": MLDSA65PublicKey,
    "ML-DSA-87": MLDSA87PublicKey,
}
_OPENING: dict[str, type[MLKEM768PrivateKey | MLKEM1024PrivateKey]] = {
    "ML-KEM-768": MLKEM768PrivateKey,
    "ML-KEM-1024": MLKEM1024PrivateKey,
}
_SENDING: dict[str, type[MLKEM768PublicKey | MLKEM1024PublicKey]] = {
    "ML-KEM-768": MLKEM768PublicKey,
    "ML-KEM-1024": MLKEM1024PublicKey,
}


def has(algorithm: Algorithm) -> bool:
    """Whether it can be used here."""
    return NAME in algorithm.secret_bytes


def new_signing_secret(algorithm: SignatureAlgorithm) -> bytes:
    """The seed of a key (xi of FIPS 204)."""
    return secrets.token_bytes(algorithm.secret_bytes[NAME])


def signer(
    algorithm: SignatureAlgorithm, secret: bytes
) -> tuple[bytes, Callable[[bytes, bytes], bytes]]:
    """The public key, and what signs a message in a context."""
    key = _SIGNING[algorithm.name].from_seed_bytes(secret)
    return key.public_key().public_bytes_raw(), key.sign


def verifies(
    algorithm: SignatureAlgorithm,
    public: bytes,
    message: bytes,
    signature: bytes,
    context: bytes,
) -> bool:
    """Whether the signature fits."""
    key = _VERIFYING[algorithm.name].from_public_bytes(public)
    try:
        key.verify(signature, message, context)
    except InvalidSignature:
        return False
    return True


def opener(algorithm: KemAlgorithm, secret: bytes) -> tuple[bytes, Callable[[bytes], bytes]]:
    """The public key, and what decapsulates."""
    key = _OPENING[algorithm.name].from_seed_bytes(secret)
    return key.public_key().public_bytes_raw(), key.decapsulate


def encapsulate(algorithm: KemAlgorithm, public: bytes) -> tuple[bytes, bytes]:
    """A shared key and its ciphertext.

    Raises:
        PayloadError: The public key fails the check of FIPS 203, section 7.2.
    """
    try:
        key = _SENDING[algorithm.name].from_public_bytes(public)
        return key.encapsulate()
    except ValueError:
        raise PayloadError(f"a public key of {algorithm.name} is malformed") from None
