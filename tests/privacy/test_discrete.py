"""Bounds for integer noise against Renyi divergences summed over the integers."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import ive, logsumexp
from scipy.stats import poisson

from qfl.privacy.charge import Charge
from qfl.privacy.discrete import closeness, discrete_rdp

Array = NDArray[np.float64]

ORDERS = np.array([1.2, 2.0, 3.0, 8.0, 16.0])
INTEGERS = np.array([2.0, 3.0, 8.0, 16.0])
REACH = 300  # of supports, to either side


def log_sum_of_two(first: Array, second: Array) -> Array:
    """Logarithms of the masses of a sum, all tails included; supports are -REACH to REACH."""
    shifted = np.full((2 * REACH + 1, 2 * REACH + 1), -np.inf)
    for row, k in enumerate(range(-REACH, REACH + 1)):
        low, high = max(0, k), min(2 * REACH, 2 * REACH + k)
        shifted[row, low : high + 1] = first[row] + second[low - k : high - k + 1]
    return np.asarray(logsumexp(shifted, axis=0))


@lru_cache
def sum_of_discrete_gaussians(sigma: float, shares: int) -> Array:
    x = np.arange(-REACH, REACH + 1)
    one = -(x**2) / (2 * sigma**2)
    one = one - logsumexp(one)
    total = one
    for _ in range(shares - 1):
        total = log_sum_of_two(one, total)
    return np.asarray(total)


@lru_cache
def skellam(variance: float) -> Array:
    x = np.arange(-REACH, REACH + 1)
    if variance >= 100:  # Poisson's support reaches too far, and Bessel functions do not underflow
        return np.asarray(np.log(ive(np.abs(x), variance)))
    half = poisson.logpmf(x, variance / 2)
    return log_sum_of_two(half, half[::-1])


def divergence(log_mass: Array, shift: int, order: float) -> float:
    """Between a distribution on the integers and the same one shifted."""
    inner = log_mass[50:-50]  # beyond, a sum misses what its supports leave out
    terms = order * inner[:-shift] + (1 - order) * inner[shift:]
    return float(logsumexp(terms) / (order - 1))


def gaussian_charge(sigma: float, shift: int, shares: int, dimension: int = 1) -> Charge:
    noise = sigma * math.sqrt(shares) / shift
    return Charge(
        "discrete_gaussian", noise, sensitivity=float(shift), shares=shares, dimension=dimension
    )


@pytest.mark.parametrize("shift", [1, 2, 5])
@pytest.mark.parametrize("sigma", [0.4, 0.7, 1.5, 6.0])
def test_one_discrete_gaussian_is_within_the_continuous_ones_bound(
    sigma: float, shift: int
) -> None:
    bound = discrete_rdp(gaussian_charge(sigma, shift, 1), ORDERS)
    exact = [divergence(sum_of_discrete_gaussians(sigma, 1), shift, order) for order in ORDERS]
    assert np.allclose(bound, ORDERS * shift**2 / (2 * sigma**2), rtol=1e-12)
    assert (bound >= np.array(exact) * (1 - 1e-9)).all()
    if sigma >= 1.5:
        assert np.allclose(bound, exact, rtol=1e-6)


@pytest.mark.parametrize("shares", [2, 3, 5])
@pytest.mark.parametrize("shift", [1, 2, 5])
@pytest.mark.parametrize("sigma", [0.45, 0.5, 0.6, 0.8, 1.0, 1.5, 3.0])
def test_a_sum_of_discrete_gaussians_is_within_the_bound(
    sigma: float, shift: int, shares: int
) -> None:
    bound = discrete_rdp(gaussian_charge(sigma, shift, shares), ORDERS)
    mass = sum_of_discrete_gaussians(sigma, shares)
    exact = [divergence(mass, shift, order) for order in ORDERS]
    assert (bound >= np.array(exact) * (1 - 1e-9)).all()
    if sigma >= 1.0:
        assert np.allclose(bound, exact, rtol=5e-3, atol=2e-3)


@pytest.mark.parametrize("shares", [2, 3, 5])
@pytest.mark.parametrize("sigma", [0.5, 0.7, 1.0, 1.2])
def test_closeness_bounds_the_distance_to_one_discrete_gaussian(sigma: float, shares: int) -> None:
    one = sum_of_discrete_gaussians(sigma * math.sqrt(shares), 1)
    ratio = (sum_of_discrete_gaussians(sigma, shares) - one)[50:-50]
    assert 0 < np.abs(ratio).max() <= closeness(sigma, shares) / 2 + 1e-9


@pytest.mark.parametrize("shares", [2, 10, 100_000])
def test_from_three_halves_of_a_unit_a_sum_is_as_good_as_continuous(shares: int) -> None:
    charge = gaussian_charge(1.5, 8, shares)
    bound = discrete_rdp(charge, ORDERS) / (ORDERS / (2 * charge.noise_multiplier**2))
    assert (bound >= 1).all()
    if shares <= 10:
        assert np.allclose(bound, 1, atol=1e-6)


def test_closeness_of_very_many_shares_is_not_below_the_sum() -> None:
    terms = [math.exp(-2 * (math.pi * 0.9) ** 2 * k / (k + 1)) for k in range(1, 30_000)]
    expected = 10 * math.fsum(terms)
    assert expected <= closeness(0.9, 30_000) <= expected * (1 + 1e-3)
    assert closeness(0.9, 1) == 0


def test_below_half_a_unit_only_ones_own_noise_counts() -> None:
    few, many = (gaussian_charge(0.4, 1, shares) for shares in (1, 9))
    assert np.allclose(discrete_rdp(few, ORDERS), discrete_rdp(many, ORDERS))


def test_many_coordinates_take_the_smaller_of_both_bounds() -> None:
    dimension, shares, sigma, shift = 10**6, 10, 0.9, 1000
    bound = discrete_rdp(gaussian_charge(sigma, shift, shares, dimension), ORDERS)
    root, tau = shift / (math.sqrt(shares) * sigma), closeness(sigma, shares)
    added = ORDERS * root**2 / 2 + tau * dimension
    scaled = ORDERS / 2 * (root + tau * math.sqrt(dimension)) ** 2
    assert np.allclose(bound, np.minimum(added, scaled), rtol=1e-12)


@pytest.mark.parametrize("shift", [1, 2, 5])
@pytest.mark.parametrize("variance", [0.5, 2.0, 10.0, 100.0, 500.0])
def test_skellam_is_within_the_bound(variance: float, shift: int) -> None:
    noise = math.sqrt(variance) / shift
    charge = Charge("skellam", noise, sensitivity=float(shift), dimension=1)
    exact = [divergence(skellam(variance), shift, order) for order in INTEGERS]
    bound = discrete_rdp(charge, INTEGERS)
    assert (bound >= np.array(exact) * (1 - 1e-9)).all()
    if variance >= 100:
        assert np.allclose(bound[:3], exact[:3], rtol=0.05)


def test_skellam_in_many_coordinates_is_the_papers_formula() -> None:
    noise, d2, dimension = 2.0, 16.0, 10_000
    charge = Charge("skellam", noise, sensitivity=d2, dimension=dimension)
    mu, d1 = (noise * d2) ** 2, min(d2**2, 100 * d2)
    fine = ((2 * INTEGERS - 1) * d2**2 + 6 * d1) / (4 * mu**2)
    expected = INTEGERS * d2**2 / (2 * mu) + np.minimum(fine, 3 * d1 / (2 * mu))
    assert np.allclose(discrete_rdp(charge, INTEGERS), expected, rtol=1e-12)


@pytest.mark.parametrize("order", [1.3, 2.5, 7.9])
def test_skellam_between_integers_is_above_the_exact_divergence(order: float) -> None:
    charge = Charge("skellam", 3.0, sensitivity=1.0, dimension=1)
    bound = float(discrete_rdp(charge, np.array([order]))[0])
    assert bound >= divergence(skellam(9.0), 1, order)
    neighbours = discrete_rdp(charge, np.array([max(math.floor(order), 2), math.ceil(order)]))
    assert bound <= neighbours[1]


@pytest.mark.parametrize("mechanism", ["discrete_gaussian", "skellam"])
def test_no_noise_gives_no_guarantee(mechanism: str) -> None:
    charge = Charge(mechanism, 0.0, sensitivity=4.0, dimension=3)
    assert np.isinf(discrete_rdp(charge, ORDERS)).all()


def test_finer_grids_bring_skellam_to_the_gaussian() -> None:
    orders, excess = np.array([8.0]), []
    for units in (2.0**8, 2.0**12, 2.0**16):
        charge = Charge("skellam", 2.0, sensitivity=units, dimension=10**6)
        excess.append(float(discrete_rdp(charge, orders)[0] / (8 / 8) - 1))
    assert excess[0] > excess[1] > excess[2] > 0
    assert excess[2] < 1e-4
