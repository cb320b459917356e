"""What an attacker sends beside the messages that it lets through does nothing at all.

Every message arrives as it was sent; before or after it come copies, those of other nodes, of
earlier steps and sessions. Each is refused for the right reason, and the run is bit for bit the
one that nobody disturbed.
"""

from __future__ import annotations

import pytest
from flwr.app import Error, Message
from man_in_the_middle import Act, Middle, Seen, addressed, answering, changed, disturbed
from signed_federation import CLIENTS, MADE, Ran, undisturbed

from qfl.enveloped import CHAIN
from qfl.identity.refusal import Refusal
from qfl.strategies.signed_grid import DECLINED

CASES = list(MADE)


def harmless(case: str, act: Act, rounds: int = 1, sessions: int = 1) -> tuple[Ran, Middle]:
    """What the last session of the server left behind: all that it does undisturbed."""
    runs, middle = disturbed(case, act, rounds, sessions)
    ran = runs[-1]
    assert ran.outcome == undisturbed(case, rounds)
    assert ran.grid.errors == []
    assert ran.grid.refused == {}
    assert ran.blamed == []
    return ran, middle


def refused_by(ran: Ran) -> dict[int, list[Refusal]]:
    """Why nodes refused messages, in order."""
    found: dict[int, list[Refusal]] = {}
    for one in ran.refused:
        found.setdefault(one.node, []).append(one.reason)
    return found


def asked(middle: Middle, node: int, session: int) -> list[Seen]:
    """What a node was asked in a session, in order."""
    found = middle.requests.values()
    return [one for one in found if (one.node, one.session) == (node, session)]


@pytest.mark.parametrize("case", CASES)
def test_an_honest_carrier_changes_nothing(case: str) -> None:
    def act(middle: Middle, seen: Seen, message: Message) -> list[Message]:
        return [message]

    ran, middle = harmless(case, act, rounds=2)
    assert ran.refused == []
    assert ran.grid.unasked == 0
    assert len(middle.replies) == len(middle.requests)


@pytest.mark.parametrize("case", CASES)
def test_requests_that_come_twice(case: str) -> None:
    def act(middle: Middle, seen: Seen, message: Message) -> list[Message]:
        return [message] if seen.way == "reply" else [message, message]

    ran, middle = harmless(case, act)
    there = {one.node for one in middle.requests.values()}
    twice = {node: [Refusal.REPLAYED] * len(asked(middle, node, 0)) for node in there}
    assert refused_by(ran) == twice


@pytest.mark.parametrize("case", CASES)
def test_replies_that_come_twice(case: str) -> None:
    def act(middle: Middle, seen: Seen, message: Message) -> list[Message]:
        return [message] if seen.way == "request" else [message, message]

    ran, _ = harmless(case, act)
    assert ran.refused == []


@pytest.mark.parametrize("case", CASES)
def test_replies_that_come_once_more_with_the_next(case: str) -> None:
    """Nobody asks for them: they are dropped, and counted."""
    last: dict[int, Message] = {}
    given = 0

    def act(middle: Middle, seen: Seen, message: Message) -> list[Message]:
        nonlocal given
        if seen.way == "reply":
            if seen.node in last and seen.kind != "introduce":
                given += 1
                middle.force(last[seen.node])
            last[seen.node] = message
        return [message]

    ran, _ = harmless(case, act)
    assert 0 < given - len(last) <= ran.grid.unasked <= given


@pytest.mark.parametrize("case", CASES)
def test_requests_that_reach_everybody(case: str) -> None:
    """Each reaches all other nodes before its own."""
    expected: dict[int, list[Refusal]] = {}

    def act(middle: Middle, seen: Seen, message: Message) -> list[Message]:
        if seen.way == "reply":
            return [] if message.has_error() else [message]
        others = [node for node in range(1, CLIENTS + 1) if node != seen.node]
        why = Refusal.NODE if seen.kind == "introduce" else Refusal.RECEIVER
        for node in others:
            expected.setdefault(node, []).append(why)
        return [*(addressed(message, node) for node in others), message]

    ran, _ = harmless(case, act)
    assert refused_by(ran) == expected


@pytest.mark.parametrize("case", CASES)
def test_replies_that_stand_for_everybody(case: str) -> None:
    """Each is given as the answer of all who gave theirs before."""
    done: list[str] = []
    given = 0

    def act(middle: Middle, seen: Seen, message: Message) -> list[Message]:
        nonlocal given
        if seen.way == "reply" and seen.kind != "introduce":
            for key in done[-CLIENTS:]:
                given += 1
                middle.force(answering(message, key))
        if seen.way == "reply":
            done.append(message.metadata.reply_to_message_id)
        return [message]

    ran, _ = harmless(case, act)
    assert 0 < given - CLIENTS <= ran.grid.unasked <= given


@pytest.mark.parametrize("case", CASES)
def test_all_that_a_node_was_asked_before(case: str) -> None:
    expected: dict[int, list[Refusal]] = {}

    def act(middle: Middle, seen: Seen, message: Message) -> list[Message]:
        if seen.way == "reply":
            return [] if message.has_error() else [message]
        before = [middle.messages[key] for key in middle.before(seen)]
        expected.setdefault(seen.node, []).extend([Refusal.REPLAYED] * len(before))
        return [*before, message]

    ran, _ = harmless(case, act)
    assert refused_by(ran) == expected


@pytest.mark.parametrize("case", CASES)
def test_all_that_a_node_was_asked_in_the_session_before(case: str) -> None:
    """Before each message comes everything of the session before."""
    expected: dict[int, list[Refusal]] = {}

    def act(middle: Middle, seen: Seen, message: Message) -> list[Message]:
        if seen.way == "reply":
            return [] if message.has_error() else [message]
        old = [
            key
            for key, one in middle.requests.items()
            if (one.node, one.session) == (seen.node, seen.session - 1)
        ]
        if not old or seen.kind == "introduce":
            return [message]
        kinds = [middle.requests[key].kind for key in old]
        expected.setdefault(seen.node, []).extend(
            Refusal.REPLAYED if kind == "introduce" else Refusal.RUN for kind in kinds
        )
        return [*(middle.messages[key] for key in old), message]

    ran, _ = harmless(case, act, sessions=2)
    assert refused_by(ran) == expected
    assert set(expected) == {one + 1 for one in range(len(expected))}


@pytest.mark.parametrize("case", CASES)
def test_answers_sent_to_nodes_as_requests(case: str) -> None:
    """What a node said comes back to it, and to the others."""
    refused = 0

    def act(middle: Middle, seen: Seen, message: Message) -> list[Message]:
        nonlocal refused
        if seen.way == "reply":
            return [] if message.has_error() else [message]
        said = [one for whose, one in middle.replies if one.has_content()]
        said = [one for one in said if CHAIN not in one.content][-2:]
        refused += len(said)
        kind = message.metadata.message_type
        back = [changed(message, content=one.content, message_type=kind) for one in said]
        return [*back, message]

    ran, _ = harmless(case, act)
    reasons = {reason for reasons in refused_by(ran).values() for reason in reasons}
    assert (len(ran.refused), reasons) == (refused, {Refusal.RECEIVER})


@pytest.mark.parametrize("case", CASES)
def test_errors_in_the_place_of_requests(case: str) -> None:
    """Flower lets a message be an error; a node that gets one goes on as before."""

    def act(middle: Middle, seen: Seen, message: Message) -> list[Message]:
        if seen.way == "reply":
            return [] if message.has_error() else [message]
        return [changed(message, error=Error(DECLINED, "an error")), message]

    ran, _ = harmless(case, act)
    assert ran.refused == []
