"""The discrete Gaussian sampler: its probabilities exactly, and what it draws."""

from __future__ import annotations

from decimal import Decimal, localcontext
from math import nan

import numpy as np
import pytest
from noise_fit import PI, fits, gaussian, masses
from numpy.typing import NDArray
from scipy import stats

from qfl.errors import PrivacyError
from qfl.privacy.alias import ONE
from qfl.privacy.discrete_gaussian import DiscreteGaussian, blocks_of
from qfl.privacy.randomness import Stream

DRAWN = 500_000
# Blocks of 1, 1, 1, 1, 2, 32 integers.
SIGMAS = [0.3, 1.0, 6.4, 31.9, 40.0, 1000.0]
HUGE = [2.0**20, 2.0**32, 2.0**38, 2.0**40]


class Near(Stream):
    """Returns one word for all, and another where it is asked again."""

    def __init__(self, first: int, later: int) -> None:
        super().__init__()
        self.next = [first, later]

    def words(self, count: int) -> NDArray[np.uint64]:
        return np.full(count, self.next.pop(0), np.uint64)


def draw(sigma: float) -> NDArray[np.int64]:
    return DiscreteGaussian(sigma).draw(DRAWN, Stream(b"gauss" + bytes(27)))


@pytest.mark.parametrize("sigma", SIGMAS)
def test_samples_follow_the_distribution(sigma: float) -> None:
    assert fits(draw(sigma), gaussian(sigma))


@pytest.mark.parametrize("wrong", [0.98, 1.02])
@pytest.mark.parametrize("sigma", SIGMAS)
def test_a_scale_that_is_2_percent_wrong_would_be_noticed(sigma: float, wrong: float) -> None:
    assert not fits(draw(sigma), gaussian(wrong * sigma))


@pytest.mark.parametrize("sigma", HUGE)
def test_huge_ones_look_like_the_normal_distribution(sigma: float) -> None:
    drawn = draw(sigma)
    assert stats.kstest(drawn / sigma, "norm", method="asymp").pvalue > 1e-3
    assert stats.kstest(drawn / (1.02 * sigma), "norm", method="asymp").pvalue < 1e-6
    assert stats.kstest(drawn / (0.98 * sigma), "norm", method="asymp").pvalue < 1e-6
    standard_errors = np.sqrt([1, 2, 15, 96]) / np.sqrt(DRAWN)
    for power, moment in ((1, 0), (2, 1), (3, 0), (4, 3)):
        found = np.mean((drawn / sigma) ** power)
        assert abs(found - moment) < 4 * standard_errors[power - 1]


@pytest.mark.parametrize("sigma", HUGE)
def test_all_low_bits_of_huge_ones_are_used(sigma: float) -> None:
    drawn = draw(sigma)
    for shift in range(0, int(np.log2(sigma)) - 8, 6):
        counts = np.bincount(drawn >> shift & 63, minlength=64)
        assert stats.chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize("sigma", [0.3, 6.4, 40.0, 100.0])
def test_the_distance_from_the_exact_distribution_is_what_is_stated(sigma: float) -> None:
    """Out of table and ramps, against the normaliser by Poisson's summation formula."""
    blocks = blocks_of(sigma)
    found = masses(blocks.table)
    half, size = blocks.count // 2, 1 << blocks.bits
    with localcontext() as context:
        context.prec = 60
        unnormalised = {}
        for block in range(-half, half):
            for x in range(block * size, (block + 1) * size):
                ramp = found[block + blocks.count] * blocks.chance(block, x) if size > 1 else 0
                unnormalised[x] = found[block] + Decimal(ramp) / ONE
        total = sum(unnormalised.values())
        exact = Decimal(sigma)
        dual = sum((-2 * (PI * exact * k) ** 2).exp() for k in range(1, 60))
        normaliser = exact * (2 * PI).sqrt() * (1 + 2 * dual)
        distance = Decimal(0)
        for x, value in unnormalised.items():
            rho = (-(Decimal(x) ** 2) / (2 * exact**2)).exp()
            distance += abs(value / total - rho / normaliser) / 2
    stated = DiscreteGaussian(sigma).total_variation
    assert float(distance) + 2.0**-129 < stated < 2.0**-115


@pytest.mark.parametrize("sigma", [33.0, 1000.0, 1e9 + 0.1, 2.0**40])
def test_chances_in_float64_are_right_to_the_stated_bound(sigma: float) -> None:
    blocks, x = places(sigma)
    tables = blocks_of(sigma)
    exact = [tables.chance(b, v) for b, v in zip(blocks.tolist(), x.tolist(), strict=True)]
    off = [
        abs(Decimal(float(chance)) - Decimal(units) / ONE)
        for chance, units in zip(tables.chances(blocks, x), exact, strict=True)
    ]
    assert 0 <= min(exact) < max(exact) <= ONE
    assert float(max(off)) < 2.0**-46


@pytest.mark.parametrize("sigma", [1000.0, 2.0**40])
def test_what_float64_cannot_tell_is_told_exactly(sigma: float) -> None:
    """Numbers one unit of 2^-128 below, and at, what is accepted."""
    blocks, x = places(sigma)
    tables = blocks_of(sigma)
    told = 0
    for place in range(200):
        one = slice(place, place + 1)
        units = tables.chance(int(blocks[place]), int(x[place]))
        if not 0 < units < ONE:
            continue
        for number, accepted in ((units - 1, True), (units, False)):
            stream = Near(number >> 64, number & (2**64 - 1))
            assert tables.accept(blocks[one], x[one], stream).tolist() == [accepted]
            assert not stream.next
            told += 1
    assert told > 100


def places(sigma: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Blocks, and an integer in each."""
    tables = blocks_of(sigma)
    stream = Stream(b"places" + bytes(26))
    half = tables.count // 2
    blocks = np.tile(np.arange(-half, half), 3)
    offsets = (stream.words(blocks.size) & np.uint64((1 << tables.bits) - 1)).astype(np.int64)
    return blocks, (blocks << tables.bits) + offsets


@pytest.mark.parametrize("sigma", [0.29, 2.0**40 * 1.001, 0.0, -1.0, nan])
def test_out_of_range_is_refused(sigma: float) -> None:
    with pytest.raises(PrivacyError, match=r"0\.3 to 2\^40"):
        DiscreteGaussian(sigma)


@pytest.mark.parametrize("count", [0, 1, 70_000])
def test_any_number_of_samples(count: int) -> None:
    drawn = DiscreteGaussian(1e6).draw(count, Stream())
    assert drawn.shape == (count,) and drawn.dtype == np.int64
