"""In-process grids begin, live side by side and end without leaving anything behind."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator

import pytest
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from qfl.errors import FederationError
from qfl.federation.local_grid import LocalGrid

LONG_S = 30.0


def quick_app() -> ClientApp:
    """A client app that answers with the number of nodes of its grid."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        nodes = int(context.node_config["num-partitions"])
        return Message(RecordDict({"grid": MetricRecord({"nodes": nodes})}), reply_to=message)

    return app


def waiting_app(gate: threading.Event) -> ClientApp:
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        gate.wait(LONG_S)
        return Message(RecordDict(), reply_to=message)

    return app


def ask(grid: Grid) -> list[Message]:
    return [Message(RecordDict(), node, "train") for node in grid.get_node_ids()]


def runs_and_nodes(replies: list[Message]) -> list[tuple[int, object]]:
    return [(r.metadata.run_id, r.content.metric_records["grid"]["nodes"]) for r in replies]


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Clients that wait for this event are let go when the test ends, passed or failed."""
    event = threading.Event()
    yield event
    event.set()


def test_two_grids_in_one_process_keep_apart_nested_and_one_after_the_other() -> None:
    app = quick_app()
    with LocalGrid(app, 1, run_id=10) as outer:
        before = ask(outer)
        with LocalGrid(app, 2, run_id=20) as inner:
            # Made while the inner grid was the last used: the push puts run and sender right.
            stray = Message(RecordDict(), 1, "train")
            inside = list(inner.send_and_receive(ask(inner)))
            outside = list(outer.send_and_receive([*before, stray]))
        outside += outer.send_and_receive(ask(outer))
    with LocalGrid(app, 3, run_id=30) as last:
        after = list(last.send_and_receive(ask(last)))
    assert runs_and_nodes(inside) == [(20, 2)] * 2
    assert runs_and_nodes(outside) == [(10, 1)] * 3
    assert runs_and_nodes(after) == [(30, 3)] * 3


def test_a_closed_grid_refuses_messages_and_keeps_replies() -> None:
    grid = LocalGrid(quick_app(), 1)
    first = Message(RecordDict(), 1, "train")
    (late,) = grid.push_messages([first])
    grid.send_and_receive(ask(grid))  # The node is serial: the first is answered by now.
    grid.close()
    grid.close()
    assert len(grid.pull_messages([late])) == 1
    with pytest.raises(FederationError, match="this LocalGrid is closed"):
        grid.push_messages(ask(grid))


def test_closing_wakes_who_waits(gate: threading.Event) -> None:
    grid = LocalGrid(waiting_app(gate), 1)
    threading.Timer(0.1, grid.close).start()
    with pytest.raises(FederationError, match="this LocalGrid is closed"):
        grid.send_and_receive(ask(grid))


def test_idle_threads_end_when_the_grid_is_closed() -> None:
    before = set(threading.enumerate())
    with LocalGrid(quick_app(), 4, workers=4) as grid:
        grid.send_and_receive(ask(grid))
        started = set(threading.enumerate()) - before
    assert 1 <= len(started) <= 4
    assert all(thread.daemon for thread in started)
    for thread in started:
        thread.join(LONG_S)
    assert not any(thread.is_alive() for thread in started)


def test_the_run_can_be_set_and_messages_created_through_the_grid() -> None:
    with (
        LocalGrid(quick_app(), 1, run_id=1) as grid,
        LocalGrid(ClientApp(), 1, run_id=2) as other,
    ):
        grid.set_run(other.run)
        assert grid.run.run_id == 2
        message = grid.create_message(RecordDict(), "train", 1, "3", ttl=60)
        assert (message.metadata.run_id, message.metadata.group_id) == (2, "3")
        (reply,) = grid.send_and_receive([message])
    assert (reply.metadata.run_id, reply.metadata.group_id) == (2, "3")


HANGING = textwrap.dedent(
    """
    import os, signal, threading
    from flwr.app import Message, RecordDict
    from flwr.clientapp import ClientApp
    from qfl.federation.local_grid import LocalGrid

    # A shell may have started us with Ctrl-C ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    app = ClientApp()

    @app.train()
    def train(message, context):
        if {interrupt}:
            os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait()

    grid = LocalGrid(app, 1)
    messages = [Message(RecordDict(), 1, "train")]
    try:
        print(list(grid.send_and_receive(messages, timeout={timeout})))
    except KeyboardInterrupt:
        print("interrupted")
    """
)


@pytest.mark.parametrize(
    ("interrupt", "timeout", "printed"), [(False, 0.1, "[]"), (True, None, "interrupted")]
)
def test_a_hanging_client_neither_blocks_exit_nor_ctrl_c(
    interrupt: bool, timeout: float | None, printed: str
) -> None:
    script = HANGING.format(interrupt=interrupt, timeout=timeout)
    # The bound is no measurement: a process that joins the hanging thread never ends.
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, printed), done.stderr
