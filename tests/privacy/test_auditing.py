"""Lower bounds on epsilon hold where epsilon is known, and are not far below it."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from qfl.errors import PrivacyError
from qfl.privacy.auditing import (
    epsilon_from_guesses,
    epsilon_from_rates,
    probability_of_guesses,
)


def truth(epsilon: float) -> float:
    """Probability that randomised response tells the truth."""
    return 1 / (1 + math.exp(-epsilon))


def counts(most: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.integers(1, most).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts(200), counts(200), st.sampled_from([0.0, 1e-5, 0.1]), st.floats(0.5, 0.999999))
def test_rates_are_bounded_as_scipys_exact_intervals_bound_them(
    hits: tuple[int, int], alarms: tuple[int, int], delta: float, confidence: float
) -> None:
    # A two-sided interval has half of its error on each side, as both limits here have.
    least = binomtest(*hits).proportion_ci(confidence, method="exact").low
    most = binomtest(*alarms).proportion_ci(confidence, method="exact").high
    ratios = [1.0]
    if most > 0:
        ratios.append((least - delta) / most)
    if least < 1:
        ratios.append((1 - most - delta) / (1 - least))
    expected = math.log(max(ratios))
    assert epsilon_from_rates(*hits, *alarms, delta, confidence) == pytest.approx(expected, 1e-6)


def test_a_perfect_attack_is_worth_what_its_trials_are() -> None:
    # Of n successes in n trials the limit is error^(1/n).
    least = 0.025 ** (1 / 50)
    expected = math.log(least / (1 - least))
    assert epsilon_from_rates(50, 50, 0, 50, delta=0.0) == pytest.approx(expected)
    assert epsilon_from_rates(0, 50, 0, 50, delta=0.0) == 0
    assert epsilon_from_rates(0, 50, 50, 50, delta=0.0) == 0


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 1.5, 3.0])
@pytest.mark.parametrize("trials", [7, 40])
@pytest.mark.parametrize("confidence", [0.6, 0.95])
def test_rates_of_randomised_response_seldom_pass_its_epsilon(
    epsilon: float, trials: int, confidence: float
) -> None:
    # Every outcome with its probability: nothing is drawn.
    hits = binom.pmf(np.arange(trials + 1), trials, truth(epsilon))
    wrong = sum(
        hits[right] * hits[trials - alarms]
        for right in range(trials + 1)
        for alarms in range(trials + 1)
        if epsilon_from_rates(right, trials, alarms, trials, 0.0, confidence) > epsilon
    )
    assert wrong <= 1 - confidence


@pytest.mark.parametrize("delta", [0.0, 0.01, 0.2])
def test_both_bounds_come_close_with_many_trials(delta: float) -> None:
    # With probability delta the coin itself, else randomised response: (2, delta) exactly.
    n, right = 10**7, delta + (1 - delta) * truth(2.0)
    hits = round(n * right)
    assert 1.99 < epsilon_from_rates(hits, n, n - hits, n, delta) < 2.0
    if delta == 0:
        assert 1.99 < epsilon_from_guesses(hits, n, n, delta) < 2.0


def test_the_smaller_rate_counts_when_the_attacker_is_sure_that_a_record_is_out() -> None:
    shown_in = epsilon_from_rates(500, 1000, 10, 1000, 1e-5)
    shown_out = epsilon_from_rates(990, 1000, 500, 1000, 1e-5)
    assert shown_in == pytest.approx(shown_out)
    assert shown_in > 2.5


@pytest.mark.parametrize(
    ("right", "guesses", "canaries", "delta", "published"),
    [(75, 100, 1000, 1e-4, 0.673), (1439, 1510, 100_000, 1e-5, 2.6755)],
)
def test_one_run_gives_the_numbers_printed_in_the_paper(
    right: int, guesses: int, canaries: int, delta: float, published: float
) -> None:
    found = epsilon_from_guesses(right, guesses, canaries, delta)
    assert found == pytest.approx(published, abs=5e-4)


@given(counts(25), st.integers(0, 30), st.sampled_from([0, 1, 20, 500]), st.integers(1, 6))
@settings(deadline=None)
def test_the_probability_is_the_papers_in_exact_arithmetic(
    guessed: tuple[int, int], unguessed: int, per_thousand: int, odds: int
) -> None:
    right, guesses = guessed
    coin, delta = Fraction(odds, odds + 1), Fraction(per_thousand, 1000)
    exactly = [
        math.comb(guesses, k) * coin**k * (1 - coin) ** (guesses - k) for k in range(guesses + 1)
    ]
    lifted = max((sum(exactly[right - i : right]) / i for i in range(1, right + 1)), default=0)
    canaries = guesses + unguessed
    expected = min(1, sum(exactly[right:]) + 2 * canaries * delta * lifted)
    found = probability_of_guesses(right, guesses, canaries, math.log(odds), float(delta))
    assert found == pytest.approx(float(expected), rel=1e-9)


@given(counts(60), st.integers(0, 100), st.sampled_from([0.0, 1e-3, 0.02, 0.5]))
@settings(deadline=None, max_examples=25)
def test_below_a_half_the_probability_grows_with_epsilon_and_falls_with_guesses(
    guessed: tuple[int, int], unguessed: int, delta: float
) -> None:
    right, guesses = guessed
    found = np.array(
        [
            [
                probability_of_guesses(v, guesses, guesses + unguessed, epsilon, delta)
                for v in range(right, guesses + 1)
            ]
            for epsilon in np.linspace(0, 4, 30)
        ]
    )
    found = np.minimum(found, 0.5)
    assert (np.diff(found, axis=0) >= -1e-12).all()
    assert (np.diff(found, axis=1) <= 1e-12).all()


def first_above(epsilon: float, guesses: int, delta: float, confidence: float) -> int:
    """Fewest right guesses of which the bound passes epsilon; one too many if there is none."""
    return next(
        (
            right
            for right in range(guesses + 1)
            if epsilon_from_guesses(right, guesses, guesses, delta, confidence) > epsilon
        ),
        guesses + 1,
    )


@pytest.mark.parametrize("epsilon", [0.0, 0.7, 2.0])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_one_run_of_randomised_response_seldom_passes_its_epsilon(
    epsilon: float, confidence: float
) -> None:
    guesses = 100
    needed = first_above(epsilon, guesses, 0.0, confidence)
    # Not more often than allowed, and one right guess fewer would be.
    assert binom.sf(needed - 1, guesses, truth(epsilon)) <= 1 - confidence
    assert binom.sf(needed - 2, guesses, truth(epsilon)) > 1 - confidence


@pytest.mark.parametrize("delta", [1e-4, 1e-3, 1e-2])
def test_one_run_allows_for_all_coins_told_at_once(delta: float) -> None:
    # With probability delta all coins are told, which is (0, delta). The others are guessed.
    guesses, confidence = 40, 0.95
    needed = first_above(0.0, guesses, delta, confidence)
    assert delta * (needed <= guesses) + (1 - delta) * binom.sf(needed - 1, guesses, 0.5) <= 0.05
    # Without delta this attack would be taken for more than it is.
    assert first_above(0.0, guesses, 0.0, 1 - delta / 2) <= guesses
    assert first_above(0.0, guesses, delta, 1 - delta / 2) == guesses + 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((11, 10, 0, 10, 0.0, 0.95), "true_positives=11"),
        ((-1, 10, 0, 10, 0.0, 0.95), "true_positives=-1"),
        ((1, 10, 0, 0, 0.0, 0.95), "false_positives=0"),
        ((1, 10, 1, 10, 1.5, 0.95), "delta=1.5"),
        ((1, 10, 1, 10, math.nan, 0.95), "delta=nan"),
        ((1, 10, 1, 10, 0.0, 1.0), "confidence=1.0"),
    ],
)
def test_impossible_rates_are_refused(
    arguments: tuple[int, int, int, int, float, float], named: str
) -> None:
    with pytest.raises(PrivacyError, match=named):
        epsilon_from_rates(*arguments)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((6, 5, 10, 0.0, 0.95), "right=6"),
        ((5, 11, 10, 0.0, 0.95), "guesses=11"),
        ((0, 0, 10, 0.0, 0.95), "right=0"),
        ((1, 5, 10, -0.1, 0.95), "delta=-0.1"),
        ((1, 5, 10, 0.0, 0.4), "confidence=0.4"),
    ],
)
def test_impossible_guesses_are_refused(
    arguments: tuple[int, int, int, float, float], named: str
) -> None:
    with pytest.raises(PrivacyError, match=named):
        epsilon_from_guesses(*arguments)
