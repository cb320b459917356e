"""Sealing bytes to one receiver: HPKE (RFC 9180) with ML-KEM-768 and X25519 together.

Whoever wants to read needs to break both. A sealing key grows from a seed of 32 bytes, so that
whoever rebuilds the seed rebuilds the key.
"""

from __future__ import annotations

import secrets
from functools import cached_property

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from qfl.errors import PayloadError

SEED_BYTES = 32
PUBLIC_BYTES = 1184 + 32
_SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


class SealingKey:
    """The private half: opens what was sealed to it.

    Args:
        seed: 32 secret bytes; unset, new ones from the operating system.

    Raises:
        PayloadError: The seed has another length.

    Example:
        >>> key = SealingKey()
        >>> key.open(seal(b"share", key.public, b"round 1"), b"round 1")
        b'share'
    """

    def __init__(self, seed: bytes | None = None) -> None:
        self.seed = secrets.token_bytes(SEED_BYTES) if seed is None else seed
        if len(self.seed) != SEED_BYTES:
            raise PayloadError(f"a seed of {len(self.seed)} bytes was given; expected {SEED_BYTES}")
        drawn = derive(self.seed, b"qfl sealing key", 96)
        self._mlkem = MLKEM768PrivateKey.from_seed_bytes(drawn[:64])
        self._x25519 = X25519PrivateKey.from_private_bytes(drawn[64:])

    def __repr__(self) -> str:
        return "SealingKey()"

    @cached_property
    def public(self) -> bytes:
        """What others seal to: the ML-KEM key, then the X25519 key, 1,216 bytes."""
        mlkem = self._mlkem.public_key().public_bytes_raw()
        return mlkem + self._x25519.public_key().public_bytes_raw()

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """What was sealed.

        Args:
            sealed: From :func:`seal`.
            info: What the sender bound it to.

        Raises:
            PayloadError: It is damaged, sealed to somebody else or bound to something else.
        """
        try:
            pair = MLKEM768X25519PrivateKey(self._mlkem, self._x25519)
            return _SUITE.decrypt(sealed, pair, info)
        except (InvalidTag, ValueError):
            raise PayloadError(
                "a sealed message cannot be opened: it is damaged, sealed to somebody else, or "
                "belongs to another place"
            ) from None


def seal(plain: bytes, public: bytes, info: bytes) -> bytes:
    """Encrypt for the holder of one sealing key.

    Args:
        plain: What only the receiver may read.
        public: The receiver's public sealing key.
        info: What the message belongs to; opening it needs the same.

    Raises:
        PayloadError: The public key is malformed.
    """
    if len(public) != PUBLIC_BYTES:
        raise PayloadError(
            f"a public sealing key of {len(public)} bytes was given; expected {PUBLIC_BYTES}"
        )
    try:
        key = MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(public[:1184]),
            X25519PublicKey.from_public_bytes(public[1184:]),
        )
        return _SUITE.encrypt(plain, key, info)
    except ValueError:
        raise PayloadError("a public sealing key is malformed") from None


def derive(seed: bytes, purpose: bytes, size: int) -> bytes:
    """Secret bytes for one purpose out of a seed (HKDF with SHA-256, RFC 5869)."""
    return HKDF(hashes.SHA256(), size, salt=None, info=purpose).derive(seed)
