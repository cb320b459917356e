"""A federation of four in which one client answers as a test likes, and signs that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from qfl.clients import ProtectMod, SignMod
from qfl.conf.schema import ExperimentConfig, IdentityConfig, StrategyConfig
from qfl.crypto import Step
from qfl.federation.local_grid import LocalGrid
from qfl.federation.simulated_identities import SimulatedIdentities
from qfl.identity.credentials import Credentials
from qfl.records import STEP, bytes_record, record_of
from qfl.strategies import Aggregation, ClientReplied, RoundFinished, SecureStrategy, SignedGrid

CLIENTS, BAD, LENGTH = 4, 2, 7
Change = Callable[[RecordDict, "Evil"], None]
_MADE: dict[tuple[str, str], SimulatedIdentities] = {}


def identities_of(scheme: str, trust: str) -> SimulatedIdentities:
    """Everybody's, made once for a scheme."""
    if (scheme, trust) not in _MADE:
        _MADE[scheme, trust] = SimulatedIdentities.of(
            ExperimentConfig(
                clients=CLIENTS,
                strategy=StrategyConfig(scheme=scheme, trust=trust, min_clients=3),
                identity=IdentityConfig(name="post_quantum", algorithm="ML-DSA-44"),
            )
        )
    return _MADE[scheme, trust]


@dataclass
class Evil:
    """Between the two mods of one client: changes what it answers to a step before it is signed.

    Attributes:
        step: Which.
        change: Of the content.
        own: The client's credentials.
        others: Other clients' answers to that step, as they left them.
        asked: What the client was asked for.
        hits: Answers that were changed.
    """

    step: str
    change: Change
    own: Credentials
    others: list[RecordDict]
    asked: Step | None = None
    hits: int = 0

    def __call__(self, message: Message, context: Context, call_next: Any) -> Message:
        step = Step.from_json(str(message.content.config_records[STEP]["step"]))
        reply: Message = call_next(message, context)
        if step.step != self.step or reply.has_error():
            return reply
        if int(context.node_config["partition-id"]) != BAD:
            self.others.append(reply.content.copy())
            return reply
        self.asked, self.hits = step, self.hits + 1
        self.change(reply.content, self)
        return reply


def app_of(mods: list[Any]) -> ClientApp:
    """Client i adds i + 1 hundredths to each coordinate."""
    app = ClientApp(mods=mods)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        part = int(context.node_config["partition-id"])
        model = message.content["arrays"]["w"].numpy()
        content = {
            "arrays": record_of({"w": model + 0.01 * (part + 1)}),
            "m": MetricRecord({"num-examples": 10}),
        }
        return Message(RecordDict(dict(content)), reply_to=message)

    return app


@dataclass
class Ran:
    """What a run came to: the model, and who failed with what."""

    model: Any
    clients: list[int]
    problems: dict[int, str]
    grid: SignedGrid


def run(scheme: str, trust: str, step: str, change: Change, min_clients: int = 3) -> Ran:
    """One round; the client at :data:`BAD` answers a step as ``change`` makes it."""
    identities = identities_of(scheme, trust)
    source = identities.source(None)
    evil = Evil(step, change, identities.nodes[BAD], [])

    def role(context: Context) -> str:
        part = int(context.node_config["partition-id"])
        return "client" if part < CLIENTS else "key-holder"

    # One of four may be gone at each step of masking; the rest of it is not what is tried here.
    dropout = 0.26 if scheme == "masking" else 0.1
    protect = ProtectMod(role=role, credentials=source, dropout=dropout)
    made = Aggregation(
        scheme, trust=trust, grid_bits=14, bound=1.0, min_clients=min_clients, dropout=dropout
    )
    events: list[Any] = []
    strategy = SecureStrategy(made, observer=events.append)
    app = app_of([SignMod(source), evil, protect])
    with LocalGrid(app, len(identities.nodes), workers=1) as local:
        grid = SignedGrid(local, identities.server, patience=20)
        start = record_of({"w": np.zeros(LENGTH)})
        result = strategy.start(grid, start, num_rounds=1)
    assert evil.hits
    replied = [event for event in events if isinstance(event, ClientReplied)]
    return Ran(
        result.arrays["w"].numpy(),
        [event.clients for event in events if isinstance(event, RoundFinished)][1:],
        {event.node: event.error for event in replied if event.error},
        grid,
    )


def mean_of(*parts: int) -> Any:
    """The model after a round in which these clients took part."""
    return pytest.approx(np.full(LENGTH, 0.01 * (np.mean(parts) + 1)), abs=2.0**-14)


def put(name: str, record: Callable[[bytes], Any]) -> Change:
    """Replace a record by one made of its bytes; None leaves it out."""

    def change(content: RecordDict, evil: Evil) -> None:
        held = content.pop(name)
        data = held["data"].data if isinstance(held, ArrayRecord) else b""
        if (made := record(data)) is not None:
            content[name] = made

    return change


def raw(data: bytes) -> ArrayRecord:
    return bytes_record(data, "evil")
