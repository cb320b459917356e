"""Parameters of ``hybrid``: one scale, worked out from what is summed.

A contribution is b = a s + e + scale * v modulo 2^32, with keys s and errors e discrete Gaussian.
The sum of n of them, less a times the sum of the keys, is E + scale * V, where V is the sum of the
vectors and E that of the errors. V comes out exactly if

    scale * capacity + |E| < 2^31    (nothing wraps), and
    2 |E| < scale                    (rounding finds V).

|E| is bounded by the tail of :mod:`qfl.crypto.discrete_gaussian`, for all values of the longest
vector together. The scale is the largest that fits; nothing asks for a power of two, and the next
lower one would leave up to half of the room for noise unused.

Two events are counted, each under 2^-65: an error past its bound, and a coefficient of the summed
key past its own. Rounding errors of float64 (:mod:`qfl.crypto.ring`) and the sampler's distance
to the discrete Gaussian are far below that.

Why 6.4: see :mod:`qfl.crypto.hardness`.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from math import ceil

from qfl.crypto.discrete_gaussian import tail_bound
from qfl.crypto.encoding import SumRange
from qfl.crypto.ring import DEGREE
from qfl.errors import ConfigError

SIGMA = "6.4"
FEWEST_CONTRIBUTIONS = 3
MOST_CONTRIBUTIONS = 10_000
_EVENT_BITS = 65.0
_HALF_MODULUS = 2**31


@dataclass(frozen=True)
class HybridParameters:
    """How values are carried, and what noise may come to.

    Attributes:
        scale: A value v is carried as ``scale * v``.
        noise: No coefficient of a sum of errors is larger, except with probability 2^-65.
        key: The same of a sum of keys.
    """

    scale: int
    noise: int
    key: int

    @property
    def degree(self) -> int:
        """Degree of the ring."""
        return DEGREE

    @property
    def slots(self) -> int:
        """Values in one element of the ring."""
        return DEGREE


def choose_hybrid(length: int, sums: SumRange) -> HybridParameters:
    """The largest scale that is sound for these sums.

    Args:
        length: Values in the longest vector.
        sums: Grid, bound and number of additions.

    Raises:
        ConfigError: There is none, or the number of additions is out of range.

    Example:
        >>> choose_hybrid(1_000_000, SumRange(20, 2.0, 10))
        HybridParameters(scale=1023, noise=221, key=210)
    """
    additions = sums.additions
    if not FEWEST_CONTRIBUTIONS <= additions <= MOST_CONTRIBUTIONS:
        raise ConfigError(
            f"additions={additions} is not allowed with scheme hybrid: must be "
            f"{FEWEST_CONTRIBUTIONS} (a sum of fewer keys hides none) to {MOST_CONTRIBUTIONS}"
        )
    noise, scale = _noise_and_scale(length, sums)
    if not 2 * noise < scale:
        raise ConfigError(
            f"scheme hybrid cannot sum {additions} vectors of {length} values with bound "
            f"{sums.bound:g} on a grid of 2^-{sums.fraction_bits}: noise of up to {noise} needs a "
            f"scale above {2 * noise}, and {sums.capacity} steps modulo 2^32 leave {scale}: "
            f"{_advice(length, sums)}"
        )
    key = ceil(tail_bound(float(SIGMA), additions, DEGREE, _EVENT_BITS))
    return HybridParameters(scale, noise, key)


def _noise_and_scale(length: int, sums: SumRange) -> tuple[int, int]:
    noise = ceil(tail_bound(float(SIGMA), sums.additions, length, _EVENT_BITS))
    return noise, (_HALF_MODULUS - 1 - noise) // sums.capacity


def _sound(length: int, sums: SumRange) -> bool:
    noise, scale = _noise_and_scale(length, sums)
    return 2 * noise < scale


def _advice(length: int, sums: SumRange) -> str:
    choices = []
    for bits in range(sums.fraction_bits - 1, -1, -1):
        try:
            sound = _sound(length, replace(sums, fraction_bits=bits))
        except ConfigError:  # too coarse for that many contributions
            break
        if sound:
            choices.append(f"lower strategy.grid_bits to {bits} or less")
            break
    fewer = range(1, sums.additions)
    most = bisect_left(fewer, True, key=lambda n: not _sound(length, replace(sums, additions=n)))
    if most >= FEWEST_CONTRIBUTIONS:
        choices.append(f"use at most {most} clients")
    return ", or ".join([*choices, "lower strategy.bound"])
