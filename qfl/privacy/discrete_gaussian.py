"""Discrete Gaussian integers of any width: P(x) proportional to rho(x) = exp(-x^2 / (2 sigma^2)).

The noise of Canonne, Kamath and Steinke, "The Discrete Gaussian for Differential Privacy" (2020).
Their sampler is :mod:`qfl.privacy.exact_gaussian`; this one is some thousand times as fast.

Integers are cut into blocks of K, a power of two of at most sigma / 16; K = 1 where sigma < 32.
Block q holds Kq to Kq + K - 1. Going away from 0, rho falls from its largest value M on the block
to its smallest m, so that on the block it is a flat part m and a ramp rho(x) - m. A draw

1. takes a block and one of its parts from an alias table, with weights K m and K (M - m);
2. takes x in the block, uniformly, from bits;
3. returns x if the part is flat; if it is the ramp, with probability a(x) = (rho(x) - m) / (M - m),
   and otherwise starts again.

So x comes out with a probability proportional to m + (M - m) a(x) = rho(x). With K = 1 there are no
ramps, and the table is that of the distribution itself; otherwise at most one draw in twenty looks
at its ramp, and about half of those start again.

**Distance from the exact distribution.** Let n be the entries of the table, and let a unit be
2^-128 of the weights' sum. The blocks reach 13.4 sigma; as X is sub-Gaussian with parameter sigma,
P(|X| > 13.4 sigma) <= 2 exp(-13.4^2 / 2) < 2^-128, and leaving that out moves the distribution by
as much. Weights are rounded down to units, out of 80 digits, and what is left over, n units at
most, goes to the flat part at 0: 2n units of change in all. A decision about a ramp is right to
2^-127 (see below), which changes what comes out by less than two units. A draw that does not
start again has probability A; if unnormalised probabilities change by t in sum, what is normalised
changes in total variation by at most t / A. Over the blocks of one side, the M - m add up to 1 at
most, hence those of both sides to 2, and what is rejected, at most K (M - m) for a block, to
2 K <= sigma / 8, while by Poisson's summation formula rho adds up to at least sigma sqrt(2 pi).
So A >= 0.95, and in all

    total variation <= (2n + 2) 2^-128 / 0.95 + 2^-128 < (3n + 4) 2^-128 < 2^-115.

**Decisions.** With s the distance of x from the block's end N that is nearer to 0,

    a(x) = 1 - expm1(-d) / expm1(-D),   d = s (2 |N| + s) / (2 sigma^2),   D the same at s = K - 1:

nothing cancels. |x| < 2^44 and s < 2^37, so that s and 2 |N| + s are exact in float64, and d and D
have a relative error of at most 4 * 2^-53. expm1(-d) multiplies a relative error by less than 1,
and numpy's own error is below 2^-48 (it states 4 units in the last place at most), so the quotient,
which is at most 1, is right to 2^-46. A uniform number of 64 bits that differs from this a(x) by
more than 2^-40 is decided by that. The others are told from a(x) in 80 digits with 64 further bits,
rounded down to a multiple of 2^-128.

Which entries are looked up, and whether a draw starts again, depend on what is drawn; whoever can
measure that on the same machine is not defended against.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import lru_cache
from math import ceil, frexp

import numpy as np
from numpy.typing import NDArray

from qfl.errors import PrivacyError
from qfl.privacy.alias import CHUNK, ONE, AliasTable
from qfl.privacy.randomness import Stream

SMALLEST, LARGEST = 0.3, 2.0**40
_REACH = 13.4  # standard deviations
_DIGITS = 80
_DOUBT = 2.0**-40

_Floats = NDArray[np.float64]
_Integers = NDArray[np.int64]


@dataclass(frozen=True)
class DiscreteGaussian:
    """Discrete Gaussian noise around 0.

    Args:
        sigma: The parameter, taken as the binary fraction that the float is: 0.3 to 2^40. From 1 on
            it is the standard deviation to within 1 part in 10^6; below, a little more than it.

    Raises:
        PrivacyError: ``sigma`` is out of range.

    Example:
        >>> drawn = DiscreteGaussian(1e6).draw(100_000, Stream())
        >>> bool(0.98e6 < drawn.std() < 1.02e6)
        True
    """

    sigma: float

    def __post_init__(self) -> None:
        if not SMALLEST <= self.sigma <= LARGEST:
            raise PrivacyError(
                f"a discrete Gaussian of sigma={self.sigma} cannot be drawn: must be {SMALLEST} to "
                "2^40 units of the grid; choose a finer or a coarser one (strategy.grid_bits)"
            )

    @property
    def total_variation(self) -> float:
        """What the distribution of one draw differs from the exact one by, at most."""
        return (3 * blocks_of(self.sigma).entries + 4) / ONE

    def draw(self, count: int, stream: Stream) -> _Integers:
        """``count`` independent integers.

        Args:
            count: How many.
            stream: Where the randomness comes from.
        """
        blocks = blocks_of(self.sigma)
        if blocks.bits == 0:
            return blocks.table.draw(count, stream)
        drawn = np.empty(count, np.int64)
        starts = range(0, count, CHUNK)
        rejected = [
            start + blocks.propose(drawn[start : start + CHUNK], stream) for start in starts
        ]
        again = np.concatenate([*rejected, np.empty(0, np.int64)])
        if again.size:
            drawn[again] = self.draw(again.size, stream)
        return drawn


@dataclass(frozen=True, eq=False)
class Blocks:
    """What to draw from for one sigma.

    Attributes:
        sigma: The parameter.
        bits: log2 of K.
        count: Blocks: an even number, half of them below 0.
        table: Of the number of a block, from ``-count / 2``, for its flat part, and the same plus
            ``count`` for its ramp. Without ramps if ``bits`` is 0.
        nearest: By the block, from 0: its end that is nearer to 0.
        scale: By the block: 1 / expm1(-D).
    """

    sigma: float
    bits: int
    count: int
    table: AliasTable
    nearest: _Integers
    scale: _Floats

    @property
    def entries(self) -> int:
        """Of the table."""
        return self.count if self.bits == 0 else 2 * self.count

    def propose(self, drawn: _Integers, stream: Stream) -> _Integers:
        """Fill ``drawn``, and tell the places of what was rejected."""
        parts = self.table.draw(drawn.size, stream)
        ramps = np.flatnonzero(parts >= self.count // 2)
        parts[ramps] -= self.count
        offsets = (stream.words(drawn.size) & np.uint64((1 << self.bits) - 1)).view(np.int64)
        np.left_shift(parts, self.bits, out=drawn)
        drawn += offsets
        accepted = self.accept(parts[ramps], drawn[ramps], stream)
        return ramps[~accepted]

    def accept(self, blocks: _Integers, drawn: _Integers, stream: Stream) -> NDArray[np.bool_]:
        """Whether ``drawn`` in the ramps of ``blocks`` are accepted."""
        numbers = stream.words(drawn.size)
        uniform = (numbers >> np.uint64(11)) * 2.0**-53
        chances = self.chances(blocks, drawn)
        accepted = uniform < chances
        for doubtful in np.flatnonzero(np.abs(uniform - chances) < _DOUBT):
            number = int(numbers[doubtful]) << 64 | int(stream.words(1)[0])
            accepted[doubtful] = number < self.chance(int(blocks[doubtful]), int(drawn[doubtful]))
        return accepted

    def chances(self, blocks: _Integers, drawn: _Integers) -> _Floats:
        """``a(x)`` to within 2^-46 for ``drawn`` in ``blocks``."""
        places = blocks + self.count // 2
        return 1 - np.expm1(-_fall(self.sigma, self.nearest[places], drawn)) * self.scale[places]

    def chance(self, block: int, drawn: int) -> int:
        """``a(x)`` in units of 2^-128, rounded down."""
        nearest = int(self.nearest[block + self.count // 2])
        with localcontext() as context:
            context.prec = _DIGITS
            least = _rho(self.sigma, nearest ^ ((1 << self.bits) - 1))
            part = (_rho(self.sigma, drawn) - least) / (_rho(self.sigma, nearest) - least)
            return int(part * ONE)


@lru_cache(maxsize=16)
def blocks_of(sigma: float) -> Blocks:
    """The blocks and tables for one sigma in range."""
    bits = max(0, frexp(sigma)[1] - 5)
    half = ceil(_REACH * sigma / 2**bits) + 1
    starts = np.arange(-half, half, dtype=np.int64) << bits
    last = (1 << bits) - 1
    nearest = np.where(starts < 0, starts + last, starts)
    with localcontext() as context:
        context.prec = _DIGITS
        largest = [_rho(sigma, end) for end in nearest.tolist()]
        least = [_rho(sigma, end ^ last) for end in nearest.tolist()]
        ramps = [] if bits == 0 else [high - low for high, low in zip(largest, least, strict=True)]
        total = sum(largest)
        units = [int(part / total * ONE) for part in least + ramps]
    units[half] += ONE - sum(units)
    with np.errstate(divide="ignore"):  # without ramps
        scale = 1 / np.expm1(-_fall(sigma, nearest, nearest ^ last))
    return Blocks(sigma, bits, 2 * half, AliasTable.build(units, -half), nearest, scale)


def _rho(sigma: float, x: int) -> Decimal:
    return (-(Decimal(x) ** 2) / (2 * Decimal(sigma) ** 2)).exp()


def _fall(sigma: float, nearest: _Integers, x: _Integers) -> _Floats:
    """``d``: how far the exponent of rho falls from ``nearest`` to ``x``."""
    inner, outer = np.abs(nearest).astype(np.float64), np.abs(x).astype(np.float64)
    return (outer - inner) * (outer + inner) / (2 * sigma * sigma)
