"""A server that may break every rule, in a run whose clients were promised differential privacy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from hostile import CLIENTS, GRID_BITS, LENGTH, Node, Records, Server, Vector
from hostile_committee import CommitteeServer

from qfl.clients.accounts import Accounts
from qfl.crypto import pack, unpack
from qfl.privacy import Ledger, PrivacyFloor, Terms
from qfl.records import PAYLOAD, record_bytes

PADDED = 8  # what six parameters become
WIDTH = PADDED + 1  # and their weight

Strings = dict[str, Any]


class PrivateServer(Server):
    """Sums are as wide as rotated updates are."""

    def total(self, bodies: Any) -> Any:
        """An accumulator that holds these."""
        total = self.scheme().accumulator(WIDTH, self.public)
        for body in bodies:
            total.add(body)
        return total

    def packed(self, body: bytes, contributions: int, round: int = 1, **header: Any) -> bytes:
        """What an opener is asked to open."""
        made = self.step("train", round).header(WIDTH, contributions)
        return pack(replace(made, **header), body)


class PrivateCommittee(PrivateServer, CommitteeServer):
    """The same before a committee."""


def promise(mechanism: str = "central", **changes: Any) -> Terms:
    """Terms with noise that no test mistakes for nothing: 0.2 on a mean of at most 0.2."""
    return Terms(**({"mechanism": mechanism, "noise_multiplier": 1.0} | changes))


def private(
    scheme: str,
    trust: str,
    terms: Terms,
    folder: Path,
    release: str = "server",
    floor: PrivacyFloor | None = None,
    to_holder: Strings | None = None,
    **step: Any,
) -> Any:
    """A run that is set up; its key holder may have been told something else.

    Args:
        scheme: Of the sums.
        trust: Who opens them.
        terms: What clients are told.
        folder: For their ledger.
        release: Who learns the model.
        floor: Of every node.
        to_holder: Fields of the step in which the keys are made.
        step: Other fields of all steps.
    """
    kind = PrivateCommittee if trust == "committee" else PrivateServer
    told = {"privacy": terms.to_json(), "longest": WIDTH, "bound": 4.0, **step}
    server = kind({"scheme": scheme, "trust": trust, "release": release, **told})
    ledger = str(folder / "ledger.sqlite")

    def name_of(message: Any, context: Any) -> str:
        return f"data of node {context.node_id}"

    accounts = Accounts(ledger, floor, name_of)
    server.nodes = [Node(number, accounts=accounts) for number in range(1, 6)]
    server.meet()
    honest = dict(server.terms)
    server.terms.update(to_holder or {})
    if scheme != "plain":
        server.set_up()
    server.terms = honest
    return server


def ledger_of(folder: Path) -> Ledger:
    """What all nodes wrote."""
    return Ledger(folder / "ledger.sqlite")


def contribution(server: Any, node: Node, round: int = 1, **changes: Any) -> bytes:
    """A client's body, under terms as they are or changed."""
    return unpack(server.train(node, round, **changes))[1]


def contributions(server: Any, round: int = 1, **changes: Any) -> list[bytes]:
    """Of four clients."""
    return [contribution(server, server.nodes[i], round, **changes) for i in CLIENTS]


def open_from(
    server: Any,
    bodies: list[bytes],
    round: int = 1,
    masked: bytes | None = None,
    header: Strings | None = None,
    **asked: Any,
) -> Vector:
    """What whoever opens gives out, of a payload and in a step that may lie."""
    rest = server.total(bodies).masked() if masked is None else masked
    if isinstance(server, CommitteeServer):
        return combined(server, bodies, round, rest, header or {})
    made = {"round": round, **(header or {})}
    payload = server.packed(server.total(bodies).result(), len(bodies), **made)
    return np.asarray(server.open(payload, round, masked=rest, **asked))


def combined(server: Any, bodies: list[bytes], round: int, rest: bytes, header: Strings) -> Vector:
    """The same from a committee's keeper."""
    import struct

    who = server.members[:2]
    signatures = server.agree(bodies, who, round)
    sealed = b""
    for node in who:
        share = server.share(bodies, node, signatures, round)
        sealed += bytes.fromhex(node.name) + struct.pack("<I", len(share)) + share
    return np.asarray(server.combine(server.keeper, bodies, sealed, round, rest, **header))


def without_noise(server: Any) -> np.ndarray:
    """The exact sum of four clipped and weighed updates, in grid steps and as it was rotated."""
    terms = Terms.from_json(server.step("train", 1).privacy)
    step = server.step("train", 1)
    level = terms.level(
        length=LENGTH,
        clients=step.clients,
        min_clients=step.min_clients,
        fraction_bits=GRID_BITS,
        place=step.place,
    )
    from qfl.privacy.rotation import rotate

    total = np.sum([server.nodes[i].update for i in CLIENTS], axis=0)
    return np.asarray(rotate(total, level.seed) * 2.0**GRID_BITS / step.clients)


def raw(server: Any, node: Node, records: Records, kind: str = "train", **step: Any) -> bytes:
    """A node's answer to any step whatever."""
    asked = server.step(**({"kind": "train", "round": 1} | step))
    return record_bytes(node.ask(asked, records | server.told, kind), PAYLOAD)
