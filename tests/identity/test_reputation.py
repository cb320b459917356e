"""Only what a node signed quarantines it, one round expels nobody, more blame never helps."""

from __future__ import annotations

import math
import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from qfl.identity.reputation import Change, Observation, Reputation, Rules, Standing

GOOD, WARNED, QUARANTINED, EXPELLED = Standing
CONTRIBUTED, MISSED, DECLINED, VIOLATION, OUT_OF_BOUNDS, ANOMALOUS = Observation
SIGNED = (VIOLATION, OUT_OF_BOUNDS)
BLAME = (MISSED, ANOMALOUS, VIOLATION, OUT_OF_BOUNDS)
A, B = "did:qfl:a", "did:qfl:b"

QUICK = settings(max_examples=100, deadline=None)
History = list[list[Observation]]


def histories(observations: st.SearchStrategy[Observation], least: int = 0) -> Any:
    """Rounds of a node, each with what is observed in it."""
    return st.lists(st.lists(observations, max_size=4), min_size=least, max_size=30)


@st.composite
def all_rules(draw: st.DrawFn) -> Rules:
    """Rules that are allowed, mostly such that something happens."""
    weight = st.floats(0, 10)
    steps = st.floats(0.01, 10)
    warn = draw(steps)
    quarantine = warn + draw(steps)
    return Rules(
        *(draw(weight) for _ in range(5)),
        half_life=draw(st.floats(0.1, 50)),
        warn=warn,
        quarantine=quarantine,
        expel=quarantine + draw(steps),
    )


# Violations are common, so that every standing comes about.
ANY = st.sampled_from([*Observation, VIOLATION, VIOLATION, OUT_OF_BOUNDS])


class Played:
    """A history of one node: changes, and standing and score after each round.

    Args:
        history: The node's.
        rules: Of the reputation.
        stored: Whether the reputation goes through its text after every step.
    """

    def __init__(self, history: History, rules: Rules = Rules(), stored: bool = False) -> None:  # noqa: B008
        made = Reputation(rules)
        self.changes: list[Change] = []
        self.standings: list[Standing] = []
        self.scores: list[float] = []
        for number, observations in enumerate(history, 1):
            for one in observations:
                change = made.observe(A, number, one)
                self.changes += [change] if change else []
                made = Reputation.from_json(made.to_json()) if stored else made
                self._note(made)
            self.changes += made.end_round(number)
            self._note(made)
        self.reputation = made

    def _note(self, made: Reputation) -> None:
        self.standings.append(made.standing(A))
        self.scores.append(made.score(A))


def by_round(history: History, rules: Rules) -> list[tuple[Standing, float]]:
    """Standing and score before and after the end of each round, whatever came in it."""
    made, found = Reputation(rules), []
    for number, observations in enumerate(history, 1):
        for one in observations:
            made.observe(A, number, one)
        found.append((made.standing(A), made.score(A)))
        made.end_round(number)
        found.append((made.standing(A), made.score(A)))
    return found


@QUICK
@given(histories(st.sampled_from([MISSED, ANOMALOUS, DECLINED, CONTRIBUTED]), 1), all_rules())
def test_what_a_node_did_not_sign_warns_at_most(history: History, rules: Rules) -> None:
    played = Played([round * 5 for round in history], rules)
    assert {GOOD, WARNED} >= set(played.standings)
    assert max(played.scores) <= rules.warn
    assert played.reputation.may_take_part(A)


@QUICK
@given(histories(ANY), all_rules())
def test_what_a_node_did_not_sign_changes_nothing_about_its_taking_part(
    history: History, rules: Rules
) -> None:
    signed = [[one for one in round if one in (CONTRIBUTED, *SIGNED)] for round in history]
    everything, less = by_round(history, rules), by_round(signed, rules)
    for (standing, _), (without, _) in zip(everything, less, strict=True):
        assert max(standing.rank, WARNED.rank) == max(without.rank, WARNED.rank)


@QUICK
@given(histories(ANY), all_rules())
def test_without_its_contributions_a_node_would_have_been_quarantined_too(
    history: History, rules: Rules
) -> None:
    """So nobody who drops contributions makes blame out of nothing."""
    signed = [[one for one in round if one in SIGNED] for round in history]
    for (standing, _), (without, _) in zip(
        by_round(history, rules), by_round(signed, rules), strict=True
    ):
        if standing.rank >= QUARANTINED.rank:
            assert without.rank >= standing.rank


@QUICK
@given(histories(ANY, 1), all_rules(), st.data())
def test_a_refusal_that_a_node_signed_changes_nothing(
    history: History, rules: Rules, data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(history) - 1))
    more = [[*round, DECLINED] if place == n else round for n, round in enumerate(history)]
    assert Played(history, rules).reputation.to_json() == Played(more, rules).reputation.to_json()
    assert Reputation(rules).observe(A, 1, DECLINED) is None


@QUICK
@given(histories(ANY, 1), all_rules(), st.sampled_from(BLAME), st.data())
def test_more_blame_never_helps(
    history: History, rules: Rules, blame: Observation, data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(history) - 1))
    more = [[*round, blame] if place == n else round for n, round in enumerate(history)]
    for (standing, score), (worse, higher) in zip(
        by_round(history, rules), by_round(more, rules), strict=True
    ):
        assert worse.rank >= standing.rank and higher >= score


@QUICK
@given(histories(ANY, 1), all_rules(), st.data())
def test_a_contribution_never_hurts(history: History, rules: Rules, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(history) - 1))
    more = [[*round, CONTRIBUTED] if place == n else round for n, round in enumerate(history)]
    for (standing, score), (better, lower) in zip(
        by_round(history, rules), by_round(more, rules), strict=True
    ):
        assert better.rank <= standing.rank and lower <= score


@QUICK
@given(histories(ANY), all_rules(), st.randoms(use_true_random=False))
def test_the_order_within_a_round_makes_no_difference(
    history: History, rules: Rules, order: random.Random
) -> None:
    other = [order.sample(round, len(round)) for round in history]
    assert Played(history, rules).reputation.to_json() == Played(other, rules).reputation.to_json()


@QUICK
@given(st.lists(ANY, max_size=40), all_rules())
def test_no_burst_in_one_round_expels(burst: list[Observation], rules: Rules) -> None:
    assert EXPELLED not in Played([burst], rules).standings


@QUICK
@given(histories(ANY), all_rules())
def test_who_is_expelled_was_quarantined_in_an_earlier_round(
    history: History, rules: Rules
) -> None:
    reached = {change.after: change.round for change in reversed(Played(history, rules).changes)}
    if EXPELLED in reached:
        assert reached[QUARANTINED] < reached[EXPELLED]


@QUICK
@given(histories(ANY), all_rules())
def test_every_change_is_told_and_scores_stay_numbers(history: History, rules: Rules) -> None:
    played = Played(history, rules)
    standing = GOOD
    for change in played.changes:
        assert (change.did, change.by, change.before) == (A, "score", standing)
        assert change.after is not standing and change.reason
        standing = change.after
    assert played.reputation.standing(A) is standing
    assert set(played.standings) <= {GOOD} | {change.after for change in played.changes}
    assert all(math.isfinite(score) and score >= 0 for score in played.scores)


@settings(max_examples=50, deadline=None)
@given(histories(ANY), all_rules())
def test_trust_goes_on_from_its_text(history: History, rules: Rules) -> None:
    kept, stored = Played(history, rules), Played(history, rules, stored=True)
    assert (kept.changes, kept.scores) == (stored.changes, stored.scores)
    assert kept.reputation.to_json() == stored.reputation.to_json()


@settings(max_examples=50, deadline=None)
@given(histories(ANY), histories(ANY))
def test_nodes_do_not_touch_each_other(one: History, other: History) -> None:
    both, assumed = Reputation(), Played(one)
    changes: list[Change] = []
    for number in range(1, max(len(one), len(other)) + 1):
        for did, history in ((B, other), (A, one)):
            for each in history[number - 1] if number <= len(history) else []:
                change = both.observe(did, number, each)
                changes += [change] if change else []
        changes += both.end_round(number)
    told = [change for change in changes if change.did == A and change.round <= len(one)]
    assert told == assumed.changes
