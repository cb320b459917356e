"""Clients and key holders that fail, lie, repeat themselves or never answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message

from qfl.clients import ProtectMod
from qfl.crypto import Step
from qfl.errors import FederationError
from qfl.federation.grid_messages import copy_message
from qfl.federation.local_grid import LocalGrid
from qfl.records import record_of
from qfl.strategies import (
    Aggregation,
    ClientReplied,
    Event,
    RoundFinished,
    SecureStrategy,
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
    assert "a coordinate beyond" in problems(ran)[3]
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
        session = strategy.prepare(grid, record_of(toy.initial)).session
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
