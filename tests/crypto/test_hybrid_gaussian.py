"""The sampler of ``hybrid``: its probabilities exactly, and what it draws."""

from __future__ import annotations

from decimal import Decimal, localcontext
from math import exp, log2

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from qfl.crypto.discrete_gaussian import draw_gaussian, tables_of, tail_bound
from qfl.crypto.keystream import keystream
from qfl.errors import ConfigError

SIGMA = "6.4"
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459")
DRAWN = 4_000_000


@pytest.fixture(scope="module")
def drawn() -> NDArray[np.int64]:
    return draw_gaussian(DRAWN, SIGMA, keystream(b"seven" + bytes(27), bytes(16))).astype(np.int64)


def probability(k: int) -> Decimal:
    """By Poisson's formula the weights add up to sigma sqrt(2 pi) (1 + 2 exp(-2 pi^2 sigma^2))."""
    sigma = Decimal(SIGMA)
    return (-(Decimal(k) ** 2) / (2 * sigma**2)).exp() / (sigma * (2 * PI).sqrt())


def test_probabilities_are_those_of_the_discrete_gaussian() -> None:
    with localcontext() as context:
        context.prec = 60
        tables = tables_of(SIGMA)
        assert sum(tables.weights.values()) == 2**128
        distance = Decimal(0)
        for k, weight in tables.weights.items():
            distance += abs(probability(k) * 2**128 - weight)
            assert abs(probability(k) * 2**128 - weight) <= (200 if k == 0 else 1)
        beyond = sum(2 * probability(k) for k in range(tables.largest + 1, tables.largest + 60))
        assert distance / 2**128 + beyond < Decimal(2) ** -119  # twice the statistical distance


def test_the_tables_own_slots_as_the_probabilities_say() -> None:
    """Mass that a value is given level by level adds up to its weight, to the last unit."""
    tables = tables_of(SIGMA)
    mass = dict.fromkeys(tables.weights, 0)
    first = np.frombuffer(tables.first, np.int8)
    waiting = 256 - int((np.abs(first.astype(int)) <= tables.largest).sum())
    levels = [first[np.abs(first.astype(int)) <= tables.largest]]
    for table in tables.later:
        assert table.size == 256 * waiting
        levels.append(table[table < 1024])
        gone_on = np.sort(table[table >= 1024]) - 1024
        assert gone_on.tolist() == list(range(gone_on.size))
        waiting = gone_on.size
    assert waiting == 0
    for level, owned in enumerate(levels):
        for value, slots in zip(*np.unique(owned, return_counts=True), strict=True):
            mass[int(value)] += int(slots) * 256 ** (15 - level)
    assert mass == tables.weights


def test_few_draws_need_more_than_a_byte() -> None:
    tables = tables_of(SIGMA)
    assert tables.largest == 83
    assert len(tables.later[0]) / 256 / 256 == pytest.approx(0.0742, abs=1e-4)
    assert len(tables.later[1]) / 256 / 256**2 == pytest.approx(1 / 2427, rel=1e-3)


def test_frequencies_fit(drawn: NDArray[np.int64]) -> None:
    """Chi-square over all values that are expected ten times; the stream is fixed."""
    weights = tables_of(SIGMA).weights
    common = [k for k in weights if weights[k] / 2**128 * DRAWN >= 10]
    expected = np.array([weights[k] / 2**128 for k in common]) * DRAWN
    counts = np.bincount(drawn + 128, minlength=256)
    found = np.append(counts[np.array(common) + 128], DRAWN - counts[np.array(common) + 128].sum())
    expected = np.append(expected, DRAWN - expected.sum())
    statistic = float(((found - expected) ** 2 / expected).sum())
    assert 1e-4 < stats.chi2.sf(statistic, len(common)) < 1 - 1e-4


def test_moments_and_independence(drawn: NDArray[np.int64]) -> None:
    deviations = np.sqrt(DRAWN)
    scaled = drawn / float(SIGMA)
    assert abs(scaled.mean()) * deviations < 4.5
    assert abs(np.square(scaled).mean() - 1) * deviations < 4.5 * np.sqrt(2)
    assert abs((scaled**4).mean() - 3) * deviations < 4.5 * np.sqrt(96)
    for lag in (1, 2, 256, 2048):
        assert abs((scaled[:-lag] * scaled[lag:]).mean()) * deviations < 4.5


def test_rare_values_come_as_often_as_they_should(drawn: NDArray[np.int64]) -> None:
    weights = tables_of(SIGMA).weights
    for least in (20, 25, 28):
        mean = sum(weight for k, weight in weights.items() if abs(k) >= least) / 2**128 * DRAWN
        found = int((np.abs(drawn) >= least).sum())
        assert abs(found - mean) < 4.5 * np.sqrt(mean) + 1


def test_streams_of_their_own_give_values_of_their_own() -> None:
    first = draw_gaussian(1000, SIGMA, keystream(bytes(32), bytes(16)))
    again = draw_gaussian(1000, SIGMA, keystream(bytes(32), bytes(16)))
    other = draw_gaussian(1000, SIGMA, keystream(bytes(31) + b"1", bytes(16)))
    assert (first == again).all()
    assert 0.03 < (first == other).mean() < 0.07  # the sum of squared probabilities is 0.044
    assert draw_gaussian(0, SIGMA, keystream(bytes(32), bytes(16))).size == 0


@pytest.mark.parametrize("sigma", ["0.9", "8.1", "-6.4"])
def test_widths_that_the_tables_do_not_hold_are_refused(sigma: str) -> None:
    with pytest.raises(ConfigError, match=f"sigma={sigma} is not allowed: must be 1 to 8"):
        tables_of(sigma)


@pytest.mark.parametrize("additions", [1, 3, 10])
def test_the_tail_bound_holds_against_the_distribution_itself(additions: int) -> None:
    """The distribution of the sum by convolution; its tail is below the bound, and near it."""
    single = np.array([exp(-(k**2) / (2 * 6.4**2)) for k in range(-83, 84)])
    single /= single.sum()
    total = np.ones(1)
    for _ in range(additions):
        total = np.convolve(total, single)
    middle = total.size // 2
    for bits in (8, 16, 32):
        reached = int(np.ceil(tail_bound(6.4, additions, 1, bits)))
        tail = 2 * total[middle + reached :].sum()
        assert 2.0 ** -(bits + 8) < tail < 2.0**-bits
    values = 1_000_000
    assert tail_bound(6.4, additions, values, 64) == pytest.approx(
        tail_bound(6.4, additions, 1, 64 + log2(values))
    )
