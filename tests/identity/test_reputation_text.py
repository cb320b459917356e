"""A reputation comes back from its text, and from no other text."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

import pytest
from histories import A, play
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qfl.errors import StorageError
from qfl.identity.reputation import Observation, Reputation, Rules, Standing

GOOD, WARNED, QUARANTINED, EXPELLED = Standing
CONTRIBUTED, MISSED, DECLINED, VIOLATION, OUT_OF_BOUNDS, ANOMALOUS = Observation
LEFT = 2 ** (-1 / 10)
QUICK = settings(max_examples=100, deadline=None)


STORED = json.loads(play([[VIOLATION, MISSED]] * 2)[0].to_json())


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
                "been_quarantined": False,
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
        pytest.param(changed(been_quarantined=None), id="been_quarantined no bool"),
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


@settings(max_examples=200, deadline=None)
@given(st.text() | st.recursive(st.none() | st.floats() | st.text(), st.lists).map(json.dumps))
def test_no_text_does_anything_but_load_or_be_refused(text: str) -> None:
    with pytest.raises(StorageError):
        Reputation.from_json(text)


@QUICK
@given(st.integers(0, len(json.dumps(STORED)) - 1), st.sampled_from('0123456789"{}[],:etrue'))
def test_one_other_character_loads_or_is_refused(place: int, sign: str) -> None:
    text = json.dumps(STORED)
    assume(text[place] != sign)
    try:
        made = Reputation.from_json(text[:place] + sign + text[place + 1 :])
    except StorageError:
        return
    assert Reputation.from_json(made.to_json()).to_json() == made.to_json()
