"""Trust ``committee``: members agree on whose contributions are opened, then add their shares."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord

from qfl.crypto import Committee, HybridSum, IntVector, Roster, pack
from qfl.crypto.agreement import Statement
from qfl.crypto.committee import share_of
from qfl.crypto.members import check_signatures
from qfl.errors import CryptoError, FederationError
from qfl.records import (
    ARRAYS,
    BOX,
    CONFIG,
    MASKED,
    MODEL,
    OPTIMIZER,
    PAYLOAD,
    bytes_record,
    record_bytes,
)
from qfl.strategies.opening import OneStep, opened_values, tell_vouched
from qfl.strategies.session import reason

# Of 20 members with a threshold of 11 there are 167,960; one false share is found in the first.
_MOST_GROUPS = 1000


class CommitteeOpens(OneStep):
    """Several members open together; none of them, and not the server, holds a key."""

    _total: HybridSum
    adds_noise = True

    def set_up(self) -> None:
        """Appoint the members: nodes whose role is to hold keys first, then clients.

        Raises:
            FederationError: Fewer nodes are there than the committee has members.
        """
        super().set_up()
        session, made = self.session, self.session.aggregation
        ordered = session.able_to_open(dict.fromkeys([*session.holders, *session.clients]))
        if len(ordered) < made.committee:
            raise FederationError(
                f"a committee of {made.committee} was asked for; only {len(ordered)} nodes answered"
                f"{' that may hold keys and open' if session.signed else ''}"
            )
        chosen = {session.names[node]: node for node in ordered[: made.committee]}
        members = Roster(session.roster.member(name) for name in chosen)
        self.committee = Committee(members, made.threshold)
        self.nodes = {name: chosen[name] for name in members.names}
        # Named by the committee itself, so that every member knows to whom shares are sealed.
        self.keeper = self.nodes[members.names[0]]
        numbers = ", ".join(map(str, sorted(self.nodes.values())))
        self.opened_by = f"{made.threshold} of committee nodes {numbers}"
        session.tell_keys(self.committee.to_bytes())
        if made.release == "clients":
            reply = session.ask(self.keeper, session.step("keygen"), {})
            session.tell_keys(self.committee.to_bytes(), record_bytes(reply.content, BOX))
            tell_vouched(session, self.keeper, reply)

    def adopt(self, model: ArrayRecord, optimizer: str) -> None:
        """Have the first member keep the model."""
        records = {ARRAYS: model, CONFIG: ConfigRecord({OPTIMIZER: optimizer})}
        reply = self.session.ask(self.keeper, self.session.step("adopt"), records)
        self.session.model = record_bytes(reply.content, MODEL)

    def open(self, contributions: int) -> IntVector:
        """Have members agree, collect their sums of shares, and rebuild the summed key.

        Raises:
            FederationError: Fewer members than the threshold agreed, or answered.
        """
        place = self._step.place
        statement = self._total.statement(place)
        signed = Statement.from_bytes(statement).signed_text

        def check_signature(name: str, signature: bytes) -> None:
            check_signatures(signed, {name: signature}, self.committee.roster, 1)

        signatures = self._ask("agree", dict.fromkeys(self.nodes, statement), check_signature)
        requests = {name: self._total.request_for(name, place, signatures) for name in signatures}
        keeps_model = self._step.release == "clients" and self._step.step == "train"
        sealed = keeps_model or self.session.noise_is_central
        shares = self._ask("open", requests, None if sealed else _check_share)
        if sealed:
            return self._open_at_keeper(shares, contributions, keeps_model)
        return self._combined(shares)

    def _combined(self, shares: dict[str, bytes]) -> IntVector:
        """The sum, from those of the shares that fit; who sent another is named.

        Raises:
            FederationError: No ``threshold`` of them fit.
        """
        where = f"round {self._step.round}, {self._step.label}"
        problem = ""
        groups = itertools.combinations(shares, self.committee.threshold)
        for group in itertools.islice(groups, _MOST_GROUPS):
            try:
                values = self.finish(self._total.combine({name: shares[name] for name in group}))
            except CryptoError as error:
                problem = problem or str(error)
                continue
            if problem:
                self._blame(shares, group)
            return values
        raise FederationError(
            f"{where}: the committee's shares do not open the sum: {problem}"
        ) from None

    def _blame(self, shares: dict[str, bytes], fits: tuple[str, ...]) -> None:
        """Note whose share is not on the line of those that opened the sum."""
        key = self._total.combine({name: shares[name] for name in fits})
        for name in shares.keys() - set(fits):
            other = self._total.combine({one: shares[one] for one in (*fits[1:], name)})
            if self.session.watch and not np.array_equal(other, key):
                self.session.watch.blame(self.nodes[name], "its share does not fit the others'")

    def _open_at_keeper(
        self, shares: dict[str, bytes], contributions: int, keeps_model: bool
    ) -> IntVector:
        """Pass on the shares, sealed to the member that keeps the model or adds the noise."""
        step = self._step
        sealed = b"".join(
            bytes.fromhex(name) + struct.pack("<I", len(share)) + share
            for name, share in shares.items()
        )
        records = {
            PAYLOAD: bytes_record(pack(step.header(self._length, contributions), sealed), "shares"),
            MASKED: bytes_record(self._total.masked(), step.scheme),
        }
        request = replace(step, step="combine")
        reply = self.session.ask(self.keeper, request, records)
        if keeps_model:
            self.session.model = record_bytes(reply.content, MODEL)
        return opened_values(reply)

    def _ask(
        self, kind: str, asked: dict[str, bytes], check: Callable[[str, bytes], object] | None
    ) -> dict[str, bytes]:
        """What members answer; who answers something else is left out."""
        session, step = self.session, self._step
        records: dict[int, dict[str, Any]] = {
            self.nodes[name]: {PAYLOAD: bytes_record(content, kind)}
            for name, content in asked.items()
        }
        names = {node: name for name, node in self.nodes.items()}
        answers: dict[str, bytes] = {}
        problems: list[str] = []
        for reply in session.ask_all(records, replace(step, step=kind)):
            node = session.node_of(reply)
            try:
                if reply.has_error():
                    problems.append(f"member {node} {session.declined(reply)}")
                    if session.watch:
                        session.watch.replied(node, reply, reason(reply), None, b"")
                else:
                    answer = record_bytes(reply.content, PAYLOAD)
                    if check:
                        check(names[node], answer)
                    answers[names[node]] = answer
            except CryptoError as error:
                problems.append(f"member {node}: {error}")
                if session.watch:
                    session.watch.replied(node, reply, str(error), error, b"")
        if len(answers) < (needed := self.committee.threshold):
            first = f"; {problems[0]}" if problems else "; the others never replied"
            raise FederationError(
                f"round {step.round}, {step.label}: {len(answers)} of {len(asked)} committee "
                f"members answered, at least {needed} must{first}"
            )
        return answers


def _check_share(name: str, share: bytes) -> None:
    share_of(share)
