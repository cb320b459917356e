"""Clipping of whole updates, against exact arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from qfl.errors import PrivacyError
from qfl.privacy.update_clipping import clip

FINITE = st.floats(allow_nan=False, allow_infinity=False)
VECTORS = arrays(np.float64, st.integers(0, 50), elements=FINITE)
NORMS = st.floats(1e-12, 1e12)


def squared(vector: NDArray[np.float64]) -> Fraction:
    return sum((Fraction(value) ** 2 for value in vector.tolist()), Fraction(0))


@given(vector=VECTORS, norm=NORMS)
def test_the_norm_is_never_exceeded(vector: NDArray[np.float64], norm: float) -> None:
    clipped, _ = clip(vector, norm)
    assert squared(clipped) <= Fraction(norm) ** 2
    assert np.linalg.norm(clipped) <= norm


@given(vector=VECTORS, norm=NORMS)
def test_what_is_longer_keeps_its_direction_and_gets_the_norm(
    vector: NDArray[np.float64], norm: float
) -> None:
    clipped, within = clip(vector, norm)
    ratio = squared(vector) / Fraction(norm) ** 2
    if ratio < 1 - Fraction(1, 10**12):
        assert within
        np.testing.assert_array_equal(clipped, vector)
    elif ratio > 1 + Fraction(1, 10**12):
        assert not within
        largest = np.abs(vector).max()
        expected = vector / largest * (norm / np.linalg.norm(vector / largest))
        np.testing.assert_allclose(clipped, expected, rtol=1e-12, atol=1e-300)


def test_known_vectors() -> None:
    clipped, within = clip(np.array([3.0, 4.0]), 1.0)
    np.testing.assert_allclose(clipped, [0.6, 0.8], rtol=1e-14)
    assert not within
    clipped, within = clip(np.array([3.0, 4.0]), 5.0)
    np.testing.assert_allclose(clipped, [3.0, 4.0], rtol=1e-14)
    assert within
    clipped, within = clip(np.zeros(3), 1e-6)
    assert clipped.tolist() == [0.0, 0.0, 0.0]
    assert within


def test_squares_that_overflow_do_not() -> None:
    clipped, within = clip(np.full(4, 1.7e308), 2.0)
    np.testing.assert_allclose(clipped, np.ones(4), rtol=1e-13)
    assert not within


def test_a_long_vector_keeps_to_the_norm() -> None:
    vector = np.random.default_rng(0).normal(size=200_000)
    clipped, _ = clip(vector, 0.1)
    assert math.fsum((clipped * clipped).tolist()) <= 0.1**2
    assert np.linalg.norm(clipped) == pytest.approx(0.1, rel=1e-9)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused_without_values(value: float) -> None:
    with pytest.raises(PrivacyError) as refusal:
        clip(np.array([123.456, value]), 1.0)
    assert str(refusal.value) == (
        "the update holds NaN or infinite values: training diverged; lower client.lr"
    )
