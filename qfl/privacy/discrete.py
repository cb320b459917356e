"""Renyi divergence of integer noise: discrete Gaussians, sums of them, and Skellam.

Discrete Gaussian. Kairouz, Liu and Steinke, "The Distributed Discrete Gaussian Mechanism for
Federated Learning with Secure Aggregation" (2021), theorem 1 and proposition 14: n parties each
add discrete Gaussians of parameter sigma >= 1/2 to d coordinates. Up to a factor of
exp(tau / 2) for each coordinate, where

    tau = 10 sum_{k=1}^{n-1} exp(-2 pi^2 sigma^2 k / (k + 1)),

the sum is distributed as one discrete Gaussian of parameter sqrt(n) sigma, and for L2 sensitivity D

    D_alpha <= alpha D^2 / (2 n sigma^2) + tau d,
    D_alpha <= alpha / 2 (D / (sqrt(n) sigma) + tau sqrt(d))^2.

The first holds since the loss of the one discrete Gaussian is linear in the noise, the sum of n is
sub-Gaussian like it, and the loss of the sum differs from it by at most tau in each coordinate. One
party's noise has tau = 0 (Canonne, Kamath and Steinke, "The Discrete Gaussian for Differential
Privacy", 2020). What the others add to it can only help, so that alpha D^2 / (2 sigma^2) always
holds; below sigma = 1/2 it is all that is claimed.

Skellam. Agarwal, Kairouz and Liu, "The Skellam Mechanism for Differentially Private Federated
Learning" (2021), corollary 3.6: for integers alpha >= 2 and the sum's variance mu,

    D_alpha <= alpha D2^2 / (2 mu) + min( ((2 alpha - 1) D2^2 + 6 D1) / (4 mu^2), 3 D1 / (2 mu) ),

with L1 sensitivity D1 <= min(D2^2, sqrt(d) D2) between vectors of integers. Between integers,
(alpha - 1) D_alpha lies below its chord because it is convex, and it is 0 at alpha = 1.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from qfl.privacy.charge import Charge

_SMALLEST_SIGMA = 0.5  # theorem 9 of Kairouz et al.


def discrete_rdp(charge: Charge, orders: NDArray[np.float64]) -> NDArray[np.float64]:
    """Renyi differential privacy of one step of a charge on integers.

    Args:
        charge: Of mechanism ``discrete_gaussian`` or ``skellam``; its steps are not looked at.
        orders: Alpha; each above 1.

    Returns:
        The bound on D_alpha for each order; infinite without noise.

    Example:
        >>> charge = Charge("skellam", noise_multiplier=2.0, sensitivity=16.0, dimension=1000)
        >>> discrete_rdp(charge, np.array([2.0, 8.0])).round(5).tolist()
        [0.25055, 1.00128]
    """
    if charge.noise_multiplier < 1e-100:  # its square would underflow
        return np.full(len(orders), math.inf)
    if charge.mechanism == "skellam":
        return _skellam(charge, orders)
    return _discrete_gaussian(charge, orders)


def closeness(sigma: float, shares: int) -> float:
    """Tau of a sum of discrete Gaussians, for one coordinate; see the module's docstring.

    Args:
        sigma: Parameter of each, in units of the grid; above 0.
        shares: How many are added.

    Example:
        >>> closeness(1.5, shares=1), closeness(1.5, shares=10) < 1e-8
        (0.0, True)
    """
    # From the 10,000th on all are equal to the last: their bound from above.
    first = min(shares, 10_000)
    each = [math.exp(-2 * (math.pi * sigma) ** 2 * k / (k + 1)) for k in range(1, first)]
    return 10 * (math.fsum(each) + (shares - first) * (each[-1] if each else 0))


def _discrete_gaussian(charge: Charge, orders: NDArray[np.float64]) -> NDArray[np.float64]:
    z, shares, dimension = charge.noise_multiplier, charge.shares, charge.dimension
    sigma = z * charge.sensitivity / math.sqrt(shares)
    alone = orders * shares / (2 * z**2)
    if sigma < _SMALLEST_SIGMA:
        return alone
    tau = closeness(sigma, shares)
    added = orders / (2 * z**2) + tau * dimension
    scaled = orders / 2 * (1 / z + tau * math.sqrt(dimension)) ** 2
    return np.minimum(alone, np.minimum(added, scaled))


def _skellam(charge: Charge, orders: NDArray[np.float64]) -> NDArray[np.float64]:
    d2 = charge.sensitivity
    d1 = min(d2**2, math.sqrt(charge.dimension) * d2)
    mu = (charge.noise_multiplier * d2) ** 2

    def moment(alpha: NDArray[np.float64]) -> NDArray[np.float64]:
        fine = ((2 * alpha - 1) * d2**2 + 6 * d1) / (4 * mu**2)
        bound = alpha * d2**2 / (2 * mu) + np.minimum(fine, 3 * d1 / (2 * mu))
        return np.asarray((alpha - 1) * bound)

    below = np.floor(orders)
    part = orders - below
    chord = (1 - part) * moment(below) + part * moment(below + 1)
    return np.asarray(chord / (orders - 1))
