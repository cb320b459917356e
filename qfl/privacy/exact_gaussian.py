"""The discrete Gaussian without any error, slowly: what the fast sampler is compared with.

Canonne, Kamath and Steinke, "The Discrete Gaussian for Differential Privacy" (2020), Algorithms 1
to 3. All arithmetic is rational; a sample follows the distribution exactly if the stream's bits are
uniform. It takes some thirty microseconds.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from qfl.errors import PrivacyError
from qfl.privacy.randomness import Stream


def draw_exactly(sigma: float, count: int, stream: Stream) -> NDArray[np.int64]:
    """Independent discrete Gaussian integers around 0.

    Args:
        sigma: The parameter, above 0 and at most 2^40, taken as the binary fraction that it is.
        count: How many.
        stream: Where the randomness comes from.

    Raises:
        PrivacyError: ``sigma`` is out of range.

    Example:
        >>> draw_exactly(6.4, 100, Stream()).shape
        (100,)
    """
    if not 0 < sigma <= 2.0**40:
        raise PrivacyError(f"sigma={sigma} cannot be drawn: must be above 0 and at most 2^40")
    bits = Bits(stream)
    variance = Fraction(sigma) ** 2
    scale = int(sigma) + 1
    return np.array([_gaussian(variance, scale, bits) for _ in range(count)], np.int64)


class Bits:
    """Uniform integers below any number.

    Args:
        stream: Where the randomness comes from.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._kept = 0
        self._count = 0

    def below(self, limit: int) -> int:
        """Uniform from 0 to ``limit - 1``; ``limit`` is at least 1."""
        count = (limit - 1).bit_length()
        while True:
            drawn = self._take(count)
            if drawn < limit:
                return drawn

    def _take(self, count: int) -> int:
        while self._count < count:
            self._kept |= int.from_bytes(self._stream.bytes(512), "little") << self._count
            self._count += 4096
        taken = self._kept & ((1 << count) - 1)
        self._kept >>= count
        self._count -= count
        return taken


def bernoulli_exp(gamma: Fraction, bits: Bits) -> bool:
    """True with probability ``exp(-gamma)``, for ``gamma`` of at least 0 (Algorithm 1)."""
    while gamma > 1:
        if not _bernoulli_exp_to_one(Fraction(1), bits):
            return False
        gamma -= 1
    return _bernoulli_exp_to_one(gamma, bits)


def discrete_laplace(scale: int, bits: Bits) -> int:
    """``y`` with probability proportional to ``exp(-|y| / scale)`` (Algorithm 2)."""
    while True:
        rest = bits.below(scale)
        if not bernoulli_exp(Fraction(rest, scale), bits):
            continue
        whole = 0
        while bernoulli_exp(Fraction(1), bits):
            whole += 1
        size = rest + scale * whole
        negative = bits.below(2) == 1
        if not (negative and size == 0):
            return -size if negative else size


def _bernoulli_exp_to_one(gamma: Fraction, bits: Bits) -> bool:
    tried = 1
    while bits.below(gamma.denominator * tried) < gamma.numerator:
        tried += 1
    return tried % 2 == 1


def _gaussian(variance: Fraction, scale: int, bits: Bits) -> int:
    """Algorithm 3, with ``scale = floor(sigma) + 1``."""
    while True:
        drawn = discrete_laplace(scale, bits)
        gamma = (abs(drawn) - variance / scale) ** 2 / (2 * variance)
        if bernoulli_exp(gamma, bits):
            return drawn
