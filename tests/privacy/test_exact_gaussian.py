"""The exact sampler, and the fast one beside it."""

from __future__ import annotations

from fractions import Fraction
from math import exp, nan, sqrt

import numpy as np
import pytest
from noise_fit import fits, gaussian
from scipy import stats

from qfl.errors import PrivacyError
from qfl.privacy.discrete_gaussian import DiscreteGaussian
from qfl.privacy.exact_gaussian import Bits, bernoulli_exp, discrete_laplace, draw_exactly
from qfl.privacy.randomness import Stream

DRAWN = 60_000


def bits() -> Bits:
    return Bits(Stream(b"exact" + bytes(27)))


@pytest.mark.parametrize("limit", [2, 3, 100, 2**70 + 1])
def test_integers_below_a_limit_are_uniform(limit: int) -> None:
    source = bits()
    drawn = [source.below(limit) for _ in range(10_000)]
    assert 0 <= min(drawn) <= max(drawn) < limit
    groups = min(limit, 10)
    counts = np.bincount([value * groups // limit for value in drawn], minlength=groups)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_below_1_there_is_only_0() -> None:
    assert bits().below(1) == 0


@pytest.mark.parametrize("gamma", ["0", "1/100", "3/10", "1", "5/4", "3"])
def test_bernoulli_exp(gamma: str) -> None:
    source, chance = bits(), exp(-Fraction(gamma))
    found = sum(bernoulli_exp(Fraction(gamma), source) for _ in range(DRAWN)) / DRAWN
    assert abs(found - chance) <= 4 * sqrt(chance * (1 - chance) / DRAWN)


@pytest.mark.parametrize("scale", [1, 3, 20])
def test_discrete_laplace(scale: int) -> None:
    source = bits()
    drawn = np.array([discrete_laplace(scale, source) for _ in range(DRAWN)])
    weights = np.exp(-np.abs(np.arange(-40 * scale, 40 * scale + 1)) / scale)
    assert fits(drawn, weights / weights.sum())


@pytest.mark.parametrize("sigma", [0.5, 6.4, 50.0])
def test_samples_follow_the_distribution(sigma: float) -> None:
    drawn = draw_exactly(sigma, DRAWN, Stream(b"exactly" + bytes(25)))
    assert fits(drawn, gaussian(sigma))
    assert not fits(drawn, gaussian(1.02 * sigma))
    assert not fits(drawn, gaussian(0.98 * sigma))


@pytest.mark.parametrize("sigma", [6.4, 50.0, 2.0**32])
def test_the_fast_sampler_draws_from_the_same_distribution(sigma: float) -> None:
    exact = draw_exactly(sigma, DRAWN, Stream(b"exactly" + bytes(25)))

    def same(other: float) -> bool:
        fast = DiscreteGaussian(other).draw(25 * DRAWN, Stream(b"fast" + bytes(28)))
        edges = np.unique(np.quantile(fast, np.linspace(0.05, 0.95, 19)).round()) + 0.5
        cells = [-np.inf, *edges, np.inf]
        counts = [np.histogram(sample, cells)[0] for sample in (exact, fast)]
        wider = float(np.std(exact) / np.std(fast))
        return stats.chi2_contingency(counts).pvalue > 1e-3 and abs(wider - 1) < 4 / sqrt(2 * DRAWN)

    assert same(sigma)
    assert not same(1.02 * sigma) and not same(0.98 * sigma)


@pytest.mark.parametrize("sigma", [0.0, -1.0, 2.0**41, nan])
def test_out_of_range_is_refused(sigma: float) -> None:
    with pytest.raises(PrivacyError, match="above 0 and at most"):
        draw_exactly(sigma, 1, Stream())
