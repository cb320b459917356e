"""The Skellam sampler: its probabilities, and what it draws."""

from __future__ import annotations

from decimal import Decimal, localcontext
from math import factorial, inf, nan

import numpy as np
import pytest
from noise_fit import fits, masses
from numpy.typing import NDArray
from scipy import special, stats

from qfl.errors import PrivacyError
from qfl.privacy.randomness import Stream
from qfl.privacy.skellam import Skellam, table_of

DRAWN = 500_000
VARIANCES = [0.05, 1.0, 6.4**2, 100.0**2, 4096.0**2]


def draw(variance: float, count: int = DRAWN) -> NDArray[np.int64]:
    return Skellam(variance).draw(count, Stream(b"skellam" + bytes(25)))


def skellam(variance: float) -> NDArray[np.float64]:
    """Probabilities up to 12 standard deviations and then some."""
    half = int(12 * np.sqrt(variance)) + 12
    probabilities = special.ive(np.abs(np.arange(-half, half + 1)), variance)
    return np.asarray(probabilities / probabilities.sum())


@pytest.mark.parametrize("variance", VARIANCES)
def test_samples_follow_the_distribution(variance: float) -> None:
    assert fits(draw(variance), skellam(variance))


@pytest.mark.parametrize("wrong", [0.98, 1.02])
@pytest.mark.parametrize("variance", VARIANCES)
def test_a_scale_that_is_2_percent_wrong_would_be_noticed(variance: float, wrong: float) -> None:
    assert not fits(draw(variance), skellam(wrong**2 * variance))


@pytest.mark.parametrize("variance", VARIANCES[:4])
def test_probabilities_are_scipys(variance: float) -> None:
    table = table_of(variance)
    found = masses(table)
    middle = np.arange(-int(5 * np.sqrt(variance)), int(5 * np.sqrt(variance)) + 1)
    ours = [found[k] / (table.high.size * 2.0**128) for k in middle.tolist()]
    theirs = stats.skellam.pmf(middle, variance / 2, variance / 2)
    np.testing.assert_allclose(ours, theirs, rtol=1e-8)


def test_probabilities_of_the_widest_are_those_of_scipys_bessel_functions() -> None:
    table = table_of(4096.0**2)
    found = masses(table)
    middle = np.arange(0, 20_000, 7)
    ours = [found[k] / (table.high.size * 2.0**128) for k in middle.tolist()]
    np.testing.assert_allclose(ours, special.ive(middle, 4096.0**2), rtol=1e-9)


@pytest.mark.parametrize("variance", [2.0**-20, 0.05, 9.0])
def test_the_distance_from_the_exact_distribution_is_what_is_stated(variance: float) -> None:
    """Against the power series of the Bessel functions."""
    table = table_of(variance)
    found = masses(table)
    with localcontext() as context:
        context.prec = 70
        half, scale = Decimal(variance) / 2, (-Decimal(variance)).exp()
        distance = beyond = Decimal(0)
        for k in range(200):
            bessel = sum(half ** (2 * m + k) / (factorial(m) * factorial(m + k)) for m in range(90))
            probability = scale * bessel
            both = 1 if k == 0 else 2
            if k <= -table.first:
                mass = Decimal(found[k]) / (table.high.size * 2**128)
                assert found[k] == found[-k]
                distance += both * abs(probability - mass) / 2
            else:
                beyond += both * probability / 2
    stated = Skellam(variance).total_variation
    assert float(distance + beyond) < stated < 2.0**-111


def test_the_widest_stays_below_the_stated_distance_of_all() -> None:
    assert Skellam(4096.0**2).total_variation < 2.0**-111


def test_sums_of_skellam_noise_are_skellam_noise() -> None:
    parts = draw(900.0 / 8, 8 * DRAWN).reshape(8, DRAWN)
    assert fits(parts.sum(axis=0), skellam(900.0))
    assert not fits(parts.sum(axis=0), skellam(900.0 * 1.02**2))


@pytest.mark.parametrize("variance", [4096.0**2 * 1.0001, inf])
def test_too_wide_is_refused_with_what_to_do(variance: float) -> None:
    with pytest.raises(PrivacyError, match=r"at most 4096.*strategy\.grid_bits.*discrete_gaussian"):
        Skellam(variance)


@pytest.mark.parametrize("variance", [0.0, -1.0, 2.0**-21, nan])
def test_too_narrow_is_refused(variance: float) -> None:
    with pytest.raises(PrivacyError, match="cannot be drawn"):
        Skellam(variance)
