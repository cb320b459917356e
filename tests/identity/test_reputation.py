"""Only what a node signed quarantines it, one round expels nobody, more blame never helps."""

from __future__ import annotations

import json
import math
import random
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qfl.errors import ConfigError, StorageError
from qfl.identity.anomaly import suspicious
from qfl.identity.audit import AuditChain
from qfl.identity.audit_check import examine
from qfl.identity.reputation import Change, Observation, Reputation, Rules, Standing

GOOD, WARNED, QUARANTINED, EXPELLED = Standing
CONTRIBUTED, MISSED, DECLINED, VIOLATION, OUT_OF_BOUNDS, ANOMALOUS = Observation
SIGNED = (VIOLATION, OUT_OF_BOUNDS)
BLAME = (MISSED, ANOMALOUS, VIOLATION, OUT_OF_BOUNDS)
A, B = "did:qfl:a", "did:qfl:b"
# What is left of a number after a round, and after a round with a contribution.
LEFT, LEFT_MORE = 2 ** (-1 / 10), 2 ** (-1.5 / 10)

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


@given(histories(st.sampled_from([MISSED, ANOMALOUS, DECLINED, CONTRIBUTED]), 1), all_rules())
def test_what_a_node_did_not_sign_warns_at_most(history: History, rules: Rules) -> None:
    played = Played([round * 5 for round in history], rules)
    assert {GOOD, WARNED} >= set(played.standings)
    assert max(played.scores) <= rules.warn
    assert played.reputation.may_take_part(A)


@given(histories(ANY), all_rules())
def test_what_a_node_did_not_sign_changes_nothing_about_its_taking_part(
    history: History, rules: Rules
) -> None:
    signed = [[one for one in round if one in (CONTRIBUTED, *SIGNED)] for round in history]
    everything, less = by_round(history, rules), by_round(signed, rules)
    for (standing, _), (without, _) in zip(everything, less, strict=True):
        assert max(standing.rank, WARNED.rank) == max(without.rank, WARNED.rank)


@given(histories(ANY), all_rules())
def test_without_its_contributions_a_node_would_have_been_quarantined_too(
    history: History, rules: Rules
) -> None:
    """So nobody who drops contributions makes blame out of nothing."""
    signed = [[one for one in round if one in SIGNED] for round in history]
    for (standing, score), (without, more) in zip(
        by_round(history, rules), by_round(signed, rules), strict=True
    ):
        if standing.rank >= QUARANTINED.rank:
            assert without.rank >= standing.rank and more >= score


@given(histories(ANY, 1), all_rules(), st.data())
def test_a_refusal_that_a_node_signed_changes_nothing(
    history: History, rules: Rules, data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(history) - 1))
    more = [[*round, DECLINED] if place == n else round for n, round in enumerate(history)]
    assert Played(history, rules).reputation.to_json() == Played(more, rules).reputation.to_json()
    assert Reputation(rules).observe(A, 1, DECLINED) is None


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


@given(histories(ANY, 1), all_rules(), st.data())
def test_a_contribution_never_hurts(history: History, rules: Rules, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(history) - 1))
    more = [[*round, CONTRIBUTED] if place == n else round for n, round in enumerate(history)]
    for (standing, score), (better, lower) in zip(
        by_round(history, rules), by_round(more, rules), strict=True
    ):
        assert better.rank <= standing.rank and lower <= score


@given(histories(ANY), all_rules(), st.randoms(use_true_random=False))
def test_the_order_within_a_round_makes_no_difference(
    history: History, rules: Rules, order: random.Random
) -> None:
    other = [order.sample(round, len(round)) for round in history]
    assert Played(history, rules).reputation.to_json() == Played(other, rules).reputation.to_json()


@given(st.lists(ANY, max_size=40), all_rules())
def test_no_burst_in_one_round_expels(burst: list[Observation], rules: Rules) -> None:
    assert EXPELLED not in Played([burst], rules).standings


@given(histories(ANY), all_rules())
def test_who_is_expelled_was_quarantined_in_an_earlier_round(
    history: History, rules: Rules
) -> None:
    reached = {change.after: change.round for change in reversed(Played(history, rules).changes)}
    if EXPELLED in reached:
        assert reached[QUARANTINED] < reached[EXPELLED]


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


@settings(max_examples=50)
@given(histories(ANY), all_rules())
def test_trust_goes_on_from_its_text(history: History, rules: Rules) -> None:
    kept, stored = Played(history, rules), Played(history, rules, stored=True)
    assert (kept.changes, kept.scores) == (stored.changes, stored.scores)
    assert kept.reputation.to_json() == stored.reputation.to_json()


@settings(max_examples=50)
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


def test_violations_in_a_row_warn_quarantine_and_expel() -> None:
    """Worked out by hand: 3, 3 + 3 f, … with f what is left after a round."""
    played = Played([[VIOLATION]] * 6)
    assert [(change.round, change.after) for change in played.changes] == [
        (1, WARNED),
        (3, QUARANTINED),
        (6, EXPELLED),
    ]
    assert played.changes[1].score == pytest.approx(3 + 3 * LEFT + 3 * LEFT**2)
    assert played.changes[0].reason == "violation (score 3.0, warned from 3)"
    assert played.changes[1].reason == "violation (blame 8.4, quarantined from 6)"
    slow = 2 ** (-1 / 100)
    lasting = sum(3 * slow**age for age in range(6))
    assert played.changes[2].reason == (
        f"violation (lasting blame {lasting:.1f}, expelled from 15)"
    )
    assert played.reputation.tally(A).lasting == pytest.approx(lasting * slow)


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
    assert [(one.round, one.after) for one in Played(history).changes] == changes


@pytest.mark.parametrize("every", [2, 3, 4, 5, 6, 7, 8])
def test_how_often_a_node_may_violate(every: int) -> None:
    """The page says: in every seventh round, and it is never quarantined."""
    played = Played([[VIOLATION], *[[CONTRIBUTED]] * (every - 1)] * 60)
    assert (QUARANTINED in played.standings) == (every < 7)


def test_who_begins_again_after_each_quarantine_is_expelled_in_place_of_the_third() -> None:
    made, reached = Reputation(), []
    for number in range(1, 80):
        change = made.observe(A, number, VIOLATION) if made.may_take_part(A) else None
        reached += [one.after for one in [change, *made.end_round(number)] if one]
    assert reached == [WARNED, QUARANTINED, WARNED, QUARANTINED, WARNED, EXPELLED]


def test_a_contribution_speeds_up_forgiveness_only_in_a_round_without_blame() -> None:
    assert Played([[VIOLATION, CONTRIBUTED]]).scores[-1] == pytest.approx(3 * LEFT)
    assert Played([[VIOLATION], [CONTRIBUTED]]).scores[-1] == pytest.approx(3 * LEFT * LEFT_MORE)
    twice = Played([[VIOLATION], [CONTRIBUTED, CONTRIBUTED, MISSED]]).scores[-1]
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


def test_a_pardon_forgets_everything() -> None:
    made = Played([[VIOLATION]] * 6).reputation
    made.observe(A, 7, VIOLATION)
    change = made.pardon(A, 7, "Ada", "a bug, mended in 1.2.1")
    assert change == Change(A, 7, EXPELLED, GOOD, 0.0, "a bug, mended in 1.2.1", "Ada")
    fresh = Reputation()
    fresh.pardon(A, 7, "Ada", "nothing")
    assert made.to_json() == fresh.to_json()
    again = made.observe(A, 8, VIOLATION)
    assert again is not None and again.after is WARNED


def test_an_operators_quarantine_holds_until_the_operator_ends_it() -> None:
    made = Reputation()
    change = made.quarantine(A, 1, "Ada", "to be looked at")
    assert change == Change(A, 1, GOOD, QUARANTINED, 0.0, "to be looked at", "Ada")
    assert all(made.end_round(number) == [] for number in range(1, 200))
    made = Reputation.from_json(made.to_json())
    assert made.end_round(200) == [] and not made.may_take_part(A)
    assert made.pardon(A, 201, "Ada", "all is well").before is QUARANTINED
    assert made.may_take_part(A)


def test_an_operators_word_is_on_record_even_where_the_standing_stays() -> None:
    made = Played([[VIOLATION]] * 3).reputation
    change = made.quarantine(A, 3, "Ada", "keep it so")
    assert (change.before, change.after) == (QUARANTINED, QUARANTINED)
    assert all(made.end_round(number) == [] for number in range(4, 100))


def test_an_operators_expulsion_holds_and_can_be_commuted() -> None:
    made = Reputation()
    assert made.expel(A, 1, "Ada", "left the consortium").after is EXPELLED
    assert all(made.end_round(number) == [] for number in range(1, 200))
    assert made.quarantine(A, 200, "Ada", "on second thoughts").before is EXPELLED
    assert made.standing(A) is QUARANTINED


@pytest.mark.parametrize("unsigned", [MISSED, ANOMALOUS, CONTRIBUTED])
def test_a_commuted_expulsion_comes_back_for_a_signed_violation_alone(
    unsigned: Observation,
) -> None:
    made = Played([[VIOLATION]] * 6).reputation
    made.quarantine(A, 6, "Ada", "we talk to them")
    made = Reputation.from_json(made.to_json())
    assert made.observe(A, 7, unsigned) is None
    assert made.end_round(7) == []
    change = made.observe(A, 8, VIOLATION)
    assert change is not None and (change.before, change.after) == (QUARANTINED, EXPELLED)


def test_suspicion_does_not_prolong_a_quarantine() -> None:
    quiet = Played([[VIOLATION]] * 3 + [[]] * 30)
    harried = Played([[VIOLATION]] * 3 + [[MISSED, ANOMALOUS]] * 30)
    released = [one.round for one in quiet.changes if one.before is QUARANTINED]
    assert released == [one.round for one in harried.changes if one.before is QUARANTINED]
    assert harried.reputation.standing(A) is WARNED and len(released) == 1


@pytest.mark.parametrize(
    ("by", "reason"), [("", "why"), (" ", "why"), ("score", "why"), ("Ada", ""), ("Ada", "\n")]
)
@pytest.mark.parametrize("word", ["pardon", "quarantine", "expel"])
def test_an_operator_says_who_and_why(word: str, by: str, reason: str) -> None:
    made = Reputation()
    with pytest.raises(ConfigError, match=r"name who does it, other than 'score', and why"):
        getattr(made, word)(A, 1, by, reason)
    assert made.nodes == ()


def test_what_a_message_says_reaches_the_record_short_and_printable() -> None:
    change = Reputation().observe(A, 1, VIOLATION, "\x1b[2J\n\u202e" + "Ü" * 1000)
    assert change is not None
    assert change.reason.startswith("violation: ?[2J??ÜÜÜ") and change.reason.isprintable()
    assert len(change.reason) < 260 and "…" in change.reason


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
    played = Played([list(Observation) * 100] * 30, rules)
    assert all(math.isfinite(score) for score in played.scores)
    assert played.reputation.standing(A) is EXPELLED
    short = Played([[VIOLATION] * 3, *[[]] * 400], replace(Rules(), half_life=0.1))
    assert short.scores[-1] >= 0 and short.reputation.standing(A) is GOOD


STORED = json.loads(Played([[VIOLATION, MISSED]] * 2).reputation.to_json())


def test_the_text_holds_rules_and_numbers() -> None:
    whole = dict(STORED)
    assert whole == {
        "format": "qfl-reputation-1",
        "rules": asdict(Rules()),
        "nodes": {
            A: {
                "blame": pytest.approx(3 * LEFT**2 + 3 * LEFT),
                "lasting": pytest.approx(3 * 2 ** (-2 / 100) + 3 * 2 ** (-1 / 100)),
                "suspicion": pytest.approx(0.5 * LEFT**2 + 0.5 * LEFT),
                "seen": {},
                "standing": "warned",
                "held": False,
                "before": False,
            }
        },
    }
    assert Reputation.from_json(json.dumps(STORED)).standing(A) is WARNED


def changed(**entry: Any) -> str:
    """The stored text with other fields in its one node."""
    return json.dumps({**STORED, "nodes": {A: {**STORED["nodes"][A], **entry}}})


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("[]", id="list"),
        pytest.param("[" * 100_000, id="deep"),
        pytest.param("{", id="torn"),
        pytest.param(json.dumps({**STORED, "format": "qfl-reputation-2"}), id="format"),
        pytest.param(json.dumps({**STORED, "more": 1}), id="another key"),
        pytest.param(json.dumps({"format": STORED["format"]}), id="keys missing"),
        pytest.param('{"format": 1,' + json.dumps(STORED)[1:], id="a key twice"),
        pytest.param(json.dumps({**STORED, "nodes": []}), id="nodes no map"),
        pytest.param(json.dumps({**STORED, "nodes": {"": STORED["nodes"][A]}}), id="no name"),
        pytest.param(json.dumps({**STORED, "rules": {}}), id="no rules"),
        pytest.param(
            json.dumps({**STORED, "rules": {**STORED["rules"], "warn": 7}}), id="wrong rules"
        ),
        pytest.param(changed(blame=math.nan), id="nan"),
        pytest.param(changed(blame=math.inf), id="infinite"),
        pytest.param(changed(blame="3"), id="text"),
        pytest.param(changed(blame=True), id="bool"),
        pytest.param(changed(lasting=10**400), id="huge"),
        pytest.param(changed(suspicion=-0.1), id="negative"),
        pytest.param(changed(suspicion=3.1), id="suspicion beyond the warning"),
        pytest.param(changed(lasting=0), id="lasting below blame"),
        pytest.param(changed(standing="fine"), id="standing"),
        pytest.param(changed(standing=[]), id="standing no text"),
        pytest.param(changed(standing="good"), id="better than its numbers"),
        pytest.param(changed(blame=7, lasting=7), id="blame without quarantine"),
        pytest.param(changed(held=True), id="held though not in quarantine"),
        pytest.param(changed(held=1), id="held no bool"),
        pytest.param(changed(before=None), id="before no bool"),
        pytest.param(changed(seen=[]), id="seen no map"),
        pytest.param(changed(seen={"gone": 1}), id="unknown observation"),
        pytest.param(changed(seen={"declined": 1}), id="what is not counted"),
        pytest.param(changed(seen={"missed": 0}), id="count of nothing"),
        pytest.param(changed(seen={"missed": 1.0}), id="count no whole number"),
        pytest.param(changed(seen={"missed": 2**60}), id="count too large"),
    ],
)
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(StorageError, match="no reputation that was stored by qfl"):
        Reputation.from_json(text)


@settings(max_examples=200)
@given(st.text() | st.recursive(st.none() | st.floats() | st.text(), st.lists).map(json.dumps))
def test_no_text_does_anything_but_load_or_be_refused(text: str) -> None:
    with pytest.raises(StorageError):
        Reputation.from_json(text)


@given(st.integers(0, len(json.dumps(STORED)) - 1), st.sampled_from('0123456789"{}[],:etrue'))
def test_one_other_character_loads_or_is_refused(place: int, sign: str) -> None:
    text = json.dumps(STORED)
    assume(text[place] != sign)
    try:
        made = Reputation.from_json(text[:place] + sign + text[place + 1 :])
    except StorageError:
        return
    assert Reputation.from_json(made.to_json()).to_json() == made.to_json()


def test_changes_go_on_the_audit_trail() -> None:
    chain = AuditChain()
    data = chain.start()
    chain.take(data)
    made = Played([[VIOLATION]] * 3)
    for change in [*made.changes, made.reputation.pardon(A, 3, "Ada", "mended")]:
        line = chain.line("standing_changed", asdict(change))
        chain.take(line)
        data += line
    assert examine(data).flaw is None
    records = [json.loads(line) for line in data.splitlines()[1:]]
    assert [(one["before"], one["after"], one["by"]) for one in records] == [
        ("good", "warned", "score"),
        ("warned", "quarantined", "score"),
        ("quarantined", "good", "Ada"),
    ]


def federation(seed: int) -> tuple[Reputation, set[str], set[str]]:
    """20 rounds of 10 nodes, two of which violate the protocol in every second round, by chance.

    The others are honest and unlike each other: each has its own speed and size, misses 15 % of
    rounds, declines 5 % and is called odd in up to 90 %.

    Returns:
        The reputation, who violates, and who was quarantined at any time.
    """
    draw = np.random.default_rng(seed)
    nodes = [f"did:qfl:{name}" for name in "abcdefghij"]
    violators = set(draw.choice(nodes, 2, replace=False).tolist())
    odd = dict(zip(nodes, draw.uniform(0, 0.9, 10), strict=True))
    own = dict(zip(nodes, draw.normal(0, 2, (10, 3)), strict=True))
    made, quarantined = Reputation(), set()
    for number in range(1, 21):
        asked = [did for did in nodes if made.may_take_part(did)]
        replied: dict[str, list[float]] = {}
        for did in asked:
            draws = draw.random(4)
            if did in violators:
                made.observe(did, number, VIOLATION if draws[0] < 0.5 else CONTRIBUTED)
            elif draws[1] < 0.15:
                made.observe(did, number, MISSED)
            elif draws[1] < 0.2:
                made.observe(did, number, DECLINED)
            else:
                made.observe(did, number, CONTRIBUTED)
                replied[did] = list(own[did] + draw.normal(0, 0.3, 3))
                if draws[2] < odd[did]:
                    made.observe(did, number, ANOMALOUS)
        for did in suspicious(replied, seed):
            made.observe(did, number, ANOMALOUS)
        quarantined |= {did for did in nodes if not made.may_take_part(did)}
        made.end_round(number)
    return made, violators, quarantined


@pytest.mark.parametrize("seed", range(20))
def test_violators_are_quarantined_and_unlike_honest_nodes_are_not(seed: int) -> None:
    made, violators, quarantined = federation(seed)
    assert quarantined == violators
    honest = set(made.nodes) - violators
    assert len(honest) == 8 and all(made.tally(did).blame == 0 for did in honest)


def test_some_honest_nodes_of_these_federations_were_suspected() -> None:
    """Else the test before would say little."""
    suspected = [
        made.tally(did).suspicion
        for made, violators, _ in map(federation, range(20))
        for did in made.nodes
        if did not in violators
    ]
    assert max(suspected) > 2.5
    assert np.mean(np.array(suspected) > 1.5) > 0.3
