"""A public random rotation that spreads a vector over all of its coordinates.

After Ailon and Chazelle, "The fast Johnson-Lindenstrauss transform" (SIAM Journal on Computing 39,
2009), used on updates by Suresh, Yu, Kumar and McMahan, "Distributed mean estimation with limited
communication" (2017) and Kairouz, Liu and Steinke, "The distributed discrete Gaussian mechanism
for federated learning with secure aggregation" (2021).

A vector x, filled up with zeros to d coordinates, becomes H D x / sqrt(d): D flips signs at random
and H is the Walsh-Hadamard matrix. Both are orthogonal, so lengths and angles stay. What was in few
large coordinates is in all of them, about equally: few integers stand out, rounding errs alike
for all, and what it errs is spread over all parameters when the sum is turned back.

Everybody rotates by the same public seed, so the sum of what was rotated is the rotated sum.
Privacy does not rest on it: the norm bounds what a client contributes, and rotation keeps norms.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
from numpy.typing import NDArray


def padded_length(length: int) -> int:
    """The least power of two that holds ``length`` coordinates; ``length`` is at least 1.

    Example:
        >>> padded_length(5), padded_length(8)
        (8, 8)
    """
    return 1 << (length - 1).bit_length()


def rotate(vector: NDArray[np.float64], seed: bytes) -> NDArray[np.float64]:
    """Rotate a vector.

    Args:
        vector: At least one coordinate.
        seed: Public; the same for all whose vectors are summed.

    Returns:
        ``padded_length`` coordinates, of the same L2 norm up to float64's rounding.

    Example:
        >>> rotate(np.array([2.0, 0.0, 0.0, 0.0]), b"round 1").tolist()
        [-1.0, -1.0, -1.0, -1.0]
    """
    padded = np.zeros(padded_length(vector.size))
    padded[: vector.size] = vector
    return _hadamard(padded * _signs(padded.size, seed))


def unrotate(vector: NDArray[np.float64], seed: bytes, length: int) -> NDArray[np.float64]:
    """The inverse of :func:`rotate`.

    Args:
        vector: What was rotated, or a sum of such; the size is a power of two.
        seed: As it was rotated by.
        length: Coordinates before.

    Example:
        >>> unrotate(rotate(np.array([1.0, 2.0, 3.0]), b"seed"), b"seed", 3).tolist()
        [1.0, 2.0, 3.0]
    """
    return (_hadamard(vector) * _signs(vector.size, seed))[:length]


def _signs(count: int, seed: bytes) -> NDArray[np.float64]:
    digest = hashlib.shake_256(b"qfl rotation " + seed).digest(-(-count // 8))
    bits = np.unpackbits(np.frombuffer(digest, dtype=np.uint8), count=count)
    return 1.0 - 2.0 * bits.astype(np.float64)


def _hadamard(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    # Pease's order: every step adds and subtracts neighbours and moves the differences to the
    # back, so that all steps are alike and none has short inner loops.
    for _ in range(vector.size.bit_length() - 1):
        even, odd = vector[0::2], vector[1::2]
        vector = np.concatenate([even + odd, even - odd])
    return vector / math.sqrt(vector.size)
