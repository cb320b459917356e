"""Whoever carries the messages of a federation: a grid that may do anything with them.

It stands between the signed grid and the one that reaches the clients. Of a message it knows what
Flower says of it. That it strikes at a chosen kind of message is the test's doing, which has all
keys and tells it what each one is.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import dataclass
from typing import Literal

from flwr.app import Error, Message, Metadata, RecordDict
from flwr.serverapp import Grid
from signed_federation import Federation, Ran, leaping

from qfl._flower_compat import Run, build_message, records_to_bytes
from qfl.enveloped import ENVELOPE, Enclosed
from qfl.federation.grid_messages import copy_message
from qfl.federation.simulated_identities import SimulatedIdentities
from qfl.identity.envelope import Expected
from qfl.identity.opening import open_envelope
from qfl.identity.replay import ReplayGuard
from qfl.records import STEP, record_bytes

Way = Literal["request", "reply"]


@dataclass(frozen=True)
class Seen:
    """What the test knows of a message.

    Attributes:
        way: To a node, or back.
        node: Which.
        kind: Of step.
        round: 0 before the first.
        label: What is summed.
        session: Of the server, counted from 0.
    """

    way: Way
    node: int
    kind: str
    round: int
    label: str
    session: int


class Middle(Grid):
    """Carries messages, and has ``act`` decide what becomes of each.

    Args:
        grid: Reaches the clients.
        identities: Everybody's, for the test to see what a message is.
        act: What is done; unset, everything is passed on.

    Attributes:
        requests: What every request was, by the id that the server knows.
        messages: The requests themselves.
        replies: What came back, with what it was.
        carried: All bytes that went by, as Flower would send them.
        opened: Step and content of each request's envelope.
        everybody: Who everybody is, for the test.
    """

    def __init__(self, grid: Grid, identities: SimulatedIdentities, act: Act | None = None) -> None:
        self.grid, self.identities = grid, identities
        self.act: Act = act or pass_on
        self.requests: dict[str, Seen] = {}
        self.messages: dict[str, Message] = {}
        self.replies: list[tuple[Seen, Message]] = []
        self.carried: list[bytes] = []
        self.opened: list[tuple[str, bytes]] = []
        self.everybody = identities.issued.registry()
        for one in (identities.server, *identities.nodes):
            self.everybody.admit(one.chain)
        self._sessions: list[str] = []
        self._under_way: dict[str, str] = {}
        self._held: list[Message] = []
        self._forced: list[Message] = []

    @property
    def run(self) -> Run:
        """Flower's."""
        return self.grid.run

    def set_run(self, run: Run) -> None:
        """Flower's."""
        self.grid.set_run(run)

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Flower's."""
        return self.grid.create_message(content, message_type, dst_node_id, group_id, ttl)

    def get_node_ids(self) -> list[int]:
        """Whoever is there."""
        return list(self.grid.get_node_ids())

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return not self._under_way

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Take requests, and deliver what ``act`` makes of them."""
        keys = []
        for message in messages:
            key = f"asked-{len(self.requests)}"
            self.requests[key] = seen = self._label(message)
            self.messages[key] = copy_message(message)
            self._note(message)
            for one in self.act(self, seen, copy_message(message)):
                self.deliver(one, key)
            keys.append(key)
        return keys

    def deliver(self, message: Message, key: str) -> None:
        """Have a message reach its node; the answer stands for the request ``key``."""
        (inner,) = self.grid.push_messages([copy_message(message)])
        self._under_way[inner] = key

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Give what ``act`` makes of replies, to who asks for them."""
        for reply in self.grid.pull_messages(list(self._under_way)):
            key = self._under_way.pop(reply.metadata.reply_to_message_id)
            asked = self.requests[key]
            seen = Seen("reply", asked.node, asked.kind, asked.round, asked.label, asked.session)
            reply = answering(reply, key)
            self._note(reply)
            self.replies.append((seen, copy_message(reply)))
            self._held += self.act(self, seen, reply)
        wanted = set(message_ids)
        given = [one for one in self._held if one.metadata.reply_to_message_id in wanted]
        self._held = [one for one in self._held if one not in given]
        given, self._forced = [*given, *self._forced], []
        return given

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Nobody asks for it here."""
        raise AssertionError("the server polls")

    def settle(self) -> None:
        """Wait until nodes have handled all that was delivered."""
        while not self.idle:
            self.pull_messages([])
            time.sleep(0.001)

    def force(self, reply: Message) -> None:
        """Give the server a reply whatever it asks for next."""
        self._forced.append(reply)

    def key_of(self, node: int, like: Seen) -> str:
        """The id of what a node was asked when another one was asked this.

        Raises:
            StopIteration: It was not.
        """
        wanted = (node, like.kind, like.round, like.label, like.session)
        return next(
            key
            for key, one in self.requests.items()
            if (one.node, one.kind, one.round, one.label, one.session) == wanted
        )

    def before(self, seen: Seen) -> list[str]:
        """Ids of what a node was asked before, oldest first."""
        keys = [key for key, one in self.requests.items() if one.node == seen.node]
        mine = self.key_of(seen.node, seen)
        return keys[: keys.index(mine)]

    def reply_to(self, key: str) -> Message:
        """What a node answered first."""
        return next(
            copy_message(one) for _, one in self.replies if one.metadata.reply_to_message_id == key
        )

    def _note(self, message: Message) -> None:
        self.carried.append(bytes_of(message))

    def _label(self, message: Message) -> Seen:
        node = message.metadata.dst_node_id
        if node > len(self.identities.nodes):
            return Seen("request", node, "", 0, "", 0)  # to nobody
        head, payload = open_envelope(
            record_bytes(message.content, ENVELOPE),
            Expected(None, sealed=False),
            self.everybody,
            self.identities.server.now(),
            identity=self.identities.nodes[node - 1].identity,
            guard=ReplayGuard(),
        )
        inside = Enclosed.from_bytes(payload)
        self.opened.append((head.place.step, payload))
        if inside.session not in self._sessions:
            self._sessions.append(inside.session)
        step = inside.content.config_records.get(STEP)
        label = json.loads(str(step["step"]))["label"] if step else ""
        session = self._sessions.index(inside.session)
        return Seen("request", node, head.place.step, head.place.round, label, session)


Act = Callable[[Middle, Seen, Message], Iterable[Message]]
"""What becomes of a message: nothing, itself, or any others."""


def pass_on(middle: Middle, seen: Seen, message: Message) -> list[Message]:
    """What an honest carrier does."""
    return [message]


def around(act: Act | None = None) -> Callable[[Federation, Grid], Middle]:
    """Puts an attacker into a federation."""
    return lambda federation, grid: Middle(grid, federation.identities, act)


def disturbed(
    case: str, act: Act, rounds: int = 1, sessions: int = 1, evaluate: bool = True
) -> tuple[list[Ran], Middle]:
    """What the sessions of a server leave behind, and who was in the middle."""
    with Federation(case, around(act)) as federation:
        middle = federation.grid
        assert isinstance(middle, Middle)
        with leaping(lambda: middle.idle):
            ran = []
            for _ in range(sessions):
                ran.append(federation.run(rounds, evaluate=evaluate))
                middle.settle()
        return ran, middle


def changed(
    message: Message,
    content: RecordDict | None = None,
    error: Error | None = None,
    **metadata: object,
) -> Message:
    """A message with other content, or other words of Flower's on it."""
    said = copy(message.metadata)
    assert isinstance(said, Metadata)
    for name, value in metadata.items():
        said.__dict__[f"_{name}"] = value
    if content is None and error is None:
        content, error = (None, message.error) if message.has_error() else (message.content, None)
    return build_message(said, content, error)


def answering(reply: Message, key: str) -> Message:
    """A reply as if it were the answer to another request."""
    return changed(reply, reply_to_message_id=key)


def addressed(message: Message, node: int) -> Message:
    """A request on its way to another node."""
    return changed(message, dst_node_id=node)


def bytes_of(message: Message) -> bytes:
    """All that can be read of a message on its way."""
    said = repr(sorted(message.metadata.__dict__.items())).encode()
    if message.has_error():
        return said + repr(message.error).encode()
    return said + records_to_bytes(message.content)
