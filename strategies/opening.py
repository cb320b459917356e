"""How a sum is opened, one small class for each kind of trust.

All have the same verbs: ``set_up`` once, then for each sum ``begin``, ``add`` for each
contribution, ``open``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message

from qfl.crypto import (
    Accumulator,
    Hybrid,
    IntVector,
    Scheme,
    Step,
    check_contribution,
    pack,
)
from qfl.errors import FederationError, PayloadError, RefusedError
from qfl.identity.vouching import check_keys, statements_to_bytes
from qfl.records import (
    ARRAYS,
    BOX,
    CONFIG,
    KEY,
    MASKED,
    MODEL,
    OPTIMIZER,
    PAYLOAD,
    PEOPLE,
    VOUCHED,
    VOUCHED_KEYS,
    arrays_of,
    bytes_record,
    record_bytes,
)
from qfl.strategies.session import Session

Own = dict[int, dict[str, Any]]


class Opener(Protocol):
    """Who opens sums, and how."""

    opened_by: str
    adds_noise: bool  # where it is central; otherwise the server does

    def set_up(self) -> None:
        """Have keys made, where there are any.

        Raises:
            FederationError: Whoever should make or hold them is not there, or refused.
        """

    def adopt(self, model: ArrayRecord, optimizer: str) -> None:
        """Hand over the initial model, where the server may not see the next ones."""

    def begin(self, step: Step, nodes: Iterable[int], length: int) -> Own:
        """Start a sum; returns what each node that can take part is sent beside the rest."""

    def add(self, node: int, body: bytes) -> None:
        """Add a contribution.

        Raises:
            CryptoError: It is malformed.
        """

    def open(self, contributions: int) -> IntVector:
        """The integers of the sum.

        Raises:
            FederationError: Whoever opens refused, or did not reply.
        """


class OneStep:
    """What openers of schemes with one step have in common: an accumulator."""

    opened_by = "server"
    adds_noise = False

    def __init__(self, session: Session) -> None:
        self.session = session
        self._scheme: Scheme
        self._total: Accumulator
        self._step: Step
        self._length = 0

    def set_up(self) -> None:
        """Choose parameters."""
        self._scheme = self.session.scheme()  # refuses impossible parameters before anybody works

    def begin(self, step: Step, nodes: Iterable[int], length: int) -> Own:
        """An empty sum."""
        self._total = self._scheme.accumulator(length, self.session.public)
        self._step, self._length = step, length
        return {node: {} for node in nodes}

    def add(self, node: int, body: bytes) -> None:
        """Add a contribution; where contributions are signed, only as its client made it."""
        session = self.session
        if isinstance(self._scheme, Hybrid):
            signed_by = check_contribution(
                body,
                self._length,
                session.public,
                session.aggregation.trust,
                self._step.place,
                session.roster,
            )
            if signed_by != session.names[node]:
                raise PayloadError(f"it sent a contribution that member {signed_by} signed")
        self._total.add(body)

    def finish(self, opened: IntVector) -> IntVector:
        """The sum, from what was opened."""
        masked, place = self._total.masked(), self._step.place
        values = self._scheme.finish(opened, masked, self._length, place=place)
        if values.shape != (self._length,):
            raise FederationError(
                f"what was opened has {values.shape} values; expected ({self._length},)"
            )
        return values


class ServerOpens(OneStep):
    """Scheme ``plain``: there is nothing to open."""

    def adopt(self, model: ArrayRecord, optimizer: str) -> None:
        """Refuse: the server sees every model."""
        raise FederationError("the server opens these sums: the model cannot be kept from it")

    def open(self, contributions: int) -> IntVector:
        """The sum, as it is."""
        result = self._total.result()
        return self.finish(self._scheme.open(result, self._length, b"", place=self._step.place))


class HolderOpens(OneStep):
    """One node makes the keys and opens sums: trust ``key_holder`` and ``shared``.

    Under ``shared`` it hands the secret key to every client, sealed, and any of them can open.
    """

    adds_noise = True
    _introduced: set[str]

    def set_up(self) -> None:
        """Appoint the holder, and have it make the run's keys."""
        super().set_up()
        session = self.session
        wanted = session.aggregation.key_holder
        known = {*session.holders, *session.clients}
        if wanted is not None and wanted not in known:
            raise FederationError(f"key holder {wanted} is not among the nodes that answered")
        shared = session.aggregation.trust == "shared"
        able, others = map(session.able_to_open, (session.clients, session.holders))
        first = able if shared else others or able
        if wanted is None and not first:
            raise FederationError("no node may hold keys and open: the policy grants it to nobody")
        self.node = first[0] if wanted is None else wanted
        session.key_holder = self.node
        self.opened_by = f"{'client' if shared else 'key holder'} (node {self.node})"
        records = {}
        if session.signed:
            records[PEOPLE] = bytes_record(session.people(session.clients), "people")
            self._introduced = {session.signed.did_of(node) for node in session.clients}
        reply = session.ask(self.node, session.step("keygen"), records)
        box = record_bytes(reply.content, BOX) if BOX in reply.content else b""
        session.tell_keys(record_bytes(reply.content, KEY), box)
        tell_vouched(session, self.node, reply)

    def adopt(self, model: ArrayRecord, optimizer: str) -> None:
        """Have the holder keep the model."""
        records = {ARRAYS: model, CONFIG: ConfigRecord({OPTIMIZER: optimizer})}
        reply = self.session.ask(self.node, self.session.step("adopt"), records)
        self.session.model = record_bytes(reply.content, MODEL)

    def open(self, contributions: int) -> IntVector:
        """Ask the holder; where it keeps the model, only weight and metrics come back.

        Where it keeps the model or adds noise it is sent the rest of the sum too, and finishes it.
        """
        step = self._step
        payload = pack(step.header(self._length, contributions), self._total.result())
        records = {PAYLOAD: bytes_record(payload, step.scheme)}
        if said := self.session.contributions:
            records |= self._vouched(said)
        request = replace(step, step="open")
        keeps_model = step.release == "clients" and step.step == "train"
        finishes = keeps_model or self.session.noise_is_central
        if finishes:
            records[MASKED] = bytes_record(self._total.masked(), step.scheme)
        reply = self.session.ask(self.node, request, records)
        opened = opened_values(reply)
        if keeps_model:
            self.session.model = record_bytes(reply.content, MODEL)
        return opened if finishes else self.finish(opened)

    def _vouched(self, said: dict[int, bytes]) -> dict[str, ArrayRecord]:
        """What contributors signed, and who of them rotated its keys since the holder met it."""
        session = self.session
        assert session.signed is not None
        statements = statements_to_bytes(list(said.values()))
        records = {VOUCHED: bytes_record(statements, "statements")}
        dids = {node: session.signed.did_of(node) for node in said}
        fresh = [node for node, did in dids.items() if did not in self._introduced]
        if fresh:
            records[PEOPLE] = bytes_record(session.people(fresh), "people")
            self._introduced |= {dids[node] for node in fresh}
        return records


def tell_vouched(session: Session, node: int, reply: Message) -> None:
    """Have everybody told who made the keys of the run.

    Raises:
        FederationError: Whoever made them does not vouch for them.
    """
    if session.signed is None:
        return
    said = record_bytes(reply.content, VOUCHED_KEYS)
    own = session.signed.credentials
    box = record_bytes(reply.content, BOX) if BOX in reply.content else b""
    try:
        if check_keys(session.public, box, said, session.step("keygen"), own) != (
            session.signed.did_of(node)
        ):
            raise FederationError(f"node {node} passed on keys that another node made")
    except RefusedError as error:
        raise FederationError(f"the keys of node {node} are refused: {error}") from None
    session.tell(VOUCHED_KEYS, said)
    if not session.roster.names:
        session.tell(PEOPLE, session.people([node]))


def opened_values(reply: Message) -> IntVector:
    """The integers of an opener's reply.

    Raises:
        FederationError: They are none.
    """
    record = reply.content.array_records.get(PAYLOAD, ArrayRecord())
    values = arrays_of(record).get("data", np.zeros(0))
    if values.ndim != 1 or values.dtype != np.int64:
        raise FederationError(
            f"the key holder opened {values.shape} {values.dtype} values; expected a vector of "
            "int64"
        )
    return np.asarray(values, dtype=np.int64)
