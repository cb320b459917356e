"""Small numpy clients, a grid that can be tampered with, and a run of both.

Test files here share the modules beside them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import Result

from qfl.clients import ProtectMod
from qfl.federation.local_grid import LocalGrid
from qfl.strategies import Event, RoundFinished, SecureStrategy

sys.path.append(str(Path(__file__).parent))
Arrays = dict[str, np.ndarray]
Tamper = Callable[[list[Message]], list[Message]]


def part(context: Context) -> int:
    return int(context.node_config["partition-id"])


def record(arrays: Arrays) -> ArrayRecord:
    return ArrayRecord({name: Array(array) for name, array in arrays.items()})


def arrays(record: Any) -> Arrays:
    return {name: array.numpy() for name, array in record.items()}


@dataclass
class Toy:
    """Clients whose training is a formula.

    Client i moves every coordinate a quarter of the way to zero and adds ``updates[i]``; it
    reports its index plus one half as loss, and in evaluation ten times that.
    """

    updates: list[np.ndarray]
    sizes: list[int]
    before: Callable[[Message, Context], None] = lambda message, context: None
    mods: list[Any] = field(default_factory=lambda: [ProtectMod()])

    @property
    def nodes(self) -> int:
        return len(self.updates)

    @property
    def initial(self) -> Arrays:
        return {"weight": np.linspace(-1, 1, self.updates[0].size).reshape(-1, 1)}

    def app(self) -> ClientApp:
        app = ClientApp(mods=self.mods)

        @app.train()
        def train(message: Message, context: Context) -> Message:
            self.before(message, context)
            i = part(context)
            model = arrays(message.content["arrays"])
            new = {k: np.asarray(v + self.move(i, v)) for k, v in model.items()}
            metrics = {"num-examples": self.sizes[i], "loss": i + 0.5, "name-length": 3}
            content = {"arrays": record(new), "metrics": MetricRecord(dict(metrics))}
            return Message(RecordDict(dict(content)), reply_to=message)

        @app.evaluate()
        def evaluate(message: Message, context: Context) -> Message:
            self.before(message, context)
            i = part(context)
            metrics = {"num-examples": self.sizes[i], "eval_loss": 10 * (i + 0.5), "accuracy": 1.0}
            return Message(RecordDict({"m": MetricRecord(dict(metrics))}), reply_to=message)

        @app.query("count")
        def count(message: Message, context: Context) -> Message:
            values = np.array([float(self.sizes[part(context)])])
            return Message(RecordDict({"count": record({"count": values})}), reply_to=message)

        return app

    def move(self, i: int, model: np.ndarray) -> np.ndarray:
        return self.updates[i].reshape(model.shape) - 0.25 * model

    def mean(self, model: np.ndarray, weights: Sequence[float]) -> np.ndarray:
        """The closed form: the weighted mean of all updates."""
        moves = np.stack([self.move(i, model) for i in range(self.nodes)])
        return np.average(moves, axis=0, weights=weights)


class TamperedGrid(LocalGrid):
    """A grid on which replies can be changed on their way, and are kept as they were received.

    Replies are held back until all of a step have come, so that ``tamper`` sees them together.
    """

    def __init__(self, *args: Any, tamper: Tamper | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tamper = tamper
        self.received: list[Message] = []
        self._held: list[Message] = []

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        ids = list(message_ids)
        self._held += super().pull_messages(ids)
        if self.tamper is not None and len(self._held) < len(ids):
            return []
        replies, self._held = self._held, []
        if self.tamper is not None and replies:
            replies = self.tamper(sorted(replies, key=lambda reply: reply.metadata.src_node_id))
        self.received += replies
        return replies


@dataclass
class Ran:
    """What a run left behind."""

    result: Result
    events: list[Event]
    grid: TamperedGrid

    @property
    def final(self) -> np.ndarray:
        return np.concatenate([value.ravel() for value in arrays(self.result.arrays).values()])

    @property
    def rounds(self) -> list[RoundFinished]:
        return [event for event in self.events if isinstance(event, RoundFinished)]


def run_toy(
    toy: Toy,
    strategy: SecureStrategy,
    rounds: int = 1,
    *,
    nodes: int | None = None,
    workers: int = 2,
    tamper: Tamper | None = None,
    initial: Arrays | None = None,
    **options: Any,
) -> Ran:
    events: list[Event] = []
    observer = strategy.observer

    def observe(event: Event) -> None:
        events.append(event)
        if observer:
            observer(event)

    strategy.observer = observe
    with TamperedGrid(toy.app(), nodes or toy.nodes, workers=workers, tamper=tamper) as grid:
        start = record(toy.initial if initial is None else initial)
        result = strategy.start(grid, start, num_rounds=rounds, **options)
    strategy.observer = observer
    return Ran(result, events, grid)


@pytest.fixture
def run() -> Callable[..., Ran]:
    return run_toy


@pytest.fixture
def make_toy() -> Callable[..., Toy]:
    """Makes three clients, or as many as sizes are given, with random updates."""

    def make(sizes: Sequence[int] = (10, 30, 40), length: int = 7, **options: Any) -> Toy:
        random = np.random.default_rng((len(sizes), length))
        updates = [random.normal(0, 0.2, length) for _ in sizes]
        return Toy(updates, list(sizes), **options)

    return make
