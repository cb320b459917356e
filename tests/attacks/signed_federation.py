"""A federation of formulas in which everybody proves who it is, and what is noted of a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result
from small_federation import Clients

from qfl.clients import ProtectMod, SignMod
from qfl.conf.schema import ExperimentConfig, IdentityConfig, StrategyConfig
from qfl.errors import FederationError, RefusedError
from qfl.federation.local_grid import LocalGrid
from qfl.federation.simulated_identities import SimulatedIdentities
from qfl.identity.refusal import Refusal
from qfl.records import arrays_of, record_of
from qfl.strategies import Aggregation, Event, RoundFinished, SecureStrategy, SignedGrid, SumOpened

CLIENTS, LENGTH, SIZES = 4, 7, (10, 30, 40, 20)
INITIAL = np.linspace(-0.9, 0.9, LENGTH)
FAR_S = 300.0
"""A timeout that no run reaches by itself."""
MADE = {
    "ckks": Aggregation(
        "ckks", weighting="examples", min_clients=3, bound=1.0, grid_bits=14, trust="key_holder"
    ),
    "committee": Aggregation(
        "hybrid", min_clients=3, bound=1.0, grid_bits=14, trust="committee", release="clients"
    ),
    "masking": Aggregation("masking", min_clients=3, bound=1.0, grid_bits=14),
}
"""Between them these three have every kind of message."""


def identities_for(made: Aggregation) -> SimulatedIdentities:
    """Identities, and floors that fit."""
    asked = StrategyConfig(
        scheme=made.scheme, trust=made.trust, release=made.release, min_clients=made.min_clients
    )
    identity = IdentityConfig(name="post_quantum", algorithm="ML-DSA-44")
    return SimulatedIdentities.of(
        ExperimentConfig(clients=CLIENTS, strategy=asked, identity=identity)
    )


@dataclass(frozen=True)
class Refused:
    """A message that a node did not take."""

    node: int
    reason: Refusal
    text: str


@dataclass
class Witness:
    """The first of a node's mods, which notes what the next one refuses."""

    refused: list[Refused] = field(default_factory=list)

    def __call__(self, message: Message, context: Context, call_next: Any) -> Message:
        """Pass a message on."""
        try:
            return call_next(message, context)  # type: ignore[no-any-return]
        except RefusedError as error:
            self.refused.append(Refused(context.node_id, Refusal(str(error.reason)), str(error)))
            raise


class NotingGrid(SignedGrid):
    """Notes the errors that come out, by node, and whether anything else did."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sent_to: dict[str, int] = {}
        self.errors: list[tuple[int, int, str]] = []

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """As ever."""
        kept = list(messages)
        keys = super().push_messages(kept)
        self.sent_to.update(zip(keys, (one.metadata.dst_node_id for one in kept), strict=True))
        return keys

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """As ever."""
        found = super().pull_messages(message_ids)
        for reply in found:
            if reply.has_error():
                node = self.sent_to[reply.metadata.reply_to_message_id]
                self.errors.append((node, reply.error.code, str(reply.error.reason)))
        return found


@dataclass
class Ran:
    """What one start of a strategy left behind.

    Attributes:
        grid: The server's.
        events: What the strategy told.
        refused: What nodes refused.
        models: What each node trained on, by node and round.
        result: The strategy's; None where it failed.
        error: Why it failed; empty where it did not.
        blamed: Numbers of nodes that are blamed for something.
    """

    grid: NotingGrid
    events: list[Event]
    refused: list[Refused]
    models: dict[tuple[int, int], bytes]
    result: Result | None = None
    error: str = ""
    blamed: list[int] = field(default_factory=list)

    @property
    def sums(self) -> list[tuple[int, str, int]]:
        """Round, label and contributions of the sums that were opened."""
        opened = [event for event in self.events if isinstance(event, SumOpened)]
        return [(one.round, one.label, one.contributions) for one in opened]

    @property
    def outcome(self) -> tuple[Any, ...]:
        """All that an undisturbed run has as well, bit for bit."""
        assert self.result is not None, self.error
        arrays = arrays_of(self.result.arrays)
        rounds = [event for event in self.events if isinstance(event, RoundFinished)]
        return (
            {name: array.tobytes() for name, array in arrays.items()},
            self.models,
            [(one.round, one.clients, one.failures, one.metrics) for one in rounds],
            self.sums,
        )


class Federation:
    """Clients and their grid, on which a server may come back in one session after the other.

    Args:
        case: One of :data:`MADE`.
        around: Put between the server and the clients, such as an attacker.
    """

    def __init__(self, case: str, around: Callable[[Federation, Grid], Grid] | None = None) -> None:
        self.made = MADE[case]
        self.identities = identities_for(self.made)
        self.witness, self._models = Witness(), dict[tuple[int, int], bytes]()
        source = self.identities.source(None)
        protect = ProtectMod(role=_role, credentials=source)
        self.clients = Clients(
            updates=_update,
            sizes=SIZES,
            losses=(0.5, 1.5, 2.5, 3.5),
            mods=[self.witness, SignMod(source), protect],
            before=self._note,
        )
        self.local = LocalGrid(self.clients.app(), len(self.identities.nodes))
        self.grid: Grid = around(self, self.local) if around else self.local

    def __enter__(self) -> Federation:
        return self

    def __exit__(self, *_: object) -> None:
        self.local.close()

    @property
    def initial(self) -> Any:
        """The first model."""
        return record_of({"w": INITIAL})

    def _note(self, message: Message, context: Context) -> None:
        ((_, model),) = arrays_of(message.content.array_records["arrays"]).items()
        round = int(message.content["config"]["server-round"])  # type: ignore[call-overload]
        self._models[context.node_id, round] = model.tobytes()

    def strategy(self, evaluate: bool = True) -> SecureStrategy:
        """Sums losses too, and evaluates where asked to."""
        asked = ("eval_loss",) if evaluate else ()
        return SecureStrategy(self.made, metrics=("loss",), evaluate_metrics=asked)

    def server(self, patience: float = FAR_S) -> NotingGrid:
        """A new session of the server."""
        return NotingGrid(self.grid, self.identities.server, patience=patience)

    def run(
        self,
        rounds: int = 2,
        grid: NotingGrid | None = None,
        *,
        timeout: float = FAR_S,
        evaluate: bool = True,
    ) -> Ran:
        """One start of the strategy; no error but a :class:`FederationError` is caught."""
        strategy, grid = self.strategy(evaluate), grid or self.server()
        self.witness.refused, self._models = [], {}
        ran = Ran(grid, [], self.witness.refused, self._models)
        self.clients.before = self._note
        strategy.observer = ran.events.append
        try:
            ran.result = strategy.start(grid, self.initial, num_rounds=rounds, timeout=timeout)
        except FederationError as error:
            ran.error = str(error)
        assert strategy.reputation is not None
        for number, one in enumerate(self.identities.nodes):
            if strategy.reputation.tally(one.did).blame:
                ran.blamed.append(number + 1)
        return ran


@lru_cache
def undisturbed(case: str, rounds: int, evaluate: bool = True) -> tuple[Any, ...]:
    """What comes out where nobody is in the middle."""
    with Federation(case) as federation:
        return federation.run(rounds, evaluate=evaluate).outcome


def model_of(made: Aggregation, there: list[int]) -> Any:
    """The model after a round in which these clients contributed, from the closed form."""
    weights = [SIZES[client] for client in there] if made.weighting == "examples" else None
    moved = np.average([_update(client, 1) for client in there], axis=0, weights=weights)
    return INITIAL + moved


def _role(context: Context) -> str:
    return "client" if int(context.node_config["partition-id"]) < CLIENTS else "key-holder"


def _update(client: int, round: int) -> Any:
    return np.random.default_rng((client, round)).normal(0, 0.1, LENGTH)


@contextmanager
def leaping(idle: Callable[[], bool]) -> Any:
    """Time that leaps past every timeout once a server waits for what never comes.

    So a test of a timeout takes no time, and a busy machine does not run into one.

    Args:
        idle: Whether nothing is under way.
    """
    leapt = 0.0

    def sleep(seconds: float) -> None:
        nonlocal leapt
        if idle():
            leapt += FAR_S
        else:
            time.sleep(min(seconds, 0.001))

    clock = SimpleNamespace(
        monotonic=lambda: time.monotonic() + leapt, sleep=sleep, perf_counter=time.perf_counter
    )
    with pytest.MonkeyPatch.context() as patch:
        for name in ("session", "introductions", "polling"):
            patch.setattr(f"qfl.strategies.{name}.time", clock)
        yield
