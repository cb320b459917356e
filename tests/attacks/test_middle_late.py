"""What comes late, and is forced on whoever goes on without it: nobody takes it, nobody is blamed.

A reply of an earlier step is given to a server that asks for other ones; a request of an earlier
step, run or session reaches a node that has gone on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from flwr.app import Message, RecordDict
from man_in_the_middle import Middle, Seen, around, changed, disturbed
from signed_federation import Federation, Ran, leaping

from qfl.identity.credentials import Credentials
from qfl.identity.identity import Identity
from qfl.identity.policy import Enrolled, sign_policy
from qfl.identity.refusal import Refusal
from qfl.strategies import ClientReplied, SignedGrid
from qfl.strategies.signed_grid import DECLINED

ALL = [(1, "train", 4), (1, "evaluate", 4)]


@dataclass
class HeldBack:
    """Holds a message back once, and brings it when the time has come.

    Attributes:
        what: Which message: way, kind, label and session.
        until: Whether what is seen now is late enough.
        node: Whose number Flower's words give a reply; unset, its own.
        target: Whose message.
        held: The message, and what it was.
        done: Whether it was brought.
    """

    what: tuple[str, str, str, int]
    until: Callable[[Seen], bool]
    node: int | None = None
    target: int = 2
    held: tuple[Seen, Message] | None = None
    done: bool = False

    def __call__(self, middle: Middle, seen: Seen, message: Message) -> list[Message]:
        """An act of a :class:`Middle`."""
        place = (seen.way, seen.kind, seen.label, seen.session)
        if self.held is None and place == self.what and seen.node == self.target:
            self.held = seen, message
            return []
        if self.held is not None and not self.done and self.until(seen):
            self.done = True
            was, late = self.held
            if was.way == "reply":
                middle.force(changed(late, src_node_id=self.node) if self.node else late)
            else:
                middle.deliver(late, middle.key_of(was.node, was))
        return [message]


def check_dropped(ran: Ran) -> None:
    """A late reply went nowhere."""
    told = [event for event in ran.events if isinstance(event, ClientReplied)]
    assert [event for event in told if event.error] == []
    assert ran.grid.errors == []
    assert ran.blamed == []
    assert ran.grid.unasked == 1


@pytest.mark.parametrize("node", [None, 3, 99])
def test_an_update_of_the_last_round(node: int | None) -> None:
    """It is laid to the charge of neither its sender nor whose number is written on it."""
    late = HeldBack(
        ("reply", "train", "train", 0),
        lambda seen: (seen.way, seen.kind, seen.round) == ("request", "train", 2),
        node,
    )
    (ran,), _ = disturbed("ckks", late, rounds=2)
    assert late.done
    check_dropped(ran)
    assert ran.sums == [
        (0, "count", 4),
        (1, "train", 3),
        (1, "evaluate", 4),
        (2, "train", 4),
        (2, "evaluate", 4),
    ]


@pytest.mark.parametrize("node", [None, 99])
def test_keys_of_the_last_sum_under_masks(node: int | None) -> None:
    late = HeldBack(
        ("reply", "advertise", "train", 0),
        lambda seen: (seen.way, seen.kind, seen.label) == ("reply", "advertise", "evaluate"),
        node,
    )
    (ran,), _ = disturbed("masking", late)
    assert late.done
    check_dropped(ran)
    assert ran.sums == [(1, "train", 3), (1, "evaluate", 4)]


def test_an_update_is_not_the_key_holders_answer() -> None:
    late = HeldBack(
        ("reply", "train", "train", 0),
        lambda seen: (seen.way, seen.kind, seen.label) == ("request", "open", "train"),
    )
    (ran,), _ = disturbed("ckks", late)
    assert late.done
    check_dropped(ran)
    assert ran.sums == [(0, "count", 4), (1, "train", 3), (1, "evaluate", 4)]


def test_a_share_of_the_last_round() -> None:
    """In place of this round's, which never comes; two of three members are enough."""
    old: list[Message] = []

    def act(middle: Middle, seen: Seen, message: Message) -> list[Message]:
        if (seen.way, seen.kind, seen.label, seen.node) != ("reply", "open", "train", 2):
            return [message]
        if old:
            middle.force(old[0])
        old.append(message)
        return []

    (ran,), _ = disturbed("committee", act, rounds=2)
    check_dropped(ran)
    assert ran.sums == [(round, label, 4) for round in (1, 2) for label in ("train", "evaluate")]


def test_the_opened_sum_of_an_earlier_run() -> None:
    """Two runs on one grid: what was opened in the first is not the sum of the second."""
    old: list[Message] = []

    def act(middle: Middle, seen: Seen, message: Message) -> list[Message]:
        if (seen.way, seen.kind, seen.label) != ("reply", "open", "train"):
            return [message]
        if old:
            middle.force(old[0])
        old.append(message)
        return []

    for ran in two_runs("ckks", act):
        assert "key holder 5 did not reply within" in ran.error
        assert ran.sums == [(0, "count", 4)]
        assert ran.blamed == []


def two_runs(case: str, act: Callable[..., list[Message]]) -> list[Ran]:
    """Both on one grid of the server's, so that they are one session."""
    with Federation(case, around(act)) as federation:
        middle = federation.grid
        assert isinstance(middle, Middle)
        with leaping(lambda: middle.idle):
            server = federation.server()
            runs = [federation.run(1, server)]
            runs.append(federation.run(1, server))
            middle.settle()
    return runs


@pytest.mark.parametrize("kind", ["hello", "sum", "train", "evaluate", "keygen"])
def test_a_request_of_an_earlier_run(kind: str) -> None:
    """A node that has gone on to another run forgets nothing of it."""
    target = 5 if kind == "keygen" else 2
    late = HeldBack(
        ("request", kind, {"sum": "count"}.get(kind, kind), 0),
        lambda seen: (seen.way, seen.kind, seen.node) == ("reply", "hello", target),
        target=target,
    )
    _, second = two_runs("ckks", late)
    assert late.done
    assert [(one.node, one.reason) for one in second.refused] == [(target, Refusal.REPLAYED)]
    assert second.grid.errors == []
    assert second.sums == [(0, "count", 4), *ALL]


def test_a_hello_of_an_earlier_run_under_masks() -> None:
    """It would have the node make new keys for a run that it is in no longer."""
    late = HeldBack(
        ("request", "hello", "hello", 0),
        lambda seen: (seen.way, seen.kind, seen.node) == ("reply", "hello", 2),
    )
    _, second = two_runs("masking", late)
    assert late.done
    assert [(one.node, one.reason) for one in second.refused] == [(2, Refusal.REPLAYED)]
    assert second.grid.errors == []
    assert second.sums == ALL


def test_keys_asked_for_after_those_of_the_next_sum() -> None:
    """They would take the place of the keys that the node has made since."""
    late = HeldBack(
        ("request", "advertise", "train", 0),
        lambda seen: (seen.way, seen.label, seen.node) == ("reply", "evaluate", 2),
    )
    (ran,), _ = disturbed("masking", late)
    assert late.done
    assert [(one.node, one.reason) for one in ran.refused] == [(2, Refusal.REPLAYED)]
    assert DECLINED not in [code for _, code, _ in ran.grid.errors]
    assert ran.sums == [(1, "train", 3), (1, "evaluate", 4)]


def test_an_introduction_of_an_earlier_session() -> None:
    """A node that never saw it does not go back to it."""
    late = HeldBack(
        ("request", "introduce", "", 0),
        lambda seen: (seen.way, seen.kind, seen.node, seen.session) == ("reply", "hello", 2, 1),
    )
    runs, _ = disturbed("ckks", late, sessions=2)
    assert late.done
    assert runs[0].sums == [(0, "count", 3), (1, "train", 3), (1, "evaluate", 3)]
    assert [(one.node, one.reason) for one in runs[1].refused] == [(2, Refusal.REPLAYED)]
    assert runs[1].grid.errors == []
    assert runs[1].sums == [(0, "count", 4), *ALL]


def test_nothing_is_given_twice_to_a_strategy_of_flowers() -> None:
    """A node whose reply to the first of two questions comes with those to the second."""
    held: list[Message] = []
    asked = 0

    def act(middle: Middle, seen: Seen, message: Message) -> list[Message]:
        if seen.kind != "query.count" or seen.way == "request":
            return [message]
        if asked == 2:
            middle.force(held[0])
        elif seen.node == 2:
            held.append(message)
            return []
        return [message]

    with Federation("ckks", around(act)) as federation:
        server = federation.server()
        nodes = server.get_node_ids()
        for there in ([1, 3, 4, 5], [1, 2, 3, 4, 5]):
            asked += 1
            questions = [Message(RecordDict(), node, "query.count") for node in nodes]
            replies = server.send_and_receive(questions, timeout=1.0)
            assert sorted(reply.metadata.src_node_id for reply in replies) == there
    assert server.unasked == len(nodes)


def another_server(federation: Federation) -> Credentials:
    """A second server, which the operator's next policy names as well."""
    issued = federation.identities.issued
    one = Identity.create(["server"], algorithm="ML-DSA-44")
    members = [*issued.policy.members, Enrolled("server-2", one.did, ("server",))]
    policy = sign_policy(
        issued.operator, "simulation", members, issued.policy.permissions, before=issued.policy
    )
    registry = issued.registry()
    registry.enrol(policy, time.time())
    registry.admit([one.description])
    return Credentials.of(one, registry)


def test_all_of_a_session_again_after_one_with_another_server() -> None:
    """A node that goes back to a session goes on where it was."""
    with Federation("ckks", around()) as federation:
        middle = federation.grid
        assert isinstance(middle, Middle)
        ran = federation.run(1)
        assert ran.error == ""
        other = SignedGrid(federation.local, another_server(federation))
        assert other.get_node_ids() == [1, 2, 3, 4, 5]
        asked = len(middle.messages)
        for key, message in list(middle.messages.items()):
            middle.deliver(message, key)
        middle.settle()
    assert len(ran.refused) == asked
    assert {one.reason for one in ran.refused} == {Refusal.REPLAYED, Refusal.SENDER}
    assert len(ran.models) == 4
