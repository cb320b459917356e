"""Scheme ``masking``: nobody holds a key; the survivors' shares take the masks off the sum."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from flwr.app import ArrayRecord, Message

from qfl.crypto import IntVector, MaskingRules, MaskingServer, Step
from qfl.errors import CryptoError, FederationError
from qfl.records import INBOX, PAYLOAD, bytes_record, record_bytes
from qfl.strategies.opening import Own
from qfl.strategies.session import Session, reason

Take = Callable[[str, bytes], None]


class MaskedOpens:
    """Five steps: keys and shares before a sum, agreement and shares after it."""

    opened_by = "server, with the survivors' shares"
    adds_noise = False

    def __init__(self, session: Session) -> None:
        self.session = session
        self._server: MaskingServer
        self._step: Step
        self._problems: list[str] = []

    def _rules(self) -> MaskingRules:
        made = self.session.aggregation
        return MaskingRules(self.session.sums, made.min_clients, made.dropout, made.corrupted)

    def set_up(self) -> None:
        """Refuse what can never be summed before anybody works.

        Raises:
            ConfigError: So many clients cannot be protected as asked, or the range is too wide.
        """
        self._rules().neighbourhood(len(self.session.clients))

    def adopt(self, model: ArrayRecord, optimizer: str) -> None:
        """Refuse: the server learns every sum."""
        raise FederationError("the server opens these sums: the model cannot be kept from it")

    def begin(self, step: Step, nodes: Iterable[int], length: int) -> Own:
        """Have clients make keys for the sum and deal shares; who fails is left out of it."""
        session, asked = self.session, list(nodes)
        server = MaskingServer(session.roster, step.place, length, self._rules())
        self._server, self._step, self._problems = server, step, []
        self._nodes = {session.names[node]: node for node in asked}
        try:
            self._exchange("advertise", dict.fromkeys(self._nodes, b""), server.take_advertisement)
            advertisements = server.advertisements()
            dealing = [name for name in server.waiting_for if name in self._nodes]
            self._exchange("deal", dict.fromkeys(dealing, advertisements), server.take_shares)
            taking_part = set(dealing) - set(server.waiting_for)
            return {
                self._nodes[name]: {INBOX: bytes_record(server.inbox_for(name), "inbox")}
                for name in self._nodes
                if name in taking_part
            }
        except CryptoError as error:
            raise self._failure(error) from None

    def add(self, node: int, body: bytes) -> None:
        """Add a masked vector."""
        self._server.take_masked(self.session.names[node], body)

    def open(self, contributions: int) -> IntVector:
        """Have survivors agree on whose vectors are in, then collect their shares.

        Raises:
            FederationError: Fewer agreed, or gave shares, than the threshold; nothing is opened.
        """
        server = self._server
        try:
            survivors = server.survivors()
            masked = server.waiting_for
            self._exchange(
                "agree", dict.fromkeys(masked, survivors), server.take_agreement, opening=True
            )
            agreed = set(masked) - set(server.waiting_for)
            # Asked for even where nobody agreed: the refusal says how many did.
            signed = {name: server.signatures_for(name) for name in sorted(agreed) or masked[:1]}
            self._exchange("reveal", signed, server.take_reveal, opening=True)
            return server.result()
        except CryptoError as error:
            raise self._failure(error) from None

    def _exchange(
        self, kind: str, sent: dict[str, bytes], take: Take, opening: bool = False
    ) -> None:
        session = self.session
        step = replace(self._step, step=kind)
        records: dict[int, dict[str, Any]] = {
            self._nodes[name]: {PAYLOAD: bytes_record(content, kind)} if content else {}
            for name, content in sent.items()
        }
        if opening:
            replies = session.ask_all(records, step)
        else:
            replies = session.collect(session.messages(records, step, "train", {}, records))
        for reply in replies:
            node = session.node_of(reply)
            problem, raised = self._taken(node, reply, take)
            session.informed(node, not problem)
            if session.watch and problem:
                session.watch.replied(node, reply, problem, raised, b"")
            if problem:
                self._problems.append(f"node {node}: {problem}")

    def _taken(self, node: int, reply: Message, take: Take) -> tuple[str, CryptoError | None]:
        """What is wrong with a reply, and what reading it raised."""
        if reply.has_error():
            return reason(reply), None
        try:
            take(self.session.names[node], record_bytes(reply.content, PAYLOAD))
        except CryptoError as error:
            return str(error), error
        return "", None

    def _failure(self, error: CryptoError) -> FederationError:
        first = f"; first problem: {self._problems[0]}" if self._problems else ""
        return FederationError(f"round {self._step.round}, {self._step.label}: {error}{first}")
