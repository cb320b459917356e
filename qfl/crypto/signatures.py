"""Post-quantum signatures: ML-DSA (FIPS 204), and SLH-DSA (FIPS 205) for long-lived roots.

A context of at most 255 bytes keeps a signature for one purpose from serving another. It is the
``ctx`` of the standards; Falcon has none, so there the message is framed as FIPS 204 frames it: a
zero byte, the context's length in one byte, the context, the message.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from qfl.crypto.algorithms import CONTEXT_BYTES, signature_algorithm
from qfl.crypto.providers import Provider, check_length, check_secret, choose
from qfl.errors import PayloadError, SignatureError


@dataclass(frozen=True, eq=False)
class SigningKey:
    """The private half, from :func:`generate_signing_key` or :func:`load_signing_key`.

    Attributes:
        algorithm: Its name.
        provider: Who made it; nobody else can load it.
        public: What others verify with. The same bytes from every provider.
        secret: What :func:`load_signing_key` takes.
    """

    algorithm: str
    provider: str
    public: bytes = field(repr=False)
    secret: bytes = field(repr=False)
    _sign: Callable[[bytes, bytes], bytes] = field(repr=False)

    def sign(self, message: bytes, context: bytes = b"") -> bytes:
        """A signature; another one each time, though all of one length.

        Args:
            message: Of any length.
            context: What the signature is for, at most 255 bytes; verifying needs the same.

        Raises:
            PayloadError: The context is too long.
        """
        _check_context(context)
        return self._sign(message, context)


def generate_signing_key(algorithm: str = "ML-DSA-65", provider: str = "auto") -> SigningKey:
    """A new key.

    Args:
        algorithm: One of :data:`qfl.crypto.algorithms.SIGNATURES`.
        provider: ``oqs``, ``cryptography``, or ``auto`` for the first of these that has it.

    Raises:
        ConfigError: The algorithm or the provider is unknown, or they do not go together.
        MissingDependencyError: What would have the algorithm is not installed.

    Example:
        >>> key = generate_signing_key()
        >>> verify(key.algorithm, key.public, b"update", key.sign(b"update", b"run 1"), b"run 1")
    """
    chosen = choose(provider, signature_algorithm(algorithm))
    return _key(algorithm, chosen, chosen.new_signing_secret(signature_algorithm(algorithm)))


def load_signing_key(algorithm: str, provider: str, secret: bytes) -> SigningKey:
    """A key that was made before.

    Args:
        algorithm: Its :attr:`SigningKey.algorithm`.
        provider: Its :attr:`SigningKey.provider`.
        secret: Its :attr:`SigningKey.secret`.

    Raises:
        ConfigError: A name is unknown, or another provider made the key.
        MissingDependencyError: The provider is not installed.
        PayloadError: The key is damaged.
    """
    known = signature_algorithm(algorithm)
    check_secret(known, provider, secret)
    return _key(algorithm, choose(provider, known), secret)


def verify(
    algorithm: str,
    public: bytes,
    message: bytes,
    signature: bytes,
    context: bytes = b"",
    provider: str = "auto",
) -> None:
    """Make sure that the holder of a key signed a message.

    Args:
        algorithm: The one that the caller expects, never one that the message names.
        public: The signer's public key.
        message: What was signed.
        signature: From :meth:`SigningKey.sign`.
        context: What the signature is for.
        provider: Who computes.

    Raises:
        SignatureError: The signature fits not this message, context and key.
        PayloadError: A key or signature has another length, or the context is too long.
        ConfigError: The algorithm or the provider is unknown, or they do not go together.
        MissingDependencyError: What would have the algorithm is not installed.
    """
    known = signature_algorithm(algorithm)
    chosen = choose(provider, known)
    check_length(f"public key of {algorithm}", public, known.public_bytes)
    check_length(f"signature of {algorithm}", signature, known.signature_bytes)
    _check_context(context)
    if not chosen.verifies(known, public, message, signature, context):
        raise SignatureError("a signature does not fit its message, context and public key")


def _key(algorithm: str, provider: Provider, secret: bytes) -> SigningKey:
    public, sign = provider.signer(signature_algorithm(algorithm), secret)
    return SigningKey(algorithm, provider.NAME, public, secret, sign)


def _check_context(context: bytes) -> None:
    if len(context) > CONTEXT_BYTES:
        raise PayloadError(
            f"a context of {len(context)} bytes was given; at most {CONTEXT_BYTES} are allowed"
        )
