"""Key holders that fail, answer nonsense, never answer, or refuse."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict

from qfl.clients import ProtectMod
from qfl.crypto import Step
from qfl.errors import FederationError
from qfl.federation.local_grid import LocalGrid
from qfl.records import record_of
from qfl.strategies import Aggregation, SecureStrategy

PAYLOAD = "qfl-payload"
FAR_S = 20.0


class Broken(ProtectMod):
    """A mod that does something else in one kind of step."""

    def __init__(self, step: str, act: Callable[[Message], Message | None]) -> None:
        super().__init__()
        self._step, self._act = step, act

    def __call__(self, message: Message, context: Context, call_next: Any) -> Message:
        asked = Step.from_json(message.content["qfl"]["step"]).step
        made = self._act(message) if asked == self._step else None
        return made or super().__call__(message, context, call_next)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def dead(message: Message) -> Message:
    raise OSError("disk gone")


def no_values(message: Message) -> Message:
    return Message(RecordDict({PAYLOAD: ArrayRecord()}), reply_to=message)


def text_values(message: Message) -> Message:
    values = ArrayRecord([np.array(["a", "b"])])
    return Message(RecordDict({PAYLOAD: ArrayRecord({"data": values["0"]})}), reply_to=message)


@pytest.mark.parametrize(
    ("step", "act", "words"),
    [
        ("keygen", dead, r"key holder 1 refused: disk gone"),
        ("open", dead, r"key holder 1 refused: disk gone"),
        (
            "open",
            no_values,
            r"opened \(0,\) float64 values; expected a vector of int64",
        ),
        (
            "open",
            text_values,
            r"opened \(2,\) <U1 values; expected a vector of int64",
        ),
    ],
)
def test_a_key_holder_that_fails_ends_the_run(
    run: Callable[..., Any],
    make_toy: Callable[..., Any],
    step: str,
    act: Callable[[Message], Message],
    words: str,
) -> None:
    with pytest.raises(FederationError, match=words):
        run(make_toy(mods=[Broken(step, act)]), SecureStrategy(Aggregation("ckks")))


def test_a_key_holder_that_never_answers_ends_the_run(
    run: Callable[..., Any], make_toy: Callable[..., Any], gate: threading.Event
) -> None:
    def hang(message: Message) -> None:
        gate.wait(FAR_S)

    with pytest.raises(FederationError, match=r"key holder 1 (did not reply|refused)"):
        run(make_toy(mods=[Broken("keygen", hang)]), SecureStrategy(Aggregation("ckks")), timeout=1)


def test_a_key_holder_opens_one_sum_per_round(
    make_toy: Callable[..., Any],
) -> None:
    toy = make_toy()
    model = record_of(toy.initial)
    strategy = SecureStrategy(Aggregation("ckks"))
    with LocalGrid(toy.app(), 3) as grid:
        session = strategy.prepare(grid, model).session
        for attempt in range(2):
            messages = list(strategy.configure_train(1, model, ConfigRecord(), grid))
            replies = list(session.collect(messages[: 3 - attempt]))
            if attempt == 0:
                strategy.aggregate_train(1, replies)
                continue
            with pytest.raises(
                FederationError,
                match=r"key holder 1 refused: another sum was already opened for round 1",
            ):
                strategy.aggregate_train(1, replies)


def test_a_named_key_holder_has_to_be_there(
    run: Callable[..., Any], make_toy: Callable[..., Any]
) -> None:
    with pytest.raises(FederationError, match="key holder 9 is not among the nodes that answered"):
        run(make_toy(), SecureStrategy(Aggregation("ckks", key_holder=9)))
