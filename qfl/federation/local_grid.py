"""An in-process Flower Grid: server app and client apps in one process, on threads.

It runs the same ServerApp, Strategy and ClientApp objects as a real deployment, and keeps what a
deployment guarantees: messages are copies, a node handles one message at a time, a node's state
survives from round to round (but not a failed message), and a client's exception comes back as an
error reply. What it leaves out is the network and the processes, so a round costs milliseconds.
"""

from __future__ import annotations

import itertools
import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass, field
from typing import Self

from flwr.app import (
    Context,
    Error,
    Message,
    Metadata,
    RecordDict,
    UserConfig,
)
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from qfl._flower_compat import (
    ErrorCode,
    Run,
    create_run,
    set_task_identity,
    stamp_message,
)
from qfl.errors import ConfigError, FederationError
from qfl.federation.grid_messages import (
    check_reply,
    copy_message,
    error_reply,
    has_expired,
)
from qfl.records import copy_records

SERVER_NODE_ID = 0
"""The server's own node id; clients have 1 to n."""

# Waiting in slices notices expired messages, and lets Ctrl-C through on every platform.
_WAIT_SLICE_S = 0.25

_log = logging.getLogger(__name__)


@dataclass
class _Node:
    """One simulated client: its state between messages, and the messages it has yet to handle."""

    node_id: int
    node_config: UserConfig
    state: RecordDict = field(default_factory=RecordDict)
    inbox: deque[Message] = field(default_factory=deque)
    busy: bool = False


@dataclass
class _Pending:
    """A pushed message whose reply has not been pulled yet."""

    metadata: Metadata
    reply: Message | None = None


class LocalGrid(Grid):
    """Run a ClientApp for several nodes on a pool of threads of this process.

    Nodes have the ids ``1..nodes`` and the node configuration ``{"partition-id": id - 1,
    "num-partitions": nodes}``. Replies of one ``send_and_receive`` come back in the order of its
    messages, whichever client was faster, so that a float sum over them is reproducible.

    Error replies carry Flower's codes: 2 when the client raised (the reason holds the exception's
    type and message), 5 for a node that does not exist, 3 when a message's time to live ran out.
    The last two come from the server's id, as a SuperLink's do: find the node they stand for by
    ``reply_to_message_id``.

    The threads are daemons: a client that hangs holds its node and one worker for ever, and never
    keeps the interpreter from exiting. Close the grid (it is a context manager) to end idle ones.

    Flower's identity of the message's sender is global to the process. A grid sets it whenever it
    is asked for nodes or messages, and corrects run and sender of what is pushed through it, so
    several grids may live in one process; before its push, a message may name another's run.

    Args:
        client_app: The app that every node runs.
        nodes: Number of nodes, at least 1.
        workers: Number of nodes that may compute at the same time, at least 1.
        run_config: What clients find in ``context.run_config``.
        run_id: The run's id; random when not given.

    Raises:
        ConfigError: ``nodes`` or ``workers`` is not a positive whole number.

    Example:
        >>> from flwr.app import Message, MetricRecord, RecordDict
        >>> app = ClientApp()
        >>> @app.query()
        ... def hello(message, context):
        ...     part = MetricRecord({"part": context.node_config["partition-id"]})
        ...     return Message(RecordDict({"hello": part}), reply_to=message)
        >>> with LocalGrid(app, nodes=2) as grid:
        ...     asked = [Message(RecordDict(), node, "query") for node in grid.get_node_ids()]
        ...     [reply.content["hello"]["part"] for reply in grid.send_and_receive(asked)]
        [0, 1]
    """

    def __init__(
        self,
        client_app: ClientApp,
        nodes: int,
        *,
        workers: int = 2,
        run_config: UserConfig | None = None,
        run_id: int | None = None,
    ) -> None:
        _require_positive("nodes", nodes)
        _require_positive("workers", workers)
        self._app = client_app
        self._workers = min(workers, nodes)
        self._run_config = dict(run_config or {})
        self._run = create_run(secrets.randbits(63) if run_id is None else run_id)
        self._nodes = {
            i + 1: _Node(i + 1, {"partition-id": i, "num-partitions": nodes}) for i in range(nodes)
        }
        self._pending: dict[str, _Pending] = {}
        self._ready: deque[_Node] = deque()
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._serial = itertools.count(1)
        lock = threading.Lock()
        self._work = threading.Condition(lock)
        self._settled = threading.Condition(lock)
        self._identify()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the idle threads and drop what no client has begun. May be called twice.

        Clients that are computing are not waited for. Replies that are there can still be pulled.
        """
        with self._work:
            self._closed = True
            self._ready.clear()
            for node in self._nodes.values():
                node.inbox.clear()
            self._work.notify_all()
            self._settled.notify_all()

    def set_run(self, run: Run) -> None:
        """Set the run that messages belong to from now on."""
        self._run = run
        self._identify()

    @property
    def run(self) -> Run:
        """The run that messages belong to."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Create a message; the same as Flower's ``Message`` constructor, which is preferred."""
        self._identify()
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        """Return the ids of all nodes, ascending."""
        self._identify()
        return list(self._nodes)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Hand messages to their nodes and return their ids, in order, without waiting.

        Each message gets its id, this grid's run and the server as sender; clients get a copy.

        Raises:
            FederationError: the grid is closed.
        """
        self._identify()
        ids = []
        # Messages may come from a generator that itself asks this grid: no lock while iterating.
        for message in messages:
            message_id = self._new_id()
            stamp_message(message, message_id, run_id=self._run.run_id, src_node_id=SERVER_NODE_ID)
            self._deliver(copy_message(message))
            ids.append(message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Return the replies that are there, in the order of the given ids, without waiting.

        A reply is returned once. Ids that are unknown or were pulled before give nothing.
        """
        replies = []
        with self._settled:
            for message_id in message_ids:
                pending = self._pending.get(message_id)
                if pending is None:
                    continue
                reply = pending.reply
                # As on a SuperLink, what has expired is gone, even if the node did answer.
                if has_expired(pending.metadata):
                    reply = self._expiry_reply(pending.metadata)
                if reply is not None:
                    del self._pending[message_id]
                    replies.append(reply)
        return replies

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Push messages and wait for their replies, at most ``timeout`` seconds.

        When the time is up, the replies that are there are returned. The other nodes stay busy,
        and their replies can be pulled later by the ids that the push wrote into the messages.

        Raises:
            FederationError: the grid is closed, also by another thread while waiting.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        ids = self.push_messages(messages)
        missing = list(ids)
        with self._settled:
            while True:
                while missing and self._is_settled(missing[-1]):
                    missing.pop()
                if not missing:
                    break
                self._refuse_if_closed()
                left = _WAIT_SLICE_S if deadline is None else deadline - time.monotonic()
                if left <= 0:
                    break
                self._settled.wait(min(left, _WAIT_SLICE_S))
        return self.pull_messages(ids)

    def _identify(self) -> None:
        set_task_identity(self._run.run_id, SERVER_NODE_ID)

    def _new_id(self) -> str:
        return f"{self._run.run_id:x}-{next(self._serial)}"

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise FederationError("this LocalGrid is closed; create a new one for another run")

    def _is_settled(self, message_id: str) -> bool:
        pending = self._pending.get(message_id)
        return pending is None or pending.reply is not None or has_expired(pending.metadata)

    def _deliver(self, message: Message) -> None:
        metadata = message.metadata
        pending = _Pending(copy(metadata))
        node = self._nodes.get(metadata.dst_node_id)
        if node is None:
            pending.reply = self._error_reply(
                metadata,
                ErrorCode.NODE_UNAVAILABLE,
                f"Error: Node Unavailable - no node has the id {metadata.dst_node_id}; "
                f"this grid has 1 to {len(self._nodes)}.",
            )
        with self._work:
            self._refuse_if_closed()
            self._pending[metadata.message_id] = pending
            if node is None:
                return
            node.inbox.append(message)
            if not node.busy:
                node.busy = True
                self._ready.append(node)
                self._start_thread_if_needed()
                self._work.notify()

    def _start_thread_if_needed(self) -> None:
        if len(self._threads) < self._workers:
            name = f"qfl-local-node-{len(self._threads)}"
            # ThreadPoolExecutor would be shorter, but joins its threads when Python exits.
            thread = threading.Thread(target=self._serve, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self) -> None:
        while True:
            with self._work:
                while not self._ready and not self._closed:
                    self._work.wait()
                if self._closed:
                    return
                node = self._ready.popleft()
                message = node.inbox.popleft()
            message_id = message.metadata.message_id
            reply = self._handle(node, message)
            with self._work:
                if message_id in self._pending:
                    self._pending[message_id].reply = reply
                node.busy = bool(node.inbox)
                if node.busy:
                    self._ready.append(node)
                self._settled.notify_all()

    def _handle(self, node: _Node, message: Message) -> Message:
        """Run the client app on one message; whatever happens, there is a reply."""
        metadata = copy(message.metadata)
        if has_expired(metadata):
            return self._expiry_reply(metadata)
        context = Context(
            run_id=metadata.run_id,
            node_id=node.node_id,
            node_config=dict(node.node_config),
            state=copy_records(node.state),
            run_config=dict(self._run_config),
        )
        try:
            reply = self._app(message, context)
            check_reply(reply, metadata.message_id)
            reply = copy_message(reply)
            stamp_message(reply, self._new_id(), run_id=metadata.run_id)
        # SystemExit and the like end the client, not the worker thread that others need.
        except BaseException as error:
            _log.warning(
                "the client app raised %s on node %d: %s",
                type(error).__name__,
                node.node_id,
                error,
                exc_info=_log.isEnabledFor(logging.DEBUG),
            )
            return self._error_reply(
                metadata,
                ErrorCode.CLIENT_APP_RAISED_EXCEPTION,
                f"{type(error)}:<'{error}'>",
                node.node_id,
            )
        node.state = context.state
        return reply

    def _expiry_reply(self, metadata: Metadata) -> Message:
        reason = f"Error: Message Unavailable - its time to live of {metadata.ttl:g} s is over."
        return self._error_reply(metadata, ErrorCode.MESSAGE_UNAVAILABLE, reason)

    def _error_reply(
        self, metadata: Metadata, code: int, reason: str, src_node_id: int = SERVER_NODE_ID
    ) -> Message:
        return error_reply(
            metadata, Error(code, reason), message_id=self._new_id(), src_node_id=src_node_id
        )


def run_local(
    server_app: ServerApp, client_app: ClientApp, nodes: int, *, workers: int = 2
) -> None:
    """Run a ServerApp against ``nodes`` in-process clients, in the calling thread.

    Args:
        server_app: Called once with the grid and a context with an empty configuration.
        client_app: The app that every node runs.
        nodes: Number of clients, at least 1.
        workers: Number of clients that may compute at the same time, at least 1.

    Raises:
        ConfigError: ``nodes`` or ``workers`` is not a positive whole number.

    Whatever the server app raises is passed on unchanged.
    """
    with LocalGrid(client_app, nodes, workers=workers) as grid:
        context = Context(
            run_id=grid.run.run_id,
            node_id=SERVER_NODE_ID,
            node_config={},
            state=RecordDict(),
            run_config={},
        )
        server_app(grid, context)


def _require_positive(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{name} must be a whole number of at least 1, not {value!r}")
