"""A server's dealings with a committee, step by step."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from hostile import CLIENTS, LENGTH, Node, Server, Vector, opened

from qfl.crypto import Committee, Roster, Step
from qfl.records import BOX, KEY, MASKED, PAYLOAD, bytes_record, record_bytes

MEMBERS, THRESHOLD = 3, 2


@dataclass
class CommitteeServer(Server):
    """The first three nodes are the committee; two of them open together."""

    def set_up(self) -> None:
        """Appoint the members, and where the server may not see it, hand over the model."""
        members = Roster(self.roster.member(node.name) for node in self.nodes[:MEMBERS])
        self.public = Committee(members, THRESHOLD).to_bytes()
        self.told[KEY] = bytes_record(self.public, "told")
        if self.terms["release"] == "clients":
            self.told[BOX] = self.keeper.ask(self.step("keygen"), self.told)[BOX]
            self.locked = self.adopt(self.keeper, np.zeros(LENGTH))

    @property
    def members(self) -> list[Node]:
        """In the committee's order."""
        return sorted(self.nodes[:MEMBERS], key=lambda node: node.name)

    @property
    def keeper(self) -> Node:
        """Who keeps the model."""
        return self.members[0]

    def say(self, node: Node, kind: str, content: bytes, round: int = 1, **changes: Any) -> bytes:
        """One step at one member."""
        step: Step = self.step(kind, round, **{"label": "train", **changes})
        records = self.told | {PAYLOAD: bytes_record(content, kind)}
        return record_bytes(node.ask(step, records), PAYLOAD)

    def agree(self, bodies: list[bytes], who: list[Node], round: int = 1) -> dict[str, bytes]:
        """Signatures of some members on the sum of these."""
        statement = self.total(bodies).statement(self.place(round))
        return {node.name: self.say(node, "agree", statement, round) for node in who}

    def share(
        self,
        bodies: list[bytes],
        node: Node,
        signatures: dict[str, bytes],
        round: int = 1,
        **changes: Any,
    ) -> bytes:
        """One member's share of the summed key."""
        request = self.total(bodies).request_for(node.name, self.place(round), signatures)
        return self.say(node, "open", request, round, **changes)

    def unmask(self, bodies: list[bytes], shares: dict[str, bytes], round: int = 1) -> Vector:
        """The sum, from shares."""
        total = self.total(bodies)
        key, masked = total.combine(shares), total.masked()
        return self.scheme().finish(key, masked, LENGTH + 1, place=self.place(round))

    def opened(
        self, bodies: list[bytes], who: list[Node], round: int = 1, **changes: Any
    ) -> Vector:
        """The sum of these, opened by some members."""
        signatures = self.agree(bodies, who, round)
        shares = {n.name: self.share(bodies, n, signatures, round, **changes) for n in who}
        return self.unmask(bodies, shares, round)

    def sum_with(self, who: list[Node], round: int = 1, **changes: Any) -> Vector:
        """The clients' sum, opened by some members."""
        return self.opened(self.bodies(round, CLIENTS), who, round, **changes)

    def combined(self, bodies: list[bytes], round: int = 1, masked: bytes | None = None) -> Vector:
        """What the keeper releases of a sum whose shares were sealed to it."""
        who = self.members[:THRESHOLD]
        signatures = self.agree(bodies, who, round)
        sealed = b""
        for node in who:
            share = self.share(bodies, node, signatures, round)
            sealed += bytes.fromhex(node.name) + struct.pack("<I", len(share)) + share
        return self.combine(self.keeper, bodies, sealed, round, masked)

    def combine(
        self,
        node: Node,
        bodies: list[bytes],
        sealed: bytes,
        round: int = 1,
        masked: bytes | None = None,
        **header: Any,
    ) -> Vector:
        """What a node releases that is asked to combine shares."""
        if masked is None:
            masked = self.total(bodies).masked()
        records = {
            PAYLOAD: bytes_record(self.packed(sealed, len(bodies), round, **header), "shares"),
            MASKED: bytes_record(masked, "hybrid"),
        }
        return opened(node.ask(self.step("combine", round, "train"), self.told | records))
