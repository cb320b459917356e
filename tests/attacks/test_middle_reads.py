"""What whoever carries the messages reads of them: who talks to whom, and how much; no more."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from altering import beside
from flwr.app import Message
from man_in_the_middle import Middle, addressed, around, bytes_of
from signed_federation import INITIAL, MADE, SIZES, Federation
from small_federation import Clients

from qfl.enveloped import CHAIN, ENVELOPE, POLICY, REVOCATIONS, Enclosed
from qfl.federation.local_grid import LocalGrid
from qfl.identity.credentials import chain_to_bytes
from qfl.records import STEP, arrays_of, record_of
from qfl.strategies import SecureStrategy

LOSS = 0.7310585786300049
CANARY = np.array([0.4142135623730951, -0.2360679774997898], dtype=np.float64)
PUBLIC = {ENVELOPE, CHAIN, "qfl-operator", POLICY, REVOCATIONS}
WINDOW = 20
"""Bytes of a payload that stand nowhere else by chance."""


def encoded(values: Any) -> list[bytes]:
    """Numbers as they could travel; short ones with their neighbour, or chance would find them."""
    flat = [float(value) for value in np.ravel(values)]
    found = [struct.pack(form, value) for value in flat for form in ("<d", ">d")]
    pairs = pairwise(flat)
    found += [struct.pack(form, *pair) for pair in pairs for form in ("<2f", ">2f")]
    return found + [text.encode() for text in map(repr, flat) if len(text) > 8]


def planted(federation: Federation) -> None:
    """Puts a value that is found again into models, updates and metrics."""
    clients = federation.clients
    before = clients.updates

    def updates(client: int, round: int) -> Any:
        moved = before(client, round)
        moved[: CANARY.size] = CANARY * (client + 1) / 8
        return moved

    clients.updates = updates
    clients.losses = tuple(LOSS * (client + 1) for client in range(len(SIZES)))


def secrets_of(federation: Federation) -> list[bytes]:
    """Models, updates and metrics, as they could travel."""
    updates = [federation.clients.updates(client, 1) for client in range(len(SIZES))]
    losses = federation.clients.losses
    return encoded([*INITIAL, *np.ravel(updates), *losses, *np.square(losses)])


def steps_of(middle: Middle) -> list[dict[str, Any]]:
    """What nodes were asked for."""
    found = []
    for _, payload in middle.opened:
        record = Enclosed.from_bytes(payload).content.config_records.get(STEP)
        if record is not None:
            found.append(json.loads(str(record["step"])))
    return found


@pytest.mark.parametrize("case", list(MADE))
def test_nothing_of_a_run_is_in_the_clear(case: str) -> None:
    with Federation(case, around()) as federation:
        middle = federation.grid
        assert isinstance(middle, Middle)
        planted(federation)
        ran = federation.run(2)
        assert ran.error == ""
        assert ran.result is not None
        carried = b"\0".join(middle.carried)
        final = [
            value for array in arrays_of(ran.result.arrays).values() for value in array.ravel()
        ]
        for secret in [*secrets_of(federation), *encoded(final)]:
            assert secret not in carried
    steps = steps_of(middle)
    ((run),) = {step["run"] for step in steps}
    words = {run, bytes.fromhex(run).hex().upper(), *(step["key_id"] for step in steps)} - {""}
    for word in words | {'"step"', "fraction_bits", "min_clients", "eval_loss", "qfl-payload"}:
        assert word.encode() not in carried
    # Whatever was inside an envelope, keys and ciphertexts with it, is nowhere outside; but for
    # introductions, since what nodes are told of each other stands there in the clear.
    later = b"\0".join(one for one in middle.carried if CHAIN.encode() not in one)
    for one in (federation.identities.server, *federation.identities.nodes):
        later = later.replace(one.did.encode(), b"")  # to whom messages are is no secret
    checked = 0
    for kind, payload in middle.opened:
        for at in range(0, len(payload) - WINDOW, max(WINDOW, len(payload) // 40)):
            checked += kind != "introduce"
            assert kind == "introduce" or payload[at : at + WINDOW] not in later
    assert checked > 1000


@pytest.mark.parametrize("case", list(MADE))
def test_messages_are_an_envelope_and_nothing_else(case: str) -> None:
    """But for introductions, which carry descriptions and the operator's words."""
    with Federation(case, around()) as federation:
        middle = federation.grid
        assert isinstance(middle, Middle)
        federation.run(1)
    for key, message in middle.messages.items():
        if middle.requests[key].kind == "introduce":
            assert {ENVELOPE, CHAIN} < set(message.content) <= PUBLIC
        else:
            assert set(message.content) == {ENVELOPE}
    for seen, message in middle.replies:
        assert set(message.content) == (
            {ENVELOPE, CHAIN} if seen.kind == "introduce" else {ENVELOPE}
        )


def test_the_same_search_finds_what_is_not_sealed() -> None:
    """Without envelopes models and steps are there to be read."""
    carried: list[bytes] = []

    class Carrier(LocalGrid):
        """Keeps what goes by."""

        def push_messages(self, messages: Iterable[Message]) -> list[str]:
            """As ever."""
            kept = list(messages)
            carried.extend(map(bytes_of, kept))
            return super().push_messages(kept)

    clients = Clients(lambda client, round: CANARY, SIZES, (LOSS,) * len(SIZES))
    with Carrier(clients.app(), len(SIZES)) as grid:
        SecureStrategy(MADE["ckks"]).start(grid, record_of({"w": INITIAL[:2]}), num_rounds=1)
    found = b"\0".join(carried)
    assert any(one in found for one in encoded(INITIAL[:1]))
    assert b"fraction_bits" in found


def test_errors_tell_nothing_of_the_run() -> None:
    """A message in the wrong place has a node answer by an error that nobody sealed."""
    with Federation("ckks", around()) as federation:
        middle = federation.grid
        assert isinstance(middle, Middle)
        federation.run(1)
        for key, message in list(middle.messages.items()):
            middle.deliver(message, key)
            introduced = beside(chain=chain_to_bytes(federation.identities.server.chain))
            middle.deliver(introduced(middle, middle.requests[key], message), key)
            middle.deliver(addressed(message, 1 + message.metadata.dst_node_id % 4), key)
        middle.settle()
        errors = [one for _, one in middle.replies if one.has_error()]
        carried = b"\0".join(map(bytes_of, errors))
    assert len(errors) == 3 * len(middle.messages)
    ((run),) = {step["run"] for step in steps_of(middle)}
    assert run.encode() not in carried
