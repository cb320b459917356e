"""The operator's words hold, are on record, and are the operator's alone."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from histories import A, play

from qfl.errors import ConfigError
from qfl.identity.audit import AuditChain
from qfl.identity.audit_check import examine
from qfl.identity.reputation import Change, Observation, Reputation, Standing

GOOD, WARNED, QUARANTINED, EXPELLED = Standing
CONTRIBUTED, MISSED, DECLINED, VIOLATION, OUT_OF_BOUNDS, ANOMALOUS = Observation


def test_a_pardon_forgets_everything() -> None:
    made = play([[VIOLATION]] * 6)[0]
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
    made = play([[VIOLATION]] * 3)[0]
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
    made = play([[VIOLATION]] * 6)[0]
    made.quarantine(A, 6, "Ada", "we talk to them")
    made = Reputation.from_json(made.to_json())
    assert made.observe(A, 7, unsigned) is None
    assert made.end_round(7) == []
    change = made.observe(A, 8, VIOLATION)
    assert change is not None and (change.before, change.after) == (QUARANTINED, EXPELLED)
    assert Reputation.from_json(made.to_json()).standing(A) is EXPELLED


def test_changes_of_a_rounds_end_are_in_order() -> None:
    made = Reputation()
    for did in ("c", "a", "b"):
        made.observe(did, 1, VIOLATION)
    ended = [change for number in range(1, 12) for change in made.end_round(number)]
    assert [(one.did, one.after) for one in ended] == [("a", GOOD), ("b", GOOD), ("c", GOOD)]
    assert ended[0].reason == "score faded to 1.4"


def test_suspicion_does_not_prolong_a_quarantine() -> None:
    _, quiet = play([[VIOLATION]] * 3 + [[]] * 30)
    made, harried = play([[VIOLATION]] * 3 + [[MISSED, ANOMALOUS]] * 30)
    released = [one.round for one in quiet if one.before is QUARANTINED]
    assert released == [one.round for one in harried if one.before is QUARANTINED]
    assert made.standing(A) is WARNED and len(released) == 1


@pytest.mark.parametrize(
    ("by", "reason"),
    [("", "why"), (" ", "why"), ("score", "why"), (" score", "why"), ("Ada", ""), ("Ada", "\n")],
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


def test_changes_go_on_the_audit_trail() -> None:
    chain = AuditChain()
    data = chain.start()
    chain.take(data)
    made, changes = play([[VIOLATION]] * 3)
    for change in [*changes, made.pardon(A, 3, "Ada", "mended")]:
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
