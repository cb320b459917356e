"""Signatures and ML-KEM by liboqs. Its private signing keys are expanded, not seeds.

The library's objects live for one call each and wipe their copy of a private key at its end.
liboqs-python pads what is too short without a word, so callers check lengths first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qfl.crypto import liboqs
from qfl.crypto.algorithms import Algorithm, KemAlgorithm, SignatureAlgorithm
from qfl.errors import MissingDependencyError, PayloadError

NAME = "oqs"


def has(algorithm: Algorithm) -> bool:
    """Whether it can be used here: liboqs may have been built with a part of its algorithms."""
    try:
        oqs = liboqs.load()
    except MissingDependencyError:
        return False
    if isinstance(algorithm, SignatureAlgorithm):
        return algorithm.liboqs in oqs.get_enabled_sig_mechanisms()
    return algorithm.liboqs in oqs.get_enabled_kem_mechanisms()


def new_signing_secret(algorithm: SignatureAlgorithm) -> bytes:
    """The expanded private key, then the public key, which liboqs cannot tell from it."""
    with _signature(algorithm) as made:
        public: bytes = made.generate_keypair()
        secret: bytes = made.export_secret_key()
    return secret + public


def signer(
    algorithm: SignatureAlgorithm, secret: bytes
) -> tuple[bytes, Callable[[bytes, bytes], bytes]]:
    """The public key, and what signs a message in a context.

    Raises:
        PayloadError: Private and public key do not belong together; found by signing once.
    """
    private, public = secret[: -algorithm.public_bytes], secret[-algorithm.public_bytes :]

    def sign(message: bytes, context: bytes) -> bytes:
        with _signature(algorithm, private) as key:
            if key.sig_with_ctx_support:
                made: bytes = key.sign_with_ctx_str(message, context)
            else:
                made = key.sign(_framed(message, context))
        return made

    if not verifies(algorithm, public, b"", sign(b"", b""), b""):
        raise PayloadError(f"a private key of {algorithm.name} is damaged")
    return public, sign


def verifies(
    algorithm: SignatureAlgorithm,
    public: bytes,
    message: bytes,
    signature: bytes,
    context: bytes,
) -> bool:
    """Whether the signature fits."""
    with _signature(algorithm) as key:
        if key.sig_with_ctx_support:
            return bool(key.verify_with_ctx_str(message, signature, context, public))
        return bool(key.verify(_framed(message, context), signature, public))


def opener(algorithm: KemAlgorithm, secret: bytes) -> tuple[bytes, Callable[[bytes], bytes]]:
    """The public key, and what decapsulates."""
    with _kem(algorithm) as made:
        public: bytes = made.generate_keypair_seed(secret)
        expanded: bytes = made.export_secret_key()

    def decapsulate(ciphertext: bytes) -> bytes:
        with _kem(algorithm, expanded) as key:
            shared: bytes = key.decap_secret(ciphertext)
        return shared

    return public, decapsulate


def encapsulate(algorithm: KemAlgorithm, public: bytes) -> tuple[bytes, bytes]:
    """A shared key and its ciphertext.

    Raises:
        PayloadError: The public key fails the check of FIPS 203, section 7.2.
    """
    with _kem(algorithm) as key:
        try:
            ciphertext, shared = key.encap_secret(public)
        except RuntimeError:
            raise PayloadError(f"a public key of {algorithm.name} is malformed") from None
    return shared, ciphertext


def _signature(algorithm: SignatureAlgorithm, private: bytes | None = None) -> Any:
    return liboqs.load().Signature(algorithm.liboqs, private)


def _kem(algorithm: KemAlgorithm, private: bytes | None = None) -> Any:
    return liboqs.load().KeyEncapsulation(algorithm.liboqs, private)


def _framed(message: bytes, context: bytes) -> bytes:
    """A message in its context, as FIPS 204 frames it, for algorithms that take no context."""
    return bytes([0, len(context)]) + context + message
