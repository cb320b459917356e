"""A Flower grid on which every message is signed and sealed, and every reply verified.

It stands around any grid, under any strategy, also Flower's own; clients carry
:class:`qfl.clients.SignMod`. A node appears in :meth:`SignedGrid.get_node_ids` once it has proved
who it is. What does not verify comes out as a reply with an error, which strategies count as a
failure of that node.
"""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from flwr.app import Error, Message, Metadata, RecordDict
from flwr.serverapp import Grid

from qfl._flower_compat import ErrorCode, Run, build_message
from qfl.enveloped import ENVELOPE, Enclosed, envelope_of, place_of
from qfl.errors import CryptoError, SignatureError
from qfl.identity.countersigning import Countersignature, Head, check
from qfl.identity.credentials import Chain, Credentials
from qfl.identity.envelope import Envelope, Expected
from qfl.identity.refusal import Refusal, RefusedError
from qfl.records import bytes_record
from qfl.strategies.introductions import Introductions, pushed
from qfl.strategies.polling import Pause

DECLINED = 100
"""Error code of a refusal that the node itself signed."""
UNVERIFIED = 101
"""Error code of a reply that does not verify; anybody on the way may have made it so."""

_SHOWN = ("train", "open")
"""Steps with which the head of the audit trail is shown: to those who train, and who opens."""


@dataclass(frozen=True)
class _Sent:
    """A request that was sent."""

    node: int
    did: str
    head: Envelope
    kind: str
    asked: Head | None


class SignedGrid(Grid):
    """Signs, seals and verifies around another grid.

    Args:
        grid: The grid that carries the messages.
        credentials: The server's.
        patience: Seconds that a node has to introduce itself.
        head: Head of the run's audit trail, which clients countersign as they train.

    Attributes:
        session: Text that stands for this object; no message is taken by another.
        refused: Why nodes are not there, by number.
        unasked: Answers that nothing was asked for, or that came twice; they are dropped.
    """

    def __init__(
        self,
        grid: Grid,
        credentials: Credentials,
        *,
        patience: float = 30.0,
        head: Callable[[], Head | None] = lambda: None,
    ) -> None:
        self.grid, self.credentials, self._head = grid, credentials, head
        # Named by its beginning: nodes take up none that began before the one that they are in.
        self.session = f"{time.time_ns():020d}-{uuid.uuid4().hex}"
        self._numbers = itertools.count(1)
        self.introductions = Introductions(grid, credentials, self.session, self._numbers, patience)
        self._countersigned: dict[Head, dict[str, Countersignature]] = {}
        self.unasked = 0
        self._sent: dict[str, _Sent] = {}
        self._failed: dict[str, Message] = {}
        self._bytes_up = self._bytes_down = 0

    @property
    def refused(self) -> dict[int, str]:
        """Why nodes are not there, by number."""
        return self.introductions.refused

    def did_of(self, node: int) -> str:
        """The present identifier of a node that is there.

        Raises:
            RefusedError: It never introduced itself.
        """
        return self.introductions.did_of(node)

    def first_of(self, node: int) -> str:
        """The first identifier of a node, which no rotation changes.

        Raises:
            RefusedError: It never introduced itself.
        """
        return self.introductions.first_of(node)

    def chains(self, nodes: Iterable[int]) -> list[Chain]:
        """The descriptions of nodes, but for those that count no longer, and this server's own."""
        own, found = self.credentials, [self.credentials.chain]
        for node in nodes:
            with suppress(RefusedError):
                known = own.registry.known(self.did_of(node), own.now())
                found.append(own.registry.chain_of(known.did))
        return found

    def may(self, node: int, *permissions: str) -> bool:
        """Whether a node may do all of something."""
        try:
            for permission in permissions:
                self.credentials.permit(self.did_of(node), permission)
        except RefusedError:
            return False
        return True

    def take_countersigned(self) -> list[tuple[Head, tuple[Countersignature, ...]]]:
        """The heads that were signed since this was last asked, and by whom."""
        taken, self._countersigned = self._countersigned, {}
        return [(head, tuple(by[did] for did in sorted(by))) for head, by in taken.items()]

    def take_overhead(self) -> tuple[int, int]:
        """Bytes that envelopes added since this was last asked: received, sent."""
        taken, self._bytes_up, self._bytes_down = (self._bytes_up, self._bytes_down), 0, 0
        return taken

    def set_run(self, run: Run) -> None:
        """Set the run that messages belong to."""
        self.grid.set_run(run)

    @property
    def run(self) -> Run:
        """The run that messages belong to."""
        return self.grid.run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Create a message; the same as Flower's ``Message`` constructor, which is preferred."""
        return self.grid.create_message(content, message_type, dst_node_id, group_id, ttl)

    def get_node_ids(self) -> list[int]:
        """The nodes that have proved who they are; waits for those that are new."""
        return self.introductions.meet(list(self.grid.get_node_ids()))

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Sign, seal and send; a message to a node that may get none fails by itself."""
        return [self._push(message) for message in messages]

    def _push(self, message: Message) -> str:
        try:
            sealed, sent = self._seal(message)
            if key := pushed(self.grid, sealed):
                self._sent[key] = sent
                return key
            why = f"the grid did not take the message to node {sent.node}"
        except RefusedError as error:
            why = _said(error)
        key = f"unsent-{uuid.uuid4().hex}"
        self._failed[key] = _failure(message.metadata, key, why)
        return key

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Replies that are there: opened and verified, or an error that says why not."""
        wanted = set(message_ids)
        found = [self._failed.pop(key) for key in wanted & self._failed.keys()]
        for reply in self.grid.pull_messages(wanted & self._sent.keys()):
            key = reply.metadata.reply_to_message_id
            # What answers an earlier step comes too late, whoever brings it now.
            sent = self._sent.pop(key, None) if key in wanted else None
            if sent is None:
                self.unasked += 1
            else:
                found.append(self._open(reply, sent))
        return found

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Push messages and wait for their replies, at most ``timeout`` seconds."""
        waiting = set(self.push_messages(messages))
        deadline = None if timeout is None else time.monotonic() + timeout
        replies: list[Message] = []
        pause = Pause()
        while waiting:
            found = self.pull_messages(waiting)
            replies += found
            waiting -= {reply.metadata.reply_to_message_id for reply in found}
            if deadline is not None and time.monotonic() > deadline:
                break
            if waiting:
                pause.after(bool(found))
        return replies

    def _seal(self, message: Message) -> tuple[Message, _Sent]:
        metadata, own = message.metadata, self.credentials
        node, kind = metadata.dst_node_id, metadata.message_type
        did = self.did_of(node)
        receiver = own.registry.known(did, own.now())
        place = place_of(message.content, self.session, kind)
        head = self._head() if place.step in _SHOWN else None
        asked = Enclosed(kind, node, self.session, message.content, next(self._numbers), head=head)
        envelope, sealed = own.seal(asked.to_bytes(), place, [receiver])
        self._bytes_down += len(sealed) - envelope.length
        content = RecordDict({ENVELOPE: bytes_record(sealed, "envelope")})
        sent = _Sent(node, did, envelope, kind, head)
        return build_message(metadata, content), sent

    def _open(self, reply: Message, sent: _Sent) -> Message:
        """What a node answered, or an error in its place."""
        metadata = _answering(reply.metadata, sent)
        if reply.has_error():
            # Nobody signed it. The node may have lost its state, so it is met anew.
            self.introductions.forget(sent.node)
            code = reply.error.code
            said = Error(UNVERIFIED if code in (DECLINED, UNVERIFIED) else code, reply.error.reason)
            return build_message(metadata, error=said)
        try:
            answer = self._verified(reply, sent)
        except CryptoError as error:
            self.introductions.forget(sent.node)
            return build_message(metadata, error=Error(UNVERIFIED, _said(error)))
        if answer.refused:
            return build_message(metadata, error=Error(DECLINED, answer.refused))
        return build_message(metadata, answer.content)

    def _verified(self, reply: Message, sent: _Sent) -> Enclosed:
        data = envelope_of(reply.content)
        expected = Expected(sent.head.place, sender=sent.did)
        head, payload = self.credentials.open(data, expected)
        answer = Enclosed.from_bytes(payload)
        if answer.request != sent.head.id:
            raise RefusedError(
                Refusal.REQUEST, f"{head.sender} answered another message than the one it was sent"
            )
        answer.check(sent.kind, sent.node, self.session)
        self._bytes_up += len(data) - head.length
        if (signed := answer.countersignature) is not None:
            self._take(signed, sent, head.sender)
        return answer

    def _take(self, signed: Countersignature, sent: _Sent, sender: str) -> None:
        """Keep a countersignature of the head that this node was shown.

        Raises:
            RefusedError: It is of another head, or another's.
        """
        known = self.credentials.registry.find(sender)
        try:
            if sent.asked is None or (signed.name, signed.public) != (sender, known.public):
                raise SignatureError("nobody asked for it")
            check(sent.asked, signed)
        except CryptoError as error:
            raise RefusedError(
                Refusal.HEAD, f"the countersignature of {sender} does not hold: {error}"
            ) from None
        self._countersigned.setdefault(sent.asked, {})[sender] = signed


def _said(error: CryptoError) -> str:
    return f"{error.reason if isinstance(error, RefusedError) else 'malformed'}: {error}"


def _answering(metadata: Metadata, sent: _Sent) -> Metadata:
    """Flower's words on a reply, put right where only the envelope is to be believed."""
    return Metadata(
        run_id=metadata.run_id,
        message_id=metadata.message_id,
        src_node_id=sent.node,
        dst_node_id=metadata.dst_node_id,
        reply_to_message_id=metadata.reply_to_message_id,
        group_id=metadata.group_id,
        created_at=metadata.created_at,
        ttl=metadata.ttl,
        message_type=sent.kind,
    )


def _failure(metadata: Metadata, key: str, why: str) -> Message:
    """The reply to a message that was not sent."""
    now = time.time()
    answered = Metadata(
        run_id=metadata.run_id,
        message_id=f"{key}-reply",
        src_node_id=metadata.dst_node_id,
        dst_node_id=metadata.src_node_id,
        reply_to_message_id=key,
        group_id=metadata.group_id,
        created_at=now,
        ttl=max(metadata.created_at + metadata.ttl - now, 0.0),
        message_type=metadata.message_type,
    )
    return build_message(answered, error=Error(ErrorCode.NODE_UNAVAILABLE, why))
