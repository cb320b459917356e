"""Noise and rounds that a budget allows: it holds, and a little more would not."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants import PRVAccountant

from qfl.errors import PrivacyError
from qfl.privacy.accounting import epsilon_of
from qfl.privacy.analytic import gaussian_epsilon
from qfl.privacy.calibration import noise_multiplier_for, rounds_within
from qfl.privacy.charge import Charge

DELTA = 1e-5


def gaussian(noise: float, rate: float = 1.0, steps: int = 1, delta: float = 0.0) -> Charge:
    return Charge("gaussian", noise, sample_rate=rate, steps=steps, delta=delta)


def on_integers(mechanism: str, noise: float, steps: int = 1) -> Charge:
    return Charge(mechanism, noise, steps=steps, sensitivity=1024.0, shares=8, dimension=5000)


@pytest.mark.parametrize("accountant", ["prv", "rdp"])
@pytest.mark.parametrize(
    ("epsilon", "rate", "steps"), [(0.5, 0.01, 2000), (8.0, 0.05, 300), (2.0, 1.0, 50)]
)
def test_the_noise_is_enough_and_hardly_more_than_that(
    epsilon: float, rate: float, steps: int, accountant: str
) -> None:
    noise = noise_multiplier_for(epsilon, DELTA, lambda z: [gaussian(z, rate, steps)], accountant)
    assert epsilon_of([gaussian(noise, rate, steps)], DELTA, accountant) <= epsilon
    assert epsilon_of([gaussian(noise * 0.998, rate, steps)], DELTA, accountant) > epsilon
    assert noise == float(f"{noise:.4g}")


@settings(max_examples=30, deadline=None)
@given(st.floats(0.02, 500.0), st.integers(1, 10_000), st.floats(1e-9, 1e-3))
def test_without_sampling_it_is_the_closed_forms_inverse(
    epsilon: float, steps: int, delta: float
) -> None:
    noise = noise_multiplier_for(epsilon, delta, lambda z: [gaussian(z, steps=steps)])
    root = math.sqrt(steps)
    assert (
        gaussian_epsilon(noise / root, delta)
        <= epsilon
        < gaussian_epsilon(noise / root * 0.998, delta)
    )


@pytest.mark.parametrize("mechanism", ["discrete_gaussian", "skellam"])
def test_integers_take_about_the_noise_of_the_continuous(mechanism: str) -> None:
    reference = noise_multiplier_for(3.0, DELTA, lambda z: [gaussian(z, steps=40)], "rdp")
    noise = noise_multiplier_for(3.0, DELTA, lambda z: [on_integers(mechanism, z, 40)])
    assert reference <= noise <= 1.01 * reference


def test_what_was_spent_before_takes_more_noise() -> None:
    fresh = noise_multiplier_for(2.0, DELTA, lambda z: [gaussian(z, steps=10)])
    later = noise_multiplier_for(2.0, DELTA, lambda z: [gaussian(z, steps=10), gaussian(5.0)])
    assert later > fresh
    # 1/z^2 add up.
    assert 10 / later**2 + 1 / 5.0**2 == pytest.approx(10 / fresh**2, rel=5e-3)


def test_a_charges_delta_is_part_of_the_budget() -> None:
    plain = noise_multiplier_for(2.0, 4e-6, lambda z: [gaussian(z)])
    assert noise_multiplier_for(2.0, DELTA, lambda z: [gaussian(z, delta=6e-6)]) == plain


def test_a_spent_budget_is_refused_whatever_the_noise() -> None:
    with pytest.raises(PrivacyError, match=r"epsilon=1\.0 .* any noise.*still comes to 4\.3"):
        noise_multiplier_for(1.0, DELTA, lambda z: [gaussian(z), gaussian(1.0)])
    with pytest.raises(PrivacyError, match=r"delta=1e-05 cannot be kept: the charges add 2e-05"):
        noise_multiplier_for(1.0, DELTA, lambda z: [gaussian(z, delta=1e-5)] * 2)


def test_hardly_any_noise_is_told_as_the_least_there_is() -> None:
    assert noise_multiplier_for(1e6, DELTA, lambda z: [gaussian(z)]) == 0.01


@pytest.mark.parametrize("epsilon", [0.0, -1.0, math.inf, math.nan])
def test_a_budget_out_of_range_is_refused(epsilon: float) -> None:
    with pytest.raises(PrivacyError, match=r"must be a number above 0"):
        noise_multiplier_for(epsilon, DELTA, lambda z: [gaussian(z)])
    with pytest.raises(PrivacyError, match=r"must be a number above 0"):
        rounds_within(epsilon, DELTA, gaussian(1.0))


def test_prv_is_asked_a_few_times_only(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def counting(accountant: PRVAccountant, delta: float, **given: float) -> float:
        asked.append(delta)
        return float(original(accountant, delta, **given))

    original = PRVAccountant.get_epsilon
    monkeypatch.setattr(PRVAccountant, "get_epsilon", counting)
    noise_multiplier_for(1.7, DELTA, lambda z: [gaussian(z, 0.013, 777)])
    assert 0 < len(asked) <= 10
    asked.clear()
    rounds_within(3.3, DELTA, gaussian(1.2, 0.013, 7))
    assert 0 < len(asked) <= 10


def check_rounds(epsilon: float, charge: Charge, spent: list[Charge], accountant: str) -> int:
    rounds = rounds_within(epsilon, DELTA, charge, spent, accountant)
    assert epsilon_of([*spent, *[charge] * rounds], DELTA, accountant) <= epsilon
    assert epsilon_of([*spent, *[charge] * (rounds + 1)], DELTA, accountant) > epsilon
    return rounds


@pytest.mark.parametrize("accountant", ["prv", "rdp"])
def test_one_more_round_would_pass_the_budget(accountant: str) -> None:
    spent = [gaussian(3.0, 0.02, 100)]
    fresh = check_rounds(3.0, gaussian(1.5, 0.02, 20), [], accountant)
    assert 0 < check_rounds(3.0, gaussian(1.5, 0.02, 20), spent, accountant) < fresh


@settings(max_examples=30, deadline=None)
@given(st.floats(0.1, 50.0), st.floats(0.5, 60.0))
def test_rounds_without_sampling_are_those_of_the_closed_form(epsilon: float, noise: float) -> None:
    rounds = rounds_within(epsilon, DELTA, gaussian(noise))
    if rounds:
        assert gaussian_epsilon(noise / math.sqrt(rounds), DELTA) <= epsilon
    assert gaussian_epsilon(noise / math.sqrt(rounds + 1), DELTA) > epsilon


def test_rounds_of_integers() -> None:
    assert check_rounds(8.0, on_integers("skellam", 4.0), [], "auto") == pytest.approx(38, abs=2)
    assert check_rounds(8.0, on_integers("discrete_gaussian", 4.0), [gaussian(9.0)], "auto") > 30


def test_delta_runs_out_before_epsilon_does() -> None:
    assert rounds_within(8.0, DELTA, gaussian(400.0, delta=1e-6)) == 9
    assert rounds_within(8.0, 0.5, gaussian(400.0, delta=0.4)) == 1


def test_where_nothing_is_left_no_round_is() -> None:
    assert rounds_within(1.0, DELTA, gaussian(0.5)) == 0
    assert rounds_within(1.0, DELTA, gaussian(0.0)) == 0
    assert rounds_within(1.0, DELTA, gaussian(50.0), [gaussian(1.0)]) == 0
    assert rounds_within(1.0, DELTA, gaussian(50.0), [gaussian(50.0, delta=1e-5)]) == 0


def test_counting_stops_at_the_most() -> None:
    assert rounds_within(1.0, DELTA, gaussian(50.0), most=7) == 7
    assert rounds_within(1.0, DELTA, gaussian(1e5)) == 10**6
    assert rounds_within(1.0, DELTA, gaussian(50.0), most=0) == 0
