"""How a server and the nodes of a grid learn who the other is.

The server says who it is, signed and open, since it does not know yet whom it talks to; a node
answers sealed to the server. Both carry their descriptions, which are worth nothing unless the
other one pinned them. The server passes on the operator's newest words.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from qfl.enveloped import (
    CHAIN,
    ENVELOPE,
    INTRODUCTION,
    INTRODUCTION_TYPE,
    OPERATOR,
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
from qfl.strategies.polling import Pause
from qfl.strategies.said import said

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
        numbers: Of the server's messages in it.
        patience: Seconds that a node has to answer.

    Attributes:
        refused: Why nodes are not there, by number.
        strangers: Those of them that answered, and not as they should.
    """

    def __init__(
        self,
        grid: Grid,
        credentials: Credentials,
        session: str,
        numbers: Iterator[int],
        patience: float,
    ) -> None:
        self._grid, self._own, self._session = grid, credentials, session
        self._numbers, self._patience = numbers, patience
        self.refused: dict[int, str] = {}
        self.strangers: set[int] = set()
        self._dids: dict[int, str] = {}
        self._firsts: dict[int, str] = {}
        self._present: set[int] = set()
        self._waiting: dict[str, _Asked] = {}
        self._attempts: dict[int, int] = {}
        self._forgotten: set[int] = set()

    def did_of(self, node: int) -> str:
        """The identifier of a node, also of one that has left since.

        Raises:
            RefusedError: It did not introduce itself.
        """
        if node not in self._dids:
            why = self.refused.get(node, "it was not asked yet; get_node_ids names who was")
            raise RefusedError(
                Refusal.UNKNOWN_SENDER, f"node {node} has not proved who it is: {why}"
            )
        return self._dids[node]

    def first_of(self, node: int) -> str:
        """The first identifier of a node, which no rotation changes.

        Raises:
            RefusedError: It did not introduce itself.
        """
        self.did_of(node)
        return self._firsts[node]

    def forget(self, node: int) -> None:
        """Have a node introduce itself anew: it may have lost its state, or rotated its keys."""
        self._forgotten.add(node)

    def meet(self, nodes: list[int]) -> list[int]:
        """Those of the nodes that have proved who they are; waits for who is new."""
        nodes = list(dict.fromkeys(nodes))
        self._present = set(nodes)
        asked = {one.node for one in self._waiting.values()}
        for node in nodes:
            met = node in self._dids and node not in self._forgotten
            if not met and node not in asked and self._attempts.get(node, 0) < ATTEMPTS:
                self._introduce(node)
        pause = Pause()
        while any(self._in_time(one) for one in self._waiting.values()):
            pause.after(self._take())
        self._take()
        for key, one in list(self._waiting.items()):
            if one.node in self._present and self._in_time(one):
                continue
            # It may have been lost on the way, so that the node is asked again next time.
            del self._waiting[key]
            if one.node not in self._dids:
                self.refused[one.node] = f"it did not say who it is within {self._patience:g} s"
        return [node for node in nodes if node in self._dids]

    def _in_time(self, asked: _Asked) -> bool:
        return time.monotonic() - asked.since < self._patience

    def _introduce(self, node: int) -> None:
        own, registry = self._own, self._own.registry
        number = next(self._numbers)
        asked = Enclosed(INTRODUCTION_TYPE, node, self._session, self._newest(), number)
        place = Place(self._session, 0, INTRODUCTION)
        head, envelope = own.seal(asked.to_bytes(), place, [], sealed=False)
        content = RecordDict(
            {
                ENVELOPE: bytes_record(envelope, "envelope"),
                CHAIN: bytes_record(chain_to_bytes(own.chain), "chain"),
            }
        )
        if registry.operator and registry.knows(registry.operator):
            operator = registry.chain_of(registry.operator)
            content[OPERATOR] = bytes_record(chain_to_bytes(operator), "chain")
        if registry.policy is not None:
            content[POLICY] = bytes_record(registry.policy.to_bytes(), "policy")
        if registry.revocations is not None:
            content[REVOCATIONS] = bytes_record(registry.revocations.to_bytes(), "revocations")
        self._attempts[node] = self._attempts.get(node, 0) + 1
        message = Message(content, node, INTRODUCTION_TYPE, group_id=uuid.uuid4().hex[:8])
        if key := pushed(self._grid, message):
            self._waiting[key] = _Asked(node, head, time.monotonic())
        else:
            self.refused[node] = "the grid did not take the message that introduces the server"

    def _newest(self) -> RecordDict:
        """Which of the operator's words this server knows, so that nobody can hold them back."""
        policy, revocations = self._own.registry.policy, self._own.registry.revocations
        told = {POLICY: policy.sequence if policy else 0}
        told[REVOCATIONS] = revocations.sequence if revocations else 0
        return RecordDict({INTRODUCTION: ConfigRecord(dict(told))})

    def _take(self) -> bool:
        """Take the answers that are there."""
        replies = list(self._grid.pull_messages(set(self._waiting)))
        for reply in replies:
            asked = self._waiting.pop(reply.metadata.reply_to_message_id, None)
            if asked is None:
                continue
            try:
                self._met(asked.node, self._verified(reply, asked))
            except CryptoError as error:
                self.refused[asked.node] = said(str(error))
                self.strangers.add(asked.node)
        return bool(replies)

    def _met(self, node: int, did: str) -> None:
        """Note who a node is.

        Raises:
            RefusedError: It was somebody else before, or somebody else is it.
        """
        first = self._own.registry.first_of(did)
        if self._firsts.get(node, first) != first:
            raise RefusedError(
                Refusal.SENDER,
                f"node {node} was {self._firsts[node]} and says now that it is {did}",
            )
        for other, its in self._firsts.items():
            if other != node and other in self._present and its == first:
                raise RefusedError(
                    Refusal.SENDER, f"{did} is node {other} already: one identity is used twice"
                )
        self._dids[node], self._firsts[node] = did, first
        self.refused.pop(node, None)
        self.strangers.discard(node)
        if node not in self._forgotten:
            self._attempts.pop(node, None)
        self._forgotten.discard(node)

    def _verified(self, reply: Message, asked: _Asked) -> str:
        own = self._own
        if reply.has_error():
            why = said(str(reply.error.reason or f"error code {reply.error.code}"))
            raise RefusedError(Refusal.NOT_SIGNED, f"it answered by an error: {why}")
        own.registry.admit(chain_from_bytes(record_bytes(reply.content, CHAIN)))
        head, payload = own.open(envelope_of(reply.content), Expected(asked.head.place))
        answer = Enclosed.from_bytes(payload)
        if answer.request != asked.head.id:
            raise RefusedError(Refusal.REQUEST, f"{head.sender} answered another introduction")
        answer.check(INTRODUCTION_TYPE, asked.node, self._session)
        return head.sender


def pushed(grid: Grid, message: Message) -> str:
    """The id of a message that was sent; empty where the grid did not take it."""
    keys = [key for key in grid.push_messages([message]) if key]
    return keys[0] if keys else ""
