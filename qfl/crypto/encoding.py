"""Real numbers as integers, so that sums are exact and independent of order.

Two encodings. The *grid* is for updates: one integer per coordinate, multiples of a fixed step,
with a bound that is checked before anything is encrypted. *Limbs* are for the few numbers whose
size is not known beforehand (example counts, losses, sums for a scaler): each number becomes
several small integers, which a scheme with a narrow range sums exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qfl.errors import ConfigError, RangeError

IntVector = NDArray[np.int64]

ROUNDINGS = ("nearest", "stochastic")
LIMB_FRACTION_BITS = 24
LIMB_INTEGER_BITS = 60
LARGEST_CAPACITY = 2**52  # so that float64 holds twice a sum, and every step, exactly


@dataclass(frozen=True)
class SumRange:
    """The integers that a federation sums: their grid and the largest sum.

    Attributes:
        fraction_bits: A real ``v`` is sent as ``round(v * 2**fraction_bits)``.
        bound: Largest magnitude of a weighted sum, in real units.
        additions: Most contributions in one sum.

    Raises:
        ConfigError: A value is out of range, or the sum is too narrow for the contributions.

    Example:
        >>> SumRange(fraction_bits=20, bound=2.0, additions=10).capacity
        2097162
    """

    fraction_bits: int
    bound: float
    additions: int

    def __post_init__(self) -> None:
        if self.additions < 1:
            raise ConfigError(f"additions={self.additions} is not allowed: must be >= 1")
        if not 0 <= self.fraction_bits <= 52:
            raise ConfigError(f"grid bits={self.fraction_bits} is not allowed: must be 0 to 52")
        if not 0 < self.bound < math.inf:
            raise ConfigError(f"bound={self.bound} is not allowed: must be positive and finite")
        if self.bound * 2.0**self.fraction_bits > LARGEST_CAPACITY:
            raise ConfigError(
                f"bound={self.bound:g} with {self.fraction_bits} grid bits needs more than 2^52 "
                "steps, which float64 does not hold exactly: lower strategy.bound or "
                "strategy.grid_bits"
            )
        if self.limb_bits < 1:
            raise ConfigError(
                f"{self.additions} contributions do not fit a sum of at most {self.capacity} "
                "grid steps: raise strategy.bound or strategy.grid_bits, or use fewer clients"
            )

    @property
    def step(self) -> float:
        """Distance of two neighbouring values, in real units."""
        return float(2.0**-self.fraction_bits)

    @property
    def capacity(self) -> int:
        """Largest magnitude of a sum, in steps: the bound, and a rounding by each contribution."""
        return int(self.bound * 2**self.fraction_bits) + self.additions

    @property
    def limb_bits(self) -> int:
        """Width of a limb, so that ``additions`` of them stay within ``capacity``."""
        return (self.capacity // self.additions).bit_length() - 1

    @property
    def limbs(self) -> int:
        """Limbs per number: enough for the integer bits, the fraction bits and a sign."""
        return -(-(LIMB_INTEGER_BITS + LIMB_FRACTION_BITS + 1) // self.limb_bits)


def check_capacity(values: IntVector, sums: SumRange) -> None:
    """Refuse integers that no sum of this range may hold.

    Raises:
        RangeError: A magnitude exceeds ``sums.capacity``; a sum past it could wrap silently.
    """
    if not values.size:
        return
    # Python integers: numpy's abs of the smallest int64 is negative.
    largest = max(int(values.max()), -int(values.min()))
    if largest > sums.capacity:
        raise RangeError(
            f"a value exceeds {sums.capacity} grid steps, the most that these parameters sum "
            "without wrapping: lower client.lr or raise strategy.bound"
        )


def to_grid(
    values: ArrayLike,
    weight: float,
    sums: SumRange,
    uniform: Callable[[int], NDArray[np.float64]] | None = None,
) -> IntVector:
    """Weigh an update and round it to the grid.

    Args:
        values: Coordinates of the update, any shape.
        weight: The contribution's weight, within [0, 1]; all weights of a sum add up to at most 1,
            which is what keeps the sum within ``sums.bound``.
        sums: Grid and bound.
        uniform: Gives n numbers in [0, 1) for stochastic rounding, which is right on average: up
            with a probability equal to the fraction. Unset, to the nearest.

    Returns:
        Flat vector of ``round(weight * values / step)``.

    Raises:
        RangeError: A value is not finite, or its magnitude exceeds ``sums.bound``.

    Example:
        >>> to_grid([0.5, -0.25], 0.5, SumRange(4, 1.0, 2)).tolist()
        [4, -2]
    """
    if not 0.0 <= weight <= 1.0:
        raise RangeError(f"weight={weight} is not allowed: must be within [0, 1]")
    flat = np.asarray(values, dtype=np.float64).ravel()
    if not np.isfinite(flat).all():
        raise RangeError(
            f"the update holds {int((~np.isfinite(flat)).sum())} values that are NaN or infinite: "
            "training diverged; lower client.lr"
        )
    if flat.size and float(np.abs(flat).max()) > sums.bound:
        # How large is not said: what is refused here is told to the server.
        raise RangeError(
            f"the update holds a coordinate beyond {sums.bound:g}, the most that the scheme sums "
            "without wrapping: lower client.lr or raise strategy.bound"
        )
    steps = flat * (weight * 2.0**sums.fraction_bits)
    if uniform is None:
        return np.rint(steps).astype(np.int64)
    return np.floor(steps + uniform(steps.size)).astype(np.int64)


def from_grid(sums_in_steps: IntVector, sums: SumRange) -> NDArray[np.float64]:
    """Real values of integers on the grid; exact."""
    return sums_in_steps.astype(np.float64) * sums.step


def to_limbs(values: ArrayLike, sums: SumRange) -> IntVector:
    """Split real numbers of unknown size into small integers.

    Args:
        values: n numbers of magnitude below 2**60; resolved to 2**-24.
        sums: Gives width and number of limbs.

    Returns:
        Vector of n * ``sums.limbs`` integers, lowest limb first.

    Raises:
        RangeError: A value is not finite or too large.

    Example:
        >>> sums = SumRange(20, 2.0, 10)
        >>> both = to_limbs([1e6, 0.5], sums) + to_limbs([234, -0.75], sums)
        >>> from_limbs(both, sums).tolist()
        [1000234.0, -0.25]
    """
    flat = np.asarray(values, dtype=np.float64).ravel()
    if not np.isfinite(flat).all() or (np.abs(flat) >= 2.0**LIMB_INTEGER_BITS).any():
        raise RangeError(
            f"a statistic is NaN, infinite or beyond 2^{LIMB_INTEGER_BITS}: check the data and "
            "the loss of this client"
        )
    width, count = sums.limb_bits, sums.limbs
    mask = (1 << width) - 1
    out = np.empty((flat.size, count), dtype=np.int64)
    for row, value in enumerate(flat.tolist()):
        rest = round(value * 2.0**LIMB_FRACTION_BITS)
        for limb in range(count - 1):
            out[row, limb] = rest & mask
            rest >>= width
        out[row, count - 1] = rest
    return out.ravel()


def from_limbs(limb_sums: IntVector, sums: SumRange) -> NDArray[np.float64]:
    """Real numbers of summed limbs; the inverse of :func:`to_limbs` on sums."""
    width, count = sums.limb_bits, sums.limbs
    rows = limb_sums.reshape(-1, count).tolist()
    totals = [sum(limb << (width * place) for place, limb in enumerate(row)) for row in rows]
    return np.array([total / 2**LIMB_FRACTION_BITS for total in totals], dtype=np.float64)
