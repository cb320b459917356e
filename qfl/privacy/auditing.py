"""Lower bounds on epsilon from attacks that succeed: what a mechanism cannot be better than.

A proof bounds epsilon from above, an attack from below. An attack that does better than what was
proven allows shows that proof or program is wrong. One that does worse shows nothing.

**From rates** (Jagielski, Ullman and Oprea 2020, "Auditing differentially private machine
learning"; Nasr et al. 2021, "Adversary instantiation"). An attacker says "in" or "out" of many
trials of which each has a mechanism of its own. With (epsilon, delta) the rates satisfy

    TPR <= e^epsilon FPR + delta,    1 - FPR <= e^epsilon (1 - TPR) + delta,

where neighbours are data with and without the record. Limits of Clopper and Pearson (1934), TPR
from below and FPR from above with half of the error each, bound epsilon in both.

**From one run** (Steinke, Nasr and Jagielski 2023, "Privacy auditing with one (1) training run").
m records are each in or out by a fair coin, in one data set; the attacker sees what one run
releases, guesses r of the coins, and v are right. The guesses need not be independent, so one run
is enough. Theorem 5.2 of the paper: given the release, a coin is known no better than a randomised
response of probability q = 1 / (1 + e^-epsilon) would tell it, except with 2 delta. With W binomial
of r and q, v is stochastically below W + F, where F >= 0 is an integer that does not depend on W
and has a mean of at most 2 m delta. Hence

    P(at least v right) <= P(W >= v) + sum_i P(F = i) P(v - i <= W < v)
                        <= P(W >= v) + 2 m delta max_i P(v - i <= W < v) / i,

i from 1 to v. That tests an epsilon. Where it is below 1/2 it grows with epsilon and falls with v,
so that bisection finds the largest epsilon that is refuted, which is a confidence bound: For the i
that counts and c = 2 m delta / i it is (1 - c) P(W >= v) + c P(W >= v - i). If c <= 1, both parts
grow with epsilon. If c > 1, P(W >= v - i) is below 1/2 as well; so v - i lies above the median of
W, and v - i - 1 is not below the mode, r q rounded down, of W' binomial of r - 1 and q. Since
d/dq P(W >= k) = r P(W' = k - 1), the derivative by q is r times P(W' = v - 1) +
c (P(W' = v - i - 1) - P(W' = v - 1)), where nothing is negative. In v it is the same with W itself.
"""

from __future__ import annotations

import math

import numpy as np

from qfl.errors import PrivacyError

_HALVINGS = 60


def epsilon_from_rates(
    true_positives: int,
    positives: int,
    false_positives: int,
    negatives: int,
    delta: float,
    confidence: float = 0.95,
) -> float:
    """Lower bound on epsilon from independent trials of an attack.

    The rule by which the attacker decides must not depend on the trials that are counted.

    Args:
        true_positives: Trials with the record in which it said "in".
        positives: Trials with the record.
        false_positives: Trials without the record in which it said "in".
        negatives: Trials without the record.
        delta: Of the guarantee, 0 to 1.
        confidence: Probability that epsilon is not below the bound, between 0 and 1.

    Returns:
        At least 0.

    Raises:
        PrivacyError: A count or a probability is out of range.

    Example:
        >>> round(epsilon_from_rates(900, 1000, 100, 1000, delta=1e-5), 2)
        1.99
        >>> epsilon_from_rates(510, 1000, 490, 1000, delta=1e-5)
        0.0
    """
    from scipy.special import betaincinv

    _check_count("true_positives", true_positives, positives)
    _check_count("false_positives", false_positives, negatives)
    _check_probabilities(delta, confidence)
    error = (1 - confidence) / 2

    def at_least(count: int, trials: int) -> float:
        return float(betaincinv(count, trials - count + 1, error)) if count else 0.0

    hit = at_least(true_positives, positives)
    quiet = at_least(negatives - false_positives, negatives)
    # Neither limit reaches 1, so nothing is divided by 0.
    odds = max((hit - delta) / (1 - quiet), (quiet - delta) / (1 - hit), 1.0)
    return math.log(odds)


def epsilon_from_guesses(
    right: int, guesses: int, canaries: int, delta: float, confidence: float = 0.95
) -> float:
    """Lower bound on epsilon from one run with many canaries.

    How many are guessed must not depend on the coins. Runs with coins of their own may be taken
    together, as one run with the canaries of all.

    Args:
        right: Guesses that are right, v.
        guesses: Coins that the attacker guessed, r.
        canaries: Records that were in or out by a fair coin, m.
        delta: Of the guarantee, 0 to 1.
        confidence: Probability that epsilon is not below the bound, at least 0.5 and below 1.

    Returns:
        At least 0.

    Raises:
        PrivacyError: A count or a probability is out of range.

    Example:
        >>> round(epsilon_from_guesses(75, 100, 1000, delta=1e-4), 3)
        0.673
    """
    _check_count("right", right, guesses)
    _check_count("guesses", guesses, canaries)
    _check_probabilities(delta, confidence)
    if confidence < 0.5:
        raise PrivacyError(f"confidence={confidence}: must be at least 0.5 for one run")

    def impossible(epsilon: float) -> bool:
        return probability_of_guesses(right, guesses, canaries, epsilon, delta) < 1 - confidence

    if not impossible(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while impossible(high):
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if impossible(middle) else (low, middle)
    return low


def probability_of_guesses(
    right: int, guesses: int, canaries: int, epsilon: float, delta: float
) -> float:
    """How probable so many right guesses are at most, under (epsilon, delta).

    Args:
        right: Guesses that are right, at least; v.
        guesses: r.
        canaries: m.
        epsilon: At least 0.
        delta: 0 to 1.

    Example:
        >>> probability_of_guesses(2, 2, 2, epsilon=0.0, delta=0.0)
        0.25
    """
    from scipy.stats import binom

    coin = 1 / (1 + math.exp(-epsilon))
    enough = float(binom.sf(right - 1, guesses, coin))
    if right == 0 or delta == 0:
        return enough
    short_by_up_to = np.cumsum(binom.pmf(np.arange(right - 1, -1, -1), guesses, coin))
    lifted = float((short_by_up_to / np.arange(1, right + 1)).max())
    return min(1.0, enough + 2 * canaries * delta * lifted)


def _check_count(name: str, count: int, most: int) -> None:
    if not 0 <= count <= most or most < 1:
        raise PrivacyError(
            f"{name}={count} of {most} is impossible: there must be trials, and no more be counted"
        )


def _check_probabilities(delta: float, confidence: float) -> None:
    if not 0 <= delta <= 1:
        raise PrivacyError(f"delta={delta}: must be 0 to 1")
    if not 0 < confidence < 1:
        raise PrivacyError(f"confidence={confidence}: must be between 0 and 1")
