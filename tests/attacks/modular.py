"""Arithmetic modulo a prime of up to 60 bits, on whole arrays, exact in 64-bit integers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

_HALF = 30  # bits; a factor is taken in two halves


def reduced(values: Integers, prime: int) -> Integers:
    """Of values between -prime and twice the prime; in place."""
    values += (values >> 63) & prime
    values -= prime
    values += (values >> 63) & prime
    return values


def product(first: Integers, second: Integers, prime: int) -> Integers:
    """Of numbers from 0 to prime - 1.

    Example:
        >>> product(np.array([2**59]), np.array([2**59]), 2**60 - 93).tolist()
        [288230376151713883]
    """
    high = _by_half(first, second >> _HALF, prime)
    low = _by_half(first, second & (2**_HALF - 1), prime)
    return reduced(_by_half(high, 2**_HALF, prime) + low - prime, prime)


def total(rows: Integers, prime: int) -> Integers:
    """Sum over the first axis."""
    found: Integers = np.zeros(rows.shape[1:], np.int64)
    for row in rows:
        found = reduced(found + row, prime)
    return found


def inverse(values: Integers, prime: int) -> Integers:
    """Of numbers from 1 to prime - 1, a power of two of them along the last axis.

    From the inverse of a product of two follow the inverses of both (Montgomery).
    """
    count = values.shape[-1]
    if count == 1:
        found = [pow(int(value), -1, prime) for value in values.ravel()]
        return np.array(found, np.int64).reshape(values.shape)
    left, right = values[..., : count // 2], values[..., count // 2 :]
    both = inverse(product(left, right, prime), prime)
    return np.concatenate([product(both, right, prime), product(both, left, prime)], axis=-1)


def _by_half(values: Integers, half: Integers | int, prime: int) -> Integers:
    # The quotient is below 2**30, so in float64 it is wrong by 1 at most: the rest, computed modulo
    # 2**64, is right but for one multiple of the prime.
    quotient = (values * (1.0 / prime) * half).astype(np.int64)
    return reduced(values * half - quotient * prime, prime)
