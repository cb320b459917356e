"""One run's keys and sums over a grid: who is there, who holds the key, sum and open."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Message, RecordDict
from flwr.serverapp import Grid
from numpy.typing import NDArray

from qfl.crypto import (
    SCHEMES,
    Header,
    IntVector,
    Scheme,
    Step,
    SumRange,
    expect,
    from_limbs,
    make_scheme,
    pack,
    unpack,
)
from qfl.errors import ConfigError, CryptoError, FederationError, PayloadError, unknown_name
from qfl.records import (
    KEY,
    PAYLOAD,
    STEP,
    arrays_of,
    bytes_record,
    content_bytes,
    record_bytes,
    step_record,
)

WEIGHTINGS = ("uniform", "examples")
OnReply = Callable[[Message, str | None], None]


@dataclass(frozen=True)
class Aggregation:
    """How updates are summed.

    Attributes:
        scheme: ``plain`` or ``ckks``.
        weighting: ``uniform``, or ``examples``, which needs a ClientApp that answers
            ``query.count``.
        min_clients: Fewest updates in a sum that is opened.
        bound: Largest magnitude of an update's coordinate.
        grid_bits: Updates are rounded to multiples of 2**-grid_bits.
        key_holder: Node that makes the keys and opens sums. Unset, it is the node whose role says
            so, else the first client, which then trains as well.

    Raises:
        ConfigError: A name is unknown or a value out of range.
    """

    scheme: str = "ckks"
    weighting: str = "uniform"
    min_clients: int = 2
    bound: float = 2.0
    grid_bits: int = 20
    key_holder: int | None = None

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise ConfigError(unknown_name("scheme", self.scheme, SCHEMES))
        if self.weighting not in WEIGHTINGS:
            raise ConfigError(unknown_name("weighting", self.weighting, WEIGHTINGS))
        fewest = 1 if self.scheme == "plain" else 2
        if self.min_clients < fewest:
            raise ConfigError(
                f"min_clients={self.min_clients} is not allowed with scheme {self.scheme}: must be "
                f">= {fewest}" + (", a sum of one update is that update" if fewest == 2 else "")
            )
        if not (0 < self.bound <= 64 and 8 <= self.grid_bits <= 22):
            raise ConfigError(
                f"bound={self.bound:g} with grid_bits={self.grid_bits} is not allowed: bound must "
                "be > 0 and <= 64, grid_bits >= 8 and <= 22"
            )


@dataclass(frozen=True)
class OpenedSum:
    """What came out of one step: the integers and how many contributed."""

    values: IntVector
    contributions: int


class Session:
    """Keys, participants and byte counts of one run."""

    def __init__(self, grid: Grid, aggregation: Aggregation, timeout: float) -> None:
        self.grid, self.aggregation, self.timeout = grid, aggregation, timeout
        self.run = uuid.uuid4().hex
        self.clients: list[int] = []
        self.problems: list[str] = []
        self.key_holder: int | None = None
        self.key_id = ""
        self.examples = 0
        self.longest = 1
        self.bytes_up = self.bytes_down = self.bytes_key_holder = 0
        self._public = b""
        self._informed: set[int] = set()
        self._sent_to: dict[str, int] = {}

    @property
    def sums(self) -> SumRange:
        """Grid and capacity of this run's sums."""
        made = self.aggregation
        return SumRange(made.grid_bits, made.bound, max(1, len(self.clients)))

    def meet(self) -> None:
        """Learn who is there and what each node does.

        Raises:
            FederationError: Fewer than ``min_clients`` clients answer, or no key holder is there.
        """
        needed = self.aggregation.min_clients
        nodes = self._wait_for_nodes(needed)
        roles: dict[int, dict[str, float]] = {}
        problems = self.problems = []
        for reply in self.collect(self.messages(nodes, self.step("hello"), "train", {})):
            node = self.node_of(reply)
            if reply.has_error():
                problems.append(f"node {node}: {reason(reply)}")
            elif "roles" in reply.content.metric_records:
                roles[node] = dict(reply.content.metric_records["roles"])  # type: ignore[arg-type]
            else:
                problems.append(f"node {node}: it does not carry qfl's protect mod")
        # Ordered by the clients' own numbers where they have any: node ids are random on some
        # engines, and a seeded choice among clients must not depend on them.
        self.clients = sorted(
            (node for node, role in roles.items() if role.get("client")),
            key=lambda node: (roles[node].get("index", -1), node),
        )
        if len(self.clients) < needed:
            first = f"; first problem: {problems[0]}" if problems else ""
            raise FederationError(
                f"{len(self.clients)} clients answered, at least {needed} are needed{first}"
            )
        holders = sorted(node for node, role in roles.items() if role.get("key-holder"))
        self._appoint(holders)

    def _appoint(self, holders: list[int]) -> None:
        if not self._scheme().has_keys:
            return
        wanted = self.aggregation.key_holder
        if wanted is not None and wanted not in {*holders, *self.clients}:
            raise FederationError(f"key holder {wanted} is not among the nodes that answered")
        self.key_holder = (holders or self.clients)[0] if wanted is None else wanted

    def make_keys(self, longest: int) -> None:
        """Have the key holder make the run's keys, for vectors of up to ``longest`` values."""
        self.longest = longest
        scheme = self._scheme()  # refuses impossible parameters before anybody works
        if not scheme.has_keys:
            return
        assert self.key_holder is not None
        reply = self._ask(self.key_holder, self.step("keygen"), {})
        self._public = record_bytes(reply.content, KEY)
        self.key_id = hashlib.sha256(self._public).hexdigest()[:16]

    def step(
        self, kind: str, round: int = 0, label: str = "", metrics: tuple[str, ...] = ()
    ) -> Step:
        """The description of a step, as clients get it."""
        made = self.aggregation
        return Step(
            step=kind,
            run=self.run,
            round=round,
            label=label or kind,
            scheme=made.scheme,
            key_id=self.key_id,
            longest=self.longest,
            fraction_bits=made.grid_bits,
            bound=made.bound,
            additions=self.sums.additions,
            min_clients=made.min_clients,
            clients=max(1, len(self.clients)),
            examples=self.examples,
            metrics=metrics,
        )

    def messages(
        self, nodes: Iterable[int], step: Step, kind: str, records: dict[str, Any]
    ) -> list[Message]:
        """One message per node; the public key goes along until a node has answered once."""
        made = []
        for node in nodes:
            content = RecordDict({**records, STEP: step_record(step.to_json())})
            if self._public and node not in self._informed and node != self.key_holder_only:
                content[KEY] = bytes_record(self._public, "key")
            made.append(Message(content, node, kind, ttl=self.timeout, group_id=str(step.round)))
        return made

    @property
    def key_holder_only(self) -> int | None:
        """The key holder, where it holds no data."""
        return self.key_holder if self.key_holder not in self.clients else None

    def collect(self, messages: Iterable[Message]) -> Iterator[Message]:
        """Send messages and yield replies as they come, until all came or time is up."""
        sent = list(messages)
        self.bytes_down += sum(content_bytes(message) for message in sent)
        for reply in self._exchange(sent):
            self.bytes_up += content_bytes(reply)
            yield reply

    def node_of(self, reply: Message) -> int:
        """The node that a reply stands for; a grid answers for nodes that cannot."""
        metadata = reply.metadata
        return self._sent_to.get(metadata.reply_to_message_id, metadata.src_node_id)

    def _exchange(self, sent: list[Message]) -> Iterator[Message]:
        pushed = zip(self.grid.push_messages(sent), sent, strict=True)
        self._sent_to = {key: message.metadata.dst_node_id for key, message in pushed if key}
        waiting = set(self._sent_to)
        deadline, pause = time.monotonic() + self.timeout, 0.0005
        while waiting:
            replies = list(self.grid.pull_messages(waiting))
            for reply in replies:
                waiting.discard(reply.metadata.reply_to_message_id)
                yield reply
            if replies:
                pause = 0.0005
            elif time.monotonic() > deadline:
                return
            else:
                time.sleep(pause)
                pause = min(pause * 1.5, 0.2)

    def sum(
        self,
        replies: Iterable[Message],
        step: Step,
        length: int,
        on_reply: OnReply | None = None,
        needed: int | None = None,
    ) -> OpenedSum:
        """Add payloads as they arrive, and have the sum opened.

        Args:
            replies: As they come.
            step: What was asked for.
            length: Values in the vectors.
            on_reply: Called with each reply and what is wrong with it.
            needed: Fewest usable replies; unset, ``min_clients``. With fewer, nothing is opened.

        Raises:
            FederationError: Too few usable replies, or the key holder refused.
        """
        scheme = self._scheme()
        total = scheme.accumulator(length, self._public)
        expected = Header(step.scheme, step.key_id, step.run, step.round, step.label, length)
        added, problems, heard = 0, [], set()
        for reply in replies:
            node, problem = self.node_of(reply), None
            try:
                if reply.has_error():
                    problem = reason(reply)
                elif node in heard:
                    problem = "it replied twice"
                else:
                    header, body = unpack(record_bytes(reply.content, PAYLOAD))
                    expect(header, expected)
                    total.add(body)
                    heard.add(node)
                    self._informed.add(node)
                    added += 1
            except CryptoError as error:
                problem = str(error)
            if problem:
                problems.append(f"node {node}: {problem}")
                # It may have lost the key with its state: the next message brings it again.
                self._informed.discard(node)
            if on_reply:
                on_reply(reply, problem)
        needed = needed or self.aggregation.min_clients
        if added < needed:
            first = f"; first problem: {problems[0]}" if problems else "; the others never replied"
            raise FederationError(
                f"round {step.round}, {step.label}: {added} usable replies, at least "
                f"{needed} are needed{first}"
            )
        payload = pack(
            Header(step.scheme, step.key_id, step.run, step.round, step.label, length, added),
            total.result(),
        )
        return OpenedSum(self._open(payload, step, length), added)

    def sum_numbers(
        self, kind: str, label: str, count: int, records: dict[str, Any]
    ) -> NDArray[np.float64]:
        """Sum ``count`` numbers of unknown size that every client's app answers with.

        Args:
            kind: Message type, such as ``query.count``.
            label: What is summed.
            count: Numbers per client.
            records: Further content of the message.
        """
        step = self.step("sum", label=label)
        replies = self.collect(self.messages(self.clients, step, kind, records))
        # A sum of some, and later of all, would give away the rest: all must answer, or nothing is
        # opened.
        opened = self.sum(replies, step, count * self.sums.limbs, needed=len(self.clients))
        return from_limbs(opened.values, self.sums)

    def ask_sizes(self, records: dict[str, Any]) -> dict[int, int]:
        """Every client's number of examples, in the clear.

        Args:
            records: Further content of the message.

        Raises:
            FederationError: A client did not say.
        """
        messages = [
            Message(RecordDict(records), node, "query.count", ttl=self.timeout)
            for node in self.clients
        ]
        sizes: dict[int, int] = {}
        problems: list[str] = []
        for reply in self.collect(messages):
            node = self.node_of(reply)
            try:
                sizes[node] = _size(reply)
            except CryptoError as error:
                problems.append(f"node {node}: {error}")
        if missing := sorted(set(self.clients) - set(sizes)):
            first = f"; first problem: {problems[0]}" if problems else "; they never replied"
            raise FederationError(
                f"selection by size: clients {missing} did not say how many examples they hold"
                + first
            )
        return sizes

    def _open(self, payload: bytes, step: Step, length: int) -> IntVector:
        scheme = self._scheme()
        if not scheme.has_keys:
            return scheme.open(unpack(payload)[1], length, b"")
        assert self.key_holder is not None
        records = {PAYLOAD: bytes_record(payload, step.scheme)}
        request = self.step("open", step.round, step.label)
        reply = self._ask(self.key_holder, request, records)
        record = reply.content.array_records.get(PAYLOAD, ArrayRecord())
        values = arrays_of(record).get("data", np.zeros(0))
        if values.shape != (length,) or values.dtype != np.int64:
            raise FederationError(
                f"the key holder opened {values.shape} {values.dtype} values; expected "
                f"({length},) int64"
            )
        return np.asarray(values, dtype=np.int64)

    def _ask(self, node: int, step: Step, records: dict[str, Any]) -> Message:
        messages = self.messages([node], step, "train", records)
        replies = list(self._exchange(messages))
        self.bytes_key_holder += sum(content_bytes(message) for message in messages + replies)
        if not replies:
            raise FederationError(f"key holder {node} did not reply within {self.timeout:g} s")
        if replies[0].has_error():
            raise FederationError(f"key holder {node} refused: {reason(replies[0])}")
        return replies[0]

    def _scheme(self) -> Scheme:
        return make_scheme(self.aggregation.scheme, self.longest, self.sums)

    def _wait_for_nodes(self, needed: int) -> list[int]:
        deadline = time.monotonic() + self.timeout
        while len(nodes := sorted(self.grid.get_node_ids())) < needed:
            if time.monotonic() > deadline:
                raise FederationError(
                    f"{len(nodes)} nodes connected within {self.timeout:g} s, at least {needed} "
                    "are needed"
                )
            time.sleep(0.2)
        return nodes


def _size(reply: Message) -> int:
    if reply.has_error():
        raise PayloadError(reason(reply))
    for record in reply.content.array_records.values():
        for name, array in arrays_of(record).items():
            if name == "count" and array.shape == (1,) and 0 <= (size := float(array[0])) < 2**53:
                return int(size)
    raise PayloadError("its reply to query.count holds no array 'count' with one number >= 0")


def reason(reply: Message) -> str:
    """The sentence inside an error reply."""
    text = str(reply.error.reason or f"error code {reply.error.code}").strip()
    if text.startswith("<class '") and ":<'" in text:
        text = text.split(":<'", 1)[1].removesuffix("'>")
    return text.splitlines()[0] if text else "unknown error"
