"""A server that does as a test likes, and nodes that it talks to without a network.

The nodes are real: :class:`ProtectMod` around an app, and what they keep between messages. As
under Flower, a node that raises forgets the message and keeps the state from before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from numpy.typing import NDArray

from qfl._flower_compat import set_task_identity
from qfl.clients import ProtectMod
from qfl.crypto import Member, Roster, Scheme, Step, make_scheme, pack, unpack
from qfl.errors import CryptoError
from qfl.federation.grid_messages import copy_records
from qfl.records import (
    ARRAYS,
    BOX,
    CONFIG,
    KEY,
    MASKED,
    MEMBER,
    MODEL,
    OPTIMIZER,
    PAYLOAD,
    ROSTER,
    STEP,
    arrays_of,
    bytes_record,
    content_digest,
    record_bytes,
    record_of,
    step_record,
)
from qfl.server_optimizer import FedAvg, optimizer_to_json

RUN = "run-1"
LENGTH = 6
GRID_BITS = 14
# Those who contribute, by their place among the nodes; the first node holds the key.
CLIENTS = (1, 2, 3, 4)

Records = dict[str, Any]
Vector = NDArray[np.int64]


class Node:
    """One participant: client, and whatever else it is asked to be.

    Its training adds ``update`` to the model; it holds ``size`` examples.
    """

    def __init__(self, number: int, **options: Any) -> None:
        self.number, self.size = number, 1000 + number
        self.update = np.random.default_rng(number).integers(-400, 400, LENGTH) / 2.0**10
        self.state, self.mod = RecordDict(), ProtectMod(**options)
        self.name = ""

    def ask(self, step: Step, records: Records, kind: str = "train") -> RecordDict:
        """The node's answer to one message."""
        set_task_identity(1, 0)
        content = RecordDict({**records, STEP: step_record(step.to_json())})
        message = Message(copy_records(content), self.number, kind)
        context = Context(1, self.number, {}, copy_records(self.state), {})
        reply = self.mod(message, context, self._app)
        self.state = context.state
        if reply.has_error():  # unlike what an exception leaves behind, what led to it is kept
            raise CryptoError(reply.error.reason)
        return copy_records(reply.content)

    def _app(self, message: Message, context: Context) -> Message:
        if message.metadata.message_type.startswith("query"):
            count = record_of({"count": np.array([float(self.size)])})
            return Message(RecordDict({"count": count}), reply_to=message)
        (model,) = message.content.array_records.values()
        moved = {name: value + self.update for name, value in arrays_of(model).items()}
        content = {ARRAYS: record_of(moved), "m": MetricRecord({"num-examples": self.size})}
        return Message(RecordDict(dict(content)), reply_to=message)


@dataclass
class Server:
    """All that a server of one run can say to its nodes.

    Attributes:
        terms: Scheme, trust, release and whatever else of a step is given.
        nodes: Five; the first makes the keys.
        told: What goes along with every message.
        public: The run's public key, or the committee.
        locked: The model, where the server may only pass it on.
        roster: Everybody.
    """

    terms: dict[str, Any]
    nodes: list[Node] = field(default_factory=lambda: [Node(number) for number in range(1, 6)])
    told: Records = field(default_factory=dict)
    public: bytes = b""
    locked: bytes = b""
    roster: Roster = field(default_factory=lambda: Roster([]))

    @classmethod
    def of(cls, scheme: str, trust: str, release: str = "server", **terms: Any) -> Server:
        """A run that is set up honestly."""
        server = cls({"scheme": scheme, "trust": trust, "release": release, **terms})
        server.meet()
        server.set_up()
        return server

    @property
    def holder(self) -> Node:
        """Who makes the keys."""
        return self.nodes[0]

    @property
    def model(self) -> Records:
        """The model as it is sent: in the clear, or as the keeper gave it out."""
        if self.locked:
            return {MODEL: bytes_record(self.locked, "model")}
        return {ARRAYS: record_of({"w": np.zeros(LENGTH)})}

    def step(self, kind: str, round: int = 0, label: str = "", **changes: Any) -> Step:
        """What a node is asked for, in this run's terms or changed ones."""
        fields: dict[str, Any] = {
            "step": kind,
            "run": RUN,
            "round": round,
            "label": label or kind,
            "key_id": hashlib.sha256(self.public).hexdigest()[:16] if self.public else "",
            "longest": 64,
            "fraction_bits": GRID_BITS,
            "bound": 1.0,
            "additions": 5,
            "min_clients": 3,
            "clients": 5,
            "examples": 0,
        }
        made = Step(**(fields | self.terms | changes))
        if made.label != "train" or "content" in changes:
            return made
        return replace(made, content=content_digest(self.model))

    def place(self, round: int = 1) -> str:
        """Where the sum of a round belongs."""
        return self.step("train", round).place

    def scheme(self) -> Scheme:
        """The run's."""
        step = self.step("train")
        return make_scheme(step.scheme, step.longest, step.sums, step.trust)

    def meet(self) -> None:
        """Hello to everybody, and the roster."""
        members = []
        for node in self.nodes:
            reply = node.ask(self.step("hello"), {})
            if MEMBER in reply:
                members.append(Member.from_bytes(record_bytes(reply, MEMBER)))
                node.name = members[-1].name
        self.roster = Roster(members)
        if members:
            self.told[ROSTER] = bytes_record(self.roster.to_bytes(), "told")

    def set_up(self) -> None:
        """Keys, and where the server may not see it, the model."""
        reply = self.holder.ask(self.step("keygen"), self.told)
        self.public = record_bytes(reply, KEY)
        self.told |= {name: reply[name] for name in (KEY, BOX) if name in reply}
        if self.terms["release"] == "clients":
            self.locked = self.adopt(self.holder, np.zeros(LENGTH))

    def adopt(self, node: Node, model: NDArray[np.float64]) -> bytes:
        """Have a model kept; it comes back locked."""
        config = ConfigRecord({OPTIMIZER: optimizer_to_json(FedAvg())})
        records = {ARRAYS: record_of({"w": model}), CONFIG: config, **self.told}
        return record_bytes(node.ask(self.step("adopt"), records), MODEL)

    def train(self, node: Node, round: int = 1, **changes: Any) -> bytes:
        """A client's contribution, as it came."""
        asked = self.step("train", round, **changes)
        return record_bytes(node.ask(asked, self.model | self.told), PAYLOAD)

    def bodies(self, round: int = 1, who: Iterable[int] = CLIENTS) -> list[bytes]:
        """Contributions of some clients."""
        return [unpack(self.train(self.nodes[i], round))[1] for i in who]

    def total(self, bodies: Iterable[bytes]) -> Any:
        """An accumulator that holds these."""
        total = self.scheme().accumulator(LENGTH + 1, self.public)
        for body in bodies:
            total.add(body)
        return total

    def payload(self, bodies: list[bytes], round: int = 1, **header: Any) -> bytes:
        """The sum of these, as a key holder is asked to open it."""
        return self.packed(self.total(bodies).result(), len(bodies), round, **header)

    def packed(self, body: bytes, contributions: int, round: int = 1, **header: Any) -> bytes:
        """What a key holder is asked to open, with a header as it should be or changed."""
        made = self.step("train", round).header(LENGTH + 1, contributions)
        return pack(replace(made, **header), body)

    def open(
        self, payload: bytes, round: int = 1, masked: bytes | None = None, **changes: Any
    ) -> Vector:
        """What the key holder answers."""
        records = {PAYLOAD: bytes_record(payload, "sum")}
        if masked is not None:
            records[MASKED] = bytes_record(masked, "sum")
        said = {"label": "train", "content": content_digest(self.model), **changes}
        step = self.step("open", round, **said)
        return opened(self.holder.ask(step, self.told | records))

    def sum_of(self, bodies: list[bytes], round: int = 1) -> Vector:
        """The sum as an honest server gets it."""
        values, masked = self.open(self.payload(bodies, round), round), self.total(bodies).masked()
        return self.scheme().finish(values, masked, LENGTH + 1, place=self.place(round))

    def exact(self, who: Iterable[int] = CLIENTS) -> list[int]:
        """Sums of some clients' updates and weights, in grid steps: each weighs a fifth."""
        moves = [np.append(self.nodes[i].update, 1.0) / 5 * 2**GRID_BITS for i in who]
        return [int(value) for value in np.sum(np.rint(moves), axis=0)]


def opened(reply: RecordDict) -> Vector:
    """The numbers that an opener answered with."""
    values: Vector = arrays_of(reply.array_records[PAYLOAD])["data"]
    return values
