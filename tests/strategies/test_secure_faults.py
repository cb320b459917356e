"""Clients and key holders that fail, lie, repeat themselves or never answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from qfl.clients import ProtectMod
from qfl.crypto import Step
from qfl.errors import ConfigError, FederationError
from qfl.federation.grid_messages import copy_message
from qfl.federation.local_grid import LocalGrid
from qfl.records import record_of
from qfl.strategies import (
    Aggregation,
    ClientReplied,
    Event,
    RoundFinished,
    SecureStrategy,
    SelectBySize,
)

PAYLOAD = "qfl-payload"
FAR_S = 20.0


def plain(**options: Any) -> SecureStrategy:
    return SecureStrategy(Aggregation(scheme="plain", **options))


def problems(ran: Any) -> dict[int, str]:
    return {e.node: e.error for e in ran.events if isinstance(e, ClientReplied) and e.error}


def is_payload(reply: Message) -> bool:
    return reply.has_content() and PAYLOAD in reply.content.array_records


def with_payload(reply: Message, data: bytes) -> Message:
    changed = copy_message(reply)
    changed.content[PAYLOAD]["data"].data = data
    return changed


def payload_of(reply: Message) -> bytes:
    data: bytes = reply.content[PAYLOAD]["data"].data
    return data


class Broken(ProtectMod):
    """A mod that does something else in one kind of step."""

    def __init__(self, step: str, act: Callable[[Message], Message | None]) -> None:
        super().__init__()
        self._step, self._act = step, act

    def __call__(self, message: Message, context: Context, call_next: Any) -> Message:
        asked = Step.from_json(message.content["qfl"]["step"]).step
        made = self._act(message) if asked == self._step else None
        return made or super().__call__(message, context, call_next)


def fail_of(node: int) -> Callable[[Message, Context], None]:
    def before(message: Message, context: Context) -> None:
        if context.node_id == node:
            raise ValueError("no rows left\nsecond line")

    return before


@pytest.mark.parametrize("scheme", ["plain", "ckks"])
def test_a_client_that_fails_is_left_out(
    run: Callable[..., Any], make_toy: Callable[..., Any], scheme: str
) -> None:
    toy = make_toy((10, 30, 40), before=fail_of(2))
    ran = run(toy, SecureStrategy(Aggregation(scheme, "examples", min_clients=2)), rounds=2)
    assert problems(ran) == {2: "no rows left"}
    assert [(e.clients, e.failures) for e in ran.rounds[1:]] == [(2, 1), (2, 1)]
    model = toy.initial["weight"]
    for _ in range(2):
        model = model + toy.mean(model, [10, 0, 40])
    np.testing.assert_allclose(ran.final, model.ravel(), rtol=0, atol=1e-5)


def test_below_min_clients_the_first_reason_is_named(
    run: Callable[..., Any], make_toy: Callable[..., Any]
) -> None:
    toy = make_toy(before=fail_of(2))
    with pytest.raises(
        FederationError,
        match=r"^round 1, train: 2 usable replies, at least 3 are needed; "
        r"first problem: node 2: no rows left$",
    ):
        run(toy, plain(min_clients=3))


def test_an_update_beyond_the_bound_is_that_clients_problem(
    run: Callable[..., Any], make_toy: Callable[..., Any]
) -> None:
    toy = make_toy()
    toy.updates[2][:] = 5.0
    ran = run(toy, plain())
    assert "coordinate of magnitude" in problems(ran)[3]
    assert "lower client.lr or raise strategy.bound" in problems(ran)[3]
    assert ran.rounds[-1].clients == 2


def test_an_update_that_is_no_number_is_that_clients_problem(
    run: Callable[..., Any], make_toy: Callable[..., Any]
) -> None:
    toy = make_toy()
    toy.updates[0][3] = np.nan
    ran = run(toy, plain())
    assert "1 values that are NaN or infinite" in problems(ran)[1]
    assert np.isfinite(ran.final).all()


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_a_late_client_is_left_out_and_may_come_back(
    run: Callable[..., Any], make_toy: Callable[..., Any], gate: threading.Event
) -> None:
    answered = threading.Event()

    def before(message: Message, context: Context) -> None:
        if context.node_id == 3 and message.content["config"]["server-round"] == 1:
            gate.wait(FAR_S)
            answered.set()

    strategy = plain()

    def observe(event: Event) -> None:
        if isinstance(event, RoundFinished):
            # Only round 1 ends by the clock, so only round 1 is short.
            strategy.session.timeout = 1.0 if event.round == 0 else FAR_S
            if event.round == 1:
                gate.set()
                answered.wait(FAR_S)

    strategy.observer = observe
    toy = make_toy(before=before)
    ran = run(toy, strategy, rounds=2, workers=3)
    assert [(e.clients, e.failures) for e in ran.rounds[1:]] == [(2, 1), (3, 0)]
    model = toy.initial["weight"]
    model = model + toy.mean(model, [1, 1, 0])
    model = model + toy.mean(model, [1, 1, 1])
    np.testing.assert_allclose(ran.final, model.ravel(), rtol=0, atol=1e-5)


def test_a_reply_by_the_grid_names_the_node_that_it_stands_for(
    run: Callable[..., Any], make_toy: Callable[..., Any]
) -> None:
    """A message that expired is answered by the server's own node, 0."""

    class Forgetful(ProtectMod):
        def __call__(self, message: Message, context: Context, call_next: Any) -> Message:
            if context.node_id == 2 and message.content["qfl"]["step"].find('"train"') > 0:
                stopped.wait(FAR_S)
            return super().__call__(message, context, call_next)

    stopped = threading.Event()
    strategy = plain()
    events: list[Event] = []
    toy = make_toy(mods=[Forgetful()])
    with LocalGrid(toy.app(), 3, workers=3) as grid:
        session = strategy.prepare(grid, record_of(toy.initial))
        sent = list(strategy.configure_train(1, record_of(toy.initial), ConfigRecord(), grid))
        for message in sent:
            message.metadata.ttl = 0.7
        strategy.observer = events.append
        _, metrics = strategy.aggregate_train(1, session.collect(sent))
        stopped.set()
    assert metrics is not None and metrics["clients"] == 2
    failed = [e for e in events if isinstance(e, ClientReplied) and e.error]
    assert [e.node for e in failed] == [2]
    assert "time to live" in str(failed[0].error)


def test_the_second_of_two_replies_is_refused(
    run: Callable[..., Any], make_toy: Callable[..., Any]
) -> None:
    def twice(replies: list[Message]) -> list[Message]:
        return replies + [copy_message(r) for r in replies if is_payload(r)]

    toy = make_toy()
    ran = run(toy, plain(), tamper=twice)
    assert problems(ran) == dict.fromkeys((1, 2, 3), "it replied twice")
    model = toy.initial["weight"]
    exact = model + toy.mean(model, [1, 1, 1])
    np.testing.assert_allclose(ran.final, exact.ravel(), rtol=0, atol=1e-5)
    assert (ran.rounds[-1].clients, ran.rounds[-1].failures) == (3, 0)


def garbage(reply: Message) -> Message:
    return with_payload(reply, b"\x00" * 100)


def flipped(reply: Message) -> Message:
    data = bytearray(payload_of(reply))
    data[-3] ^= 4
    return with_payload(reply, bytes(data))


def cut(reply: Message) -> Message:
    return with_payload(reply, payload_of(reply)[:40])


def emptied(reply: Message) -> Message:
    changed = copy_message(reply)
    del changed.content[PAYLOAD]
    return changed


@pytest.mark.parametrize("scheme", ["plain", "ckks"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (garbage, "not a qfl payload"),
        (flipped, "its digest does not match"),
        (cut, "claims a header of"),
        (emptied, "the message holds nothing; expected 'qfl-payload'"),
    ],
)
def test_a_damaged_payload_is_refused_and_the_others_count(
    run: Callable[..., Any],
    make_toy: Callable[..., Any],
    scheme: str,
    change: Callable[[Message], Message],
    words: str,
) -> None:
    def tamper(replies: list[Message]) -> list[Message]:
        return [
            change(r) if is_payload(r) and r.metadata.src_node_id == 3 and len(replies) > 1 else r
            for r in replies
        ]

    toy = make_toy()
    ran = run(toy, SecureStrategy(Aggregation(scheme)), tamper=tamper)
    assert words in problems(ran)[3]
    model = toy.initial["weight"]
    exact = model + toy.mean(model, [1, 1, 0])
    np.testing.assert_allclose(ran.final, exact.ravel(), rtol=0, atol=1e-5)


def test_a_client_that_lost_the_public_key_gets_it_again(
    run: Callable[..., Any], make_toy: Callable[..., Any]
) -> None:
    class Forgetful(ProtectMod):
        def __call__(self, message: Message, context: Context, call_next: Any) -> Message:
            if context.node_id == 3 and Step.from_json(message.content["qfl"]["step"]).round > 1:
                context.state.pop("qfl-key", None)
            return super().__call__(message, context, call_next)

    ran = run(make_toy(mods=[Forgetful()]), SecureStrategy(Aggregation("ckks")), rounds=3)
    assert [(e.clients, e.failures) for e in ran.rounds[1:]] == [(3, 0), (2, 1), (3, 0)]
    assert "public key" in problems(ran)[3] and "never reached this client" in problems(ran)[3]


def test_a_payload_of_another_round_is_refused(
    run: Callable[..., Any], make_toy: Callable[..., Any]
) -> None:
    kept: list[bytes] = []

    def replay(replies: list[Message]) -> list[Message]:
        made = []
        for reply in replies:
            if is_payload(reply) and reply.metadata.src_node_id == 2:
                kept.append(payload_of(reply))
                reply = with_payload(reply, kept[0])
            made.append(reply)
        return made

    ran = run(make_toy(), plain(), rounds=2, tamper=replay)
    assert problems(ran) == {
        2: "payload belongs elsewhere: it has round=1, this step expects round=2"
    }


def test_a_payload_of_another_run_is_refused(
    run: Callable[..., Any], make_toy: Callable[..., Any]
) -> None:
    kept: list[bytes] = []

    def replay(replies: list[Message]) -> list[Message]:
        made = []
        for reply in replies:
            if is_payload(reply) and reply.metadata.src_node_id == 2:
                kept.append(payload_of(reply))
                reply = with_payload(reply, kept[0])
            made.append(reply)
        return made

    toy = make_toy()
    run(toy, plain(), tamper=replay)
    assert "it has run='" in problems(run(toy, plain(), tamper=replay))[2]


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
        ("open", no_values, r"the key holder opened \(0,\) float64 values; expected \(8,\) int64"),
        ("open", text_values, r"the key holder opened \(2,\) <U1 values; expected \(8,\) int64"),
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
        session = strategy.prepare(grid, model)
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
    assert ran.events[0].clients == 2
    assert ran.events[0].notes == ("left out: node 2: it does not carry qfl's protect mod",)


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
    with pytest.raises(FederationError, match="the weights of 2 replies add up to 0"):
        run(make_toy((0, 0, 5), before=fail_of(3)), plain(weighting="examples"))


def test_every_count_is_needed_before_the_first_round(
    run: Callable[..., Any], make_toy: Callable[..., Any]
) -> None:
    def fail(message: Message) -> None:
        raise OSError("no data folder")

    class NoCount(Broken):
        def __call__(self, message: Message, context: Context, call_next: Any) -> Message:
            if context.node_id != 3:
                return ProtectMod.__call__(self, message, context, call_next)
            return super().__call__(message, context, call_next)

    with pytest.raises(FederationError, match="count: 2 of 3 clients answered"):
        run(make_toy(mods=[NoCount("sum", fail)]), plain(weighting="examples"))


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
        ({"scheme": "plain", "min_clients": 0}, "min_clients=0 .* must be >= 1$"),
        ({"bound": 0.0}, "bound must be > 0 and <= 64"),
        ({"bound": float("nan")}, "bound=nan"),
        ({"grid_bits": 23}, "grid_bits >= 8 and <= 22"),
    ],
)
def test_an_aggregation_that_cannot_work_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Aggregation(**options)


def test_a_strategy_that_was_not_started_has_no_session() -> None:
    with pytest.raises(FederationError, match="call prepare or start first"):
        plain().session  # noqa: B018
