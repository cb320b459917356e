"""Whoever receives bytes in a sum under masks: the server at every step, a client at every step.

Seven clients, of whom one vanishes after it dealt its shares; six are one more than must stay. What
the server takes from a dishonest client is played to the end with everybody else honest: the sum
is then right but for the vector of that client, or it is not opened at all.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from contextlib import suppress

import numpy as np
from receivers import Receiver

from qfl.crypto import (
    IntVector,
    MaskingClient,
    MaskingRules,
    MaskingServer,
    MemberKeys,
    Roster,
    SumRange,
)
from qfl.errors import CryptoError

PLACE, LENGTH, CLIENTS = "run-1/3/train/0", 3, 7
STEPS = ("advertise", "share", "mask", "agree", "reveal")
TAKES = ("take_advertisement", "take_shares", "take_masked", "take_agreement", "take_reveal")
KEYS = {keys.name: keys for keys in (MemberKeys() for _ in range(CLIENTS))}
ROSTER = Roster(keys.member for keys in KEYS.values())
RULES = MaskingRules(SumRange(16, 2.0, CLIENTS), min_clients=3)
DISHONEST, HONEST, *_, VANISHED = ROSTER.names
VECTORS = {
    name: np.array([number, -number, 1000 * number]) for number, name in enumerate(ROSTER.names)
}


class Sum:
    """One sum at some step: the server, and what the clients keep."""

    def __init__(self, place: str = PLACE) -> None:
        self.place, self.step = place, 0
        self.server = MaskingServer(ROSTER, place, LENGTH, RULES)
        self.kept = {
            name: MaskingClient(keys, ROSTER, place, RULES).to_bytes()
            for name, keys in KEYS.items()
        }

    def client(self, name: str, kept: bytes = b"") -> MaskingClient:
        return MaskingClient.from_bytes(
            kept or self.kept[name], KEYS[name], ROSTER, self.place, RULES
        )

    def message_for(self, name: str) -> bytes:
        """What the server sends before a client's step."""
        server = self.server
        make: tuple[Callable[[], bytes], ...] = (
            lambda: b"",
            server.advertisements,
            lambda: server.inbox_for(name),
            server.survivors,
            lambda: server.signatures_for(name),
        )
        return make[self.step]()

    def answer(self, client: MaskingClient, name: str, message: bytes) -> bytes:
        """What a client answers."""
        step = STEPS[self.step]
        if step == "advertise":
            return client.advertise()
        if step == "mask":
            return client.mask(VECTORS[name], message)
        answer: bytes = getattr(client, step)(message)
        return answer

    def take(self, name: str, answer: bytes) -> None:
        getattr(self.server, TAKES[self.step])(name, answer)

    def asked(self, names: list[str]) -> dict[str, bytes]:
        """Answers of clients; who refuses is left out, and keeps what it kept."""
        answers = {}
        for name in names:
            try:
                client, message = self.client(name), self.message_for(name)
                answers[name] = self.answer(client, name, message)
            except CryptoError:
                continue
            self.kept[name] = client.to_bytes()
        return answers

    def play(self, names: list[str]) -> None:
        """One step of some clients."""
        for name, answer in self.asked(names).items():
            self.take(name, answer)
        self.step += 1

    def finish(self, names: list[str]) -> tuple[IntVector, list[str]]:
        """The rest, live; returns the sum and whose vectors the server says are in it."""
        members: list[str] = []
        while self.step < len(STEPS):
            with suppress(CryptoError):  # the server goes on, whether this one is in or out
                self.message_for(HONEST)
            asked = self.asked([name for name in names if name in self.server.waiting_for])
            for name, answer in asked.items():
                self.take(name, answer)
            if STEPS[self.step] == "mask":
                members = list(asked)
            self.step += 1
        return self.server.result(), members


def masking_receivers() -> list[Receiver]:
    """Both sides at every step."""
    receivers = []
    one, other = Sum(), Sum(PLACE.replace("3", "4"))
    for step in range(len(STEPS)):
        names = ROSTER.names[:-1] if step > 1 else ROSTER.names
        snapshot = pickle.dumps(one)
        if step:
            messages = one.message_for(HONEST), other.message_for(HONEST)
            receivers.append(_client_receiver(snapshot, step, messages))
        receivers.append(_state_receiver(snapshot, step, (one.kept[HONEST], other.kept[HONEST])))
        snapshot = pickle.dumps(one)
        answers = one.asked(names), other.asked(names)
        both = answers[0][DISHONEST], answers[1][DISHONEST]
        kept = dict(one.kept)
        receivers.append(_server_receiver(snapshot, step, both, answers[0], kept))
        for run, taken in zip((one, other), answers, strict=True):
            for name, answer in taken.items():
                run.take(name, answer)
            run.step += 1
    return receivers


def _server_receiver(
    snapshot: bytes,
    step: int,
    samples: tuple[bytes, bytes],
    answers: dict[str, bytes],
    kept: dict[str, bytes],
) -> Receiver:
    def take(answer: bytes) -> str:
        run: Sum = pickle.loads(snapshot)
        before = pickle.dumps(run.server)
        try:
            run.take(DISHONEST, answer)
        except CryptoError:
            assert pickle.dumps(run.server) == before, "a refused message changed the sum"
            raise
        for name, honest in answers.items():
            if name != DISHONEST:
                run.take(name, honest)
        run.kept, run.step = dict(kept), step + 1
        masked = [name for name in answers if name != VANISHED]
        try:
            values, later = run.finish(masked)
        except CryptoError:
            return "taken, not opened"
        members = later or masked
        wrong = values - sum(VECTORS[name] for name in members)
        right = np.abs(values).max() <= RULES.sums.capacity
        assert right if STEPS[step] == "mask" else not wrong.any(), f"off by {wrong}"
        return "taken, opened"

    return Receiver(f"masking: server, {STEPS[step]}", samples, take)


def _client_receiver(snapshot: bytes, step: int, samples: tuple[bytes, bytes]) -> Receiver:
    def take(message: bytes) -> str:
        run: Sum = pickle.loads(snapshot)
        client = run.client(HONEST)
        try:
            run.answer(client, HONEST, message)
        except CryptoError:
            assert client.to_bytes() == run.kept[HONEST], "a refused message changed a client"
            raise
        return "answered"

    return Receiver(f"masking: client, {STEPS[step]}", samples, take)


def _state_receiver(snapshot: bytes, step: int, samples: tuple[bytes, bytes]) -> Receiver:
    def take(kept: bytes) -> str:
        run: Sum = pickle.loads(snapshot)
        client = run.client(HONEST, kept)
        run.answer(client, HONEST, run.message_for(HONEST))
        run.client(HONEST, client.to_bytes())
        return "went on"

    return Receiver(f"masking: client, state before {STEPS[step]}", samples, take)
