"""Sums of one run: what clients are asked for, gathered, checked, opened."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message
from numpy.typing import NDArray

from qfl.crypto import Header, IntVector, Layout, Step, expect, from_limbs, unpack
from qfl.errors import BudgetSpentError, CryptoError, FederationError
from qfl.identity.vouching import UNSEEN, check_contribution
from qfl.privacy import BUDGET_SPENT, ClientLevel, Stream
from qfl.records import (
    ARRAYS,
    CLEAR,
    CONFIG,
    MODEL,
    PAYLOAD,
    PROTECTED,
    VOUCHED,
    bytes_record,
    content_digest,
    record_bytes,
)
from qfl.strategies.aggregation import OpenedSum
from qfl.strategies.events import SumOpened
from qfl.strategies.openers import opener_of
from qfl.strategies.opening import Opener
from qfl.strategies.privacy import level_of
from qfl.strategies.selective import ClearPart, Mask
from qfl.strategies.session import Session, reason
from qfl.strategies.signed_grid import DECLINED

OnReply = Callable[[Message, str | None], None]
OnOpened = Callable[[SumOpened], None]


class Sums:
    """Has vectors summed: :meth:`ask`, then :meth:`gather`.

    Args:
        session: Whose participants contribute.
        parameters: Coordinates of an update.
        on_opened: Called with every sum that was opened.
    """

    def __init__(
        self, session: Session, parameters: int, on_opened: OnOpened | None = None
    ) -> None:
        self.session, self.parameters, self._on_opened = session, parameters, on_opened
        self.opener: Opener = opener_of(session)
        self.mask: Mask | None = None
        self._clear: ClearPart | None = None
        self._step: Step | None = None
        self._length = 0

    def choose(self, layout: Layout, asked: dict[str, Any]) -> None:
        """Settle which parameters are protected, and have everybody told.

        Args:
            layout: The model's.
            asked: Goes to clients that measure sensitivities.
        """

        def measured() -> NDArray[np.float64]:
            return self.numbers("query.sensitivity", "sensitivity", layout.length, asked)

        self.mask = self.session.aggregation.selective.mask(layout, measured)
        if self.mask is not None:
            self.session.tell(
                PROTECTED, struct.pack("<I", self.mask.size) + np.packbits(self.mask).tobytes()
            )

    def level(self) -> ClientLevel | None:
        """How updates are encoded in the last sum asked for, where each client is protected."""
        session = self.session
        terms = session.terms
        if terms is None or terms.protects != "client":
            return None
        place = self._step.place if self._step else ""
        made, clients = session.aggregation, len(session.clients)
        return level_of(terms, made, self.parameters, clients, place)

    def follow(self, rest: IntVector, contributions: int) -> IntVector:
        """Have the clipping norm follow the count of unclipped updates, where there is one.

        Args:
            rest: What stands behind the update in an opened sum.
            contributions: How many are in it.

        Returns:
            The same without the count.
        """
        level, terms = self.level(), self.session.terms
        if level is None or terms is None or not terms.count_noise:
            return rest
        unclipped = level.unclipped(int(rest[0]), contributions)
        self.session.terms = terms.after(unclipped / contributions)
        return rest[1:]

    @property
    def adapted_norm(self) -> float:
        """The clipping norm of the next round, where it adapts; else 0."""
        terms = self.session.terms
        return terms.clipping_norm if terms is not None and terms.count_noise else 0.0

    @property
    def update_length(self) -> int:
        """Integers that an update becomes."""
        level = self.level()
        return self.parameters if level is None else level.width

    def numbers_length(self, metrics: tuple[str, ...]) -> int:
        """Integers for the weight and the metrics."""
        return 1 + len(metrics) * self.session.sums.limbs

    def records(self, arrays: ArrayRecord, config: ConfigRecord, round: int) -> dict[str, Any]:
        """Model and settings of a round, as clients are sent them."""
        config = ConfigRecord({**config, "server-round": round})
        if self.session.aggregation.release == "clients":
            return {MODEL: bytes_record(self.session.model, "model"), CONFIG: config}
        return {ARRAYS: arrays, CONFIG: config}

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
        self.session.contributions = {}
        if self.mask is not None and step.step == "train":
            self._clear = ClearPart(step, self.mask)
            length -= self._clear.header.length
        own = self.opener.begin(step, nodes, length)
        if self.session.watch:
            self.session.watch.asked(step.round, own)
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
            BudgetSpentError: Too few usable replies, because clients have spent their budgets.
            FederationError: Too few usable replies, or whoever opens refused.
        """
        session, clear, step = self.session, self._clear, self._step
        assert step is not None
        expected = step.header(self._length - (clear.header.length if clear else 0))
        added, problems, heard, spent = 0, [], set(), False
        for reply in replies:
            node, problem, raised, body = session.node_of(reply), None, None, b""
            try:
                if reply.has_error():
                    problem = reason(reply)
                elif node in heard:
                    problem = "it replied twice"
                else:
                    header, body = unpack(record_bytes(reply.content, PAYLOAD))
                    expect(header, expected)
                    in_clear = _in_clear(clear, reply) if clear else None
                    vouched = self._vouched(node, expected, body, reply)
                    self.opener.add(node, body)
                    if vouched:
                        session.contributions[node] = vouched
                    if clear and in_clear is not None:
                        clear.add(in_clear)
                    heard.add(node)
                    added += 1
            except CryptoError as error:
                problem, raised = str(error), error
            if session.watch:
                session.watch.replied(node, reply, problem, raised, body)
            if problem:
                problems.append(f"node {node}: {problem}")
                # On the network anybody may say so of anybody.
                own = session.signed is None or (reply.has_error() and reply.error.code == DECLINED)
                spent = spent or (own and BUDGET_SPENT in problem)
            # A node that failed may have lost the key with its state: the next message brings it.
            session.informed(node, not problem)
            if on_reply:
                on_reply(reply, problem)
        if session.watch:
            session.watch.over()
        needed = needed or session.aggregation.min_clients
        if added < needed:
            first = f"; first problem: {problems[0]}" if problems else "; the others never replied"
            raise (BudgetSpentError if spent else FederationError)(
                f"round {step.round}, {step.label}: {added} usable replies, at least "
                f"{needed} are needed{first}"
            )
        opened = self.opener.open(added)
        level = self.level()
        if level is not None and not self.opener.adds_noise:
            noised = level.noised(opened[: level.width], Stream())
            opened = np.concatenate([noised, opened[level.width :]])
        if self._on_opened:
            self._on_opened(SumOpened(step.round, step.label, added, self.opener.opened_by))
        return OpenedSum(clear.merge(opened) if clear else opened, added)

    def _vouched(self, node: int, header: Header, body: bytes, reply: Message) -> bytes:
        """What a contributor signed for whoever opens the sum; nothing where nobody asks.

        Raises:
            RefusedError: It signed something else.
        """
        signed = self.session.signed
        if signed is None or header.scheme not in UNSEEN:
            return b""
        said = record_bytes(reply.content, VOUCHED)
        check_contribution(header, said, signed.credentials, signed.did_of(node), body)
        return said

    def numbers(
        self, kind: str, label: str, count: int, records: dict[str, Any]
    ) -> NDArray[np.float64]:
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
