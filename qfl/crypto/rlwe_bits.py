"""Integers side by side at an exact number of bits, moved by a few vector operations.

With 64 / gcd(width, 64) = g, every g integers fill a whole number of 64-bit words. A row of n
integers is read as g lines of n / g: integer i of every line lies at bit i * width of a column of
words, so whole lines are shifted and joined at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import gcd

import numpy as np
from numpy.typing import NDArray

Coefficients = NDArray[np.uint64]
_Indices = NDArray[np.intp]


def padded(count: int, width: int) -> int:
    """Integers in a row after filling up to whole columns."""
    lines = 64 // gcd(width, 64)
    return -(-count // lines) * lines


def packed_bytes(rows: int, count: int, width: int) -> int:
    """Bytes of ``rows`` rows of ``count`` integers."""
    return rows * padded(count, width) * width // 8


def pack_bits(values: Coefficients, width: int) -> bytes:
    """Join integers.

    Args:
        values: Shape (rows, count), each below 2**width.
        width: Bits of each, 1 to 64.

    Example:
        >>> packed = pack_bits(np.array([[1, 2, 3, 500]], dtype=np.uint64), 9)
        >>> len(packed), unpack_bits(packed, 1, 4, 9).tolist()
        (72, [[1, 2, 3, 500]])
    """
    rows, count = values.shape
    full, plan = padded(count, width), _plan(width)
    if full != count:
        values = np.concatenate([values, np.zeros((rows, full - count), np.uint64)], axis=1)
    source = values.reshape(rows, len(plan.word), -1)
    low = source << plan.up
    first, *others = plan.ranks
    joined = low.take(first, axis=1)
    for lines in others:
        joined[:, plan.word[lines]] |= low[:, lines]
    joined[:, plan.word[plan.spill] + 1] |= source[:, plan.spill] >> plan.over[plan.spill]
    return joined.astype("<u8", copy=False).tobytes()


def unpack_bits(packed: bytes | memoryview, rows: int, count: int, width: int) -> Coefficients:
    """The inverse of :func:`pack_bits`; ``packed`` has the size of :func:`packed_bytes`."""
    full, plan = padded(count, width), _plan(width)
    joined = np.frombuffer(packed, dtype="<u8").astype(np.uint64, copy=False)
    joined = joined.reshape(rows, len(plan.ranks[0]), -1)
    values = joined.take(plan.word, axis=1)
    values >>= plan.up
    # Where nothing spills over, what is joined here lies above the mask.
    above = joined.take(plan.next_word, axis=1)
    above <<= plan.over
    values |= above
    values &= np.uint64(2**width - 1)
    return values.reshape(rows, full)[:, :count]


@dataclass(frozen=True)
class _Plan:
    """Where the lines of a width go.

    Attributes:
        word: Word in which each line begins.
        next_word: The one after it.
        up: Bit of the word at which each line begins; shape (lines, 1).
        over: 64 less that; numpy shifts by 64 to zero.
        spill: Lines that end in the next word.
        ranks: Lines that begin first in their word, those that begin second, and so on.
    """

    word: _Indices
    next_word: _Indices
    up: Coefficients
    over: Coefficients
    spill: _Indices
    ranks: tuple[_Indices, ...]


@lru_cache(maxsize=64)
def _plan(width: int) -> _Plan:
    bit = np.arange(64 // gcd(width, 64)) * width
    word, up = bit // 64, bit % 64
    rank = np.arange(word.size) - np.searchsorted(word, word)
    ups = up.astype(np.uint64)[:, None]
    return _Plan(
        word=word,
        next_word=np.minimum(word + 1, word[-1]),
        up=ups,
        over=np.uint64(64) - ups,
        spill=np.flatnonzero(up + width > 64),
        ranks=tuple(np.flatnonzero(rank == at) for at in range(int(rank.max()) + 1)),
    )
