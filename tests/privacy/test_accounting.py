"""Epsilon of compositions against Opacus, Google's dp-accounting, papers and closed forms."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants import PRVAccountant, RDPAccountant

from qfl.errors import PrivacyError
from qfl.privacy.accounting import chosen, epsilon_of
from qfl.privacy.analytic import gaussian_delta, gaussian_epsilon
from qfl.privacy.charge import Charge
from qfl.privacy.prv import prv_epsilon
from qfl.privacy.renyi import ORDERS, rdp_epsilon, sampled_gaussian_rdp

# Noise multiplier, sampling rate and releases of each part; delta; epsilon for removal by
# dp-accounting 0.6.0 (grid 1e-5, connect the dots), where additions were always cheaper.
GOOGLE = [
    ([(1.0, 0.1, 200)], 1e-5, 9.97128),
    ([(4.0, 0.01, 10_000)], 1e-5, 0.94687),
    ([(1.3, 250 / 60_000, 3600)], 1e-5, 0.85298),
    ([(0.7, 0.001, 20_000)], 1e-6, 2.02111),
    ([(2.0, 0.9, 30)], 1e-5, 13.25228),
    ([(1.0, 0.001, 10_000)], 1e-9, 0.76624),
    ([(1.0, 0.01, 500), (2.0, 0.05, 100)], 1e-5, 1.70605),
    ([(0.05, 0.01, 1)], 1e-5, 256.27022),
]


def gaussian(noise: float, rate: float = 1.0, steps: int = 1, delta: float = 0.0) -> Charge:
    return Charge("gaussian", noise, sample_rate=rate, steps=steps, delta=delta)


def one_release(noise: float, rate: float, delta: float) -> float:
    """Exact for a removal: the hockey stick of q P + (1 - q) Q is q times that of P, elsewhere."""
    if delta >= rate:
        return 0.0
    inner = gaussian_epsilon(noise, delta / rate)
    return math.log(rate) + inner if inner > 700 else math.log1p(rate * math.expm1(inner))


@pytest.mark.parametrize(("parts", "delta", "expected"), GOOGLE)
def test_sampled_gaussians_as_google_accounts_for_them(
    parts: list[tuple[float, float, int]], delta: float, expected: float
) -> None:
    charges = [gaussian(*part) for part in parts]
    found = epsilon_of(charges, delta)
    assert expected - 2e-5 <= found <= expected + max(0.02, 0.01 * expected)
    assert epsilon_of(charges, delta, "rdp") >= expected


def test_opacus_says_the_same_when_asked_itself() -> None:
    history = [(1.0, 0.01, 500), (2.0, 0.05, 100)]
    accountant = PRVAccountant()
    accountant.history = history
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = accountant.get_epsilon(1e-5)
    charges = [gaussian(*part) for part in history]
    assert epsilon_of(charges, 1e-5, "prv") == pytest.approx(expected, abs=1e-5)
    renyi = RDPAccountant()
    renyi.history = history
    orders = [float(order) for order in ORDERS if 1.1 < order < 64]
    expected, best = renyi.get_privacy_spent(delta=1e-5, alphas=orders)
    assert orders[0] < best < orders[-1]
    assert epsilon_of(charges, 1e-5, "rdp") == pytest.approx(expected, rel=1e-9)


def test_fifty_releases_without_sampling() -> None:
    charges = [gaussian(4.0)] * 50
    assert epsilon_of(charges, 1e-5, "prv") == pytest.approx(8.596, abs=1e-3)
    assert prv_epsilon([gaussian(4.0, steps=50)], 1e-5, 9.3) == pytest.approx(8.606, abs=1e-3)
    assert epsilon_of(charges, 1e-5, "rdp") == pytest.approx(9.235, abs=2e-3)


def test_published_values_of_the_moments_accountant() -> None:
    def classical(noise: float, rate: float, steps: int) -> float:
        spent = steps * sampled_gaussian_rdp(noise, rate)
        return float((spent + math.log(1e5) / (ORDERS - 1)).min())

    # Abadi et al. 2016, section 3.2; TensorFlow Privacy's tutorial; Bu et al. 2020, figure 4.
    assert classical(4.0, 0.01, 10_000) == pytest.approx(1.26, abs=0.005)
    assert classical(1.3, 250 / 60_000, 3600) == pytest.approx(1.18, abs=0.005)
    assert classical(0.7, 256 / 60_000, 70 * 60_000 // 256) == pytest.approx(8.68, abs=0.005)
    # What is used here converts better, and composing the losses is better still.
    charges = [gaussian(1.3, 250 / 60_000, 3600)]
    assert epsilon_of(charges, 1e-5, "rdp") < 0.96


@pytest.mark.parametrize("delta", [1e-8, 1e-5])
@pytest.mark.parametrize("noise", [0.2, 1.0, 10.0, 100.0])
def test_prv_is_within_a_hundredth_of_the_closed_form_and_not_below(
    noise: float, delta: float
) -> None:
    charge = gaussian(noise, steps=10)
    exact = gaussian_epsilon(noise / math.sqrt(10), delta)
    found = prv_epsilon([charge], delta, rdp_epsilon([charge], delta))
    assert found is not None
    assert exact <= found <= exact + max(0.02, 0.01 * exact)


@pytest.mark.parametrize("delta", [1e-12, 1e-5])
@pytest.mark.parametrize("noise", [0.05, 0.3, 1.0, 5.0])
def test_renyi_is_at_most_15_percent_above_the_closed_form(noise: float, delta: float) -> None:
    exact = epsilon_of([gaussian(noise, steps=3)], delta, "prv")
    assert exact > 0.5
    assert exact <= epsilon_of([gaussian(noise, steps=3)], delta, "rdp") <= 1.15 * exact


@pytest.mark.parametrize("delta", [1e-12, 1e-8, 1e-5, 0.3])
@pytest.mark.parametrize(
    ("noise", "rate", "steps"),
    [
        (0.05, 0.01, 1),
        (0.05, 0.5, 10),
        (0.3, 0.3, 1000),
        (1e-3, 1e-4, 1),
        (1e-9, 0.5, 3),
        (0.06, 2e-6, 500),
        (1.0, 1e-7, 1000),
        (1.0, 1e-3, 10**9),
        (50.0, 1e-5, 200_000),
        (1e6, 1e-9, 1),
        (1.0, 1 - 1e-9, 5),
        (0.5, 0.02, 1),
    ],
)
def test_extremes_are_answered_and_between_what_is_known(
    noise: float, rate: float, steps: int, delta: float
) -> None:
    """At least one release, exactly, and at most as many without sampling, exactly."""
    found = epsilon_of([gaussian(noise, rate, steps)], delta)
    least = one_release(noise, rate, delta)
    most = gaussian_epsilon(noise / math.sqrt(steps), delta)
    assert least * (1 - 1e-9) <= found <= max(1.35 * most, most + 0.02)


@pytest.mark.parametrize("delta", [1e-10, 1e-5, 1e-2])
@pytest.mark.parametrize(("noise", "rate"), [(0.5, 0.02), (1.0, 0.3), (0.3, 1e-3), (5.0, 0.9)])
def test_one_sampled_release_is_near_its_closed_form(
    noise: float, rate: float, delta: float
) -> None:
    exact = one_release(noise, rate, delta)
    found = epsilon_of([gaussian(noise, rate)], delta)
    assert exact <= found <= exact + max(0.02, 0.01 * exact)


@pytest.mark.parametrize("rate", [0.003, 0.2, 0.99999])
@pytest.mark.parametrize("noise", [0.3, 1.0, 8.0])
def test_renyi_divergences_are_those_of_opacus(noise: float, rate: float) -> None:
    from opacus.accountants.analysis.rdp import compute_rdp

    some = np.flatnonzero((ORDERS > 1.05) & (ORDERS < 200))[::5]
    orders = [float(order) for order in ORDERS[some]]
    expected = compute_rdp(q=rate, noise_multiplier=noise, steps=1, orders=orders)
    assert np.allclose(sampled_gaussian_rdp(noise, rate)[some], expected, rtol=1e-5)


def test_tiny_rates_keep_their_digits() -> None:
    """To second order in q, A is 1 + alpha (alpha - 1) / 2 q^2 (exp(1 / z^2) - 1)."""
    rate = 1e-6
    expected = ORDERS / 2 * rate**2 * math.expm1(1 / 4)
    some = (ORDERS >= 8) & (ORDERS < 30)
    assert np.allclose(sampled_gaussian_rdp(2.0, rate)[some], expected[some], rtol=1e-3)


def test_discrete_mechanisms_cost_about_as_much_as_the_gaussian() -> None:
    reference = epsilon_of([gaussian(4.0, steps=50)], 1e-5, "rdp")
    # Skellam's bound holds for integer orders only, and the best one lies between two.
    for mechanism, margin in (("discrete_gaussian", 1e-6), ("skellam", 0.02)):
        charge = Charge(mechanism, 4.0, steps=50, sensitivity=2.0**16, shares=20, dimension=100_000)
        assert chosen([charge], "auto") == "rdp"
        found = epsilon_of([charge], 1e-5)
        assert reference * (1 - 1e-12) <= found <= reference * (1 + margin)


def test_several_runs_cost_more_than_each_alone() -> None:
    runs = [
        gaussian(1.5, 0.02, 300),
        gaussian(6.0),
        Charge("skellam", 5.0, sensitivity=1000.0, dimension=10),
    ]
    for first, second in itertools.combinations(runs, 2):
        both = epsilon_of([first, second], 1e-5)
        assert both > max(epsilon_of([first], 1e-5), epsilon_of([second], 1e-5))
        assert both == epsilon_of([second, first], 1e-5)


def test_equal_charges_are_one_with_more_steps() -> None:
    apart = [gaussian(1.0, 0.1, 2, delta=1e-8), gaussian(1.0, 0.1, 3, delta=3e-8)] * 20
    together = gaussian(1.0, 0.1, 100, delta=8e-7)
    assert epsilon_of(apart, 1e-5) == pytest.approx(epsilon_of([together], 1e-5), rel=1e-12)


def test_the_charges_own_delta_is_taken_off() -> None:
    clean = epsilon_of([gaussian(2.0)], 4e-6)
    assert epsilon_of([gaussian(2.0, delta=6e-6)], 1e-5) == pytest.approx(clean, rel=1e-9)
    assert epsilon_of([gaussian(2.0, delta=5e-6)] * 2, 1e-5) == math.inf
    assert epsilon_of([gaussian(2.0, delta=0.9)] * 2, 0.5) == math.inf


def test_nothing_costs_nothing_and_no_noise_everything() -> None:
    assert epsilon_of([], 1e-5) == 0
    assert epsilon_of([gaussian(5.0, steps=100), gaussian(0.0)], 1e-5) == math.inf
    assert epsilon_of([Charge("skellam", 0.0, sensitivity=1.0, dimension=1)], 1e-5) == math.inf
    assert epsilon_of([gaussian(1e-200, 0.5)], 1e-5) == math.inf


def test_a_delta_above_total_variation_needs_no_epsilon() -> None:
    assert gaussian_delta(3.0, 0.0) < 0.5
    for accountant in ("prv", "rdp"):
        assert epsilon_of([gaussian(3.0, 0.999)], 0.5, accountant) == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, 2.0, math.nan])
def test_a_delta_out_of_range_is_refused(delta: float) -> None:
    with pytest.raises(PrivacyError, match=r"must be above 0 and below 1"):
        epsilon_of([gaussian(1.0)], delta)


def test_prv_does_not_account_for_integers() -> None:
    charges = [gaussian(1.0), Charge("skellam", 1.0, sensitivity=1.0, dimension=1)]
    with pytest.raises(PrivacyError, match=r"cannot account for skellam.*accountant=rdp"):
        epsilon_of(charges, 1e-5, "prv")
    assert [chosen(charges, "auto"), chosen(charges[:1], "auto")] == ["rdp", "prv"]
    assert chosen(charges[:1], "rdp") == "rdp"
    with pytest.raises(PrivacyError, match=r"did you mean 'prv'"):
        chosen(charges, "prvs")


@settings(max_examples=4, deadline=None)
@given(
    st.floats(0.5, 5.0), st.floats(1e-3, 0.4), st.integers(1, 2000), st.sampled_from([1e-7, 1e-4])
)
def test_more_of_anything_never_costs_less_by_prv(
    noise: float, rate: float, steps: int, delta: float
) -> None:
    _check_monotone(noise, rate, steps, delta, "prv", slack=1e-4)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.02, 100.0), st.floats(1e-7, 0.4), st.integers(1, 10**6), st.floats(1e-12, 0.1))
def test_more_of_anything_never_costs_less_by_rdp(
    noise: float, rate: float, steps: int, delta: float
) -> None:
    _check_monotone(noise, rate, steps, delta, "rdp", slack=1e-9)


def _check_monotone(
    noise: float, rate: float, steps: int, delta: float, accountant: str, slack: float
) -> None:
    base = epsilon_of([gaussian(noise, rate, steps)], delta, accountant) * (1 - slack) - slack
    for dearer in (
        gaussian(noise, rate, 2 * steps),
        gaussian(noise / 1.2, rate, steps),
        gaussian(noise, 1.5 * rate, steps),
    ):
        assert epsilon_of([dearer], delta, accountant) >= base
    assert epsilon_of([gaussian(noise, rate, steps)], delta / 10, accountant) >= base
