"""What anybody on the way says in an error, and a lost introduction."""

from __future__ import annotations

from typing import Any

import pytest
from flwr.app import Error
from man_in_the_middle import around, changed, disturbed
from signed_federation import Federation, leaping


def forged(text: str, kind: str, nodes: tuple[int, ...]) -> Any:
    def act(middle: Any, seen: Any, message: Any) -> Any:
        if (seen.way, seen.kind) == ("reply", kind) and seen.node in nodes:
            return [changed(message, error=Error(2, text))]
        return [message]

    return act


@pytest.mark.parametrize(
    ("kind", "nodes"),
    [("train", (2,)), ("train", (2, 3)), ("open", (5,)), ("introduce", (2,)), ("hello", (2,))],
)
def test_an_unsigned_error_writes_no_control_characters(kind: str, nodes: tuple[int, ...]) -> None:
    (ran,), _ = disturbed("ckks", forged("\x1b]0;owned\x07\x1b[2J all is well", kind, nodes))
    said = repr(ran.error) + "".join(map(repr, (vars(event) for event in ran.events)))
    assert "all is well" in said
    assert "\\x1b" not in said


def test_an_unsigned_error_is_cut() -> None:
    (ran,), _ = disturbed("ckks", forged("x" * 3_000_000, "train", (2,)))
    assert 500 <= max(len(str(vars(event))) for event in ran.events) < 10_000


def test_a_lost_introduction_is_tried_again() -> None:
    lost: list[int] = []

    def act(middle: Any, seen: Any, message: Any) -> Any:
        if (seen.way, seen.kind, seen.node) == ("request", "introduce", 2) and not lost:
            lost.append(1)
            return []
        return [message]

    with Federation("ckks", around(act)) as federation:
        middle: Any = federation.grid
        with leaping(lambda: middle.idle):
            server = federation.server()
            assert server.get_node_ids() == [1, 3, 4, 5]
            assert server.get_node_ids() == [1, 2, 3, 4, 5]
