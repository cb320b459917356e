"""Keys from passphrases: scrypt (RFC 7914), which makes each guess cost memory and time."""

from __future__ import annotations

import unicodedata

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from qfl.crypto.payload import is_text
from qfl.errors import PayloadError

COSTS = range(15, 18)
"""Base-2 logarithms of N: 32, 64 and 128 MiB of memory."""
KEY_BYTES = 32
_BLOCK, _PARALLEL = 8, 1


def passphrase_bytes(passphrase: str) -> bytes:
    """The one form of a passphrase, whatever the keyboard made of an accented letter (RFC 8265).

    Raises:
        PayloadError: It is no text.
    """
    if not is_text(passphrase):
        raise PayloadError("a passphrase has half of a surrogate pair, which is no character")
    return unicodedata.normalize("NFC", passphrase).encode()


def stretch(secret: bytes, salt: bytes, cost: int) -> bytes:
    """A key of 32 bytes.

    Args:
        secret: Passphrase or content of a key file.
        salt: 16 random bytes.
        cost: One of :data:`COSTS`.
    """
    return Scrypt(salt=salt, length=KEY_BYTES, n=1 << cost, r=_BLOCK, p=_PARALLEL).derive(secret)
