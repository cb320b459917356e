"""One participant lies where several work together: the run goes on, and no other one is blamed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from evil_client import BAD, CLIENTS, LENGTH, app_of, identities_of, mean_of, raw
from flwr.app import Context, Message

from qfl.clients import ProtectMod, SignMod
from qfl.clients.keys import member_keys
from qfl.crypto import Committee, Step
from qfl.errors import FederationError
from qfl.federation.local_grid import LocalGrid
from qfl.identity.standing import Standing
from qfl.records import KEY, PAYLOAD, STEP, record_bytes, record_of
from qfl.strategies import (
    Aggregation,
    ClientReplied,
    RoundFinished,
    SecureStrategy,
    SignedGrid,
    StandingChanged,
)

Change = Callable[[bytes], bytes]
WARNED = (Standing.GOOD, Standing.WARNED)


class InOrder(LocalGrid):
    """Replies to the messages of a step come together, sorted.

    Attributes:
        key: By what of a node.
    """

    key: Callable[[int], Any]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._held: list[Message] = []

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        ids = list(message_ids)
        self._held += super().pull_messages(ids)
        if len(self._held) < len(ids):
            return []
        replies, self._held = self._held, []
        return sorted(replies, key=lambda reply: self.key(reply.metadata.src_node_id))


@dataclass
class Lying:
    """Between the two mods of every client: some change what they answer to a step.

    Attributes:
        step: Which.
        change: Of the bytes.
        lies: Whether a node is to.
        nodes: Those that did.
    """

    step: str
    change: Change
    lies: Callable[[Step, Context], bool]
    nodes: set[int] = field(default_factory=set)

    def __call__(self, message: Message, context: Context, call_next: Any) -> Message:
        step = Step.from_json(str(message.content.config_records[STEP]["step"]))
        reply: Message = call_next(message, context)
        if step.step == self.step and not reply.has_error() and self.lies(step, context):
            self.nodes.add(context.node_id)
            reply.content[PAYLOAD] = raw(self.change(record_bytes(reply.content, PAYLOAD)))
        return reply


@dataclass
class Blamed:
    """What came of a run.

    Attributes:
        model: After it.
        clients: In each round's sum.
        failed: Nodes whose reply was in none.
        standings: From what to what, and why, by node.
    """

    model: Any
    clients: list[int]
    failed: set[int]
    standings: dict[int, list[tuple[tuple[Standing, Standing], str]]]


def run(made: Aggregation, lying: Lying, late: bool = False) -> Blamed:
    """A round of four clients; who lies answers first or, with ``late``, last."""
    identities = identities_of(made.scheme, made.trust)
    source = identities.source(None)
    protect = ProtectMod(credentials=source, dropout=made.dropout, corrupted=made.corrupted)
    events: list[Any] = []
    strategy = SecureStrategy(made, observer=events.append)
    app = app_of([SignMod(source), lying, protect])
    with InOrder(app, CLIENTS, workers=1) as local:
        local.key = lambda node: ((node in lying.nodes) == late, node)
        grid = SignedGrid(local, identities.server, patience=20)
        start = record_of({"w": np.zeros(LENGTH)})
        result = strategy.start(grid, start, num_rounds=1)
        nodes = {grid.first_of(node): node for node in range(1, CLIENTS + 1)}
    assert lying.nodes
    standings: dict[int, list[Any]] = {}
    for event in events:
        if isinstance(event, StandingChanged):
            change = event.change
            said = ((change.before, change.after), change.reason)
            standings.setdefault(nodes[change.did], []).append(said)
    return Blamed(
        result.arrays["w"].numpy(),
        [event.clients for event in events if isinstance(event, RoundFinished)][1:],
        {event.node for event in events if isinstance(event, ClientReplied) and event.error},
        standings,
    )


def member(place: int) -> Callable[[Step, Context], bool]:
    """Whether a node stands at a place of the committee."""

    def lies(step: Step, context: Context) -> bool:
        names = Committee.from_bytes(record_bytes(context.state, KEY)).names
        return names.index(member_keys(step, context).name) == place

    return lies


def the_bad_one(step: Step, context: Context) -> bool:
    return context.node_id == BAD + 1


def zeros(data: bytes) -> bytes:
    return bytes(len(data))


def one_bit(data: bytes) -> bytes:
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def last_bit(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def cut(data: bytes) -> bytes:
    return data[:-1]


# A committee's shares.


@pytest.mark.parametrize(("members", "threshold"), [(3, 2), (4, 3)])
@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("change", [zeros, one_bit])
@pytest.mark.parametrize("late", [False, True], ids=["first", "last"])
def test_a_share_that_is_false(
    change: Change, place: int, members: int, threshold: int, late: bool
) -> None:
    """Well formed and signed. The others' shares fit each other, and open the sum without it."""
    made = Aggregation(
        "hybrid",
        trust="committee",
        committee=members,
        threshold=threshold,
        grid_bits=14,
        bound=1.0,
        min_clients=3,
    )
    lying = Lying("open", change, member(place))
    ran = run(made, lying, late)
    assert ran.model == mean_of(0, 1, 2, 3)
    assert (ran.clients, ran.failed) == ([4], set())
    (liar,) = lying.nodes
    if late:  # it was not in the way
        assert ran.standings.keys() <= {liar}
        return
    ((stands, why),) = ran.standings.pop(liar)
    assert stands == WARNED
    assert "its share does not fit the others'" in why
    assert ran.standings == {}


def test_with_fewer_right_shares_than_the_threshold_nothing_is_opened() -> None:
    """Two of three are false: nobody can tell whose is right."""
    made = Aggregation("hybrid", trust="committee", grid_bits=14, bound=1.0, min_clients=3)
    first, second = member(0), member(1)
    both = Lying(
        "open", one_bit, lambda step, context: first(step, context) or second(step, context)
    )
    with pytest.raises(FederationError, match="the committee's shares do not open the sum"):
        run(made, both)


# Packages under masks.


@pytest.mark.parametrize("change", [zeros, one_bit, last_bit, cut])
@pytest.mark.parametrize("step", ["advertise", "deal"])
def test_what_a_client_sends_others_under_masks(step: str, change: Change) -> None:
    """The server looks at it before it passes it on, so that nobody else has to refuse it."""
    made = Aggregation("masking", grid_bits=14, bound=1.0, min_clients=3, dropout=0.26)
    ran = run(made, Lying(step, change, the_bad_one))
    assert ran.model == mean_of(0, 1, 3)
    assert (ran.clients, ran.failed - {BAD + 1}) == ([3], set())
    ((stands, _),) = ran.standings.pop(BAD + 1)
    assert stands == WARNED
    assert ran.standings == {}
