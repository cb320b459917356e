"""One run's participants over a grid: who is there, what they are told, and what they answer."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from qfl.crypto import Member, Roster, Scheme, Step, SumRange, make_scheme
from qfl.errors import CryptoError, FederationError, PayloadError
from qfl.identity.credentials import people_to_bytes
from qfl.identity.vouching import check_member, statements_to_bytes
from qfl.privacy import Terms
from qfl.records import (
    BOX,
    KEY,
    MEMBER,
    PEOPLE,
    ROSTER,
    STEP,
    VOUCHED_MEMBERS,
    arrays_of,
    bytes_record,
    content_bytes,
    record_bytes,
    step_record,
)
from qfl.strategies.aggregation import Aggregation
from qfl.strategies.polling import Pause
from qfl.strategies.said import said
from qfl.strategies.signed_grid import DECLINED, SignedGrid
from qfl.strategies.watch import Watch


class Session:
    """Participants, what everybody has to know, and byte counts of one run.

    Attributes:
        signed: The grid, if it is one on which participants prove who they are.
        clients: Nodes that hold data.
        holders: Nodes whose role is to hold keys.
        names: Names on the roster by node, where there is a roster.
        roster: Everybody's keys of this run, where the scheme needs them.
        contributions: What contributors to the present sum signed, for whoever opens it.
        left_out: Why nodes take no part, by number.
        watch: Scores participants, where they prove who they are.
        model: The locked global model, where the server may only pass it on.
        terms: What the next round promises, under differential privacy.
        key_holder: Who makes the keys and opens sums; None where nobody in particular does.
    """

    def __init__(self, grid: Grid, aggregation: Aggregation, timeout: float) -> None:
        self.grid, self.aggregation, self.timeout = grid, aggregation, timeout
        self.signed = grid if isinstance(grid, SignedGrid) else None
        self.run = uuid.uuid4().hex
        self.clients: list[int] = []
        self.holders: list[int] = []
        self.left_out: dict[int, str] = {}
        self.names: dict[int, str] = {}
        self.roster = Roster([])
        self.key_holder: int | None = None
        self.key_id = ""
        self.public = b""
        self.examples = 0
        self.longest = 1
        self.bytes_up = self.bytes_down = self.bytes_key_holder = 0
        self._opening = 0.0
        self.model = b""
        self.contributions: dict[int, bytes] = {}
        self.terms: Terms | None = None
        self._told: dict[str, bytes] = {}
        self._informed: set[int] = set()
        self._sent_to: dict[str, int] = {}
        self.watch: Watch | None = None

    @property
    def sums(self) -> SumRange:
        """Grid and capacity of this run's sums."""
        return self.aggregation.sums(len(self.clients))

    @property
    def noise_is_central(self) -> bool:
        """Whether whoever opens a sum adds the noise of differential privacy."""
        return self.terms is not None and self.terms.mechanism == "central"

    def scheme(self) -> Scheme:
        """Scheme and parameters of this run."""
        made = self.aggregation
        return make_scheme(made.scheme, self.longest, self.sums, made.trust)

    def meet(self) -> None:
        """Learn who is there and what each node does.

        Raises:
            FederationError: Fewer than ``min_clients`` clients answer.
        """
        needed = self.aggregation.min_clients
        nodes = self._wait_for_nodes(needed)
        roles: dict[int, dict[str, int]] = {}
        members: dict[int, Member] = {}
        statements: dict[str, bytes] = {}
        refused = self.signed.refused if self.signed else {}
        left_out = {node: why for node, why in refused.items() if node not in nodes}
        self.left_out = left_out
        step, silent = self.step("hello"), set(nodes)
        for reply in self.collect(self.messages(nodes, step, "train", {})):
            node = self.node_of(reply)
            silent.discard(node)
            if reply.has_error():
                left_out[node] = reason(reply)
            elif "roles" not in reply.content.metric_records:
                left_out[node] = "it does not carry qfl's protect mod"
            else:
                try:
                    role = _roles(reply)
                    self._check_may(node, role)
                    if self.aggregation.needs_roster:
                        member = Member.from_bytes(record_bytes(reply.content, MEMBER))
                        if member in members.values():
                            raise PayloadError("it announced the keys of another node")
                        if self.signed:
                            said = record_bytes(reply.content, VOUCHED_MEMBERS)
                            own, did = self.signed.credentials, self.signed.did_of(node)
                            check_member(member, said, step, own, did)
                            statements[member.name] = said
                        members[node] = member
                    roles[node] = role
                except CryptoError as error:
                    left_out[node] = str(error)
        left_out |= dict.fromkeys(sorted(silent), f"it did not answer within {self.timeout:g} s")
        # Ordered by the clients' own numbers where they have any: node ids are random on some
        # engines, and a seeded choice among clients must not depend on them.
        self.clients = sorted(
            (node for node, role in roles.items() if role.get("client")),
            key=lambda node: (roles[node].get("index", -1), node),
        )
        self.holders = sorted(node for node, role in roles.items() if role.get("key-holder"))
        if len(self.clients) < needed:
            named = [f"; first problem: node {node}: {why}" for node, why in left_out.items()]
            first = named[0] if named else ""
            raise FederationError(
                f"{len(self.clients)} clients answered, at least {needed} are needed{first}"
            )
        if self.aggregation.scheme == "masking":
            # Everybody on the roster masks with others.
            members = {node: one for node, one in members.items() if roles[node].get("client")}
        if members:
            self.roster = Roster(members.values())
            self.names = {node: member.name for node, member in members.items()}
            self.tell(ROSTER, self.roster.to_bytes())
        if self.signed and members:
            self.tell(PEOPLE, self.people(members))
            ordered = [statements[name] for name in self.roster.names]
            self.tell(VOUCHED_MEMBERS, statements_to_bytes(ordered))

    def able_to_open(self, nodes: Iterable[int]) -> list[int]:
        """Those of the nodes that may hold keys and open sums."""
        signed = self.signed
        return [node for node in nodes if not signed or signed.may(node, "hold_keys", "open")]

    def people(self, nodes: Iterable[int]) -> bytes:
        """Who nodes are, for others to check; nothing where nobody proves who it is."""
        return people_to_bytes(self.signed.chains(nodes)) if self.signed else b""

    def _check_may(self, node: int, role: dict[str, int]) -> None:
        """Make sure that a node may be what it says that it is.

        Raises:
            RefusedError: It may not.
        """
        if self.signed:
            needed = {"client": ("train",), "key-holder": ("hold_keys", "open")}
            for part, permissions in needed.items():
                for permission in permissions if role.get(part) else ():
                    self.signed.credentials.permit(self.signed.did_of(node), permission)

    def tell(self, name: str, content: bytes) -> None:
        """Have everybody told something: it goes along until a node has answered once."""
        self._told[name] = content
        self._informed.clear()

    def tell_keys(self, public: bytes, box: bytes = b"") -> None:
        """Have everybody told the run's keys.

        Args:
            public: What clients protect with.
            box: What only members can open, where there is such a thing.
        """
        self.public = public
        self.key_id = hashlib.sha256(public).hexdigest()[:16]
        self.tell(KEY, public)
        if box:
            self.tell(BOX, box)

    def informed(self, node: int, known: bool = True) -> None:
        """Note whether a node has what everybody is told."""
        (self._informed.add if known else self._informed.discard)(node)

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
            trust=made.trust,
            release=made.release,
            rounding=made.rounding,
            privacy=self.terms.to_json() if self.terms else "",
        )

    def messages(
        self,
        nodes: Iterable[int],
        step: Step,
        kind: str,
        records: dict[str, Any],
        own: dict[int, dict[str, Any]] | None = None,
    ) -> list[Message]:
        """One message per node.

        Args:
            nodes: Receivers.
            step: What is asked for.
            kind: Flower's message type.
            records: For all.
            own: For one node each.
        """
        made = []
        for node in nodes:
            content = RecordDict({**records, STEP: step_record(step.to_json())})
            content.update((own or {}).get(node, {}))
            if node not in self._informed:
                for name, told in self._told.items():
                    content[name] = bytes_record(told, "told")
            made.append(Message(content, node, kind, ttl=self.timeout, group_id=str(step.round)))
        return made

    def collect(self, messages: Iterable[Message]) -> Iterator[Message]:
        """Send messages and yield replies as they come, until all came or time is up."""
        sent = list(messages)
        self.bytes_down += sum(content_bytes(message) for message in sent)
        for reply in self._exchange(sent):
            self.bytes_up += content_bytes(reply)
            yield reply
        if self.signed:
            up, down = self.signed.take_overhead()
            self.bytes_up, self.bytes_down = self.bytes_up + up, self.bytes_down + down

    def ask(self, node: int, step: Step, records: dict[str, Any]) -> Message:
        """Ask whoever opens sums, and wait for the answer.

        Raises:
            FederationError: It refused, or did not reply.
        """
        replies = list(self.ask_all({node: records}, step))
        if not replies:
            raise FederationError(f"key holder {node} did not reply within {self.timeout:g} s")
        if replies[0].has_error():
            raise FederationError(f"key holder {node} {self.declined(replies[0])}")
        return replies[0]

    def declined(self, reply: Message) -> str:
        """What an error says: a refusal, unless anybody on the way may have said it."""
        own = self.signed is None or reply.error.code == DECLINED
        return f"{'refused' if own else 'gave no answer that counts'}: {reason(reply)}"

    def ask_all(self, records: dict[int, dict[str, Any]], step: Step) -> Iterator[Message]:
        """Ask several nodes that open together; bytes count as the key holders'."""
        started = time.perf_counter()
        messages = self.messages(records, step, "train", {}, records)
        self.bytes_key_holder += sum(content_bytes(message) for message in messages)
        for reply in self._exchange(messages):
            self.bytes_key_holder += content_bytes(reply)
            if not reply.has_error():
                self._informed.add(self.node_of(reply))
            yield reply
        if self.signed:
            self.bytes_key_holder += sum(self.signed.take_overhead())
        self._opening += time.perf_counter() - started

    def take_seconds_opening(self) -> float:
        """Seconds spent on opening since this was last asked."""
        seconds, self._opening = self._opening, 0.0
        return seconds

    def node_of(self, reply: Message) -> int:
        """The node that a reply stands for; a grid answers for nodes that cannot."""
        metadata = reply.metadata
        return self._sent_to.get(metadata.reply_to_message_id, metadata.src_node_id)

    def _exchange(self, sent: list[Message]) -> Iterator[Message]:
        pushed = zip(self.grid.push_messages(sent), sent, strict=True)
        self._sent_to = {key: message.metadata.dst_node_id for key, message in pushed if key}
        waiting = set(self._sent_to)
        deadline, pause = time.monotonic() + self.timeout, Pause()
        while waiting:
            # What answers an earlier step comes too late, whoever brings it now.
            replies = [
                reply
                for reply in self.grid.pull_messages(waiting)
                if reply.metadata.reply_to_message_id in waiting
            ]
            for reply in replies:
                waiting.discard(reply.metadata.reply_to_message_id)
                yield reply
            if not replies and time.monotonic() > deadline:
                return
            if waiting:
                pause.after(bool(replies))

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

    def _wait_for_nodes(self, needed: int) -> list[int]:
        deadline = time.monotonic() + self.timeout
        while len(nodes := sorted(self.grid.get_node_ids())) < needed:
            refused = self.signed.refused if self.signed else {}
            strangers = self.signed.introductions.strangers if self.signed else ()
            # As many came as are needed, and none of them is who it should be: waiting is no help.
            if time.monotonic() > deadline or (not nodes and len(strangers) >= needed):
                first = f"; node {min(refused)}: {refused[min(refused)]}" if refused else ""
                raise FederationError(
                    f"{len(nodes)} nodes connected within {self.timeout:g} s, at least {needed} "
                    f"are needed{first}"
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


def _roles(reply: Message) -> dict[str, int]:
    roles = reply.content.metric_records["roles"]
    found = {name: value for name, value in roles.items() if isinstance(value, int)}
    if len(found) != len(roles):
        raise PayloadError("it does not say what it does in whole numbers")
    return found


def reason(reply: Message) -> str:
    """The sentence inside an error reply."""
    text = str(reply.error.reason or f"error code {reply.error.code}").strip()
    if text.startswith("<class '") and ":<'" in text:
        text = text.split(":<'", 1)[1].removesuffix("'>")
    return said(text)
