"""Trust over time in real federations: who breaks the protocol is kept out, who differs is not."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from signed_toy import identities_for, mods_for, run_signed

from qfl._flower_compat import ErrorCode, build_message
from qfl.errors import ConfigError, RefusedError
from qfl.identity.standing import Standing
from qfl.records import PAYLOAD, bytes_record, record_bytes
from qfl.strategies import (
    Aggregation,
    ClientsSelected,
    Event,
    RoundFinished,
    SecureStrategy,
    StandingChanged,
    SumOpened,
)

CLIENTS, ROUNDS = 10, 10


class Breaking:
    """A mod behind the signing one: some clients sign what breaks the protocol."""

    def __init__(self, seed: int, breakers: set[int]) -> None:
        self.randoms = {node: np.random.default_rng((seed, node)) for node in breakers}

    def __call__(self, message: Message, context: Context, call_next: Any) -> Message:
        trains = message.metadata.message_type == "train" and "arrays" in message.content
        reply = call_next(message, context)
        random = self.randoms.get(context.node_id)
        if trains and random is not None and random.random() < 0.75:
            payload = record_bytes(reply.content, PAYLOAD)
            broken = random.choice(["short", "changed", "missing"])
            if broken == "missing":
                del reply.content[PAYLOAD]
            else:
                other = payload[:-3] if broken == "short" else payload[:-1] + b"\x7f"
                reply.content[PAYLOAD] = bytes_record(other, "broken")
        return reply


class Lossy:
    """A grid that loses some replies of everybody."""

    def __init__(self, grid: Grid, seed: int, share: float) -> None:
        self.grid, self.random, self.share = grid, np.random.default_rng(seed), share
        self.lossy = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.grid, name)

    def pull_messages(self, ids: Iterable[str]) -> list[Message]:
        return [self._lose(reply) for reply in self.grid.pull_messages(ids)]

    def _lose(self, reply: Message) -> Message:
        if not self.lossy or self.random.random() >= self.share:
            return reply
        lost = Error(ErrorCode.REPLY_MESSAGE_UNAVAILABLE, "lost")
        return build_message(reply.metadata, error=lost)


def federation(make_toy: Callable[..., Any], seed: int) -> tuple[SecureStrategy, Any, list[Event]]:
    """Ten clients with little in common, of whom nodes 3 and 8 break the protocol."""
    scheme = "plain" if seed % 2 else "masking"
    made = Aggregation(scheme, grid_bits=14, min_clients=3, bound=8.0, corrupted=0.0, dropout=0.4)
    random = np.random.default_rng(seed)
    toy = make_toy(tuple(int(2 ** random.uniform(1, 9)) for _ in range(CLIENTS)))
    toy.updates = [random.normal(0, 2 ** random.uniform(-6, 0), 7) for _ in range(CLIENTS)]
    strategy = SecureStrategy(made, anomalies=True, seed=seed)
    identities = identities_for(made, CLIENTS)
    toy.mods = []
    events: list[Event] = []
    lossy: list[Lossy] = []

    def around(grid: Grid) -> Any:
        lossy.append(Lossy(grid, seed, 0.1 if scheme == "plain" else 0.0))
        return lossy[0]

    class Toy:
        nodes = CLIENTS
        initial = toy.initial

        def app(self) -> ClientApp:
            options = {"dropout": 0.4, "corrupted": 0.0}
            sign, protect = mods_for(identities, CLIENTS, **options)
            toy.mods = [sign, Breaking(seed, {3, 8}), protect]
            made: ClientApp = toy.app()
            return made

    def watch(event: Event) -> None:
        events.append(event)
        if isinstance(event, RoundFinished):
            lossy[0].lossy = True

    ran = run_signed(
        Toy(),
        strategy,
        ROUNDS,
        identities=identities,
        around=around,
        observer=watch,
        workers=1,
        timeout=20,
    )
    return strategy, ran.grid, events


@pytest.mark.parametrize("seed", range(20))
def test_who_breaks_the_protocol_is_quarantined_and_nobody_else(
    make_toy: Callable[..., Any], seed: int
) -> None:
    strategy, grid, events = federation(make_toy, seed)
    assert strategy.reputation is not None
    firsts = {node: grid.did_of(node) for node in range(1, CLIENTS + 1)}
    changes = [event.change for event in events if isinstance(event, StandingChanged)]
    kept_out = {
        node
        for node, did in firsts.items()
        if any(change.did == did and change.after.rank >= 2 for change in changes)
    }
    assert kept_out == {3, 8}
    # From then on nobody asks them.
    selected = [event for event in events if isinstance(event, ClientsSelected)]
    assert any({3, 8} & set(event.kept_out) for event in selected)
    for event in selected:
        assert set(event.nodes) | set(event.kept_out) == set(firsts)
        assert not set(event.nodes) & set(event.kept_out)
    assert events[-1] == next(e for e in reversed(events) if isinstance(e, RoundFinished))
    assert events[-1].round == ROUNDS


def test_an_operator_pardons_and_expels_and_nobody_else(make_toy: Callable[..., Any]) -> None:
    toy = make_toy((10, 30, 40, 20))
    made = Aggregation("hybrid", grid_bits=14, min_clients=3)
    identities = identities_for(made, 4)
    strategy = SecureStrategy(made, evaluate_metrics=("eval_loss",))
    operator, node = identities.issued.operator.did, identities.nodes[1].did
    told: list[Event] = []
    selected: dict[int, tuple[int, ...]] = {}

    def watch(event: Event) -> None:
        told.append(event)
        if isinstance(event, ClientsSelected):
            selected[event.round] = event.nodes
        if isinstance(event, RoundFinished) and event.round in (1, 2):
            watcher = strategy.session.watch
            assert watcher is not None
            say = watcher.expel if event.round == 1 else watcher.pardon
            with pytest.raises(RefusedError, match="submit"):
                say(node, identities.nodes[0].did, "it is a rival")
            with pytest.raises(ConfigError):
                say(node, operator, " ")
            say(node, operator, "said on the telephone")

    run_signed(toy, strategy, 3, identities=identities, observer=watch)
    assert selected == {1: (1, 2, 3, 4), 2: (1, 3, 4), 3: (1, 2, 3, 4)}
    evaluated = [e.contributions for e in told if isinstance(e, SumOpened) and e.label != "train"]
    assert evaluated == [4, 3, 4]
    changes = [event.change for event in told if isinstance(event, StandingChanged)]
    assert [(c.did, c.after, c.by) for c in changes] == [
        (node, Standing.EXPELLED, operator),
        (node, Standing.GOOD, operator),
    ]
