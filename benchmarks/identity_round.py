"""What identities add to a round: the same federation on the local grid with them and without."""

from __future__ import annotations

import gc
import logging
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from common import Row
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from qfl.clients import ProtectMod, SignMod
from qfl.conf.schema import ExperimentConfig, IdentityConfig, StrategyConfig
from qfl.federation.local_grid import LocalGrid
from qfl.federation.simulated_identities import SimulatedIdentities
from qfl.identity.countersigning import Head
from qfl.strategies import Aggregation, SecureStrategy, SignedGrid

TARGET_MS = 10.0
STEP = 0.125
T = TypeVar("T")


@dataclass(frozen=True)
class Case:
    """What is trained.

    Attributes:
        clients: How many contribute.
        length: Parameters, float32, of model and update alike.
        scheme: Aggregation scheme.
        trust: Who opens.
        turns: How often each kind of round is measured.
    """

    clients: int
    length: int
    scheme: str = "plain"
    trust: str = "none"
    turns: int = 7


class Federation:
    """One server and its clients on a local grid with one worker.

    Args:
        case: What is trained.
        signed: Whether everybody proves who it is.
        stack: Closes the grid.
    """

    def __init__(self, case: Case, signed: bool, stack: ExitStack) -> None:
        self.case, self.round, self.n = case, 0, 0
        self.shows = False
        mods, nodes, made = [ProtectMod(role=_role(case))], case.clients, None
        if case.trust == "key_holder":
            nodes += 1
        if signed:
            asked = StrategyConfig(scheme=case.scheme, trust=case.trust, min_clients=2)
            identity = IdentityConfig(name="post_quantum")
            config = ExperimentConfig(clients=case.clients, strategy=asked, identity=identity)
            made = SimulatedIdentities.of(config)
            source = made.source(None)
            mods = [SignMod(source), ProtectMod(role=_role(case), credentials=source)]
        local = stack.enter_context(LocalGrid(_app(mods), nodes, workers=1))
        self.signed = SignedGrid(local, made.server, head=self._head) if made else None
        self.grid = self.signed or local
        aggregation = Aggregation(case.scheme, trust=case.trust, min_clients=2)
        self.strategy = SecureStrategy(aggregation)
        self.model = ArrayRecord({"weight": Array(np.zeros(case.length, np.float32))})

    def introduce(self) -> None:
        """Server and nodes learn who the other is."""
        there = self.grid.get_node_ids()
        assert self.signed is None or not self.signed.refused
        assert len(there) >= self.case.clients

    def prepare(self) -> None:
        """Everybody says hello; keys are made where the scheme has any."""
        self.strategy.prepare(self.grid, self.model, rounds=1000)

    def train(self, *, head: bool = False) -> None:
        """One round, in which all clients take the same step.

        Args:
            head: Whether clients are shown a new head of the audit trail, which they countersign.
        """
        self.round += 1
        self.n, self.shows = self.n + head, head
        messages = self.strategy.configure_train(
            self.round, self.model, ConfigRecord(), self.grid
        )
        replies = self.strategy.session.collect(messages)
        arrays, metrics = self.strategy.aggregate_train(self.round, replies)
        assert arrays is not None and metrics is not None
        assert metrics["clients"] == self.case.clients
        assert not head or len(self.signed.countersignatures) == self.case.clients
        self.model = arrays

    def check(self) -> None:
        """Make sure that every round was one."""
        moved = self.model["weight"].numpy()
        assert np.allclose(moved, self.round * STEP, atol=1e-3), moved[:3]

    def _head(self) -> Head | None:
        return Head("benchmark", self.n, f"{self.n:064x}") if self.shows else None


def rows(quick: bool) -> list[Row]:
    """What identities add to one client's share of a round, and once.

    Args:
        quick: Ten clients in the place of 100.
    """
    clients = 10 if quick else 100
    return [
        *round_rows(Case(clients, 1 << 18), "1 MB"),
        *once_rows(Case(clients, 1000, "ckks", "key_holder", turns=3)),
    ]


def round_rows(case: Case, size: str) -> list[Row]:
    """A round with identities, with a countersigned audit trail too, and with neither."""
    with ExitStack() as stack:
        bare, signed = (Federation(case, kind, stack) for kind in (False, True))
        for one in (bare, signed):
            one.introduce()
            one.prepare()
            one.train()
        kinds: dict[str, Callable[[], None]] = {
            "neither": bare.train,
            "signed and sealed": signed.train,
            "audit head countersigned too": lambda: signed.train(head=True),
        }
        taken: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(case.turns):
            for kind, train in kinds.items():
                taken[kind].append(_milliseconds(train))
        bare.check()
        signed.check()
    middle = {kind: statistics.median(times) for kind, times in taken.items()}
    base = middle.pop("neither")
    what = f"{case.scheme}, {case.clients} clients, {size} each way"
    return [
        Row(f"round, {what}", "CPU time a client", "ms", base / case.clients, "", None, ""),
        *(
            _added(f"round, {what}, {kind}", (ours - base) / case.clients, TARGET_MS)
            for kind, ours in middle.items()
        ),
    ]


def once_rows(case: Case) -> list[Row]:
    """Introduction, and hello with the making of keys, with everybody new each time."""
    introduced, prepared, bare = [], [], []
    for _ in range(case.turns):
        with ExitStack() as stack:
            plain, signed = (Federation(case, kind, stack) for kind in (False, True))
            introduced.append(_milliseconds(signed.introduce))
            bare.append(_milliseconds(plain.prepare))
            prepared.append(_milliseconds(signed.prepare))
            for one in (plain, signed):
                one.train()
                one.check()
    what = f"{case.scheme}, {case.trust}, {case.clients} clients"
    hello = statistics.median(prepared) - statistics.median(bare)
    return [
        _added(f"once, {what}, introduction", statistics.median(introduced) / case.clients),
        _added(f"once, {what}, hello and keys", hello / case.clients),
    ]


def _added(case: str, ms: float, target: float | None = None) -> Row:
    aim = "" if target is None else f"< {target:g} ms"
    return Row(case, "CPU time added a client", "ms", ms, "", None, aim)


def _milliseconds(run: Callable[[], None]) -> float:
    """Processor time of all threads; rubbish of earlier runs is nobody's."""
    gc.collect()
    began = time.process_time()
    run()
    return 1000 * (time.process_time() - began)


def _role(case: Case) -> Callable[[Context], str]:
    """Nodes after the last client hold keys."""

    def role(context: Context) -> str:
        is_client = int(context.node_config["partition-id"]) < case.clients
        return "client" if is_client else "key-holder"

    return role


def _app(mods: list[object]) -> ClientApp:
    app = ClientApp(mods=mods)

    @app.train()
    def _train(message: Message, context: Context) -> Message:
        model = message.content["arrays"]["weight"].numpy()
        content = RecordDict(
            {
                "arrays": ArrayRecord({"weight": Array(model + np.float32(STEP))}),
                "metrics": MetricRecord({"num-examples": 1}),
            }
        )
        return Message(content, reply_to=message)

    return app
