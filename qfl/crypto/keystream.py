"""Masks of any length out of 32-byte seeds: AES-256 in counter mode (NIST SP 800-38A).

A mask is a keystream read as 32-bit numbers. Its key is derived from the seed, so every seed
gives a stream of its own and the counter may start at zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

from qfl.crypto.sealing import derive

Words = NDArray[np.uint32]

CHUNK = 1 << 15  # words; sum, keystream and zeros of a chunk stay in the processor's cache
_ZEROS = bytes(4 * CHUNK)


def keystream(key: bytes, counter: bytes) -> CipherContext:
    """AES-256-CTR.

    Args:
        key: 32 bytes.
        counter: First counter block, 16 bytes.

    Example:
        >>> keystream(bytes(32), bytes(16)).update(bytes(4)).hex()
        'dc95c078'
    """
    return Cipher(AES(key), CTR(counter)).encryptor()


def change_masks(total: Words, add: Sequence[bytes], subtract: Sequence[bytes] = ()) -> None:
    """Add the masks of some seeds to a vector in place, and subtract those of others.

    Args:
        total: Numbers modulo 2^32, changed in place.
        add: Seeds, 32 bytes each.
        subtract: Seeds, 32 bytes each.

    Example:
        >>> total = np.array([7, 8], dtype=np.uint32)
        >>> change_masks(total, [bytes(32)])
        >>> change_masks(total, [], [bytes(32)])
        >>> total.tolist()
        [7, 8]
    """
    streams: list[tuple[np.ufunc, CipherContext]] = [
        *((np.add, _mask_of(seed)) for seed in add),
        *((np.subtract, _mask_of(seed)) for seed in subtract),
    ]
    buffer = bytearray(len(_ZEROS))
    words = np.frombuffer(buffer, dtype="<u4")
    for start in range(0, total.size, CHUNK):
        part = total[start : start + CHUNK]
        zeros = memoryview(_ZEROS)[: 4 * part.size]
        for change, stream in streams:
            stream.update_into(zeros, buffer)
            change(part, words[: part.size], out=part)


def _mask_of(seed: bytes) -> CipherContext:
    return keystream(derive(seed, b"qfl mask stream", 32), bytes(16))
