"""The ring of participants, and which sets hang together on it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from masking_round import PLACE, Round, rules_for

from qfl.crypto.masking_circle import Circle, gather, lowest_in_window
from qfl.crypto.masking_graph import Neighbourhood
from qfl.errors import OpeningRefusedError


def circle_of(clients: int, digest: bytes = bytes(32), **changes: Any) -> Circle:
    names = sorted(
        hashlib.sha256(bytes([i % 256, i // 256])).hexdigest()[:16] for i in range(clients)
    )
    circle = Circle(names, digest, rules_for(clients))
    if changes:
        standard = {"clients": clients, "threshold": 1, "quorum": 1, "spread": 1}
        circle.neighbourhood = Neighbourhood(**{**standard, **changes})
    return circle


@pytest.mark.parametrize("clients", [2, 3, 50, 60, 301])
def test_everybody_has_as_many_neighbours_and_they_have_it(clients: int) -> None:
    circle = circle_of(clients)
    found = [circle.neighbours(index).tolist() for index in range(clients)]
    for index, others in enumerate(found):
        assert len(others) == circle.neighbourhood.degree
        assert others == sorted(set(others) - {index})
        assert all(index in found[other] for other in others)
        assert circle.holders(index).tolist() == sorted([*others, index])


def test_the_order_follows_from_what_was_advertised() -> None:
    first, again, other = (circle_of(60, digest * 32) for digest in (b"a", b"a", b"b"))
    assert first.neighbours(7).tolist() == again.neighbours(7).tolist()
    assert first.neighbours(7).tolist() != other.neighbours(7).tolist()


def test_the_digest_stands_for_place_roster_and_advertisements() -> None:
    case = Round(3)
    made = {
        name: client._advertisement() for name, client in zip(case.names, case.clients, strict=True)
    }
    wider = Round(4).roster
    other = {**made, case.names[0]: replace(made[case.names[0]], commitment=bytes(32))}
    digests = [
        gather(place, roster, advertised, case.rules).digest
        for place, roster, advertised in (
            (PLACE, case.roster, made),
            (PLACE, case.roster, dict(reversed(made.items()))),
            (PLACE + "0", case.roster, made),
            (PLACE, wider, made),
            (PLACE, case.roster, other),
            (PLACE, case.roster, dict(list(made.items())[:2])),
        )
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 5


def test_every_order_is_as_likely() -> None:
    """How far clients 0 and 1 stand apart on a ring of 51, for 2,000 digests."""
    counts = np.zeros(51)
    for trial in range(2000):
        position = circle_of(51, trial.to_bytes(32, "big"))._position
        counts[(position[1] - position[0]) % 51] += 1
    assert counts[0] == 0
    assert ((counts[1:] - 40) ** 2 / 40).sum() < 120  # chi-square, 49 degrees: 2e-7


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=30), st.data())
def test_lowest_in_window(values: list[int], data: st.DataObject) -> None:
    width = data.draw(st.integers(1, len(values)))
    expected = [min((values + values)[i : i + width]) for i in range(len(values))]
    assert lowest_in_window(np.array(values), width).tolist() == expected


def parts(edges: dict[int, set[int]]) -> int:
    """Connected parts of a graph."""
    left, count = set(edges), 0
    while left:
        queue, count = [left.pop()], count + 1
        while queue:
            near = edges[queue.pop()] & left
            left -= near
            queue += near
    return count


def two_stretches(marks: list[bool], half: int) -> list[int]:
    """Marks on every two separate stretches of the ring, by trying all."""
    size = len(marks)
    spans = [{(start + i) % size for i in range(half)} for start in range(size)]
    return [sum(marks[i] for i in a | b) for a in spans for b in spans if not a & b]


@pytest.mark.parametrize(("clients", "half"), [(7, 2), (8, 3), (9, 2), (10, 1), (10, 3), (11, 3)])
def test_sets_that_pass_hang_together(clients: int, half: int) -> None:
    """For every set of members and every set of colluding clients on a small ring."""
    circle = circle_of(clients, degree=2 * half)
    at = circle._ring.tolist()
    lowest, highest, pieces = [], [], []
    for bits in range(2**clients):
        marks = [bool(bits >> i & 1) for i in range(clients)]
        found = two_stretches(marks, half)
        lowest.append(circle.barest(circle.members(at[i] for i in range(clients) if marks[i])))
        assert lowest[-1] == min(found)
        highest.append(max(found))
        inside = {at[i] for i in range(clients) if marks[i]}
        edges = {index: inside & set(circle.neighbours(index).tolist()) for index in inside}
        pieces.append(parts(edges))
    members, bad = np.indices((2**clients, 2**clients), dtype=np.int16, sparse=True)
    passes = np.array(lowest)[members] > np.array(highest)[bad]
    apart = np.array(pieces)[members & ~bad] > 1
    assert passes.sum() > clients
    assert apart.any()
    assert not (passes & apart).any()


def test_one_member_fewer_and_the_sum_falls_apart() -> None:
    """Positions 3, 4 and 9, 10 cut a ring of 12 with four neighbours each; 4 and 9 collude."""
    circle = circle_of(12, degree=4, spread=3)
    members = circle.members(range(12))
    members[circle._ring[[3, 10]]] = False
    assert circle.barest(members) == 2
    honest = {int(circle._ring[i]) for i in (0, 1, 2, 5, 6, 7, 8, 11)}
    edges = {index: honest & set(circle.neighbours(index).tolist()) for index in honest}
    assert parts(edges) == 2
    with pytest.raises(
        OpeningRefusedError,
        match="of 12 clients 10 shared, and two stretches of the ring hold 2 of them; at least 3",
    ):
        circle.check(members, "shared")


def test_lonely_members_are_refused() -> None:
    circle = circle_of(12, degree=4, threshold=4)
    members = circle.members(range(12))
    members[circle._ring[[2, 3]]] = False
    assert circle.fewest_holders(members) == 3
    with pytest.raises(
        OpeningRefusedError, match="one of them has 3 of 5 holders of its shares left; at least 4"
    ):
        circle.check(members, "shared")


def test_too_few_members_are_refused() -> None:
    circle = Circle(circle_of(10).names, bytes(32), rules_for(10, min_clients=8))
    circle.check(circle.members(range(8)), "shared")
    with pytest.raises(
        OpeningRefusedError,
        match=r"7 of 10 clients shared; at least 8 must \(min_clients=8, quorum=7\)",
    ):
        circle.check(circle.members(range(7)), "shared")
    circle = circle_of(10)
    with pytest.raises(OpeningRefusedError, match=r"at least 7 must \(min_clients=2, quorum=7\)"):
        circle.check(circle.members(range(6)), "shared")


def test_every_sum_has_an_order_of_its_own() -> None:
    orders = []
    for place in ("run/1/train/0", "run/1/train/0", "run/2/train/0"):
        case = Round(60, place=place)
        case.step("advertise")
        case.server.advertisements()
        assert case.server._circle is not None
        orders.append(case.server._circle._ring.tolist())
    assert len({tuple(order) for order in orders}) == 3
