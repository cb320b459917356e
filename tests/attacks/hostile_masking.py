"""A server's dealings with clients in a sum under masks, step by step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hostile import LENGTH, Node, Server, Vector

from qfl.crypto import MaskingRules, MaskingServer, unpack
from qfl.records import INBOX, PAYLOAD, bytes_record, record_bytes

BEFORE, AFTER = ("advertise", "deal"), ("agree", "reveal")


@dataclass
class MaskedSum(Server):
    """Sums under masks; ``sum`` is the honest half of the server, which tests go around.

    Attributes:
        sums: By round.
    """

    sums: dict[int, MaskingServer] = field(default_factory=dict)

    def set_up(self) -> None:
        """There are no keys; the first round may begin."""
        self.sum()

    @property
    def rules(self) -> MaskingRules:
        """The server's own."""
        step = self.step("train")
        return MaskingRules(step.sums, step.min_clients)

    def sum(self, round: int = 1) -> MaskingServer:
        """The honest server of a round."""
        if round not in self.sums:
            place = self.place(round)
            self.sums[round] = MaskingServer(self.roster, place, LENGTH + 1, self.rules)
        return self.sums[round]

    def say(self, node: Node, kind: str, content: bytes, round: int = 1, **changes: Any) -> bytes:
        """One short step at one client."""
        step = self.step(kind, round, **{"label": "train", **changes})
        records = self.told | ({PAYLOAD: bytes_record(content, kind)} if content else {})
        return record_bytes(node.ask(step, records), PAYLOAD)

    def mask(self, node: Node, inbox: bytes, round: int = 1, **changes: Any) -> bytes:
        """A client's masked vector."""
        asked = self.step("train", round, **changes)
        records = self.model | self.told | {INBOX: bytes_record(inbox, "inbox")}
        return unpack(record_bytes(node.ask(asked, records), PAYLOAD))[1]

    def answer(self, node: Node, kind: str, round: int = 1) -> bytes:
        """What a client answers an honest server at a step."""
        server, name = self.sum(round), node.name
        if kind == "train":
            return self.mask(node, server.inbox_for(name), round)
        content = {
            "advertise": lambda: b"",
            "deal": server.advertisements,
            "agree": server.survivors,
            "reveal": lambda: server.signatures_for(name),
        }[kind]()
        return self.say(node, kind, content, round)

    def take(self, kind: str, who: list[Node] | None = None, round: int = 1) -> None:
        """Some clients take a step, and the server takes what they answer."""
        server, nodes = self.sum(round), self.nodes if who is None else who
        # All answers first: what the server takes may change what it asks.
        answers = {node.name: self.answer(node, kind, round) for node in nodes}
        take = {
            "advertise": server.take_advertisement,
            "deal": server.take_shares,
            "train": server.take_masked,
            "agree": server.take_agreement,
            "reveal": server.take_reveal,
        }[kind]
        for name, answer in answers.items():
            take(name, answer)

    def until(self, last: str, round: int = 1) -> None:
        """All take all steps up to one."""
        steps = (*BEFORE, "train", *AFTER)
        for kind in steps[: steps.index(last) + 1]:
            self.take(kind, round=round)

    def opened(self, round: int = 1) -> Vector:
        """The sum."""
        return self.sum(round).result()
