"""One round of a federation on handwritten digits, as its server sees it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from flwr.app import ConfigRecord, Context, Message
from inversion import Attacker, Images
from numpy.typing import NDArray

from qfl import load_config
from qfl.clients import ProtectMod, make_client_app
from qfl.clients.torch_app import CONFIG_KEY
from qfl.conf.checks import to_dict
from qfl.crypto import Header, SumRange, from_grid, unpack
from qfl.errors import PayloadError
from qfl.federation.experiment import Experiment
from qfl.federation.local_grid import LocalGrid
from qfl.models import build_model
from qfl.records import PAYLOAD, arrays_of, record_bytes, record_of
from qfl.strategies import Aggregation, SecureStrategy

DIGITS = 1797


class WatchedGrid(LocalGrid):
    """Keeps what the server receives."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.received: list[Message] = []

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """The replies, as always."""
        replies = super().pull_messages(message_ids)
        self.received += replies
        return replies


@dataclass(frozen=True)
class First:
    """The first ``count`` clients train."""

    count: int

    def choose(
        self, nodes: Sequence[int], round: int, seed: int, sizes: Mapping[int, int]
    ) -> list[int]:
        """Their nodes."""
        return sorted(nodes)[: self.count]


@dataclass(frozen=True)
class Update:
    """What a vector of weighed updates says: a gradient, and of how many images."""

    gradient: Images
    images: int


@dataclass(frozen=True)
class Watched:
    """What the server of a round has.

    Attributes:
        experiment: Data, and the model that was sent out.
        training: Body of each client's contribution, by node.
        opened: What a key holder opened for the server in training, in grid steps.
        examples: Images of all clients, which the server knows as a sum.
        sums: Grid of the sums.
    """

    experiment: Experiment
    training: dict[int, bytes]
    opened: NDArray[np.int64] | None
    examples: int
    sums: SumRange

    def originals(self, clients: int) -> NDArray[np.float32]:
        """Images of the first clients, as they trained on them."""
        (statistics,) = self.experiment.statistics
        parts = self.experiment.parts[:clients]
        return np.concatenate([statistics.apply(part).x for part in parts])

    def attacker(self) -> Attacker:
        """The server: it knows the model, and the digits that it holds for evaluation."""
        config, (statistics,) = self.experiment.config, self.experiment.statistics
        # The only engine that differentiates a gradient once more.
        quantum = replace(config.quantum, engine="torch")
        model = build_model(config.model, quantum, self.experiment.shape)
        arrays = self.experiment.initial
        model.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()})
        known = statistics.apply(self.experiment.dataset.test).x[:500]
        return Attacker(model.double(), torch.from_numpy(known).double())

    def in_the_clear(self, node: int) -> Update:
        """A client's update, where it travelled as numbers."""
        steps = np.frombuffer(self.training[node], "<f4").astype(np.float64) / self.sums.step
        return self._update(np.rint(steps).astype(np.int64))

    def summed(self) -> Update:
        """The opened sum under ``ckks``, as if it were one client's update with all the images.

        It is: one step each on equally large batches is one step on all of them.
        """
        if self.opened is None:
            raise ValueError("no key holder opened anything for this server")
        return self._update(self.opened)

    def _update(self, steps: NDArray[np.int64]) -> Update:
        values, length = from_grid(steps, self.sums), self.experiment.parameters
        weight = values[length]
        gradient = values[:length] / (-self.experiment.config.client.lr * weight)
        return Update(gradient, round(weight * self.examples))


def watch(
    scheme: str, model: str, *, clients: int, images: int, training: int, seed: int
) -> Watched:
    """Run one round of training, one step of gradient descent at each client.

    Args:
        scheme: Of aggregation.
        model: Name.
        clients: Clients in the federation; a key holder comes on top.
        images: Of each client.
        training: How many of the clients train.
        seed: Of data and model.
    """
    options = [
        *(f"model={model}", "dataset=digits", "partition=iid", "preprocess.fit=public"),
        *("client=sgd", "client.lr=0.1", "client.local_epochs=1", f"client.batch_size={images}"),
        f"dataset.test_fraction={1 - clients * images / DIGITS}",
        *(f"clients={clients}", f"seed={seed}"),
    ]
    config = load_config(options)
    experiment = Experiment.prepare(config)
    if {len(part) for part in experiment.parts} != {images}:
        raise ValueError(f"{clients} clients with {images} images each cannot be had")

    def role(context: Context) -> str:
        return "client" if int(context.node_config["partition-id"]) < clients else "key-holder"

    app = make_client_app([ProtectMod(role=role)])
    aggregation = Aggregation(scheme, "examples")
    strategy = SecureStrategy(aggregation, selection=First(training))
    wire = ConfigRecord({CONFIG_KEY: json.dumps(to_dict(config))})
    model_sent = record_of(experiment.initial)
    with WatchedGrid(app, clients + (aggregation.trust == "key_holder")) as grid:
        session = strategy.prepare(grid, model_sent, config=wire).session
        strategy.start(grid, model_sent, num_rounds=1, train_config=wire)
        received = grid.received
    contributions = [(reply.metadata.src_node_id, *_payload(reply)) for reply in received]
    return Watched(
        experiment,
        {node: body for node, header, body in contributions if header and header.step == "train"},
        _last_opened(received),
        session.examples,
        session.sums,
    )


def _payload(reply: Message) -> tuple[Header | None, bytes]:
    try:
        return unpack(record_bytes(reply.content, PAYLOAD))
    except PayloadError:
        return None, b""


def _last_opened(received: list[Message]) -> NDArray[np.int64] | None:
    """What a key holder answered last: sums before training are of example counts."""
    found = None
    for reply in received:
        record = reply.content.array_records.get(PAYLOAD)
        if record is not None and record["data"].dtype == "int64":
            found = arrays_of(record)["data"].astype(np.int64)
    return found
