"""Draws from any finite distribution with two look-ups: Walker's alias method, exact to 2^-128.

Walker, "An efficient method for generating discrete random variables with general distributions"
(1977); tables after Vose (1991). Of 2^b equally likely slots, each belongs to one value up to a
threshold and to a second value, its alias, above it. A draw takes a slot from b uniform bits and
compares a uniform 128-bit number with the slot's threshold.

Probabilities are whole multiples of 2^-128. A slot has probability 2^-b, so a threshold is a whole
number of 2^-128 of a slot, and the tables represent the probabilities without any rounding. Of the
128 uniform bits, 64 are drawn at first; the others only where the first equal the threshold's,
once in 2^64 draws.

Which memory is read depends on what is drawn; whoever can measure that on the same machine is not
defended against.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qfl.errors import PrivacyError
from qfl.privacy.randomness import Stream

ONE = 1 << 128  # what the weights of a table add up to
CHUNK = 1 << 15  # draws at once: what they need stays in cache
_LARGEST = 1 << 24  # slots
_WORD = (1 << 64) - 1


@dataclass(frozen=True, eq=False)
class AliasTable:
    """What to look up.

    Attributes:
        first: Value of slot 0; slot i is of value ``first + i``.
        high: By slot: the upper 64 bits of its threshold.
        low: By slot: the lower 64 bits.
        owners: By twice the slot: the slot of its alias. At the next place: the slot itself.

    Example:
        >>> table = AliasTable.build([ONE // 4, ONE // 2, ONE // 4], first=-1)
        >>> sorted(set(table.draw(1000, Stream()).tolist()))
        [-1, 0, 1]
    """

    first: int
    high: NDArray[np.uint64]
    low: NDArray[np.uint64]
    owners: NDArray[np.int32]

    @classmethod
    def build(cls, weights: Sequence[int], first: int) -> AliasTable:
        """The table of a distribution.

        Args:
            weights: Probabilities of ``first``, ``first + 1`` and so on, in units of 2^-128.
            first: The first value.

        Raises:
            PrivacyError: A weight is negative, they do not add up to 2^128, or there are more than
                2^24.
        """
        if len(weights) > _LARGEST:
            raise PrivacyError(
                f"an alias table of {len(weights)} values is too large: at most {_LARGEST} fit"
            )
        if not weights or min(weights) < 0 or sum(weights) != ONE:
            raise PrivacyError(
                "weights of an alias table must be whole numbers from 0 that add up to 2^128"
            )
        thresholds, aliases = _slots(weights)
        owners = np.empty(2 * len(aliases), np.int32)
        owners[0::2] = aliases
        owners[1::2] = np.arange(len(aliases))
        high = np.array([threshold >> 64 for threshold in thresholds], np.uint64)
        low = np.array([threshold & _WORD for threshold in thresholds], np.uint64)
        return cls(first, high, low, owners)

    def draw(self, count: int, stream: Stream) -> NDArray[np.int64]:
        """``count`` independent values.

        Args:
            count: How many.
            stream: Where the randomness comes from.
        """
        drawn = np.empty(count, np.int64)
        last = np.uint64(self.high.size - 1)
        for start in range(0, count, CHUNK):
            part = drawn[start : start + CHUNK]
            slots = (stream.words(part.size) & last).view(np.int64)
            numbers = stream.words(part.size)
            high = self.high[slots]
            own = numbers < high
            tied = np.flatnonzero(numbers == high)
            if tied.size:
                own[tied] = stream.words(tied.size) < self.low[slots[tied]]
            slots += slots
            slots += own
            np.add(self.owners[slots], np.int64(self.first), out=part)
        return drawn


def _slots(weights: Sequence[int]) -> tuple[list[int], list[int]]:
    """Thresholds, from 0 to 2^128 - 1, and aliases."""
    count = 1 << (len(weights) - 1).bit_length()
    thresholds = [weight * count for weight in weights] + [0] * (count - len(weights))
    aliases = list(range(count))
    small = [slot for slot, share in enumerate(thresholds) if share < ONE]
    large = [slot for slot, share in enumerate(thresholds) if share > ONE]
    # What all slots hold adds up to count * ONE: while one lacks, another has too much.
    while small:
        poor, rich = small.pop(), large[-1]
        aliases[poor] = rich
        thresholds[rich] -= ONE - thresholds[poor]
        if thresholds[rich] <= ONE:
            large.pop()
            if thresholds[rich] < ONE:
                small.append(rich)
    # A full slot is its own alias, so that any threshold does.
    return [min(threshold, ONE - 1) for threshold in thresholds], aliases
