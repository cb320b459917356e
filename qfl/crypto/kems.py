"""Post-quantum key encapsulation: ML-KEM (FIPS 203).

Private keys are seeds of 64 bytes, d and z of the standard, whichever provider computes. Nobody
else can see whether a ciphertext is damaged: decapsulating it gives a key that nobody has.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from qfl.crypto.algorithms import SEED_BYTES, kem_algorithm
from qfl.crypto.providers import Provider, check_length, check_secret, choose


@dataclass(frozen=True, eq=False)
class KemKey:
    """The private half, from :func:`generate_kem_key` or :func:`load_kem_key`.

    Attributes:
        algorithm: Its name.
        provider: Who computes.
        public: What others encapsulate to. The same bytes from every provider.
        secret: What :func:`load_kem_key` takes.
    """

    algorithm: str
    provider: str
    public: bytes = field(repr=False)
    secret: bytes = field(repr=False)
    _open: Callable[[bytes], bytes] = field(repr=False)

    def decapsulate(self, ciphertext: bytes) -> bytes:
        """The shared key, 32 bytes; another one than the sender's if the ciphertext is damaged.

        Raises:
            PayloadError: The ciphertext has another length.
        """
        expected = kem_algorithm(self.algorithm).ciphertext_bytes
        check_length(f"ciphertext of {self.algorithm}", ciphertext, expected)
        return self._open(ciphertext)


def generate_kem_key(algorithm: str = "ML-KEM-768", provider: str = "auto") -> KemKey:
    """A new key.

    Args:
        algorithm: One of :data:`qfl.crypto.algorithms.KEMS`.
        provider: ``oqs``, ``cryptography``, or ``auto`` for the first of these that has it.

    Raises:
        ConfigError: The algorithm or the provider is unknown.
        MissingDependencyError: The provider is not installed.

    Example:
        >>> key = generate_kem_key()
        >>> shared, ciphertext = encapsulate(key.algorithm, key.public)
        >>> key.decapsulate(ciphertext) == shared
        True
    """
    return _key(
        algorithm, choose(provider, kem_algorithm(algorithm)), secrets.token_bytes(SEED_BYTES)
    )


def load_kem_key(algorithm: str, provider: str, secret: bytes) -> KemKey:
    """A key that was made before.

    Args:
        algorithm: Its :attr:`KemKey.algorithm`.
        provider: Who is to compute; seeds are the same everywhere.
        secret: Its :attr:`KemKey.secret`.

    Raises:
        ConfigError: A name is unknown.
        MissingDependencyError: The provider is not installed.
        PayloadError: The key has another length.
    """
    known = kem_algorithm(algorithm)
    check_secret(known, provider, secret)
    return _key(algorithm, choose(provider, known), secret)


def encapsulate(algorithm: str, public: bytes, provider: str = "auto") -> tuple[bytes, bytes]:
    """Make a key that only the holder of a private key can have.

    Args:
        algorithm: Of the public key.
        public: The receiver's public key.
        provider: Who computes.

    Returns:
        The shared key, 32 bytes, and the ciphertext to send.

    Raises:
        PayloadError: The public key is malformed.
        ConfigError: The algorithm or the provider is unknown.
        MissingDependencyError: The provider is not installed.
    """
    known = kem_algorithm(algorithm)
    chosen = choose(provider, known)
    check_length(f"public key of {algorithm}", public, known.public_bytes)
    return chosen.encapsulate(known, public)


def _key(algorithm: str, provider: Provider, secret: bytes) -> KemKey:
    public, decapsulate = provider.opener(kem_algorithm(algorithm), secret)
    return KemKey(algorithm, provider.NAME, public, secret, decapsulate)
