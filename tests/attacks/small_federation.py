"""A federation of formulas, whose server keeps all that it receives."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from qfl.clients import ProtectMod
from qfl.federation.local_grid import LocalGrid
from qfl.records import arrays_of, record_of
from qfl.strategies import SecureStrategy

Updates = Callable[[int, int], NDArray[np.float64]]
Tamper = Callable[[Message], Message]


class KeepingGrid(LocalGrid):
    """Keeps what the server receives, after ``tamper`` has changed it."""

    def __init__(self, *args: Any, tamper: Tamper, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tamper = tamper
        self.received: list[Message] = []

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """The replies, in the order of nodes."""
        found = super().pull_messages(message_ids)
        found.sort(key=lambda reply: reply.metadata.src_node_id)
        replies = [self.tamper(reply) for reply in found]
        self.received += replies
        return replies


@dataclass
class Clients:
    """Clients that add ``updates(client, round)`` to any model.

    Attributes:
        updates: Of each client in each round.
        sizes: Examples of each client.
        losses: What each reports in training; in evaluation the square of it.
        mods: Of the app.
        before: Called with each message that reaches the app.
        received: What the server of the last run got.
    """

    updates: Updates
    sizes: tuple[int, ...]
    losses: tuple[float, ...]
    mods: list[Any] = field(default_factory=lambda: [ProtectMod()])
    before: Callable[[Message, Context], None] = lambda message, context: None
    received: list[Message] = field(default_factory=list)

    def app(self) -> ClientApp:
        """Training, evaluation, and the number of examples."""
        app = ClientApp(mods=self.mods)

        @app.train()
        def train(message: Message, context: Context) -> Message:
            self.before(message, context)
            client = int(context.node_config["partition-id"])
            round = int(message.content["config"]["server-round"])  # type: ignore[call-overload]
            ((name, model),) = arrays_of(message.content.array_records["arrays"]).items()
            moved = {name: model + self.updates(client, round)}
            return self._reply(message, client, {"loss": self.losses[client]}, moved)

        @app.evaluate()
        def evaluate(message: Message, context: Context) -> Message:
            client = int(context.node_config["partition-id"])
            return self._reply(message, client, {"eval_loss": self.losses[client] ** 2})

        @app.query("count")
        def count(message: Message, context: Context) -> Message:
            client = int(context.node_config["partition-id"])
            counted = record_of({"count": np.array([float(self.sizes[client])])})
            return Message(RecordDict({"count": counted}), reply_to=message)

        return app

    def _reply(
        self, message: Message, client: int, metrics: dict[str, float], arrays: Any = None
    ) -> Message:
        said = MetricRecord({"num-examples": self.sizes[client], **metrics})
        content: dict[str, Any] = {"metrics": said}
        if arrays is not None:
            content["arrays"] = record_of(arrays)
        return Message(RecordDict(content), reply_to=message)

    def run(
        self,
        strategy: SecureStrategy,
        rounds: int,
        length: int,
        tamper: Tamper = lambda reply: reply,
    ) -> tuple[list[Message], NDArray[np.float64]]:
        """What the server received, and the final model, where it knows it."""
        start = record_of({"w": np.linspace(-0.9, 0.9, length)})
        with KeepingGrid(self.app(), len(self.sizes), workers=1, tamper=tamper) as grid:
            try:
                result = strategy.start(grid, start, num_rounds=rounds, timeout=60)
            finally:
                self.received = grid.received
        final = arrays_of(result.arrays or ArrayRecord())
        return grid.received, final.get("w", np.zeros(0))
