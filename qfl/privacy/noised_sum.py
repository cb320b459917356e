"""Gaussian noise on a sum of clipped gradients, as integers on a grid.

Noise in floating point leaks: which floats can come out depends on what was added to (Mironov 2012,
"On significance of the least significant bits for differential privacy"). Here the sum S, which is
computed in float64, is rounded to the grid of step h = z C / 2^40; a discrete Gaussian integer of
sigma = 2^40 is added to each coordinate (Canonne, Kamath, Steinke 2020), which is noise of standard
deviation z C; only then is it a float again.

**What it costs: as much as the Gaussian mechanism of noise multiplier z, and a little delta.**
Let D be the discrete Gaussian vector, N a continuous one of the same sigma, and [.] rounding to the
nearest integer.

- *Sensitivity.* Sums of neighbouring batches, divided by h, are (1 - 2^-17) C / h apart at most
  (:mod:`qfl.privacy.gradient_clipping`). Rounding moves each of d coordinates of both by at most
  h / 2: by sqrt(d) h together. While sqrt(d) z <= 2^22 that is at most 2^-18 C, and the rounded
  sums are less than C apart, which is what z is the multiplier for. More is refused.
- *Distribution.* [S / h] + [N] = [[S / h] + N] is computed from the Gaussian mechanism on [S / h],
  and costs no more. P([N] = k) is the integral of N's density f over k - 1/2 to k + 1/2, which is
  f(k) + f''(k) / 24 up to terms of order sigma^-4: relative to f(k), 1 + ((k / sigma)^2 - 1) /
  (24 sigma^2). P(D = k) is f(k) up to a factor within exp(-2 pi^2 sigma^2) of 1. So one coordinate
  of D and [N] differ in total variation by E|x^2 - 1| / (48 sigma^2) = 0.0202 / sigma^2 for x
  standard normal, and by less than 0.05 / sigma^2 with all terms; D is drawn to within
  ``total_variation`` of its own. Both, times coordinates and steps, are the distance t of what runs
  from a mechanism that costs what is said. Whatever is within e^epsilon and delta there is within
  e^epsilon and delta + (1 + e^epsilon) t here. ``Charge.delta`` is 2^24 t, which covers epsilon up
  to 16.6 (3 * 10^-12 for a step on the most coordinates that there may be). The integers
  themselves are exact; what becomes of them afterwards is computed from what is released.

With adaptive clipping (Andrew et al. 2021, "Differentially private learning with adaptive
clipping") the same step releases how many records were within C, as the sum of +1/2 and -1/2, with
noise of standard deviation s. The two are one Gaussian mechanism: in units of their noise one
record moves them by sqrt(1 / z_g^2 + 1 / (2 s)^2) at most, and that is 1 / z for the gradient's
multiplier z_g = (1 / z^2 - 1 / (2 s)^2)^(-1/2). The halves are scaled by 1 - 2^-16 as gradients
are, which pays for the grid of the count.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from qfl.errors import PrivacyError
from qfl.privacy.gradient_clipping import KEPT_BACK
from qfl.privacy.per_sample import Floats
from qfl.privacy.randomness import Stream

SIGMA = 2.0**40
LARGEST_SIZE = 2**22
_FROM_CONTINUOUS = 0.05 / SIGMA**2
_WITH_EPSILON = 2.0**24
_AT_ONCE = 1 << 17  # numbers


def gradient_multiplier(noise_multiplier: float, count_noise: float) -> float:
    """Noise multiplier of the gradient where a noisy count is released beside it.

    Args:
        noise_multiplier: Of both together, z >= 0.
        count_noise: Standard deviation of the noise on the count.

    Raises:
        PrivacyError: The count alone costs more than both may.

    Example:
        >>> round(gradient_multiplier(1.0, 10.0), 5)
        1.00125
    """
    if noise_multiplier == 0:
        return 0.0
    left = noise_multiplier**-2 - (2 * count_noise) ** -2
    if left <= 0:
        raise PrivacyError(
            f"adaptive clipping with privacy.count_noise={count_noise} and a noise multiplier of "
            f"{noise_multiplier:.4g} is impossible: the noisy count alone costs as much; set "
            f"privacy.count_noise above {noise_multiplier / 2:.4g}, or privacy.clipping=flat"
        )
    return math.sqrt(1 / left)


def delta_of(size: int, steps: int) -> float:
    """What to add to delta because the noise is not Gaussian noise, rounded.

    Args:
        size: Coordinates.
        steps: Releases.
    """
    from qfl.privacy.discrete_gaussian import DiscreteGaussian

    distance = _FROM_CONTINUOUS + DiscreteGaussian(SIGMA).total_variation
    return size * steps * distance * _WITH_EPSILON


def check_size(size: int, noise_multiplier: float) -> None:
    """Refuse vectors on which rounding would cost more than was kept back.

    Raises:
        PrivacyError: Says the largest size.
    """
    largest = min(LARGEST_SIZE, 2.0**44 / max(noise_multiplier, 1e-9) ** 2)
    if size > largest:
        raise PrivacyError(
            f"a model of {size} parameters cannot be trained with a noise multiplier of "
            f"{noise_multiplier:.4g}: at most {int(largest)} parameters; take a smaller model or "
            "less noise"
        )


class Noise:
    """Integers for step after step, drawn for many steps at once.

    Args:
        size: Coordinates of a step.
        steps: How many steps there will be at most.
        stream: Where the randomness comes from.
    """

    def __init__(self, size: int, steps: int, stream: Stream) -> None:
        self._rows = self._draw(size, steps, stream)

    def add(self, values: Floats, deviation: float) -> Floats:
        """Values with noise.

        Args:
            values: (size,), finite.
            deviation: Standard deviation of the noise, > 0, in units of the values.
        """
        step = deviation / SIGMA
        return (np.rint(values / step) + next(self._rows)) * step

    @staticmethod
    def _draw(size: int, steps: int, stream: Stream) -> Iterator[Floats]:
        from qfl.privacy.discrete_gaussian import DiscreteGaussian

        sampler = DiscreteGaussian(SIGMA)
        at_once = max(1, _AT_ONCE // size)
        for first in range(0, steps, at_once):
            count = min(at_once, steps - first)
            # Integers below 2^44: exact.
            drawn = sampler.draw(count * size, stream).astype(np.float64)
            yield from drawn.reshape(count, size)


def noisy_fraction(within: int, batch: int, expected: float, noise: Noise, spread: float) -> float:
    """Share of records within the clipping norm, with noise.

    Args:
        within: Records that are.
        batch: Records of this batch.
        expected: Expected size of a batch.
        noise: For one coordinate.
        spread: Standard deviation of the noise on the count, > 0.
    """
    count = (within - batch / 2) * (1 - KEPT_BACK)
    return float(noise.add(np.array([count]), spread)[0]) / expected + 0.5
