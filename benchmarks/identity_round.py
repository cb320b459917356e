"""What identities add to a round: one federation on the local grid with them, one without.

Both run on one worker and take turns, so that what else the machine does falls on both alike; what
is added is the median of the differences of a turn. Clients return the model that they were sent
plus a constant: what they would compute is the same with identities and without.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from common import Row
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from qfl.clients import ProtectMod, SignMod
from qfl.conf.schema import ExperimentConfig, IdentityConfig, StrategyConfig
from qfl.federation.local_grid import LocalGrid
from qfl.federation.simulated_identities import SimulatedIdentities
from qfl.identity import AuditChain
from qfl.identity.countersigning import Head, countersigned
from qfl.strategies import Aggregation, SecureStrategy, SignedGrid

TARGET_MS = 10.0
MOVE = np.float32(0.125)


@dataclass(frozen=True)
class Case:
    """What is trained.

    Attributes:
        clients: How many contribute.
        length: Parameters, float32, of model and update alike.
        scheme: Aggregation scheme.
        trust: Who opens.
        turns: How often everything is measured.
    """

    clients: int
    length: int
    scheme: str = "plain"
    trust: str = "none"
    turns: int = 7

    def __str__(self) -> str:
        return f"{self.scheme}, {self.clients} clients"

    @property
    def nodes(self) -> int:
        """Clients, and whoever holds the key."""
        return self.clients + (self.trust == "key_holder")

    def role(self, context: Context) -> str:
        """What a node does: those after the last client hold keys."""
        is_client = int(context.node_config["partition-id"]) < self.clients
        return "client" if is_client else "key-holder"

    def identities(self) -> SimulatedIdentities:
        """Everybody's, with floors that fit."""
        strategy = StrategyConfig(scheme=self.scheme, trust=self.trust, min_clients=2)
        identity = IdentityConfig(name="post_quantum")
        config = ExperimentConfig(clients=self.clients, strategy=strategy, identity=identity)
        return SimulatedIdentities.of(config)


class Federation:
    """A server and its clients.

    Args:
        case: What is trained.
        identities: Everybody's; None where nobody proves who it is.
        stack: Closes the grid.
    """

    def __init__(
        self, case: Case, identities: SimulatedIdentities | None, stack: ExitStack
    ) -> None:
        self.case, self.rounds, self.shows = case, 0, False
        self.trail = AuditChain()
        self.trail.take(self.trail.start())
        source = identities.source(None) if identities else None
        mods: list[Any] = [ProtectMod(role=case.role, credentials=source)]
        if source is not None:
            mods.insert(0, SignMod(source))
        local = stack.enter_context(LocalGrid(client_app(mods), case.nodes, workers=1))
        self.signed = SignedGrid(local, identities.server, head=self._head) if identities else None
        self.grid: Grid = self.signed or local
        self.strategy = SecureStrategy(Aggregation(case.scheme, trust=case.trust, min_clients=2))
        self.model = ArrayRecord({"weight": Array(np.zeros(case.length, np.float32))})

    def introduce(self) -> None:
        """Server and nodes learn who the other is."""
        assert len(list(self.grid.get_node_ids())) == self.case.nodes

    def prepare(self) -> None:
        """Everybody says hello; keys are made where the scheme has any."""
        self.strategy.prepare(self.grid, self.model)

    def train(self, *, head: bool = False) -> None:
        """One round.

        Args:
            head: Whether the head of the audit trail is shown, which clients countersign, and
                their signatures go on record.
        """
        self.rounds, self.shows = self.rounds + 1, head
        asked = self.strategy.configure_train(self.rounds, self.model, ConfigRecord(), self.grid)
        replies = self.strategy.session.collect(asked)
        model, metrics = self.strategy.aggregate_train(self.rounds, replies)
        assert model is not None and metrics is not None
        assert metrics["clients"] == self.case.clients
        self.model = model
        if head:
            self._record()

    def check(self) -> None:
        """Make sure that every round moved the model as far as every client did."""
        weight = self.model["weight"].numpy()
        assert np.allclose(weight, self.rounds * MOVE, atol=1e-3), weight[:3]

    def _record(self) -> None:
        assert self.signed is not None
        ((head, signatures),) = self.signed.take_countersigned()
        assert len(signatures) == self.case.clients
        self.trail.take(self.trail.line("countersigned", countersigned(head, signatures)))

    def _head(self) -> Head | None:
        return self.trail.checkpoint() if self.shows else None


def client_app(mods: list[Any]) -> ClientApp:
    """A client that adds a constant to what it is sent."""
    app = ClientApp(mods=mods)

    @app.train()
    def _train(message: Message, context: Context) -> Message:
        trained = message.content["arrays"]["weight"].numpy() + MOVE
        metrics = MetricRecord({"num-examples": 1})
        arrays = ArrayRecord({"weight": Array(trained)})
        return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)

    return app


def measure(quick: bool) -> tuple[list[Row], list[bool]]:
    """What identities add to one client's share, and whether that is as little as it should be.

    Args:
        quick: Ten clients in the place of 100.
    """
    logging.getLogger("flwr").setLevel(logging.ERROR)
    clients = 10 if quick else 100
    rounds = round_rows(Case(clients, 1 << 18))
    once = once_rows(Case(clients, 1000, "ckks", "key_holder", turns=3))
    met = [not row.target or row.ours < TARGET_MS for row in rounds]
    return [*rounds, *once], [*met, *(True for _ in once)]


def round_rows(case: Case) -> list[Row]:
    """A round of 1 MB each way: with identities, with countersigning too, and with neither."""
    with ExitStack() as stack:
        identities = case.identities()
        bare, signed = (Federation(case, own, stack) for own in (None, identities))
        for one in (bare, signed):
            one.introduce()
            one.prepare()
            one.train()
        without, sealed, countersigned = [], [], []
        for _ in range(case.turns):
            without.append(milliseconds(bare.train))
            sealed.append(milliseconds(signed.train))
            countersigned.append(milliseconds(lambda: signed.train(head=True)))
        bare.check()
        signed.check()
    what = f"round of 1 MB, {case}"
    by = identities.server.identity.signing.provider
    target = f"< {TARGET_MS:g} ms"
    share = median(without) / case.clients
    return [
        Row(f"{what}, no identities", "CPU time a client", "ms", share, "", None, ""),
        added(f"{what}, signed and sealed, {by}", sealed, without, case, target),
        added(f"{what}, countersigned too, {by}", countersigned, without, case, target),
    ]


def once_rows(case: Case) -> list[Row]:
    """Introduction, then hello and the making of keys, with everybody new each time."""
    introduced, prepared, without = [], [], []
    for _ in range(case.turns):
        with ExitStack() as stack:
            bare, signed = (Federation(case, own, stack) for own in (None, case.identities()))
            introduced.append(milliseconds(signed.introduce))
            without.append(milliseconds(bare.prepare))
            prepared.append(milliseconds(signed.prepare))
            signed.train()
            signed.check()
    what = f"once, {case}"
    return [
        added(f"{what}, introduction", introduced, [0.0] * case.turns, case),
        added(f"{what}, hello and keys", prepared, without, case),
    ]


def added(case: str, ours: list[float], base: list[float], of: Case, target: str = "") -> Row:
    """What a turn took more than the same turn without identities, by client."""
    more = median(one - other for one, other in zip(ours, base, strict=True)) / of.clients
    return Row(case, "CPU time added a client", "ms", more, "", None, target)


def milliseconds(run: Callable[[], None]) -> float:
    """Processor time of all threads, without that of clearing up after earlier runs."""
    gc.collect()
    began = time.process_time()
    run()
    return 1000 * (time.process_time() - began)
