"""Discrete Gaussian integers, exact to 2^-120, from a cryptographic stream; fast in numpy.

After Knuth and Yao, "The complexity of nonuniform random number generation" (1976), with bytes
instead of bits. Write each probability p(k) in base 256. The first byte drawn decides between 256
slots; value k owns as many of them as its first digit says. The few slots that nobody owns go on:
each is split into 256 by the next byte, of which k owns as many as its second digit says, and so
on. With standard deviation 6.4, 93 of 100 values need one byte, and one in 2,400 more than two.

What is drawn is p rounded to multiples of 2^-128, whose statistical distance to p, cut tails
included, is below 2^-120 for each value.

Tail of a sum. With X a discrete Gaussian of parameter sigma around 0,

    E[exp(tX)] = exp(sigma^2 t^2 / 2) * sum_k rho(k - sigma^2 t) / sum_k rho(k)

(completing the square), where rho(x) = exp(-x^2 / (2 sigma^2)). By Poisson's summation formula
sum_k rho(k - c) is largest at c = 0, so the last factor is at most 1: X is sub-Gaussian with
parameter sigma, and Chernoff's bound for the sum of n independent ones is

    P(|X_1 + ... + X_n| >= x) <= 2 exp(-x^2 / (2 n sigma^2)).

How long a draw takes tells how many values went past the first byte, and memory accesses depend
on what is drawn; whoever can measure those on the same machine is not defended against.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import lru_cache
from math import log, sqrt

import numpy as np
from cryptography.hazmat.primitives.ciphers import CipherContext
from numpy.typing import NDArray

from qfl.errors import ConfigError

DIGITS = 16  # of base 256: probabilities are multiples of 2^-128
_ONE = 1 << 8 * DIGITS
_GO_ON = 1024  # in tables: added to the number of a slot that nobody owns


@dataclass(frozen=True, eq=False)
class GaussianTables:
    """What to look up, byte by byte.

    Attributes:
        weights: Value to probability, in units of 2^-128; they add up to 2^128.
        first: By the first byte: the value, or -128 plus the number of the slot that goes on.
        later: By 256 times the slot plus the next byte: the value, or 1024 plus the number of the
            slot that goes on.
    """

    weights: dict[int, int]
    first: bytes
    later: tuple[NDArray[np.int16], ...]

    @property
    def largest(self) -> int:
        """Largest magnitude that is ever drawn."""
        return max(self.weights)


@lru_cache(maxsize=4)
def tables_of(sigma: str) -> GaussianTables:
    """Tables for one standard deviation.

    Args:
        sigma: As a decimal number, such as ``"6.4"``; from 1 to 8.

    Raises:
        ConfigError: It is out of range.
    """
    if not 1 <= Decimal(sigma) <= 8:
        raise ConfigError(f"sigma={sigma} is not allowed: must be 1 to 8")
    weights = _weights(Decimal(sigma))
    values = np.array(list(weights), dtype=np.int16)
    levels, slots = [], 1
    for digit in range(DIGITS):
        shift = 8 * (DIGITS - 1 - digit)
        owned = np.repeat(values, [weight >> shift & 255 for weight in weights.values()])
        slots = 256 * slots - owned.size
        levels.append(np.concatenate([owned, _GO_ON + np.arange(slots, dtype=np.int16)]))
    first = np.where(levels[0] >= _GO_ON, levels[0] - _GO_ON - 128, levels[0])
    return GaussianTables(weights, first.astype(np.int8).tobytes(), tuple(levels[1:]))


def draw_gaussian(count: int, sigma: str, stream: CipherContext) -> NDArray[np.int8]:
    """Independent discrete Gaussian integers around 0.

    Args:
        count: How many.
        sigma: Standard deviation, as for :func:`tables_of`.
        stream: Where the randomness comes from; see :func:`qfl.crypto.keystream.keystream`.

    Returns:
        ``count`` integers; none is larger than 104 in magnitude.

    Example:
        >>> from qfl.crypto.keystream import keystream
        >>> drawn = draw_gaussian(100_000, "6.4", keystream(bytes(32), bytes(16)))
        >>> bool(abs(drawn.mean()) < 0.1 and abs(drawn.std() - 6.4) < 0.1)
        True
    """
    tables = tables_of(sigma)
    drawn = np.frombuffer(
        bytearray(stream.update(bytes(count)).translate(tables.first)), dtype=np.int8
    )
    waiting = np.flatnonzero(drawn < -tables.largest)
    slots = drawn[waiting].astype(np.int64) + 128
    for table in tables.later:
        if not waiting.size:
            break
        found = table[256 * slots + np.frombuffer(stream.update(bytes(waiting.size)), np.uint8)]
        decided = found < _GO_ON
        drawn[waiting[decided]] = found[decided]
        waiting, slots = waiting[~decided], found[~decided].astype(np.int64) - _GO_ON
    return drawn


def tail_bound(sigma: float, additions: int, values: int, bits: float) -> float:
    """What no sum of discrete Gaussians reaches, except with probability 2**-bits.

    Args:
        sigma: Standard deviation of one.
        additions: How many are added.
        values: Number of such sums; the probability is for all together.
        bits: -log2 of the probability.
    """
    return sigma * sqrt(2 * additions * (log(2) * (bits + 1) + log(max(values, 1))))


def _weights(sigma: Decimal) -> dict[int, int]:
    with localcontext() as context:
        context.prec = 80
        half = [(-(Decimal(k) ** 2) / (2 * sigma**2)).exp() for k in range(int(16 * sigma))]
        total = half[0] + 2 * sum(half[1:])
        units = [int(value / total * _ONE) for value in half]
    units = [unit for unit in units if unit]
    # What rounding down left over is less than one unit for each value.
    units[0] = _ONE - 2 * sum(units[1:])
    return {k: units[abs(k)] for k in range(1 - len(units), len(units))}
