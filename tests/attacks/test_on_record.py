"""What is refused in a run is on record: the error that ended it, or what was said of a reply."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import Message
from small_federation import Clients

from qfl.crypto import TRUSTS, Header, HybridSum, MaskingServer, pack, unpack
from qfl.errors import CryptoError, FederationError
from qfl.federation.grid_messages import copy_message
from qfl.records import PAYLOAD, bytes_record, record_bytes
from qfl.strategies import Aggregation, ClientReplied, SecureStrategy

HOLDERS = [(s, t) for s in ("ckks", "packed", "hybrid") for t in ("key_holder", "shared")]
PROTECTED = [(s, t) for s, trusts in TRUSTS.items() for t in trusts if s != "plain"]
LENGTH, CLIENTS = 5, 6

Change = Callable[[Header, bytes], tuple[Header, bytes]]


def update(client: int, round: int) -> np.ndarray:
    return np.full(LENGTH, 0.1 * (client + 1)) * round


def clients() -> Clients:
    return Clients(update, (1,) * CLIENTS, (0.5,) * CLIENTS)


def strategy(scheme: str, trust: str, **options: Any) -> SecureStrategy:
    return SecureStrategy(Aggregation(scheme, trust=trust, min_clients=4, grid_bits=14, **options))


def changed(**fields: Any) -> Change:
    return lambda header, body: (replace(header, **fields), body)


@pytest.mark.parametrize(("scheme", "trust"), HOLDERS)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (changed(contributions=3), "asked to open a sum of 3 updates in round 1; at least 4"),
        (changed(contributions=7), "asked to open a sum of 7 updates; the parameters of this key"),
        (changed(run="other"), "asked to open a sum with run='other'; this key holder opens run="),
        (changed(key_id="0f0f"), "asked to open a sum with key_id='0f0f'; this key holder opens"),
        (changed(scheme="plain"), "asked to open a sum with scheme='plain'; this key holder opens"),
        (lambda header, body: (header, body[:-1]), "bytes"),
    ],
    ids=["few", "many", "run", "key", "scheme", "cut"],
)
def test_a_refusal_by_a_key_holder(
    monkeypatch: pytest.MonkeyPatch, scheme: str, trust: str, change: Change, words: str
) -> None:
    monkeypatch.setattr(
        "qfl.strategies.opening.pack", lambda header, body: pack(*change(header, body))
    )
    with pytest.raises(FederationError) as refusal:
        clients().run(strategy(scheme, trust), 1, LENGTH)
    assert str(refusal.value).startswith("key holder 1 refused: ")
    assert words in str(refusal.value)


@pytest.mark.parametrize("trust", ["key_holder", "shared"])
def test_a_key_holder_that_counts(monkeypatch: pytest.MonkeyPatch, trust: str) -> None:
    monkeypatch.setattr(
        "qfl.strategies.opening.pack", lambda h, body: pack(replace(h, contributions=5), body)
    )
    with pytest.raises(FederationError, match="refused: asked to open a sum of 5 updates; it hol"):
        clients().run(strategy("hybrid", trust), 1, LENGTH)


def test_a_refusal_by_a_committee(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server leaves contributions out of the statement."""
    statement = HybridSum._statement

    def fewer(self: HybridSum, place: str) -> Any:
        whole = statement(self, place)
        return replace(whole, entries=whole.entries[:3])

    monkeypatch.setattr(HybridSum, "_statement", fewer)
    with pytest.raises(
        FederationError,
        match=r"round 1, train: 0 of 3 committee members answered, at least 2 must; member \d "
        r"refused: asked to open a sum of 3 updates at .*/1/train/0/[0-9a-f]{64}; at least 4 are",
    ):
        clients().run(strategy("hybrid", "committee"), 1, LENGTH)


def test_a_refusal_by_clients_under_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server says that one client less sent a vector."""
    survivors = MaskingServer.survivors

    def fewer(self: MaskingServer) -> bytes:
        said = bytearray(survivors(self))
        said[-1] = 0b111
        return bytes(said)

    monkeypatch.setattr(MaskingServer, "survivors", fewer)
    with pytest.raises(FederationError) as refusal:
        clients().run(strategy("masking", "none"), 1, LENGTH)
    said = str(refusal.value)
    assert said.startswith("round 1, train: ") and "first problem: node " in said
    assert "3 of 6 clients sent masked vectors; at least 5 must" in said or (
        "the server leaves this client out of those who sent masked vectors" in said
    )


# What comes from a client and does not belong.


class Swap:
    """Puts something else in the place of node 3's contribution of the last round."""

    def __init__(self, rounds: int, make: Callable[[bytes], bytes]) -> None:
        self.rounds, self.make = rounds, make
        self.seen: dict[int, bytes] = {}

    def __call__(self, reply: Message) -> Message:
        if reply.metadata.src_node_id != 3 or reply.has_error():
            return reply
        try:
            data = record_bytes(reply.content, PAYLOAD)
            header, _ = unpack(data)
        except CryptoError:
            return reply
        self.seen[header.round] = data
        if header.step != "train" or header.round != self.rounds:
            return reply
        made = copy_message(reply)
        made.content[PAYLOAD] = bytes_record(self.make(data), "payload")
        return made


def ran_with(scheme: str, trust: str, swap: Swap) -> tuple[str, np.ndarray]:
    """What was said of node 3's last contribution, and the final model."""
    said: dict[int, str] = {}

    def observe(event: Any) -> None:
        if isinstance(event, ClientReplied) and event.error:
            said[event.node] = event.error

    made = strategy(scheme, trust)
    made.observer = observe
    _, final = clients().run(made, swap.rounds, LENGTH, tamper=swap)
    assert set(said) == {3}
    return said[3], final


def without_the_third(rounds: int) -> np.ndarray:
    """The exact final model, if node 3 is left out of the last round."""
    model = np.linspace(-0.9, 0.9, LENGTH)
    for round in range(1, rounds + 1):
        there = [i for i in range(CLIENTS) if i != 2 or round < rounds]
        model = model + np.mean([update(i, round) for i in there], axis=0)
    return model


def repacked(**fields: Any) -> Callable[[bytes], bytes]:
    def make(data: bytes) -> bytes:
        header, body = unpack(data)
        return pack(replace(header, **fields), body)

    return make


def cut(data: bytes) -> bytes:
    header, body = unpack(data)
    return pack(header, body[:-4])


def lengthened(data: bytes) -> bytes:
    header, body = unpack(data)
    return pack(header, body + bytes(4))


def reordered(data: bytes) -> bytes:
    """Two numbers change places; whoever did it did not change the header."""
    return data[:-8] + data[-4:] + data[-8:-4]


@pytest.mark.parametrize(("scheme", "trust"), PROTECTED)
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (repacked(round=7), "it has round=7, this step expects round=1"),
        (repacked(run="other"), "it has run='other', this step expects run='"),
        (repacked(attempt=1), "it has attempt=1, this step expects attempt=0"),
        (repacked(step="evaluate"), "it has step='evaluate', this step expects step='train'"),
        (repacked(length=5), "it has length=5, this step expects length=6"),
        (repacked(contributions=2), "it has contributions=2, this step expects contributions=1"),
        (repacked(key_id="0f"), "it has key_id='0f', this step expects key_id='"),
        (repacked(scheme="plain"), "it has scheme='plain', this step expects scheme='"),
        (cut, "bytes"),
        (lengthened, "bytes"),
        (reordered, "payload is damaged: its digest does not match its content"),
    ],
    ids=[
        *("round", "run", "attempt", "step", "length", "count", "key", "scheme"),
        *("cut", "lengthened", "reordered"),
    ],
)
def test_a_contribution_that_does_not_belong_is_left_out(
    scheme: str, trust: str, make: Callable[[bytes], bytes], words: str
) -> None:
    said, final = ran_with(scheme, trust, Swap(1, make))
    assert words in said
    np.testing.assert_allclose(final, without_the_third(1), rtol=0, atol=1e-3)


@pytest.mark.parametrize(("scheme", "trust"), PROTECTED)
def test_a_contribution_of_an_earlier_round_is_left_out(scheme: str, trust: str) -> None:
    swap = Swap(2, lambda data: swap.seen[1])
    said, final = ran_with(scheme, trust, swap)
    assert "payload belongs elsewhere: it has round=1, this step expects round=2" in said
    np.testing.assert_allclose(final, without_the_third(2), rtol=0, atol=1e-3)


def test_an_earlier_vector_under_masks_with_a_new_header() -> None:
    """Its signature is over the keys that were made for the earlier sum."""

    def make(data: bytes) -> bytes:
        return pack(unpack(data)[0], unpack(swap.seen[1])[1])

    swap = Swap(2, make)
    said, final = ran_with("masking", "none", swap)
    assert "masked among other participants than were announced" in said
    np.testing.assert_allclose(final, without_the_third(2), rtol=0, atol=1e-3)


@pytest.mark.parametrize("trust", ["key_holder", "shared", "committee"])
def test_an_earlier_contribution_with_a_new_header_is_left_out(trust: str) -> None:
    """Clients sign where their contributions belong."""

    def make(data: bytes) -> bytes:
        return pack(unpack(data)[0], unpack(swap.seen[1])[1])

    swap = Swap(2, make)
    said, final = ran_with("hybrid", trust, swap)
    assert "the signature on the contribution of member" in said and "not for place '" in said
    np.testing.assert_allclose(final, without_the_third(2), rtol=0, atol=1e-3)


@pytest.mark.parametrize("trust", ["key_holder", "shared", "committee"])
def test_a_vector_that_is_not_the_signed_one_is_left_out(trust: str) -> None:
    def make(data: bytes) -> bytes:
        header, body = unpack(data)
        return pack(header, body[:-8] + body[-4:] + body[-8:-4])

    said, final = ran_with("hybrid", trust, Swap(1, make))
    assert "the masked vector of member" in said and "is not the one it sent" in said
    np.testing.assert_allclose(final, without_the_third(1), rtol=0, atol=1e-3)


@pytest.mark.parametrize("trust", ["key_holder", "shared", "committee"])
def test_another_client_s_contribution_is_left_out(trust: str) -> None:
    """Node 3 sends on what node 2 sent before it."""
    taken: list[bytes] = []

    class Copying(Swap):
        def __call__(self, reply: Message) -> Message:
            if reply.metadata.src_node_id == 2 and PAYLOAD in reply.content:
                taken.append(record_bytes(reply.content, PAYLOAD))
            return super().__call__(reply)

    said, final = ran_with("hybrid", trust, Copying(1, lambda data: taken[-1]))
    assert "it sent a contribution that member" in said and said.endswith(" signed")
    np.testing.assert_allclose(final, without_the_third(1), rtol=0, atol=1e-3)
