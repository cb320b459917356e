"""The in-process grid keeps a deployment's guarantees."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from flwr.app import (
    ArrayRecord,
    ConfigRecord,
    Context,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from qfl.errors import ConfigError, DataError
from qfl.federation.local_grid import SERVER_NODE_ID, LocalGrid, run_local

Handler = Callable[[Message, Context], RecordDict]
CLIENT_RAISED, MESSAGE_UNAVAILABLE, NODE_UNAVAILABLE = 2, 3, 5
LONG_S = 30.0


def app_of(handler: Handler) -> ClientApp:
    """A client app that answers every train message with what the handler returns."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return Message(handler(message, context), reply_to=message)

    return app


def part(context: Context) -> int:
    return int(context.node_config["partition-id"])


def report(**values: float) -> RecordDict:
    return RecordDict({"metrics": MetricRecord(dict(values))})


def ask(grid: Grid, content: RecordDict | None = None, ttl: float | None = None) -> list[Message]:
    """One train message per node, all holding the same content object as FedAvg's do."""
    content = RecordDict() if content is None else content
    return [Message(content, node, "train", ttl=ttl) for node in grid.get_node_ids()]


def inside(holder: Message | RecordDict) -> Any:
    """The records, without their types: Flower's are unions that every access would narrow."""
    return holder.content if isinstance(holder, Message) else holder


def metric(reply: Message, name: str) -> Any:
    return inside(reply)["metrics"][name]


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Clients that wait for this event are let go when the test ends, passed or failed."""
    event = threading.Event()
    yield event
    event.set()


def pull_until(grid: LocalGrid, ids: list[str], count: int) -> list[Message]:
    replies: list[Message] = []
    give_up = time.monotonic() + LONG_S
    while len(replies) < count and time.monotonic() < give_up:
        replies += grid.pull_messages(ids)
        time.sleep(0.005)
    return replies


def test_nodes_are_numbered_and_know_their_partition() -> None:
    def handler(message: Message, context: Context) -> RecordDict:
        return report(
            part=part(context),
            parts=int(context.node_config["num-partitions"]),
            node=context.node_id,
            lr=float(context.run_config["lr"]),
        )

    with LocalGrid(app_of(handler), 3, run_config={"lr": 0.5}, run_id=77) as grid:
        assert grid.get_node_ids() == [1, 2, 3]
        assert [node.node_id for node in grid.get_nodes()] == [1, 2, 3]
        replies = grid.send_and_receive(ask(grid))
    assert [dict(inside(r)["metrics"]) for r in replies] == [
        {"part": i, "parts": 3, "node": i + 1, "lr": 0.5} for i in range(3)
    ]
    assert [r.metadata.src_node_id for r in replies] == [1, 2, 3]
    assert {r.metadata.dst_node_id for r in replies} == {SERVER_NODE_ID}
    assert {r.metadata.run_id for r in replies} == {77}


def test_every_message_and_reply_has_an_id_of_its_own() -> None:
    with LocalGrid(app_of(lambda m, c: report()), 3) as grid:
        messages = ask(grid) + ask(grid)
        replies = grid.send_and_receive(messages)
    asked = [m.metadata.message_id for m in messages]
    answered = [r.metadata.message_id for r in replies]
    assert len(set(asked + answered)) == 12
    assert "" not in asked + answered
    assert [r.metadata.reply_to_message_id for r in replies] == asked


def test_state_is_kept_per_node_and_a_failed_message_leaves_none() -> None:
    def handler(message: Message, context: Context) -> RecordDict:
        state = inside(context.state)
        count = int(state["n"]["count"]) + 1 if "n" in state else 1
        context.state["n"] = MetricRecord({"count": count})
        if inside(message)["config"]["fail-on"] == part(context):
            raise DataError("no rows")
        return report(count=count)

    def config(fail_on: int) -> RecordDict:
        return RecordDict({"config": ConfigRecord({"fail-on": fail_on})})

    with LocalGrid(app_of(handler), 3) as grid:
        for fail_on in (-1, 1):
            grid.send_and_receive(ask(grid, config(fail_on)))
        replies = grid.send_and_receive(ask(grid, config(-1)))
    assert [metric(r, "count") for r in replies] == [3, 2, 3]


@pytest.mark.parametrize("error", [DataError("no rows"), SystemExit("no rows")])
def test_a_raising_client_becomes_an_error_reply_and_others_are_fine(error: BaseException) -> None:
    def handler(message: Message, context: Context) -> RecordDict:
        if part(context) == 1:
            raise error
        return report(part=part(context))

    with LocalGrid(app_of(handler), 3, workers=1) as grid:
        for _ in range(3):
            first, failed, last = grid.send_and_receive(ask(grid), timeout=LONG_S)
            assert failed.has_error()
            assert failed.error.code == CLIENT_RAISED
            assert type(error).__name__ in str(failed.error.reason)
            assert "no rows" in str(failed.error.reason)
            assert failed.metadata.src_node_id == 2
            assert [metric(first, "part"), metric(last, "part")] == [0, 2]


def test_what_is_no_reply_becomes_an_error_reply_instead_of_silence() -> None:
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return message if part(context) else None  # type: ignore[return-value]

    with LocalGrid(app, 2) as grid:
        nothing, echo = grid.send_and_receive(ask(grid), timeout=LONG_S)
    assert nothing.error.code == echo.error.code == CLIENT_RAISED
    assert "must return a Message, not NoneType" in str(nothing.error.reason)
    assert "reply_to=message" in str(echo.error.reason)


def test_an_unregistered_message_type_becomes_an_error_reply() -> None:
    with LocalGrid(ClientApp(), 1) as grid:
        (reply,) = grid.send_and_receive(ask(grid), timeout=LONG_S)
    assert reply.error.code == CLIENT_RAISED
    assert "No train function registered" in str(reply.error.reason)


def test_timeout_gives_a_partial_list_and_the_late_reply_can_be_pulled_once(
    gate: threading.Event,
) -> None:
    def handler(message: Message, context: Context) -> RecordDict:
        if part(context) == 0:
            gate.wait(LONG_S)
        return report(part=part(context))

    with LocalGrid(app_of(handler), 3, workers=2) as grid:
        messages = ask(grid)
        replies = grid.send_and_receive(messages, timeout=1.0)
        assert [metric(r, "part") for r in replies] == [1, 2]

        ids = [m.metadata.message_id for m in messages]
        assert grid.pull_messages(ids) == []
        gate.set()
        (late,) = pull_until(grid, ids, 1)
        assert late.metadata.reply_to_message_id == ids[0]
        assert metric(late, "part") == 0
        assert grid.pull_messages(ids) == []


def test_push_and_pull_do_not_wait(gate: threading.Event) -> None:
    def handler(message: Message, context: Context) -> RecordDict:
        gate.wait(LONG_S)
        return report()

    with LocalGrid(app_of(handler), 2) as grid:
        ids = grid.push_messages(ask(grid))
        # The clients can only end after this line, so that push and pull have not waited.
        assert grid.pull_messages(ids) == []
        gate.set()
        assert len(pull_until(grid, ids, 2)) == 2
        assert grid.pull_messages(["never-pushed"]) == []


def test_a_node_handles_its_messages_one_at_a_time_and_in_order() -> None:
    running: dict[int, int] = {}
    overlaps: list[int] = []
    order: dict[int, list[int]] = {0: [], 1: []}

    def handler(message: Message, context: Context) -> RecordDict:
        node = part(context)
        running[node] = running.get(node, 0) + 1
        if running[node] > 1:
            overlaps.append(node)
        time.sleep(0.002)
        order[node].append(inside(message)["config"]["step"])
        running[node] -= 1
        return report()

    with LocalGrid(app_of(handler), 2, workers=4) as grid:
        messages = [
            Message(RecordDict({"config": ConfigRecord({"step": step})}), node, "train")
            for step in range(10)
            for node in grid.get_node_ids()
        ]
        assert len(grid.send_and_receive(messages, timeout=LONG_S)) == 20
    assert overlaps == []
    assert order == {0: list(range(10)), 1: list(range(10))}


def test_different_nodes_run_at_the_same_time() -> None:
    # Passes the barrier only if both clients are in it together.
    barrier = threading.Barrier(2)

    def handler(message: Message, context: Context) -> RecordDict:
        barrier.wait(LONG_S)
        return report()

    with LocalGrid(app_of(handler), 2, workers=2) as grid:
        assert not any(r.has_error() for r in grid.send_and_receive(ask(grid)))


def test_no_more_than_workers_run_at_the_same_time() -> None:
    lock, running, most = threading.Lock(), [0], [0]

    def handler(message: Message, context: Context) -> RecordDict:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.005)
        with lock:
            running[0] -= 1
        return report()

    with LocalGrid(app_of(handler), 12, workers=3) as grid:
        grid.send_and_receive(ask(grid))
    assert most[0] <= 3


def test_an_unknown_node_is_unavailable_and_others_are_fine() -> None:
    with LocalGrid(app_of(lambda m, c: report(ok=1)), 1) as grid:
        messages = [Message(RecordDict(), node, "train") for node in (1, 9, SERVER_NODE_ID)]
        fine, unknown, server = grid.send_and_receive(messages, timeout=LONG_S)
    assert metric(fine, "ok") == 1
    assert unknown.error.code == server.error.code == NODE_UNAVAILABLE
    assert "no node has the id 9" in str(unknown.error.reason)
    assert unknown.metadata.reply_to_message_id == messages[1].metadata.message_id
    assert unknown.metadata.src_node_id == SERVER_NODE_ID


def test_an_expired_message_is_answered_by_the_grid_and_never_reaches_its_client() -> None:
    calls: list[int] = []

    def handler(message: Message, context: Context) -> RecordDict:
        calls.append(1)
        return report()

    with LocalGrid(app_of(handler), 1) as grid:
        messages = ask(grid, ttl=5.0)
        messages[0].metadata.created_at -= 10.0
        (reply,) = grid.send_and_receive(messages)
        # The node is serial: when it answers the second message it is done with the first.
        (second,) = grid.send_and_receive(ask(grid))
    assert not second.has_error()
    assert calls == [1]
    assert reply.error.code == MESSAGE_UNAVAILABLE
    assert "time to live of 5 s is over" in str(reply.error.reason)


def test_waiting_ends_when_the_time_to_live_does(gate: threading.Event) -> None:
    def handler(message: Message, context: Context) -> RecordDict:
        gate.wait(LONG_S)
        return report()

    with LocalGrid(app_of(handler), 1) as grid:
        messages = ask(grid, ttl=0.3)
        (reply,) = grid.send_and_receive(messages)
        assert reply.error.code == MESSAGE_UNAVAILABLE
        gate.set()
        assert grid.pull_messages([messages[0].metadata.message_id]) == []


def test_replies_come_in_the_order_of_the_messages_whatever_the_workers() -> None:
    def handler(message: Message, context: Context) -> RecordDict:
        time.sleep(0.002 * (8 - part(context)))
        return report(part=part(context))

    for workers in (1, 2, 8):
        with LocalGrid(app_of(handler), 8, workers=workers) as grid:
            replies = grid.send_and_receive(reversed(ask(grid)))
        assert [metric(r, "part") for r in replies] == list(reversed(range(8)))


@pytest.mark.parametrize("bad", [0, -1, True, 1.5])
def test_bad_numbers_are_refused(bad: int) -> None:
    with pytest.raises(ConfigError, match=r"nodes must be a whole number of at least 1, not"):
        LocalGrid(ClientApp(), bad)
    with pytest.raises(ConfigError, match=r"workers must be a whole number of at least 1, not"):
        run_local(ServerApp(), ClientApp(), 1, workers=bad)


def test_a_stock_fedavg_gives_the_closed_form_mean() -> None:
    def handler(message: Message, context: Context) -> RecordDict:
        (weights,) = inside(message)["arrays"].to_numpy_ndarrays()
        step = np.full_like(weights, part(context))
        return RecordDict(
            {
                "arrays": ArrayRecord([weights + step]),
                "metrics": MetricRecord({"num-examples": part(context) + 1}),
            }
        )

    results: list[np.ndarray] = []
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        start = ArrayRecord([np.array([10.0, -1.0])])
        strategy = FedAvg(fraction_evaluate=0.0, min_available_nodes=4)
        results.extend(strategy.start(grid, start, num_rounds=3).arrays.to_numpy_ndarrays())

    run_local(server, app_of(handler), 4)
    # Client k adds k with weight k + 1: (0*1 + 1*2 + 2*3 + 3*4) / 10 = 2 per round.
    np.testing.assert_allclose(results[0], [16.0, 5.0], rtol=1e-12)


def test_what_the_server_app_raises_comes_out_unchanged() -> None:
    server, refusal = ServerApp(), DataError("the data set is empty")

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        assert context.node_id == SERVER_NODE_ID
        raise refusal

    with pytest.raises(DataError) as caught:
        run_local(server, ClientApp(), 1)
    assert caught.value is refusal
