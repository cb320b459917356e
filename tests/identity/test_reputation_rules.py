"""What the default rules do, worked out by hand, and which rules cannot be."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from histories import A, History, play

from qfl.errors import ConfigError
from qfl.identity.reputation import Observation, Reputation, Rules, Standing

GOOD, WARNED, QUARANTINED, EXPELLED = Standing
CONTRIBUTED, MISSED, DECLINED, VIOLATION, OUT_OF_BOUNDS, ANOMALOUS = Observation
B = "did:qfl:b"
# What is left of a number after a round, and after a round with a contribution.
LEFT, LEFT_MORE = 2 ** (-1 / 10), 2 ** (-1.5 / 10)


def test_violations_in_a_row_warn_quarantine_and_expel() -> None:
    """Worked out by hand: 3, 3 + 3 f, … with f what is left after a round."""
    made, changes = play([[VIOLATION]] * 6)
    assert [(change.round, change.after) for change in changes] == [
        (1, WARNED),
        (3, QUARANTINED),
        (6, EXPELLED),
    ]
    assert changes[1].score == pytest.approx(3 + 3 * LEFT + 3 * LEFT**2)
    assert changes[0].reason == "violation (score 3.0, warned from 3)"
    assert changes[1].reason == "violation (blame 8.4, quarantined from 6)"
    slow = 2 ** (-1 / 100)
    lasting = sum(3 * slow**age for age in range(6))
    assert changes[2].reason == (f"violation (lasting blame {lasting:.1f}, expelled from 15)")
    assert made.tally(A).lasting == pytest.approx(lasting * slow)


@pytest.mark.parametrize(
    ("history", "changes"),
    [
        pytest.param([[MISSED]] * 12, [(8, WARNED)], id="away"),
        pytest.param([[ANOMALOUS, CONTRIBUTED]] * 12, [(9, WARNED)], id="odd"),
        pytest.param([[OUT_OF_BOUNDS]] * 2, [], id="out of bounds twice"),
        pytest.param([[OUT_OF_BOUNDS]] * 3, [(3, WARNED)], id="out of bounds three times"),
        pytest.param([[VIOLATION] * 2], [(1, WARNED), (1, QUARANTINED)], id="two at once"),
        pytest.param(
            [[VIOLATION], *[[]] * 4, [VIOLATION], *[[]] * 4, [VIOLATION]],
            [(1, WARNED), (11, QUARANTINED)],
            id="three within a half-life",
        ),
        pytest.param(
            [[VIOLATION], *[[CONTRIBUTED]] * 12], [(1, WARNED), (7, GOOD)], id="one, then work"
        ),
        pytest.param([[VIOLATION], *[[]] * 12], [(1, WARNED), (11, GOOD)], id="one, then nothing"),
        pytest.param(
            [[VIOLATION] * 50, *[[]] * 25],
            [(1, WARNED), (1, QUARANTINED), (11, WARNED), (21, GOOD)],
            id="a burst, then nothing",
        ),
    ],
)
def test_what_the_defaults_do(history: History, changes: list[tuple[int, Standing]]) -> None:
    assert [(one.round, one.after) for one in play(history)[1]] == changes


@pytest.mark.parametrize("every", [2, 3, 4, 5, 6, 7, 8])
def test_how_often_a_node_may_violate(every: int) -> None:
    """The page says: in every seventh round, and it is never quarantined."""
    _, changes = play([[VIOLATION], *[[CONTRIBUTED]] * (every - 1)] * 60)
    assert (QUARANTINED in {one.after for one in changes}) == (every < 7)


def test_who_begins_again_after_each_quarantine_is_expelled_in_place_of_the_third() -> None:
    made, reached = Reputation(), []
    for number in range(1, 80):
        change = made.observe(A, number, VIOLATION) if made.may_take_part(A) else None
        reached += [one.after for one in [change, *made.end_round(number)] if one]
    assert reached == [WARNED, QUARANTINED, WARNED, QUARANTINED, WARNED, EXPELLED]


def test_a_contribution_speeds_up_forgiveness_only_in_a_round_without_blame() -> None:
    assert play([[VIOLATION, CONTRIBUTED]])[0].score(A) == pytest.approx(3 * LEFT)
    assert play([[VIOLATION], [CONTRIBUTED]])[0].score(A) == pytest.approx(3 * LEFT * LEFT_MORE)
    twice = play([[VIOLATION], [CONTRIBUTED, CONTRIBUTED, MISSED]])[0].score(A)
    assert twice == pytest.approx(3 * LEFT * LEFT_MORE)


def test_blame_and_suspicion_do_not_add_up() -> None:
    made = Reputation()
    made.observe(A, 1, OUT_OF_BOUNDS)
    for _ in range(9):
        made.observe(A, 1, MISSED)
    tally = made.tally(A)
    assert (tally.blame, tally.suspicion, made.score(A)) == (1.5, 0.5, 1.5)
    assert made.standing(A) is GOOD


def test_who_is_not_known_stands_well() -> None:
    made = Reputation()
    assert (made.standing(A), made.score(A), made.may_take_part(A)) == (GOOD, 0.0, True)
    assert made.nodes == () and made.end_round(1) == []
    made.observe(B, 1, CONTRIBUTED)
    assert made.nodes == (B,)


def test_late_observations_count_in_the_round_that_is_under_way() -> None:
    made = Reputation()
    made.end_round(1)
    change = made.observe(A, 1, VIOLATION)
    assert change is not None and change.round == 1
    assert made.score(A) == 3


@pytest.mark.parametrize("did", ["", "a" * 257, "did:qfl:\n"])
def test_what_names_no_node_is_refused(did: str) -> None:
    with pytest.raises(ConfigError, match="names no node"):
        Reputation().observe(did, 1, MISSED)


def test_rounds_count_from_zero() -> None:
    made = Reputation()
    with pytest.raises(ConfigError, match="round -1 was given"):
        made.observe(A, -1, MISSED)
    with pytest.raises(ConfigError, match="round -1 was given"):
        made.end_round(-1)
    with pytest.raises(ConfigError, match="round -1 was given"):
        made.pardon(A, -1, "Ada", "why")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"missed": -0.1}, "missed of reputation is -0.1"),
        ({"violation": math.nan}, "violation of reputation is nan"),
        ({"expel": math.inf}, "expel of reputation is inf"),
        ({"contributed": 1e7}, "contributed of reputation is 10000000.0"),
        ({"half_life": 0.0}, "half_life of reputation is 0.0; expected a number from 0.1"),
        ({"warn": 0.0}, "thresholds warn 0.0, quarantine 6.0, expel 15.0 must rise"),
        ({"warn": 6.0}, "thresholds warn 6.0, quarantine 6.0"),
        ({"quarantine": 15.0}, "quarantine 15.0, expel 15.0"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_rules_that_cannot_be_are_refused(given: dict[str, float], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Rules(**given)


def test_extreme_rules_keep_scores_finite() -> None:
    rules = Rules(*[1e6] * 5, half_life=1e6, warn=1e5, quarantine=9e5, expel=1e6)
    made, changes = play([list(Observation) * 100] * 30, rules)
    assert made.standing(A) is EXPELLED
    assert all(math.isfinite(one.score) for one in changes) and math.isfinite(made.score(A))
    made, _ = play([[VIOLATION] * 3, *[[]] * 400], replace(Rules(), half_life=0.1))
    assert made.score(A) >= 0 and made.standing(A) is GOOD
