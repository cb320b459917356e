"""What is refused before the first round, and who is left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from qfl.clients import ProtectMod
from qfl.crypto import Step
from qfl.errors import ConfigError, FederationError
from qfl.strategies import Aggregation, NotJoined, SecureStrategy, SelectBySize


def plain(**options: Any) -> SecureStrategy:
    return SecureStrategy(Aggregation(scheme="plain", **options))


def unprotected(make_toy: Callable[..., Any], *nodes: int) -> Any:
    class Sometimes(ProtectMod):
        def __call__(self, message: Message, context: Context, call_next: Any) -> Message:
            if context.node_id in nodes:
                content = RecordDict({"metrics": MetricRecord({"num-examples": 1})})
                return Message(content, reply_to=message)
            return super().__call__(message, context, call_next)

    return make_toy(mods=[Sometimes()])


def test_nodes_without_the_mod_are_left_out_and_named(
    run: Callable[..., Any], make_toy: Callable[..., Any]
) -> None:
    ran = run(unprotected(make_toy, 2), plain())
    why = "it does not carry qfl's protect mod"
    assert ran.events[0] == NotJoined(2, why)
    assert ran.events[1].clients == 2
    assert ran.events[1].notes == (f"left out: node 2: {why}",)


def test_too_few_nodes_with_the_mod_are_refused(
    run: Callable[..., Any], make_toy: Callable[..., Any]
) -> None:
    with pytest.raises(
        FederationError,
        match=r"1 clients answered, at least 2 are needed; first problem: node \d: it does not "
        "carry qfl's protect mod",
    ):
        run(unprotected(make_toy, 2, 3), plain())


def test_an_app_without_the_mod_that_fails_on_our_question_is_named(
    run: Callable[..., Any], make_toy: Callable[..., Any]
) -> None:
    with pytest.raises(FederationError, match=r"0 clients answered, .* first problem: node \d: "):
        run(make_toy(mods=[]), plain())
    toy = make_toy()
    toy.app = ClientApp
    with pytest.raises(FederationError, match="0 clients answered"):
        run(toy, plain())


def test_clients_without_examples_are_refused(
    run: Callable[..., Any], make_toy: Callable[..., Any]
) -> None:
    with pytest.raises(FederationError, match="the clients hold no examples at all"):
        run(make_toy((0, 0, 0)), plain(weighting="examples"))


def test_a_round_in_which_only_empty_clients_answer_is_refused(
    run: Callable[..., Any], make_toy: Callable[..., Any]
) -> None:
    def fail(message: Message, context: Context) -> None:
        if context.node_id == 3:
            raise ValueError("no rows left")

    with pytest.raises(FederationError, match="the weights of 2 replies add up to 0"):
        run(make_toy((0, 0, 5), before=fail), plain(weighting="examples"))


def test_every_count_is_needed_before_the_first_round(
    run: Callable[..., Any], make_toy: Callable[..., Any]
) -> None:
    class NoCount(ProtectMod):
        def __call__(self, message: Message, context: Context, call_next: Any) -> Message:
            asked = Step.from_json(message.content["qfl"]["step"]).step
            if context.node_id == 3 and asked == "sum":
                raise OSError("no data folder")
            return super().__call__(message, context, call_next)

    with pytest.raises(FederationError, match="count: 2 usable replies, at least 3 are needed"):
        run(make_toy(mods=[NoCount()]), plain(weighting="examples"))


@pytest.mark.parametrize("size", [-1.0, float("nan"), float("inf")])
def test_a_size_that_is_none_is_refused(
    run: Callable[..., Any], make_toy: Callable[..., Any], size: float
) -> None:
    strategy = SecureStrategy(Aggregation("plain"), selection=SelectBySize(2))
    with pytest.raises(
        FederationError,
        match=r"clients \[2\] did not say how many examples they hold; first problem: node 2: its "
        "reply to query.count holds no array 'count'",
    ):
        run(make_toy((1, size, 1)), strategy)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scheme": "ckk"}, "unknown scheme 'ckk'; did you mean 'ckks'"),
        ({"weighting": "example"}, "unknown weighting 'example'; did you mean 'examples'"),
        ({"min_clients": 1}, "min_clients=1 is not allowed with scheme ckks: must be >= 2"),
        ({"scheme": "plain", "min_clients": -1}, "min_clients=-1 .* must be >= 1,"),
        ({"bound": 0.0}, "bound must be > 0 and <= 64"),
        ({"bound": float("nan")}, "bound=nan"),
        ({"grid_bits": 31}, "grid_bits >= 8 and <= 30"),
    ],
)
def test_an_aggregation_that_cannot_work_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Aggregation(**options)


def test_a_strategy_that_was_not_started_has_no_session() -> None:
    with pytest.raises(FederationError, match="call prepare or start first"):
        plain().session  # noqa: B018
