"""Who computes: liboqs through liboqs-python, or the package ``cryptography``.

Public keys, signatures and ciphertexts have the same bytes from both. A private key belongs to the
provider that made it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from qfl.crypto import liboqs, provider_cryptography, provider_oqs
from qfl.crypto.algorithms import Algorithm, KemAlgorithm, SignatureAlgorithm
from qfl.errors import ConfigError, MissingDependencyError, PayloadError, unknown_name

AUTO = "auto"


class Provider(Protocol):
    """What a provider's module does. Lengths have been checked before."""

    NAME: str

    def has(self, algorithm: Algorithm) -> bool:
        """Whether it can be used here."""

    def new_signing_secret(self, algorithm: SignatureAlgorithm) -> bytes:
        """A private key in the provider's own form."""

    def signer(
        self, algorithm: SignatureAlgorithm, secret: bytes
    ) -> tuple[bytes, Callable[[bytes, bytes], bytes]]:
        """The public key, and what signs a message in a context."""

    def verifies(
        self,
        algorithm: SignatureAlgorithm,
        public: bytes,
        message: bytes,
        signature: bytes,
        context: bytes,
    ) -> bool:
        """Whether the signature fits."""

    def opener(
        self, algorithm: KemAlgorithm, secret: bytes
    ) -> tuple[bytes, Callable[[bytes], bytes]]:
        """The public key, and what decapsulates."""

    def encapsulate(self, algorithm: KemAlgorithm, public: bytes) -> tuple[bytes, bytes]:
        """A shared key and its ciphertext."""


PROVIDERS: dict[str, Provider] = {
    provider_oqs.NAME: provider_oqs,
    provider_cryptography.NAME: provider_cryptography,
}


def choose(name: str, algorithm: Algorithm) -> Provider:
    """The provider for an algorithm.

    Args:
        name: ``oqs``, ``cryptography``, or ``auto`` for the first of these that has it.
        algorithm: What is to be computed.

    Raises:
        ConfigError: The name is unknown, the provider does not have the algorithm, or ``auto`` is
            given for one without a standard.
        MissingDependencyError: What would have it is not installed.
    """
    if name == AUTO:
        return _first(algorithm)
    _check_name(name, algorithm)
    if not PROVIDERS[name].has(algorithm):
        raise _missing(algorithm)
    return PROVIDERS[name]


def check_secret(algorithm: Algorithm, provider: str, secret: bytes) -> None:
    """Make sure that a private key can be the provider's.

    Args:
        algorithm: Of the key.
        provider: Who is said to have made it.
        secret: The key.

    Raises:
        ConfigError: Another provider made it, or the name is none that can have made it.
        PayloadError: It has the length of no private key.
    """
    if provider == AUTO:
        raise ConfigError(
            "a private key belongs to the provider that made it; give that provider's name "
            f"({' or '.join(algorithm.secret_bytes)}), not auto"
        )
    _check_name(provider, algorithm)
    expected = algorithm.secret_bytes[provider]
    if len(secret) == expected:
        return
    for maker, size in algorithm.secret_bytes.items():
        if len(secret) == size:
            raise ConfigError(
                f"this private key of {algorithm.name} was made by provider {maker}, and provider "
                f"{provider} cannot read it; use provider {maker}, or make a new key"
            )
    raise PayloadError(
        f"a private key of {len(secret)} bytes was given; {algorithm.name} of provider {provider} "
        f"has {expected}"
    )


def check_length(kind: str, given: bytes, expected: int) -> None:
    """Make sure that a part of a message has its length.

    Raises:
        PayloadError: It has another.
    """
    if len(given) != expected:
        raise PayloadError(f"a {kind} of {len(given)} bytes was given; expected {expected}")


def _check_name(name: str, algorithm: Algorithm) -> None:
    if name not in PROVIDERS:
        raise ConfigError(unknown_name("provider", name, [AUTO, *PROVIDERS]))
    if name not in algorithm.secret_bytes:
        raise ConfigError(
            f"provider {name} does not have {algorithm.name}; provider "
            f"{' or '.join(algorithm.secret_bytes)} has"
        )


def _first(algorithm: Algorithm) -> Provider:
    if algorithm.standard is None:
        raise ConfigError(
            f"{algorithm.name} has no final standard, so it is used only where provider "
            f"{' or '.join(algorithm.secret_bytes)} is named"
        )
    for name in algorithm.secret_bytes:
        if PROVIDERS[name].has(algorithm):
            return PROVIDERS[name]
    raise _missing(algorithm)


def _missing(algorithm: Algorithm) -> MissingDependencyError:
    reason = liboqs.problem() or "liboqs was built without it"
    return MissingDependencyError(f"{algorithm.name} is not available: {reason}; {liboqs.remedy()}")
