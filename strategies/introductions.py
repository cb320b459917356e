"""How a server and the nodes of a grid learn who the other is.

The server says who it is, signed and open, since it does not know yet whom it talks to; a node
answers sealed to the server. Both carry their descriptions, which are worth nothing unless the
other one pinned them. The server passes on the operator's newest words.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from qfl.enveloped import (
    CHAIN,
    ENVELOPE,
    INTRODUCTION,
    INTRODUCTION_TYPE,
    POLICY,
    REVOCATIONS,
    Enclosed,
    envelope_of,
)
from qfl.errors import CryptoError
from qfl.identity.credentials import Credentials, chain_from_bytes, chain_to_bytes
from qfl.identity.envelope import Envelope, Expected, Place
from qfl.identity.refusal import Refusal, RefusedError
from qfl.records import bytes_record, record_bytes

ATTEMPTS = 3


@dataclass
class _Asked:
    """An introduction that waits for its answer."""

    node: int
    head: Envelope
    since: float


class Introductions:
    """Who the nodes of a grid are.

    Args:
        grid: The grid.
        credentials: The server's.
        session: Text that stands for the grid.
        patience: Seconds that a node has to answer.

    Attributes:
        refused: Why nodes are not there, by number.
    """

    def __init__(self, grid: Grid, credentials: Credentials, session: str, patience: float) -> None:
        self._grid, self._own, self._session = grid, credentials, session
        self._patience = patience
        self.refused: dict[int, str] = {}
        self._dids: dict[int, str] = {}
        self._waiting: dict[str, _Asked] = {}
        self._attempts: dict[int, int] = {}

    def did_of(self, node: int) -> str:
        """The identifier of a node.

        Raises:
            RefusedError: It did not introduce itself.
        """
        if node not in self._dids:
            why = self.refused.get(node, "it was not asked yet; get_node_ids names who was")
            raise RefusedError(
                Refusal.UNKNOWN_SENDER, f"node {node} has not proved who it is: {why}"
            )
        return self._dids[node]

    def meet(self, nodes: list[int]) -> list[int]:
        """Those of the nodes that have proved who they are; waits for who is new."""
        asked = {one.node for one in self._waiting.values()}
        for node in nodes:
            if node in self._dids or node in asked or self._attempts.get(node, 0) >= ATTEMPTS:
                continue
            self._introduce(node)
        pause = 0.0005
        while any(self._in_time(one) for one in self._waiting.values()):
            if self._take():
                pause = 0.0005
            else:
                time.sleep(pause)
                pause = min(pause * 1.5, 0.2)
        self._take()
        for key, one in list(self._waiting.items()):
            if one.node not in nodes:
                del self._waiting[key]
            elif not self._in_time(one):
                self.refused[one.node] = f"it did not say who it is within {self._patience:g} s"
        present = set(nodes)
        self._dids = {node: did for node, did in self._dids.items() if node in present}
        return [node for node in nodes if node in self._dids]

    def _in_time(self, asked: _Asked) -> bool:
        return time.monotonic() - asked.since < self._patience

    def _introduce(self, node: int) -> None:
        own, registry = self._own, self._own.registry
        asked = Enclosed(INTRODUCTION_TYPE, node, self._session, RecordDict())
        place = Place(self._session, 0, INTRODUCTION)
        head, envelope = own.seal(asked.to_bytes(), place, [], sealed=False)
        content = RecordDict(
            {
                ENVELOPE: bytes_record(envelope, "envelope"),
                CHAIN: bytes_record(chain_to_bytes(own.chain), "chain"),
            }
        )
        if registry.policy is not None:
            content[POLICY] = bytes_record(registry.policy.to_bytes(), "policy")
        if registry.revocations is not None:
            content[REVOCATIONS] = bytes_record(registry.revocations.to_bytes(), "revocations")
        self._attempts[node] = self._attempts.get(node, 0) + 1
        message = Message(content, node, INTRODUCTION_TYPE, group_id=uuid.uuid4().hex[:8])
        (key,) = self._grid.push_messages([message])
        self._waiting[key] = _Asked(node, head, time.monotonic())

    def _take(self) -> bool:
        """Take the answers that are there."""
        replies = list(self._grid.pull_messages(set(self._waiting)))
        for reply in replies:
            asked = self._waiting.pop(reply.metadata.reply_to_message_id, None)
            if asked is None:
                continue
            try:
                self._dids[asked.node] = self._verified(reply, asked)
                self.refused.pop(asked.node, None)
            except CryptoError as error:
                self.refused[asked.node] = str(error)
        return bool(replies)

    def _verified(self, reply: Message, asked: _Asked) -> str:
        own = self._own
        if reply.has_error():
            said = str(reply.error.reason or f"error code {reply.error.code}")
            raise RefusedError(Refusal.NOT_SIGNED, f"it answered by an error: {said}")
        own.registry.admit(chain_from_bytes(record_bytes(reply.content, CHAIN)))
        head, payload = own.open(envelope_of(reply.content), Expected(asked.head.place))
        answer = Enclosed.from_bytes(payload)
        if answer.request != asked.head.id:
            raise RefusedError(Refusal.REQUEST, f"{head.sender} answered another introduction")
        answer.check(INTRODUCTION_TYPE, asked.node, self._session)
        first = own.registry.first_of(head.sender)
        for node, did in self._dids.items():
            if node != asked.node and own.registry.first_of(did) == first:
                raise RefusedError(
                    Refusal.SENDER,
                    f"{head.sender} is node {node} already: one identity is used twice",
                )
        return head.sender
