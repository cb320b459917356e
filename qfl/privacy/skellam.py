"""Skellam noise: the difference of two Poisson variables; sums of it are Skellam again.

Agarwal, Kairouz and Liu, "The Skellam Mechanism for Differentially Private Federated Learning"
(2021). With variance v, P(k) = exp(-v) I_|k|(v), where I are modified Bessel functions of the first
kind. All probabilities stand in one alias table, to 2^-128.

**Probabilities.** I_k decreases in k and obeys I_(k-1) = I_(k+1) + (2k / v) I_k. Miller's algorithm
runs that downwards from f_(N+1) = 0 and f_N = 2^192, in whole numbers, v being the fraction that
the float is; I_0 + 2 (I_1 + I_2 + ...) = exp(v), so dividing by f_0 + 2 (f_1 + ... + f_N) turns f
into probabilities. Only relative errors of f that depend on k matter.

- Rounding: a step takes less than 1 from f. What it takes goes on as a solution of the same
  recurrence, whose quotient by the exact solution is at each step a weighted mean of the last two;
  so it stays at most what it was at first, 2^-192. All N < 2^17 steps: 2^-175.
- Starting at N: f is a multiple of I_k + (-1)^(N-k) (I_(N+1) / K_(N+1)) K_k, with K_k of the second
  kind. I_k K_k decreases, but by less than a factor of 2^10 from 0 to N + 1, so that P(k) changes
  by less than 2^10 P(N+1)^2 / P(k) <= 2^10 P(N+1): with N as below, 2^-190.

**Distance from the exact distribution.** E[exp(tX)] = exp(v (cosh t - 1)), so Chernoff's bound is

    P(X >= x) <= exp(-v g(x / v)),   g(y) = 1 + y asinh(y) - sqrt(1 + y^2).

The table goes to the first x where this is below 2^-130, N to where it is below 2^-200. Beyond the
table lies less than 2^-129. Weights are rounded down to multiples of 2^-128, and what is left over
is added at 0: less than 2^-128 for each of the n entries; the errors above add less than 2^-128 in
sum. In all

    total variation < (n + 2) 2^-128 < 2^-111.

Which entries are looked up depends on what is drawn; whoever can measure that on the same machine
is not defended against.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import asinh, hypot, log, sqrt

import numpy as np
from numpy.typing import NDArray

from qfl.errors import PrivacyError
from qfl.privacy.alias import ONE, AliasTable
from qfl.privacy.randomness import Stream

SMALLEST, LARGEST = 2.0**-20, 4096.0**2
_TABLE_TAIL, _START_TAIL = 130, 200  # -log2 of the probability beyond
_START = 1 << 192


@dataclass(frozen=True)
class Skellam:
    """Skellam noise around 0.

    Args:
        variance: 2^-20 to 4096^2 units of the grid squared, taken as the binary fraction that the
            float is.

    Raises:
        PrivacyError: ``variance`` is out of range.

    Example:
        >>> drawn = Skellam(100.0**2).draw(100_000, Stream())
        >>> bool(98 < drawn.std() < 102)
        True
    """

    variance: float

    def __post_init__(self) -> None:
        if not self.variance <= LARGEST:
            raise PrivacyError(
                f"Skellam noise of standard deviation {sqrt(self.variance):.6g} units of the grid "
                "cannot be drawn: at most 4096; choose a coarser grid (strategy.grid_bits) or "
                "privacy.noise=discrete_gaussian"
            )
        if not self.variance >= SMALLEST:
            raise PrivacyError(
                f"Skellam noise of variance {self.variance} cannot be drawn: at least 2^-20 units "
                "of the grid squared; choose a finer grid (strategy.grid_bits)"
            )

    @property
    def total_variation(self) -> float:
        """What the distribution of one draw differs from the exact one by, at most."""
        return (2 * -table_of(self.variance).first + 3) / ONE

    def draw(self, count: int, stream: Stream) -> NDArray[np.int64]:
        """``count`` independent integers.

        Args:
            count: How many.
            stream: Where the randomness comes from.
        """
        return table_of(self.variance).draw(count, stream)


@lru_cache(maxsize=16)
def table_of(variance: float) -> AliasTable:
    """The table for one variance in range: of the values from ``-x`` to ``x``."""
    last = _reach(variance, _TABLE_TAIL)
    bessel = _bessel(variance, _reach(variance, _START_TAIL))
    total = bessel[0] + 2 * sum(bessel[1:])
    half = [value * ONE // total for value in bessel[: last + 1]]
    half[0] = ONE - 2 * sum(half[1:])
    return AliasTable.build(half[:0:-1] + half, -last)


def _bessel(variance: float, start: int) -> list[int]:
    """``I_0`` to ``I_start`` up to a common factor."""
    exact = Fraction(variance)
    values = [0, _START]
    for k in range(start, 0, -1):
        values.append(values[-2] + 2 * k * exact.denominator * values[-1] // exact.numerator)
    return values[:0:-1]


def _reach(variance: float, bits: int) -> int:
    """The first integer that the noise reaches with probability at most ``2**-bits``."""
    least, enough = 0, 1
    while not _beyond(variance, enough, bits):
        least, enough = enough, 2 * enough
    while enough - least > 1:
        middle = (least + enough) // 2
        if _beyond(variance, middle, bits):
            enough = middle
        else:
            least = middle
    return enough


def _beyond(variance: float, x: int, bits: int) -> bool:
    ratio = x / variance
    # 1 - sqrt(1 + y^2), without cancellation where y is small.
    rest = -(ratio**2) / (1 + hypot(1, ratio))
    return variance * (ratio * asinh(ratio) + rest) >= bits * log(2)
