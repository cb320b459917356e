"""Run a federation on Flower's Ray engine: many cores, or a cluster.

The same ServerApp and ClientApp objects run here as on the in-process grid. The server app runs in
this process, in a thread; the clients run in Ray actors, so they and what they hold must pickle.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import threading
import time
import warnings
from collections.abc import Iterable
from typing import Any

from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from qfl._flower_compat import run_ray_simulation
from qfl.errors import ConfigError, FederationError, MissingDependencyError

_OWN_CLUSTER = "local"
_CONNECT_TIMEOUT_S = 5.0
_NODE_POLL_S = 0.02


def run_ray(
    server_app: ServerApp,
    client_app: ClientApp,
    nodes: int,
    *,
    workers: int,
    address: str | None = None,
) -> None:
    """Run a ServerApp against ``nodes`` clients on Ray, one CPU per client that computes.

    Starting Ray takes about ten seconds. A Ray session that this process has already opened is
    used as it is, and closed at the end, which is what Flower's engine does.

    Args:
        server_app: Called once with a grid and a context with an empty configuration.
        client_app: The app that every node runs. It is pickled; on a cluster, the modules that it
            names must be importable on every machine.
        nodes: Number of clients, at least 1.
        workers: Number of actors, and so of clients computing at the same time, in a cluster of
            our own. A cluster that is joined uses all its CPUs.
        address: A running cluster to join, ``host:port`` or ``auto``. Without it the environment's
            ``RAY_ADDRESS`` counts, and without that a cluster of our own is started.

    Raises:
        MissingDependencyError: Ray is not installed.
        ConfigError: ``nodes`` or ``workers`` is not a positive whole number, or the address is
            none of the forms above.
        FederationError: The cluster does not answer, or Ray failed later.

    Whatever the server app raises is passed on unchanged.
    """
    for name, value in (("nodes", nodes), ("workers", workers)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"{name} must be a whole number of at least 1, not {value!r}")
    if importlib.util.find_spec("ray") is None:
        raise MissingDependencyError(
            "the Ray engine needs the package 'ray', which is not installed; "
            "install it by: pip install qfl[ray]"
        )
    init_args = _init_args(workers, address or os.environ.get("RAY_ADDRESS"))
    server = _WatchedServerApp(server_app, nodes)
    python_path = os.environ.get("PYTHONPATH")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    backend_config = {
        "init_args": init_args,
        "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
    }
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Tip: In future versions of Ray", FutureWarning)
            run_ray_simulation(server.app, client_app, nodes, backend_config)
    except Exception as error:
        if server.raised is None:
            raise FederationError(
                f"the Ray engine failed: {_root_cause(error)}; check that the cluster is up and "
                f"has a free CPU (ray status), or run in one process with simulation.backend=local"
            ) from error
    finally:
        server.stop()
        _restore_environment("PYTHONPATH", python_path)
    if server.raised is not None:
        raise server.raised


def _init_args(workers: int, address: str | None) -> dict[str, Any]:
    """Arguments of ``ray.init``; Ray refuses ``num_cpus`` when a running cluster is joined."""
    quiet = {"log_to_driver": False, "include_dashboard": False, "logging_level": "ERROR"}
    if address is None or address == _OWN_CLUSTER:
        # Without an address Ray would join whatever cluster last ran on this machine.
        return {"address": _OWN_CLUSTER, "num_cpus": workers, **quiet}
    if address != "auto":
        _refuse_unreachable(address)
    return {"address": address, **quiet}


def _refuse_unreachable(address: str) -> None:
    """Knock first: Ray itself tries for minutes and then ends the whole process."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(
            f"the Ray address {address!r} must be host:port, 'auto' for the cluster that runs on "
            f"this machine, or 'local' for one of our own"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise FederationError(
            f"no Ray cluster answers at {address} ({error}); start one by 'ray start --head', or "
            f"leave the address and RAY_ADDRESS unset to run on this machine"
        ) from error


class _WatchedServerApp:
    """Keep what a server app raised, and be able to end its thread when the engine has failed.

    Flower's engine leaves the server's thread running after a failure of its own, waiting for
    replies that cannot come, and the process could not exit. It also starts the server while it is
    still registering nodes, so that a first round would be sampled from a part of them.
    """

    def __init__(self, server_app: ServerApp, nodes: int) -> None:
        self.raised: BaseException | None = None
        self.app = ServerApp()
        self._stopped = threading.Event()

        @self.app.main()
        def main(grid: Grid, context: Context) -> None:
            try:
                self._guard(grid)
                while len(list(grid.get_node_ids())) < nodes:
                    time.sleep(_NODE_POLL_S)
                server_app(grid, context)
            except BaseException as error:
                if not self._stopped.is_set():
                    self.raised = error

    def stop(self) -> None:
        """Make the server's next use of its grid fail."""
        self._stopped.set()

    def _guard(self, grid: Grid) -> None:
        pull, node_ids = grid.pull_messages, grid.get_node_ids

        # send_and_receive polls by pull_messages, and waiting for nodes polls by get_node_ids.
        def pull_messages(message_ids: Iterable[str]) -> Iterable[Message]:
            self._refuse_if_stopped()
            return pull(message_ids)

        def get_node_ids() -> Iterable[int]:
            self._refuse_if_stopped()
            return node_ids()

        vars(grid).update(pull_messages=pull_messages, get_node_ids=get_node_ids)

    def _refuse_if_stopped(self) -> None:
        if self._stopped.is_set():
            raise FederationError("the Ray engine has ended; its grid can no longer be used")


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}"


def _restore_environment(name: str, value: str | None) -> None:
    """Undo Flower's engine writing the whole of ``sys.path`` into the environment."""
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value
