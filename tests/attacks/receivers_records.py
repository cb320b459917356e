"""Whoever receives what is common to all schemes: nodes with the protect mod, and the server.

Rosters, keys, boxes, locked models, choices of protected parameters, steps, arrays: what a node is
sent goes through :class:`ProtectMod`, as under Flower. A node that raises keeps the state from
before.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from mutations import mutated, odd_json
from receivers import Receiver, enveloped
from safetensors.numpy import save

from qfl._flower_compat import set_task_identity
from qfl.clients import ProtectMod
from qfl.crypto import (
    Arrays,
    Committee,
    Member,
    MemberKeys,
    Plain,
    Roster,
    Step,
    lock,
    make_scheme,
    open_box,
    pack,
    unpack,
)
from qfl.crypto.sealing import derive
from qfl.errors import ConfigError, CryptoError, FederationError
from qfl.federation.grid_messages import copy_records
from qfl.records import (
    ARRAYS,
    BOX,
    CLEAR,
    CONFIG,
    KEY,
    MASKED,
    MEMBER,
    MODEL,
    OPTIMIZER,
    PAYLOAD,
    PROTECTED,
    ROSTER,
    STEP,
    bytes_record,
    content_digest,
    record_bytes,
    record_of,
    step_record,
)
from qfl.server_optimizer import FedAdam, FedAvg, optimizer_to_json
from qfl.strategies.opening import opened_values
from qfl.strategies.selective import ClearPart

RUN, NODES = "run-1", 3
START: Arrays = {"w": np.linspace(-1, 1, 4), "b": np.ones(2, np.float32)}
ASKED = Step("train", RUN, 1, "train", "plain", "", 64, 14, 1.0, 5, 3, 5, 0, ("loss",), "none")


class Node:
    """One participant. Its training changes nothing: what comes before and after is tested."""

    def __init__(self) -> None:
        self.state, self.name = RecordDict(), ""

    def ask(
        self, step: Step | str, *records: RecordDict, kind: str = "train", keep: bool = True
    ) -> RecordDict:
        """The answer to one message; ``keep`` says whether it is remembered."""
        text = step if isinstance(step, str) else step.to_json()
        content = RecordDict({STEP: step_record(text)})
        for some in records:
            content.update(some)
        context = Context(1, 1, {}, copy_records(self.state), {})
        reply = ProtectMod()(Message(content, 1, kind), context, self._app)
        if keep:
            self.state = context.state
        if reply.has_error():
            raise CryptoError(reply.error.reason)
        return reply.content

    def _app(self, message: Message, context: Context) -> Message:
        content = RecordDict(dict(message.content.array_records.items()))
        if message.metadata.message_type == "query.count":
            content = RecordDict({"count": record_of({"count": np.array([10.0])})})
        else:
            content["m"] = MetricRecord({"num-examples": 10, "loss": 0.5})
        return Message(content, reply_to=message)


class Run:
    """A run of one scheme, set up honestly; the first node in the order of names has the key."""

    def __init__(self, scheme: str, trust: str, release: str = "server") -> None:
        set_task_identity(1, 0)
        self.step = replace(ASKED, scheme=scheme, trust=trust, release=release)
        self.nodes, self.told = [Node() for _ in range(NODES)], RecordDict()
        members = []
        for node in self.nodes:
            reply = node.ask(self.asked("hello"))
            if MEMBER in reply:
                members.append(Member.from_bytes(record_bytes(reply, MEMBER)))
                node.name = members[-1].name
        self.nodes.sort(key=lambda node: node.name)
        if members:
            self._tell(ROSTER, Roster(members).to_bytes())
        if trust == "committee":
            self._tell(KEY, Committee(Roster(members), 2).to_bytes())
        if trust not in ("none", "committee") or release == "clients":
            reply = self.nodes[0].ask(self.asked("keygen"), self.told)
            for name in (KEY, BOX):
                if name in reply:
                    self._tell(name, record_bytes(reply, name))
        self.model = RecordDict({ARRAYS: record_of(START)})
        if release == "clients":
            self.model = RecordDict({MODEL: self.adopted(optimizer_to_json(FedAvg()))[MODEL]})
        self.step = replace(self.step, content=content_digest(self.model))

    def _tell(self, name: str, told: bytes) -> None:
        self.told[name] = bytes_record(told, "told")
        if name == KEY:
            self.step = replace(self.step, key_id=hashlib.sha256(told).hexdigest()[:16])

    def asked(self, kind: str, label: str = "") -> Step:
        """A step before the first round."""
        return replace(self.step, step=kind, label=label or kind, round=0, metrics=())

    def adopted(self, optimizer: str, *, keep: bool = True) -> RecordDict:
        """The keeper's answer to the first model."""
        config = RecordDict({CONFIG: ConfigRecord({OPTIMIZER: optimizer})})
        model = RecordDict({ARRAYS: record_of(START)})
        return self.nodes[0].ask(self.asked("adopt"), model, config, self.told, keep=keep)

    def total(self) -> tuple[Any, int]:
        """What the server has before it asks for an opening, and the vectors' length."""
        scheme: Any = make_scheme(self.step.scheme, 64, self.step.sums, self.step.trust)
        payloads = [
            record_bytes(node.ask(self.step, self.model, self.told), PAYLOAD) for node in self.nodes
        ]
        length = unpack(payloads[0])[0].length
        total = scheme.accumulator(length, record_bytes(self.told, KEY))
        for payload in payloads:
            total.add(unpack(payload)[1])
        return total, length

    def boxed(self) -> bytes:
        """What is in the box."""
        seed: Any = self.nodes[0].state.config_records[MEMBER]["seed"]
        info = f"qfl box {RUN} {self.step.key_id}".encode()
        return open_box(record_bytes(self.told, BOX), MemberKeys(seed), info)

    def train(self, **records: ArrayRecord) -> str:
        """A node that knows nothing of the run yet is told all at once, and asked to train."""
        step = replace(self.step, content="")  # it binds itself to what it is sent
        if KEY in records:  # whoever makes up a key names it rightly
            key = record_bytes(RecordDict(dict(records)), KEY)
            step = replace(step, key_id=hashlib.sha256(key).hexdigest()[:16])
        reply = self.nodes[-1].ask(
            step, self.told, self.model, RecordDict(dict(records)), keep=False
        )
        assert set(reply) in ({PAYLOAD}, {PAYLOAD, CLEAR})
        return "trained"


def record_receivers() -> list[Receiver]:
    """Nodes and the server."""
    return [*_told(), *_steps(), *_keepers(), *_at_the_server()]


def _text(data: bytes, other: bytes, random: Random) -> bytes:
    return odd_json(data.decode(), random).encode()


def _told() -> Iterator[Receiver]:
    plain, shared = Run("plain", "none"), Run("ckks", "shared")
    hybrid, other = (Run("hybrid", "key_holder", "clients") for _ in range(2))

    def told(run: Run, name: str, first: bytes, second: bytes) -> Receiver:
        def take(data: bytes) -> str:
            return run.train(**{name: bytes_record(data, "told")})

        return Receiver(f"node, {name} of {run.step.scheme}", (first, second), take)

    for name in (ROSTER, KEY, BOX):
        yield told(hybrid, name, record_bytes(hybrid.told, name), record_bytes(other.told, name))
    yield told(hybrid, MODEL, *(record_bytes(run.model, MODEL) for run in (hybrid, other)))
    yield told(shared, BOX, record_bytes(shared.told, BOX), record_bytes(other.told, BOX))
    masks = [struct.pack("<I", 6) + bytes([bits]) for bits in (0b110101, 0b000111)]
    yield told(shared, PROTECTED, masks[0], masks[1])

    key, info = derive(hybrid.boxed(), b"qfl model key", 32), f"qfl model {RUN}".encode()

    def member_locked(content: bytes) -> str:
        return hybrid.train(**{MODEL: bytes_record(lock(key, content, info), "told")})

    def arrays(data: bytes) -> str:
        array = Array("float64", (6,), "numpy.ndarray", data)
        return plain.train(**{ARRAYS: ArrayRecord({"w": array})})

    contents = model_bytes(START), model_bytes({"w": np.zeros((2, 2)), "n": np.array(3)})
    yield Receiver("node, what a member locked", contents, member_locked)
    samples = [Array(np.arange(6) / at).data for at in (1.0, 2.0)]
    yield Receiver("node, arrays", (samples[0], samples[1]), arrays)


def model_bytes(arrays: dict[str, Any], names: bytes = b"") -> bytes:
    """What is locked as a model."""
    names = names or json.dumps(list(arrays)).encode()
    return struct.pack("<I", len(names)) + names + save(arrays)


def _steps() -> Iterator[Receiver]:
    """Steps as text: the node does what is asked, or refuses."""
    train = ("train", "train", "train")
    ordinary = (("hello", "hello", "train"), train, ("sum", "count", "query.count"))
    masked = (("hello", "hello", "train"), ("advertise", "train", "train"))
    for scheme, trust, steps in (
        ("plain", "none", ordinary),
        ("ckks", "key_holder", ordinary),
        ("packed", "shared", ordinary),
        ("hybrid", "committee", ordinary),
        ("masking", "none", masked),
    ):
        run = Run(scheme, trust)
        for step, label, kind in steps:
            metrics = run.step.metrics if step == "train" else ()
            asked = replace(run.step, step=step, label=label, metrics=metrics)

            def take(text: bytes, run: Run = run, kind: str = kind) -> str:
                words = text.decode(errors="replace")
                run.nodes[0].ask(words, run.model, run.told, kind=kind, keep=False)
                return "answered"

            text = asked.to_json().encode()
            # ConfigError: what is asked for is well-formed, but no parameters go with it.
            ours = (ConfigError,)
            yield Receiver(f"node, step {step} of {scheme}", (text, text), take, _text, ours)


def _keepers() -> Iterator[Receiver]:
    """Whoever opens and keeps the model."""
    for label in ("ckks/key_holder", "hybrid/key_holder", "hybrid/committee"):
        scheme, trust = label.split("/")
        run = Run(scheme, trust, "clients")
        total, length = run.total()
        kind, body = "open", total.result()
        if trust == "committee":
            kind, body = "combine", _sealed_shares(run, total)
        step = replace(run.step, step=kind)
        good = {PAYLOAD: pack(run.step.header(length, NODES), body), MASKED: total.masked()}
        for name in (PAYLOAD, MASKED)[: 2 if good[MASKED] else 1]:

            def take(
                data: bytes, run: Run = run, step: Step = step, good: Any = good, name: str = name
            ) -> str:
                given = {**good, name: data}.items()
                sent = RecordDict({key: bytes_record(one, "sum") for key, one in given})
                assert PAYLOAD in run.nodes[0].ask(step, sent, run.told, keep=False)
                return "opened"

            change = enveloped if name == PAYLOAD else mutated
            samples = good[name], good[name]
            yield Receiver(f"keeper, {name} of {label}", samples, take, change)

    fresh = Run("ckks", "key_holder", "clients")
    del fresh.nodes[0].state["qfl-kept-model"]  # a second one is refused

    def adopt(text: bytes) -> str:
        assert MODEL in fresh.adopted(text.decode(errors="replace"), keep=False)
        return "adopted"

    texts = [optimizer_to_json(rule).encode() for rule in (FedAdam(), FedAvg())]
    yield Receiver("keeper, optimizer", (texts[0], texts[1]), adopt, _text, (ConfigError,))


def _sealed_shares(run: Run, total: Any) -> bytes:
    place, nodes = run.step.place, {node.name: node for node in run.nodes[:2]}

    def answer(name: str, kind: str, data: bytes) -> bytes:
        asked = RecordDict({PAYLOAD: bytes_record(data, kind)})
        reply = nodes[name].ask(replace(run.step, step=kind), asked, run.told)
        return record_bytes(reply, PAYLOAD)

    signed = {name: answer(name, "agree", total.statement(place)) for name in nodes}
    parts = []
    for name in nodes:
        share = answer(name, "open", total.request_for(name, place, signed))
        parts += [bytes.fromhex(name), struct.pack("<I", len(share)), share]
    return b"".join(parts)


def _at_the_server() -> Iterator[Receiver]:
    keys, clear = MemberKeys(), ClearPart(ASKED, np.array([True, False, False]))

    def opened(data: bytes) -> str:
        record = ArrayRecord({"data": Array("int64", (3,), "numpy.ndarray", data)})
        values = opened_values(Message(RecordDict({PAYLOAD: record}), 1, "train"))
        assert values.ndim == 1 and values.dtype == np.int64
        return "read"

    def in_clear(body: bytes) -> str:
        assert np.abs(clear.read(body)).max() <= ASKED.sums.capacity
        return "read"

    def member(data: bytes) -> str:
        found = Member.from_bytes(data)
        found.verifies(b"statement", bytes(64))
        found.seal(b"secret", b"")
        return "sealed to"

    def sealed(data: bytes) -> str:
        assert keys.open(data, b"info") == b"secret"
        return "opened"

    arrays = [Array(np.arange(3) * at).data for at in (1, 2)]
    bodies = [Plain(ASKED.sums).protect(np.array([at, -at]), b"") for at in (1, 5)]
    members = keys.member.to_bytes(), MemberKeys().member.to_bytes()
    boxes = [keys.member.seal(b"secret", b"info") for _ in range(2)]
    ours = (FederationError,)
    yield Receiver("server, opened", (arrays[0], arrays[1]), opened, others=ours)
    yield Receiver("server, clear part", (bodies[0], bodies[1]), in_clear)
    yield Receiver("server, member", members, member)
    yield Receiver("member, sealed", (boxes[0], boxes[1]), sealed)
