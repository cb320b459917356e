"""Nobody who sees all that the server sees tells apart two federations with the same sums."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from distinguishing import Candidates, Guesser, Round, marks
from flwr.app import ArrayRecord, Message
from small_federation import Clients

from qfl.crypto import TRUSTS
from qfl.records import PAYLOAD, record_bytes
from qfl.strategies import Aggregation, SecureStrategy

PAIRS = [(s, t) for s, trusts in TRUSTS.items() for t in trusts if s != "plain"]
LENGTH, GRID_BITS = 64, 14
KNOWN, GUESSED = 12, 28
# Of 28 tosses of a coin 26 or more are right with a probability of 1.5e-6.
MOST = 25

_random = np.random.default_rng(2024)
# Multiples of four steps: a quarter of each, its weight, is on the grid, so that sums are equal.
BASE = _random.integers(-500, 500, (4, LENGTH)) * 4 / 2.0**GRID_BITS
D = _random.integers(-250, 250, LENGTH) * 4 / 2.0**GRID_BITS
WORLDS = _random.integers(0, 2, KNOWN + GUESSED)


def update(client: int, round: int) -> np.ndarray:
    """The first two clients differ between the worlds, and their sum does not."""
    sign = (1 - 2 * int(WORLDS[round - 1])) * {0: 1, 1: -1}.get(client, 0)
    return BASE[client] + sign * D


def rounds_of(received: list[Message]) -> list[Round]:
    """All arrays that reached the server, by round, but contributions that are always the same."""
    contributions: dict[int, dict[int, bytes]] = defaultdict(dict)
    others: dict[int, list[bytes]] = defaultdict(list)
    for reply in received:
        number, node = int(reply.metadata.group_id or 0), reply.metadata.src_node_id
        for name, record in reply.content.items():
            if not isinstance(record, ArrayRecord):
                continue
            data = record_bytes(reply.content, name)
            if name == PAYLOAD and data[:4] == b"qfl1":
                contributions[number][node] = data
            else:
                others[number].append(data)
    return [
        Round((contributions[n][1], contributions[n][2]), others[n])
        for n in range(1, len(WORLDS) + 1)
    ]


def watched(scheme: str, trust: str) -> list[Round]:
    """Rounds of both worlds, as the server sees them."""
    aggregation = Aggregation(scheme, trust=trust, grid_bits=GRID_BITS, bound=1.0)
    four = Clients(update, (1, 1, 1, 1), (0.5,) * 4)
    received, final = four.run(SecureStrategy(aggregation), len(WORLDS), LENGTH)
    # The mean is the same whatever the world, to the last bit.
    exact = np.linspace(-0.9, 0.9, LENGTH)
    for _ in WORLDS:
        exact = exact + BASE.mean(axis=0)
    assert final.tobytes() == exact.tobytes()
    return rounds_of(received)


def right_guesses(seen: list[Round]) -> int:
    """Of the last rounds' worlds, after learning from the first ones."""
    first, second = Candidates(BASE[0] + D, BASE[0] - D), Candidates(BASE[1] - D, BASE[1] + D)
    found = np.stack([marks(one, first, second) for one in seen])
    guesser = Guesser.learn(found[:KNOWN], WORLDS[:KNOWN])
    return int((guesser.guess(found[KNOWN:]) == WORLDS[KNOWN:]).sum())


def test_without_protection_every_guess_is_right() -> None:
    assert right_guesses(watched("plain", "none")) == GUESSED


@pytest.mark.parametrize(("scheme", "trust"), PAIRS)
def test_under_protection_guesses_are_no_better_than_a_coin_s(scheme: str, trust: str) -> None:
    seen = watched(scheme, trust)
    assert GUESSED - MOST <= right_guesses(seen) <= MOST
    # A header grows with the number of the round, and nothing else changes a size.
    sizes = [[len(data) for data in one.contributions] for one in seen]
    assert all(first == second for first, second in sizes)
    assert {first for first, _ in sizes[9:]} == {sizes[9][0]}


def test_masks_that_are_used_twice_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flaw that no single message shows: all clients draw the same ring keys and errors."""
    monkeypatch.setattr("qfl.crypto.hybrid.secrets", SimpleNamespace(token_bytes=bytes))
    assert right_guesses(watched("hybrid", "key_holder")) == GUESSED


@pytest.fixture(scope="module")
def sound() -> list[Round]:
    """Rounds in which the worlds cannot be told apart."""
    return watched("hybrid", "shared")


def longer(data: bytes, update: np.ndarray) -> bytes:
    """By an octet in one world."""
    return data + bytes(bool(update[0] > BASE[0][0]))


def inside(data: bytes, leaked: bytes) -> bytes:
    """Somewhere in the body; counted from the end, because headers differ in length."""
    return data[:-900] + leaked + data[-900 + len(leaked) :]


def with_signs(data: bytes, update: np.ndarray) -> bytes:
    return inside(data, np.sign(update).astype("i1").tobytes())


def with_floats(data: bytes, update: np.ndarray) -> bytes:
    return inside(data, update.astype("<f4").tobytes())


@pytest.mark.parametrize("flaw", [longer, with_signs, with_floats])
def test_a_flaw_in_one_contribution_is_noticed(
    flaw: Callable[..., bytes], sound: list[Round]
) -> None:
    seen = [
        replace(one, contributions=(flaw(one.contributions[0], update(0, n)), one.contributions[1]))
        for n, one in enumerate(sound, start=1)
    ]
    assert right_guesses(seen) == GUESSED
