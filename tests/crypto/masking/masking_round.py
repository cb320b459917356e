"""One sum under masks with everybody in one process, step by step, so that tests can step in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qfl.crypto.encoding import SumRange
from qfl.crypto.masking_client import MaskingClient
from qfl.crypto.masking_rules import MaskingRules
from qfl.crypto.masking_server import MaskingServer
from qfl.crypto.members import MemberKeys, Roster

PLACE = "run-7/3/train/0"
STEPS = ("advertise", "share", "mask", "agree", "reveal")
KEYS = sorted((MemberKeys() for _ in range(130)), key=lambda keys: keys.name)


def rules_for(clients: int, min_clients: int = 2, **changes: Any) -> MaskingRules:
    return MaskingRules(SumRange(20, 2.0, max(clients, 2)), min_clients, **changes)


class Round:
    """Clients 0, 1, ... in the order of their names, and a server.

    Every client is written to bytes and read again between any two steps. ``wire`` holds all
    bytes that were sent.
    """

    def __init__(
        self,
        clients: int,
        length: int = 3,
        *,
        place: str = PLACE,
        rules: MaskingRules | None = None,
        vectors: NDArray[np.int64] | None = None,
    ) -> None:
        self.keys, self.place, self.length = KEYS[:clients], place, length
        self.roster = Roster(keys.member for keys in self.keys)
        self.rules = rules_for(clients) if rules is None else rules
        self.names = [keys.name for keys in self.keys]
        self.server = MaskingServer(self.roster, place, length, self.rules)
        self.clients = [MaskingClient(k, self.roster, place, self.rules) for k in self.keys]
        self.secrets = [(c._state.seed, c._state.root) for c in self.clients]
        if vectors is None:
            most = self.rules.sums.capacity // clients
            shape = (clients, length)
            vectors = np.random.default_rng(clients).integers(-most, most, shape, endpoint=True)
        self.vectors = vectors
        self.present = list(range(clients))
        self.wire: list[bytes] = []

    def sent(self, data: bytes) -> bytes:
        self.wire.append(data)
        return data

    def revive(self, index: int) -> MaskingClient:
        state = self.clients[index].to_bytes()
        self.clients[index] = MaskingClient.from_bytes(
            state, self.keys[index], self.roster, self.place, self.rules
        )
        return self.clients[index]

    def message_for(self, step: str, index: int) -> bytes:
        """What the server sends before a client's step."""
        name = self.names[index]
        make: dict[str, Callable[[], bytes]] = {
            "advertise": lambda: b"",
            "share": self.server.advertisements,
            "mask": lambda: self.server.inbox_for(name),
            "agree": self.server.survivors,
            "reveal": lambda: self.server.signatures_for(name),
        }
        return self.sent(make[step]())

    def answer(self, step: str, index: int, message: bytes) -> bytes:
        """What a client answers."""
        client = self.revive(index)
        if step == "advertise":
            return self.sent(client.advertise())
        if step == "mask":
            return self.sent(client.mask(self.vectors[index], message))
        return self.sent(bytes(getattr(client, step)(message)))

    def take(self, step: str, index: int, answer: bytes) -> None:
        take = {
            "advertise": self.server.take_advertisement,
            "share": self.server.take_shares,
            "mask": self.server.take_masked,
            "agree": self.server.take_agreement,
            "reveal": self.server.take_reveal,
        }[step]
        take(self.names[index], answer)

    def step(self, step: str, who: Iterable[int] | None = None) -> None:
        """All that took the step before are asked; they or some others take the step."""
        asked = self.present
        self.present = asked if who is None else list(who)
        messages = {index: self.message_for(step, index) for index in {*asked, *self.present}}
        for index in self.present:
            self.take(step, index, self.answer(step, index, messages[index]))

    def until(self, last: str) -> Round:
        """Everybody takes all steps up to and including one."""
        for step in STEPS[: STEPS.index(last) + 1]:
            self.step(step)
        return self

    def sum_of(self, who: Iterable[int]) -> list[int]:
        return [sum(int(self.vectors[i][at]) for i in who) for at in range(self.length)]
