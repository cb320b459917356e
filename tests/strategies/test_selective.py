"""Protecting a chosen share of the parameters: what is chosen, and what the server then sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from qfl.clients import ProtectMod
from qfl.crypto import Layout
from qfl.errors import ConfigError, FederationError
from qfl.records import arrays_of, record_of
from qfl.strategies import Aggregation, SecureStrategy, Selective, SetupFinished

MOVES = ({"hidden": [0.5, -0.25], "head": [1.0]}, {"hidden": [0.25, 0.5], "head": [-0.5]})
MEAN = {"hidden": [0.375, 0.125], "head": [0.25]}
SENSITIVITY = ([0.1, 0.7, 0.3], [0.3, 0.5, 0.2])
INITIAL = {"hidden": np.zeros(2), "head": np.zeros(1)}


class Two:
    """Two clients that move two arrays by known amounts."""

    nodes = 2

    def __init__(self, **options: Any) -> None:
        self.options = options

    def app(self) -> ClientApp:
        app = ClientApp(mods=[ProtectMod(**self.options)])

        @app.train()
        def train(message: Message, context: Context) -> Message:
            model = arrays_of(message.content["arrays"])
            move = MOVES[context.node_id - 1]
            moved = {name: value + np.array(move[name]) for name, value in model.items()}
            content = {"arrays": record_of(moved), "metrics": MetricRecord({"num-examples": 1})}
            return Message(RecordDict(dict(content)), reply_to=message)

        @app.query("sensitivity")
        def sensitivity(message: Message, context: Context) -> Message:
            values = np.array(SENSITIVITY[context.node_id - 1])
            record = ArrayRecord({"sensitivity": Array(values)})
            return Message(RecordDict({"sensitivity": record}), reply_to=message)

        return app


def strategy(**options: Any) -> SecureStrategy:
    return SecureStrategy(Aggregation("ckks", selective=Selective(**options)))


def clear_values(ran: Any) -> dict[int, list[float]]:
    """What the server reads of each client."""
    found = {}
    for reply in ran.grid.received:
        if reply.has_content() and "qfl-clear" in reply.content:
            raw = reply.content["qfl-clear"]["data"].data
            body = raw[8 + int.from_bytes(raw[4:8], "little") :]
            found[reply.metadata.src_node_id] = np.frombuffer(body, "<f4").tolist()
    return found


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        ({"by": "layers", "layers": ("hid*",)}, {1: [0.5], 2: [-0.25]}),
        ({"by": "layers", "layers": ("head",)}, {1: [0.25, -0.125], 2: [0.125, 0.25]}),
        # Sums of sensitivities are 0.4, 1.2, 0.5: the second and third come first.
        ({"by": "sensitivity", "share": 2 / 3}, {1: [0.25], 2: [0.125]}),
        ({"by": "sensitivity", "share": 0.01}, {1: [0.25, 0.5], 2: [0.125, -0.25]}),
        ({"by": "all"}, {}),
    ],
)
def test_the_server_sees_what_is_not_chosen_and_the_mean_is_the_same(
    run: Callable[..., Any], options: dict[str, Any], seen: dict[int, list[float]]
) -> None:
    ran = run(Two(), strategy(**options), rounds=1, initial=INITIAL)
    assert clear_values(ran) == seen
    for name, exact in MEAN.items():
        np.testing.assert_allclose(ran.result.arrays[name].numpy(), exact, rtol=0, atol=2e-6)


def test_what_stays_in_the_clear_is_said_at_the_start(run: Callable[..., Any]) -> None:
    chosen = strategy(by="layers", layers=("hidden",))
    ran = run(Two(), chosen, rounds=1, initial=INITIAL)
    (setup,) = [event for event in ran.events if isinstance(event, SetupFinished)]
    assert any(
        "in the clear: 1 of 3 parameters (33.3 %), which the server reads of every client: head (1)"
        in note
        for note in setup.notes
    )


@pytest.mark.parametrize(
    ("options", "allowed"),
    [
        ({}, True),
        ({"require": "ckks"}, False),
        ({"require": "ckks", "clear": 0.5}, True),
        ({"clear": 0.3}, False),
    ],
)
def test_a_client_may_forbid_it(
    run: Callable[..., Any], options: dict[str, Any], allowed: bool
) -> None:
    chosen = strategy(by="layers", layers=("hidden",))
    if allowed:
        run(Two(**options), chosen, rounds=1, initial=INITIAL)
        return
    with pytest.raises(FederationError, match=r"asks for 33.3% of the update in the clear"):
        run(Two(**options), chosen, rounds=1, initial=INITIAL)


def test_patterns_that_match_nothing_are_refused(run: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match=r"matches no array .* it has hidden, head"):
        run(Two(), strategy(by="layers", layers=("circuit.*",)), initial=INITIAL)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"by": "size"}, "unknown choice of parameters 'size'"),
        ({"by": "sensitivity", "share": 0.0}, "share=0.0 is not allowed"),
    ],
)
def test_bad_choices_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Selective(**options)


def test_it_goes_with_no_scheme_and_release_that_leave_nothing_to_choose() -> None:
    for options in ({"scheme": "plain"}, {"scheme": "ckks", "release": "clients"}):
        with pytest.raises(ConfigError, match="protecting parameters by layers is not possible"):
            Aggregation(**options, selective=Selective("layers", layers=("a",)))


def test_coordinates_that_are_not_summed_take_no_part() -> None:
    layout = Layout.of({"a": np.zeros((2, 2)), "steps": np.array(3), "b": np.zeros(1)})
    mask = Selective("layers", layers=("b",)).mask(layout, lambda: np.zeros(0))
    assert mask is not None and mask.tolist() == [False] * 4 + [True]
