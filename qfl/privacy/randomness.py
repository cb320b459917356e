"""Randomness that nobody can guess: AES-256 in counter mode (NIST SP 800-38A) under a fresh key."""

from __future__ import annotations

import os

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

_ZEROS = memoryview(bytes(1 << 18))  # what is encrypted; small enough to stay in cache


class Stream:
    """A stream of random bytes.

    Args:
        key: 32 bytes. Unset, from the operating system; set it in tests alone.

    Example:
        >>> Stream(bytes(32)).bytes(4).hex()
        'dc95c078'
    """

    def __init__(self, key: bytes | None = None) -> None:
        self._cipher = Cipher(AES(key or os.urandom(32)), CTR(bytes(16))).encryptor()

    def __repr__(self) -> str:
        return "Stream()"

    def bytes(self, count: int) -> bytes:
        """``count`` random bytes."""
        return self._cipher.update(bytes(count))

    def words(self, count: int) -> NDArray[np.uint64]:
        """``count`` random 64-bit numbers."""
        drawn = np.empty(8 * count, np.uint8)
        # Into memory that is there: several times as fast as bytes() for ten thousand numbers.
        for start in range(0, drawn.size, len(_ZEROS)):
            part = drawn[start : start + len(_ZEROS)]
            self._cipher.update_into(_ZEROS[: part.size], part.data)
        return drawn.view("<u8")

    def uniform(self, count: int) -> NDArray[np.float64]:
        """``count`` multiples of 2^-53 in [0, 1)."""
        return (self.words(count) >> np.uint64(11)).astype(np.float64) * 2.0**-53
