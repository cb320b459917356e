"""Sums of one run: what clients are asked for, gathered, checked, opened."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from flwr.app import Message
from numpy import float64, packbits
from numpy.typing import NDArray

from qfl.crypto import IntVector, Layout, Step, expect, from_limbs, unpack
from qfl.errors import CryptoError, FederationError
from qfl.records import CLEAR, PAYLOAD, PROTECTED, content_digest, record_bytes
from qfl.strategies.aggregation import OpenedSum
from qfl.strategies.events import SumOpened
from qfl.strategies.openers import opener_of
from qfl.strategies.opening import Opener
from qfl.strategies.selective import ClearPart, Mask
from qfl.strategies.session import Session, reason

OnReply = Callable[[Message, str | None], None]
OnOpened = Callable[[SumOpened], None]


class Sums:
    """Has vectors summed: :meth:`ask`, then :meth:`gather`.

    Args:
        session: Whose participants contribute.
        on_opened: Called with every sum that was opened.
    """

    def __init__(self, session: Session, on_opened: OnOpened | None = None) -> None:
        self.session, self._on_opened = session, on_opened
        self.opener: Opener = opener_of(session)
        self.mask: Mask | None = None
        self._clear: ClearPart | None = None
        self._step: Step
        self._length = 0

    def choose(self, layout: Layout, asked: dict[str, Any]) -> None:
        """Settle which parameters are protected, and have everybody told.

        Args:
            layout: The model's.
            asked: Goes to clients that measure sensitivities.
        """

        def measured() -> NDArray[float64]:
            return self.numbers("query.sensitivity", "sensitivity", layout.length, asked)

        self.mask = self.session.aggregation.selective.mask(layout, measured)
        if self.mask is not None:
            self.session.tell(
                PROTECTED, struct.pack("<I", self.mask.size) + packbits(self.mask).tobytes()
            )

    def set_up(self, longest: int) -> None:
        """Have keys made, for vectors of up to ``longest`` values."""
        self.session.longest = longest
        self.opener.set_up()

    def ask(
        self, nodes: Iterable[int], step: Step, length: int, kind: str, records: dict[str, Any]
    ) -> list[Message]:
        """Start a sum: messages to those who can contribute.

        Args:
            nodes: Who should.
            step: What is asked for.
            length: Values in their vectors.
            kind: Flower's message type.
            records: For all of them.
        """
        step = replace(step, content=content_digest(records))
        self._step, self._length, self._clear = step, length, None
        if self.mask is not None and step.step == "train":
            self._clear = ClearPart(step, self.mask)
            length -= self._clear.header.length
        own = self.opener.begin(step, nodes, length)
        return self.session.messages(own, step, kind, records, own)

    def gather(
        self,
        replies: Iterable[Message],
        on_reply: OnReply | None = None,
        needed: int | None = None,
    ) -> OpenedSum:
        """Add payloads as they arrive, and have the sum opened.

        Args:
            replies: To what :meth:`ask` made, as they come.
            on_reply: Called with each reply and what is wrong with it.
            needed: Fewest usable replies; unset, ``min_clients``. With fewer, nothing is opened.

        Raises:
            FederationError: Too few usable replies, or whoever opens refused.
        """
        session, clear, step = self.session, self._clear, self._step
        expected = step.header(self._length - (clear.header.length if clear else 0))
        added, problems, heard = 0, [], set()
        for reply in replies:
            node, problem = session.node_of(reply), None
            try:
                if reply.has_error():
                    problem = reason(reply)
                elif node in heard:
                    problem = "it replied twice"
                else:
                    header, body = unpack(record_bytes(reply.content, PAYLOAD))
                    expect(header, expected)
                    in_clear = _in_clear(clear, reply) if clear else None
                    self.opener.add(node, body)
                    if clear and in_clear is not None:
                        clear.add(in_clear)
                    heard.add(node)
                    added += 1
            except CryptoError as error:
                problem = str(error)
            if problem:
                problems.append(f"node {node}: {problem}")
            # A node that failed may have lost the key with its state: the next message brings it.
            session.informed(node, not problem)
            if on_reply:
                on_reply(reply, problem)
        needed = needed or session.aggregation.min_clients
        if added < needed:
            first = f"; first problem: {problems[0]}" if problems else "; the others never replied"
            raise FederationError(
                f"round {step.round}, {step.label}: {added} usable replies, at least "
                f"{needed} are needed{first}"
            )
        opened = self.opener.open(added)
        if self._on_opened:
            self._on_opened(SumOpened(step.round, step.label, added, self.opener.opened_by))
        return OpenedSum(clear.merge(opened) if clear else opened, added)

    def numbers(
        self, kind: str, label: str, count: int, records: dict[str, Any]
    ) -> NDArray[float64]:
        """Sum ``count`` numbers of unknown size that every client's app answers with.

        Args:
            kind: Message type, such as ``query.count``.
            label: What is summed.
            count: Numbers per client.
            records: Further content of the message.
        """
        session = self.session
        step, length = session.step("sum", label=label), count * session.sums.limbs
        messages = self.ask(session.clients, step, length, kind, records)
        # A sum of some, and later of all, would give away the rest: all must answer, or nothing is
        # opened.
        needed = len(session.clients)
        opened = self.gather(session.collect(messages), needed=needed)
        return from_limbs(opened.values, session.sums)


def _in_clear(clear: ClearPart, reply: Message) -> IntVector:
    header, body = unpack(record_bytes(reply.content, CLEAR))
    expect(header, clear.header)
    return clear.read(body)
