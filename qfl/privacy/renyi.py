"""Renyi differential privacy of sampled Gaussians, and epsilon from it.

Mironov, Talwar and Zhang, "Renyi Differential Privacy of the Sampled Gaussian Mechanism" (2019):
with sampling rate q and noise multiplier z, D_alpha = log A_alpha / (alpha - 1), where

    A_alpha = E (1 - q + q exp((2x - 1) / (2 z^2)))^alpha,   x normal with standard deviation z;

whether a record is added or removed. Epsilon at delta is the smallest over all orders of

    D_alpha + log(1 - 1/alpha) - (log delta + log alpha) / (alpha - 1)

(Balle et al., "Hypothesis Testing Interpretations and Renyi Differential Privacy", 2020).

Opacus computes the same; here tiny rates lose no digits, because for integers alpha only positive
terms are added to 1, and otherwise the trapezoidal rule converges exponentially. Orders reach
from 1.001, which large epsilons need, to 10,000, which small ones need.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from qfl.privacy.charge import Charge
from qfl.privacy.discrete import discrete_rdp

_GROWTH = 1.05  # of orders: at low rates the best one is sharp, 1.15 would cost 1.5 % of epsilon
_INTEGERS_FROM, _LAST = 8, 10_000
_LEAST_NOISE = 0.01  # below, what is known without sampling is all that is claimed
_ROUNDING = 1e-14  # of log A, at most


def _orders() -> NDArray[np.float64]:
    near = 1 + 1e-3 * _GROWTH ** np.arange(math.log(1e3 * (_INTEGERS_FROM - 1), _GROWTH))
    far = _INTEGERS_FROM * _GROWTH ** np.arange(math.log(_LAST / _INTEGERS_FROM, _GROWTH))
    # Integers all the same: for them Skellam's bound is sharpest.
    return np.unique(np.concatenate([near, np.arange(2.0, _INTEGERS_FROM), far.round()]))


ORDERS = _orders()


def rdp_epsilon(charges: Sequence[Charge], delta: float) -> float:
    """Epsilon of all charges together, by Renyi differential privacy.

    Args:
        charges: Of any mechanisms; their own deltas are not looked at.
        delta: In (0, 1).

    Returns:
        An upper bound of the true epsilon; infinite where one has no noise.

    Example:
        >>> charge = Charge("gaussian", noise_multiplier=4.0, steps=50)
        >>> round(rdp_epsilon([charge], 1e-5), 2)
        9.23
    """
    total = np.zeros(len(ORDERS))
    for charge in charges:
        total += charge.steps * np.asarray(_curve(charge))
    found = total + np.log1p(-1 / ORDERS) - (math.log(delta) + np.log(ORDERS)) / (ORDERS - 1)
    return max(0.0, float(found.min()))


def _curve(charge: Charge) -> NDArray[np.float64]:
    if charge.mechanism == "gaussian":
        return sampled_gaussian_rdp(charge.noise_multiplier, charge.sample_rate)
    return discrete_rdp(charge, ORDERS)


@lru_cache(maxsize=256)
def sampled_gaussian_rdp(noise_multiplier: float, sample_rate: float) -> NDArray[np.float64]:
    """D_alpha of one release for each of ``ORDERS``, rounded up; do not change what is returned.

    Args:
        noise_multiplier: Standard deviation over L2 sensitivity; at least 0.
        sample_rate: In (0, 1].

    Example:
        >>> bool(np.allclose(sampled_gaussian_rdp(2.0, 1.0), ORDERS / 8))
        True
    """
    z, q = noise_multiplier, sample_rate
    if z < 1e-100:  # its square would underflow
        return np.full(len(ORDERS), math.inf)
    if q == 1 or z < _LEAST_NOISE:
        return np.asarray(ORDERS / (2 * z**2))
    step = min(z / 4, z**2 / 2)
    x = np.arange(-14 * z, _INTEGERS_FROM + 14 * z, step)
    weight = -(x**2) / (2 * z**2) + math.log(step / (z * math.sqrt(2 * math.pi)))
    ratio = np.logaddexp(math.log1p(-q), math.log(q) + (2 * x - 1) / (2 * z**2))
    logs = [
        _at_integer(int(alpha), z, q)
        if alpha >= _INTEGERS_FROM
        else _log_sum(weight + alpha * ratio)
        for alpha in ORDERS
    ]
    return np.asarray((np.maximum(logs, 0) + _ROUNDING) / (ORDERS - 1))


def _at_integer(alpha: int, z: float, q: float) -> float:
    from scipy.special import gammaln

    i = np.arange(2, alpha + 1)
    choose = gammaln(alpha + 1) - gammaln(i + 1) - gammaln(alpha - i + 1)
    chance = choose + i * math.log(q) + (alpha - i) * math.log1p(-q)
    exponent = i * (i - 1) / (2 * z**2)
    return float(np.logaddexp(0, _log_sum(chance + exponent + np.log(-np.expm1(-exponent)))))


def _log_sum(logs: NDArray[np.float64]) -> float:
    largest = float(logs.max())
    return largest + math.log(float(np.exp(logs - largest).sum()))
