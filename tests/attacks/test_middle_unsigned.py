"""What nobody signed is believed of nobody: errors, Flower's words on a message, lists of nodes."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from flwr.app import Error, Message
from flwr.serverapp import Grid
from man_in_the_middle import Middle, Seen, answering, around, changed, disturbed
from signed_federation import CLIENTS, Federation, Ran, leaping, undisturbed
from strikes import OTHER, TARGET

from qfl.privacy import BUDGET_SPENT
from qfl.strategies import BudgetSpent, SetupFinished
from qfl.strategies.signed_grid import DECLINED, UNVERIFIED

ALL = [(0, "count", 4), (1, "train", 4), (1, "evaluate", 4)]


def left_out(ran: Ran) -> list[str]:
    """What is told of nodes that take no part."""
    (setup,) = [event for event in ran.events if isinstance(event, SetupFinished)]
    return [note for note in setup.notes if note.startswith("left out")]


@pytest.mark.parametrize("code", [DECLINED, UNVERIFIED, 2, 5, 0, -1])
def test_an_error_is_not_a_nodes_own_refusal(code: int) -> None:
    def act(middle: Middle, seen: Seen, message: Message) -> list[Message]:
        if (seen.way, seen.kind, seen.node) != ("reply", "train", TARGET):
            return [message]
        return [changed(message, error=Error(code, "I do not want to"))]

    (ran,), _ = disturbed("ckks", act)
    expected = UNVERIFIED if code == DECLINED else code
    assert ran.grid.errors == [(TARGET, expected, "I do not want to")]
    assert ran.sums == [(0, "count", 4), (1, "train", 3), (1, "evaluate", 4)]
    assert ran.blamed == []


def test_budgets_are_not_spent_because_an_error_says_so() -> None:
    """The run fails; it does not end as if all were well."""

    def act(middle: Middle, seen: Seen, message: Message) -> list[Message]:
        if (seen.way, seen.kind) != ("reply", "train") or seen.node > 2:
            return [message]
        return [changed(message, error=Error(DECLINED, f"this client's {BUDGET_SPENT}"))]

    (ran,), _ = disturbed("ckks", act)
    assert "2 usable replies, at least 3 are needed" in ran.error
    assert [event for event in ran.events if isinstance(event, BudgetSpent)] == []


@pytest.mark.parametrize(
    ("case", "kind", "who"), [("ckks", "open", "key holder 5"), ("committee", "agree", "member")]
)
def test_who_does_not_verify_did_not_refuse(case: str, kind: str, who: str) -> None:
    def act(middle: Middle, seen: Seen, message: Message) -> list[Message]:
        if (seen.way, seen.kind) != ("reply", kind):
            return [message]
        return [changed(message, error=Error(DECLINED, "no"))]

    (ran,), _ = disturbed(case, act)
    assert re.search(rf"{who}( \d)? gave no answer that counts: no", ran.error)
    assert "refused" not in ran.error


@pytest.mark.parametrize(
    ("name", "value"), [("src_node_id", OTHER), ("src_node_id", 99), ("message_type", "evaluate")]
)
def test_flowers_words_on_a_reply_are_put_right(name: str, value: object) -> None:
    given: list[Message] = []

    def act(middle: Middle, seen: Seen, message: Message) -> list[Message]:
        if (seen.way, seen.kind, seen.node) != ("reply", "train", TARGET):
            return [message]
        return [changed(message, **{name: value})]

    with Federation("ckks", around(act)) as federation:
        middle, server = federation.grid, federation.server()
        assert isinstance(middle, Middle)
        pull = server.pull_messages

        def noted(message_ids: Iterable[str]) -> list[Message]:
            found = pull(message_ids)
            given.extend(found)
            return found

        server.pull_messages = noted  # type: ignore[method-assign]
        ran = federation.run(1, server)
    assert ran.outcome == undisturbed("ckks", 1)
    for reply in given:
        key = reply.metadata.reply_to_message_id
        assert reply.metadata.src_node_id == middle.requests[key].node
        assert reply.metadata.message_type == middle.messages[key].metadata.message_type
    assert [one for one in given if one.metadata.src_node_id == TARGET]


def test_a_copy_of_an_introduction_does_not_shut_its_node_out() -> None:
    """One node's answer is given as another's before it is given as its own."""

    def act(middle: Middle, seen: Seen, message: Message) -> list[Message]:
        if (seen.way, seen.kind) != ("reply", "introduce") or seen.node not in (TARGET, OTHER):
            return [message]
        if seen.node == TARGET:
            return []
        return [answering(message, middle.key_of(TARGET, seen)), message]

    (ran,), _ = disturbed("ckks", act)
    assert ran.error == ""
    ((said),) = left_out(ran)
    assert said.startswith(f"left out: node {TARGET}: ")
    assert ran.sums == [(0, "count", 3), (1, "train", 3), (1, "evaluate", 3)]


def test_who_is_met_again_in_vain_is_there_still() -> None:
    """After an error that nobody signed a node is asked again who it is."""
    struck = False

    def act(middle: Middle, seen: Seen, message: Message) -> list[Message]:
        nonlocal struck
        if (seen.way, seen.kind, seen.node) == ("reply", "evaluate", TARGET) and not struck:
            struck = True
            return [changed(message, error=Error(2, "an error"))]
        again = struck and (seen.way, seen.kind) == ("request", "introduce")
        return [] if again else [message]

    with Federation("ckks", around(act)) as federation:
        middle, server = federation.grid, federation.server()
        assert isinstance(middle, Middle)
        with leaping(lambda: middle.idle):
            first, second = (federation.run(1, server) for _ in range(2))
    assert first.error == second.error == ""
    assert second.sums == ALL
    assert left_out(second) == []


class Listing(Middle):
    """Names other nodes than there are.

    Attributes:
        named: What becomes of the list when it is asked for the nth time, from 0.
    """

    named: Callable[[int, list[int]], list[int]]
    asked = 0

    def get_node_ids(self) -> list[int]:
        """The other list."""
        self.asked += 1
        return self.named(self.asked - 1, super().get_node_ids())


def listing(named: Callable[[int, list[int]], list[int]]) -> Callable[[Federation, Grid], Listing]:
    """Puts it into a federation."""

    def put(federation: Federation, grid: Grid) -> Listing:
        made = Listing(grid, federation.identities)
        made.named = named
        return made

    return put


def run_with(around: Any, case: str = "ckks", rounds: int = 1) -> Ran:
    with Federation(case, around) as federation:
        middle = federation.grid
        assert isinstance(middle, Middle)
        with leaping(lambda: middle.idle):
            return federation.run(rounds)


@pytest.mark.parametrize("case", ["ckks", "masking"])
def test_a_node_that_is_named_twice_is_one_node(case: str) -> None:
    ran = run_with(listing(lambda n, nodes: [*nodes, *nodes]), case)
    assert ran.outcome == undisturbed(case, 1)
    assert left_out(ran) == []


def test_a_node_that_does_not_exist_is_left_out() -> None:
    ran = run_with(listing(lambda n, nodes: [*nodes, 99]))
    assert ran.outcome == undisturbed("ckks", 1)
    ((said),) = left_out(ran)
    assert said.startswith("left out: node 99: ")


@pytest.mark.parametrize("hidden", [[TARGET], [5], [1, 2, 3, 4]], ids=str)
def test_nodes_that_are_hidden_for_a_round(hidden: list[int]) -> None:
    """The second round goes on without the clients among them, or fails; nothing else happens."""

    def named(n: int, nodes: list[int]) -> list[int]:
        return [node for node in nodes if n != 2 or node not in hidden]

    ran = run_with(listing(named), rounds=3)
    assert ran.blamed == []
    if len(hidden) == CLIENTS:
        assert "0 usable replies, at least 3 are needed" in ran.error
        return
    assert ran.error == ""
    there = [4, 4 - (TARGET in hidden), 4]
    assert [count for _, label, count in ran.sums if label == "train"] == there


def test_a_node_that_comes_and_goes_is_let_in_each_time() -> None:
    def named(n: int, nodes: list[int]) -> list[int]:
        return [node for node in nodes if n % 2 == 0 or node != TARGET]

    with Federation("ckks", listing(named)) as federation:
        server = federation.server()
        there = [TARGET in server.get_node_ids() for _ in range(10)]
    assert there == [True, False] * 5


class Lossy(Middle):
    """Does not take messages of a kind to one node, and says so as Flower does.

    Attributes:
        kind: Which.
        said: In place of an id; nothing where no id is given at all.
    """

    kind: str
    said: list[str | None]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Ids of those that were taken."""
        keys: list[Any] = []
        for message in messages:
            (key,) = super().push_messages([message])
            seen = self.requests[key]
            lost = (seen.kind, seen.node) == (self.kind, TARGET)
            keys += self.said if lost else [key]
        return keys


@pytest.mark.parametrize("kind", ["introduce", "train"])
@pytest.mark.parametrize("said", [[None], [""], []], ids=["none", "empty", "nothing"])
def test_a_message_that_cannot_be_sent_fails_alone(said: list[str | None], kind: str) -> None:
    def put(federation: Federation, grid: Grid) -> Lossy:
        made = Lossy(grid, federation.identities)
        made.kind, made.said = kind, said
        return made

    ran = run_with(put)
    assert ran.error == ""
    assert ran.blamed == []
    if kind == "introduce":
        ((told),) = left_out(ran)
        assert told.startswith(f"left out: node {TARGET}: ")
    else:
        assert {node for node, _, _ in ran.grid.errors} <= {TARGET}
        assert ran.sums == [(0, "count", 4), (1, "train", 3), (1, "evaluate", 4)]


class Naming(Middle):
    """Gives two requests for an update the same id."""

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Ids, one of them twice."""
        keys = []
        for key in super().push_messages(messages):
            first = next(iter(self.requests))
            both = self.requests[key].kind == "train" and self.requests[key].node in (TARGET, OTHER)
            keys.append(first if both else key)
        return keys


def test_two_requests_of_one_id_are_both_lost() -> None:
    ran = run_with(lambda federation, grid: Naming(grid, federation.identities))
    assert "2 usable replies, at least 3 are needed; the others never replied" in ran.error
    assert ran.blamed == []


@pytest.mark.parametrize("kind", ["introduce", "train"])
def test_a_timeout_is_kept(kind: str) -> None:
    """By the clock: what never comes is waited for as long as was asked, and no longer."""

    def act(middle: Middle, seen: Seen, message: Message) -> list[Message]:
        return [] if (seen.way, seen.kind, seen.node) == ("reply", kind, TARGET) else [message]

    with Federation("ckks", around(act)) as federation:
        started = time.monotonic()
        ran = federation.run(1, federation.server(patience=1.5), timeout=2.0)
        seconds = time.monotonic() - started
    assert ran.error == ""
    assert ran.sums[-2:] == [(1, "train", 3), (1, "evaluate", 4 - (kind == "introduce"))]
    assert 1.5 <= seconds < 10
