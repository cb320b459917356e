"""Conditional rounding: neighbours only, right on average, never beyond the norm."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from qfl.errors import PrivacyError
from qfl.privacy.randomness import Stream
from qfl.privacy.rounding import round_within, rounded_norm

VALUES = arrays(np.float64, st.integers(1, 40), elements=st.floats(-1e6, 1e6))


@given(norm=st.floats(0, 1e9), dimension=st.integers(1, 2**30))
def test_the_bound_is_the_papers(norm: float, dimension: int) -> None:
    beta = math.exp(-0.5)
    worst = (norm + math.sqrt(dimension)) ** 2
    likely = (
        norm**2
        + dimension / 4
        + math.sqrt(2 * math.log(1 / beta)) * (norm + math.sqrt(dimension) / 2)
    )
    assert rounded_norm(norm, dimension) == pytest.approx(math.sqrt(min(worst, likely)), rel=1e-12)


@given(values=VALUES)
def test_integers_are_neighbours_and_keep_to_the_norm(values: NDArray[np.float64]) -> None:
    bound = rounded_norm(float(np.linalg.norm(values)), values.size)
    found = round_within(values, bound, Stream(bytes(32)))
    assert found.dtype == np.int64
    assert (np.abs(found - values) < 1).all()
    assert sum(int(value) ** 2 for value in found) <= bound**2


@given(values=st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=20))
def test_integers_stay(values: list[int]) -> None:
    exact = np.array(values, dtype=np.float64)
    bound = rounded_norm(float(np.linalg.norm(exact)), exact.size)
    assert round_within(exact, bound, Stream(bytes(32))).tolist() == values


def test_a_try_keeps_to_the_bound_as_often_as_the_paper_says() -> None:
    # Halves vary most. Unconditional rounding here, to see what the condition cuts away.
    stream, tries = Stream(bytes(32)), 4000
    for norm, dimension in ((0.5, 1), (4.0, 64), (1.0, 4), (40.0, 16)):
        values = np.full(dimension, math.floor(norm / math.sqrt(dimension)) + 0.5)
        norm = float(np.linalg.norm(values))
        rounded = np.floor(values) + (stream.uniform(tries * dimension) < 0.5).reshape(tries, -1)
        kept = (np.linalg.norm(rounded, axis=1) <= rounded_norm(norm, dimension)).mean()
        assert kept >= 1 - math.exp(-0.5) - 4 * 0.5 / math.sqrt(tries)


@pytest.mark.parametrize("dimension", [1, 16, 256])
def test_the_mean_is_off_by_less_than_one_unit_in_l2(dimension: int) -> None:
    values = np.linspace(-2.7, 3.4, dimension)
    bound = rounded_norm(float(np.linalg.norm(values)), dimension)
    stream, repeats = Stream(bytes(32)), 4000
    mean = np.mean([round_within(values, bound, stream) for _ in range(repeats)], axis=0)
    # What is left of the mean's own error: variance 1/4 each, and the condition at most triples it.
    chance = math.sqrt(0.75 * dimension / repeats)
    assert np.linalg.norm(mean - values) < 1 + 4 * chance


def test_each_coordinate_is_right_on_average_where_the_bound_hardly_cuts() -> None:
    # A norm as for a vector ten times as long: nothing is ever rounded again.
    values = np.array([0.1, -0.3, 0.5, 2.75, -7.9, 4.0])
    bound = rounded_norm(100.0, values.size)
    stream, repeats = Stream(bytes(32)), 20_000
    drawn = np.array([round_within(values, bound, stream) for _ in range(repeats)])
    error = np.sqrt(np.abs(values % 1 * (1 - values % 1)) / repeats)
    assert (np.abs(drawn.mean(axis=0) - values) <= 4.5 * error).all()


def test_large_values_are_rounded_by_their_own_fraction() -> None:
    # 2^40 + 1/4: adding a uniform number first would round it to multiples of 2^-12.
    values = np.full(1000, 2.0**40 + 0.25)
    bound = rounded_norm(float(np.linalg.norm(values)) * 1.001, values.size)
    found = round_within(values, bound, Stream(bytes(32))) - 2**40
    assert set(found.tolist()) == {0, 1}
    assert 0.25 - 4 * 0.0137 < found.mean() < 0.25 + 4 * 0.0137


def test_values_longer_than_the_bound_is_for_are_refused() -> None:
    with pytest.raises(PrivacyError, match="longer than the bound"):
        round_within(np.full(4, 10.0), rounded_norm(5.0, 4), Stream(bytes(32)))
