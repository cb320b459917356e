"""Whoever carries the messages strikes at one: what comes of it, for every kind of message.

It is dropped, comes late, is altered, signed by somebody else, goes to another node or comes from
one, or an earlier one comes in its place; on its way to a node, and back. Each time the receiver
refuses what arrives, for the right reason; the run goes on without what is lost, or ends and says
what is missing; and nobody is blamed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from altering import SEALED, changing, signed_by
from man_in_the_middle import Middle, Seen, Way, disturbed
from signed_federation import MADE, Ran, model_of, undisturbed
from strikes import KINDS, OTHER, TARGET, Altered, Dropped, Kind, Late, Redirected, Replayed, Strike

from qfl.identity.refusal import Refusal
from qfl.records import arrays_of
from qfl.strategies import ClientReplied, SetupFinished
from qfl.strategies.signed_grid import DECLINED, UNVERIFIED

WAYS: tuple[Way, ...] = ("request", "reply")
NAMED = [pytest.param(kind, id=f"{kind.case}-{kind.name}") for kind in KINDS]


def evaluates(kind: Kind) -> bool:
    """Whether a run needs an evaluation for such a message."""
    return kind.name == "evaluate"


def struck(strike: Strike, rounds: int = 1, sessions: int = 1) -> tuple[list[Ran], Seen, Middle]:
    """What the server's sessions left behind, and what was struck at."""
    kind = strike.kind
    ran, middle = disturbed(kind.case, strike, rounds, sessions, evaluates(kind))
    assert strike.struck is not None
    return ran, strike.struck, middle


def check_nobody_is_blamed(ran: Ran, node: int) -> None:
    """Nobody is said to have signed anything bad, or to have refused; others, to have failed."""
    assert ran.blamed == []
    assert DECLINED not in [code for _, code, _ in ran.grid.errors]
    assert {whose for whose, _, _ in ran.grid.errors} <= {node}
    told = [event for event in ran.events if isinstance(event, ClientReplied)]
    assert {event.node for event in told if event.error} <= {node}


def check_lost(kind: Kind, ran: Ran, node: int, rounds: int = 1) -> None:
    """What came of a message that did not arrive as it was."""
    check_nobody_is_blamed(ran, node)
    if kind.lost == "ends":
        said = "3 usable replies, at least 4" if kind.name == "sum" else f"key holder {node} "
        assert said in ran.error
        return
    assert ran.error == ""
    if kind.lost == "same":
        assert ran.outcome == undisturbed(kind.case, rounds, evaluates(kind))
        return
    gone = kind.lost == "left out"
    expected = [
        (number, label, count - (gone or (number, label) == (1, kind.label)))
        for number, label, count in undisturbed(kind.case, rounds, evaluates(kind))[-1]
    ]
    assert ran.sums == expected
    (setup,) = [event for event in ran.events if isinstance(event, SetupFinished)]
    assert setup.clients == 4 - gone
    left = [note for note in setup.notes if note.startswith("left out")]
    assert [note.startswith(f"left out: node {node}: ") for note in left] == [True] * gone
    if rounds == 1:
        there = [0, 2, 3] if gone or kind.label == "train" else [0, 1, 2, 3]
        assert ran.result is not None
        final = arrays_of(ran.result.arrays)["w"]
        np.testing.assert_allclose(final, model_of(MADE[kind.case], there), rtol=0, atol=1e-3)


UNMET = {
    Refusal.DAMAGED: "sealed content is damaged",
    Refusal.REQUEST: "answered another introduction",
    Refusal.RUN: "belongs elsewhere: it has run=",
}
"""How the reasons are said of a node that has not been met."""


def check_refused(kind: Kind, way: Way, ran: Ran, node: int, by: int, reason: Refusal) -> None:
    """A request was refused by whom it reached, or a reply by the server; nothing else was.

    Args:
        kind: What was struck at.
        way: Which of them it was.
        ran: The run.
        node: Whose message it was.
        by: Whom a request reached.
        reason: Why.
    """
    if way == "request":
        assert [(one.node, one.reason) for one in ran.refused] == [(by, reason)]
        return
    assert ran.refused == []
    if kind.name == "introduce":
        (setup,) = [event for event in ran.events if isinstance(event, SetupFinished)]
        assert any(UNMET[reason] in note for note in setup.notes)
        return
    ((found, code, text),) = ran.grid.errors
    assert (found, code) == (node, UNVERIFIED)
    assert text.split(":")[0] == reason
    assert not ran.error or f": {reason}: " in ran.error


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", NAMED)
def test_dropped(kind: Kind, way: Way) -> None:
    (ran,), seen, _ = struck(Strike(kind, way, Dropped()))
    check_lost(kind, ran, seen.node)
    assert ran.refused == []
    assert ran.grid.errors == []
    assert ran.grid.unasked == 0
    if kind.name == "introduce":
        (setup,) = [event for event in ran.events if isinstance(event, SetupFinished)]
        assert any(f"node {seen.node}: it did not say who it is" in one for one in setup.notes)
    elif kind.lost == "ends":
        assert "never replied" in ran.error or "did not reply within" in ran.error


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", NAMED)
def test_late(kind: Kind, way: Way) -> None:
    """It arrives in the next round; where none comes, in the server's next session."""
    ends = kind.lost == "ends"

    def until(struck: Seen, seen: Seen) -> bool:
        if ends:
            after = (seen.session, seen.kind) == (1, "introduce")
        else:
            after = seen.round == 2 or (kind.lost == "left out" and seen.kind == "train")
        ours = kind.lost == "left out" or seen.node == struck.node
        return after and ours and seen.way == "reply"

    late = Late(until)
    rounds = 1 if ends else 2
    ran, seen, _ = struck(Strike(kind, way, late), rounds, sessions=1 + ends)
    assert late.held is None
    check_lost(kind, ran[0], seen.node, rounds)
    assert ran[-1].grid.unasked == 0
    assert ran[-1].grid.errors == []
    if ends:
        assert ran[1].outcome == undisturbed(kind.case, 1, evaluates(kind))
    # For who is left out nothing has gone on; but who never heard of the server is asked again.
    if way == "reply" or (kind.lost == "left out" and kind.name != "introduce"):
        assert ran[-1].refused == []
        return
    ((found, reason),) = [(one.node, one.reason) for one in ran[-1].refused]
    assert (found, reason) == (seen.node, Refusal.RUN if ends else Refusal.REPLAYED)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", NAMED)
def test_altered(kind: Kind, way: Way) -> None:
    """More ways than this one are in ``test_middle_altered``."""
    change, reason = SEALED["tag"]
    (ran,), seen, _ = struck(Strike(kind, way, Altered(changing(change))))
    check_lost(kind, ran, seen.node)
    check_refused(kind, way, ran, seen.node, seen.node, reason)


@pytest.mark.parametrize("kind", [one for one in NAMED if "introduce" not in str(one.id)])
def test_a_reply_that_another_participant_signed(kind: Kind) -> None:
    def by_another(middle: Middle, seen: Seen, message: Any) -> Any:
        other = OTHER if seen.node != OTHER else TARGET
        return signed_by(middle.identities.nodes[other - 1])(middle, seen, message)

    (ran,), seen, _ = struck(Strike(kind, "reply", Altered(by_another)))
    check_lost(kind, ran, seen.node)
    check_refused(kind, "reply", ran, seen.node, seen.node, Refusal.SENDER)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", NAMED)
def test_redirected(kind: Kind, way: Way) -> None:
    (ran,), seen, _ = struck(Strike(kind, way, Redirected()))
    check_lost(kind, ran, seen.node)
    by = OTHER if seen.node != OTHER else TARGET
    if kind.name == "introduce":
        reason = Refusal.NODE if way == "request" else Refusal.REQUEST
    elif way == "request":
        reason = Refusal.RECEIVER
    else:
        # Who is asked alone gets an answer to something else that the other one was asked.
        reason = Refusal.STEP if kind.one else Refusal.SENDER
    check_refused(kind, way, ran, seen.node, by, reason)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", NAMED)
def test_replayed(kind: Kind, way: Way) -> None:
    first = kind.name == "introduce"
    ran, seen, middle = struck(
        Strike(kind, way, Replayed(), session=int(first)), sessions=1 + first
    )
    check_lost(kind, ran[-1], seen.node)
    reason = Refusal.REPLAYED
    if way == "reply":
        before = middle.requests[middle.before(seen)[-1]]
        reason = Refusal.ROUND if before.round != seen.round else Refusal.STEP
        if kind.name in ("introduce", "hello"):
            # In place of the first message of a run comes the introduction: that of a session.
            reason = Refusal.RUN
    check_refused(kind, way, ran[-1], seen.node, seen.node, reason)
