"""Rounding to integers at random, with a bound on the norm that holds every time.

After Kairouz, Liu and Steinke, "The distributed discrete Gaussian mechanism for federated learning
with secure aggregation" (2021), section 4.2: conditional randomized rounding.

Each coordinate is rounded up with a probability equal to its fraction, which is right on average.
The norm may grow by that, to norm + sqrt(d) in the worst case, which d coordinates hardly ever
reach together. So all are rounded again until the integers' norm keeps to the smaller bound

    bound^2 = norm^2 + d/4 + sqrt(2 ln(1/beta)) (norm + sqrt(d)/2),    beta = exp(-1/2),

which one try keeps to with a probability of at least 1 - beta = 0.39. The paper takes the smaller
of this and (norm + sqrt(d))^2; with this beta it is always this one.

What it costs. A condition of probability 1 - beta makes the mean wrong. Let E be the error of one
unconditional rounding, in which coordinates are independent with mean 0 and variance at most 1/4,
and "over" the event that the bound is not kept. For any unit vector v, by Cauchy and Schwarz,

    |mean of v.E given not over| = |E[v.E; over]| / P(not over) <= sqrt(beta / 4) / (1 - beta) < 1.

So the mean of a whole vector is off by less than one unit of the grid in L2, however long it is.

How often it was tried depends on the values and shows in the time it takes.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from qfl.errors import PrivacyError
from qfl.privacy.randomness import Stream

TRIES = 256  # all fail with a probability of exp(-128) < 2^-184


def rounded_norm(norm: float, dimension: int) -> float:
    """Largest L2 norm of the integers, for values whose L2 norm is at most ``norm``.

    Args:
        norm: In units of the grid.
        dimension: Coordinates.

    Example:
        >>> round(rounded_norm(100.0, 64), 3)
        100.598
    """
    return math.sqrt(norm * norm + dimension / 4 + norm + math.sqrt(dimension) / 2)


def round_within(values: NDArray[np.float64], bound: float, stream: Stream) -> NDArray[np.int64]:
    """Round to neighbouring integers at random, within a norm.

    Args:
        values: In units of the grid; no magnitude above 2^52.
        bound: ``rounded_norm(norm, values.size)`` where ``norm`` is at least the L2 norm of
            ``values``. Then a try succeeds with a probability of at least 0.39: about 2.5 at most
            on average.
        stream: Where the randomness comes from.

    Returns:
        Integers, each less than 1 from its value, whose exact L2 norm is at most ``bound``.

    Raises:
        PrivacyError: No try kept to the bound: the values are longer than it is for.

    Example:
        >>> round_within(np.array([3.0, -4.0]), rounded_norm(5.0, 2), Stream()).tolist()
        [3, -4]
    """
    down = np.floor(values)
    fractions = values - down
    # The float64 sum of the squares is less than the exact one by a relative size * 2^-53 at most.
    most = bound**2 * (1 - (values.size + 4) * 2.0**-52)
    for _ in range(TRIES):
        rounded = down + (stream.uniform(values.size) < fractions)
        if float(rounded @ rounded) <= most:
            return rounded.astype(np.int64)
    raise PrivacyError(
        f"{values.size} values cannot be rounded within a norm of {bound:g} grid steps: they are "
        "longer than the bound allows for; clip them first"
    )
