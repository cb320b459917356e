"""The Gaussian mechanism in closed form against integrals, a paper and Opacus' numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from qfl.errors import PrivacyError
from qfl.privacy.analytic import gaussian_delta, gaussian_epsilon


@pytest.mark.parametrize(("noise", "epsilon"), [(1.0, 1.0), (0.3, 9.0), (5.0, 0.1), (20.0, 0.0)])
def test_delta_is_the_hockey_stick_divergence(noise: float, epsilon: float) -> None:
    def excess(x: float) -> float:
        there, here = norm.pdf(x, 1, noise), norm.pdf(x, 0, noise)
        return float(max(there - math.exp(epsilon) * here, 0.0))

    crossing = epsilon * noise**2 + 0.5
    expected, _ = quad(excess, crossing, crossing + 40 * noise, epsabs=1e-14)
    assert gaussian_delta(noise, epsilon) == pytest.approx(expected, rel=1e-7)


def test_published_and_measured_values() -> None:
    # Balle and Wang 2018, figure 1: the classical sqrt(2 log(1.25 / delta)) / epsilon is too much.
    classical = math.sqrt(2 * math.log(1.25 / 1e-6)) / 0.5
    assert gaussian_epsilon(classical, 1e-6) < 0.5
    # 50 releases with noise multipliers 4 and 1, as another implementation has them.
    assert gaussian_epsilon(4 / math.sqrt(50), 1e-5) == pytest.approx(8.59587, abs=1e-5)
    assert gaussian_epsilon(1 / math.sqrt(50), 1e-5) == pytest.approx(54.37664, abs=1e-5)


def test_without_a_shift_to_hide_delta_is_total_variation() -> None:
    assert gaussian_delta(2.0, 0.0) == pytest.approx(2 * norm.cdf(0.25) - 1, rel=1e-12)
    assert gaussian_epsilon(1.0, 0.5) == 0.0


@pytest.mark.parametrize("delta", [1e-300, 1e-12, 1e-5, 0.3])
@pytest.mark.parametrize("noise", [0.01, 0.3, 1.0, 30.0, 1e5])
def test_epsilon_is_the_inverse_of_delta_and_not_below(noise: float, delta: float) -> None:
    epsilon = gaussian_epsilon(noise, delta)
    assert gaussian_delta(noise, epsilon) <= delta
    if epsilon > 0:
        assert gaussian_delta(noise, epsilon * (1 - 1e-6)) > delta


def test_tiny_deltas_are_those_of_the_tail() -> None:
    """Mills' ratio at two points a little apart, where a difference of cdfs would be 0."""
    with_tail = gaussian_delta(1.0, 40.0)
    x, y = 40.5, 39.5
    ratio = [norm.logsf(y), 40.0 + norm.logsf(x)]
    expected = math.exp(ratio[0]) * -math.expm1(ratio[1] - ratio[0])
    assert with_tail == pytest.approx(expected, rel=1e-9)
    assert with_tail < 1e-300


def test_no_noise_gives_no_guarantee() -> None:
    assert gaussian_epsilon(0.0, 1e-5) == math.inf
    assert gaussian_epsilon(1e-200, 1e-5) == math.inf
    assert np.isfinite(gaussian_epsilon(1e-50, 1e-5))


@settings(max_examples=50, deadline=None)
@given(st.floats(0.01, 1e3), st.floats(1e-12, 0.9), st.floats(1.0, 10.0))
def test_more_noise_or_a_larger_delta_never_costs_more(
    noise: float, delta: float, factor: float
) -> None:
    base = gaussian_epsilon(noise, delta)
    assert gaussian_epsilon(noise * factor, delta) <= base * (1 + 1e-9)
    assert gaussian_epsilon(noise, min(delta * factor, 0.95)) <= base * (1 + 1e-9)


@pytest.mark.parametrize(
    ("noise", "delta"), [(-1.0, 0.1), (1.0, 0.0), (1.0, 1.0), (math.nan, 0.1), (1.0, math.nan)]
)
def test_values_out_of_range_are_refused(noise: float, delta: float) -> None:
    with pytest.raises(PrivacyError, match=r"must be"):
        gaussian_epsilon(noise, delta)


def test_delta_refuses_a_negative_epsilon() -> None:
    with pytest.raises(PrivacyError, match=r"epsilon=-1"):
        gaussian_delta(1.0, -1.0)
