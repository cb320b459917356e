"""Flower's Ray engine runs the same apps, and its failures come out as ours."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
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

from qfl.errors import ConfigError, DataError, FederationError, MissingDependencyError
from qfl.federation import ray_engine
from qfl.federation.local_grid import LocalGrid, run_local
from qfl.federation.ray_engine import run_ray

NODES, ROUNDS = 4, 3
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="ray is not installed"
)


def counting_client() -> ClientApp:
    """Adds its partition's number; reports how often it was called and where it ran.

    Made in a function, so that it is pickled by value and the actors need not import this file.
    """
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        part = int(context.node_config["partition-id"])
        state: Any = context.state
        calls = int(state["calls"]["n"]) + 1 if "calls" in state else 1
        state["calls"] = MetricRecord({"n": calls})
        (weights,) = message.content.array_records["arrays"].to_numpy_ndarrays()
        return Message(
            RecordDict(
                {
                    "arrays": ArrayRecord([weights + part]),
                    "metrics": MetricRecord({"num-examples": part + 1, "calls": calls}),
                }
            ),
            reply_to=message,
        )

    @app.query()
    def where(message: Message, context: Context) -> Message:
        import ray

        cluster = str(ray.get_runtime_context().gcs_address)
        home = ConfigRecord({"process": os.getpid(), "cluster": cluster})
        return Message(RecordDict({"home": home}), reply_to=message)

    return app


def fedavg_server(results: dict[str, Any]) -> ServerApp:
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        strategy = FedAvg(fraction_evaluate=0.0)
        start = ArrayRecord([np.array([10.0, -1.0])])
        done = strategy.start(grid, start, num_rounds=ROUNDS)
        results["arrays"] = done.arrays.to_numpy_ndarrays()[0]
        results["calls"] = [done.train_metrics_clientapp[r + 1]["calls"] for r in range(ROUNDS)]

    return server


def asking_server(homes: list[ConfigRecord]) -> ServerApp:
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        asked = [Message(RecordDict(), node, "query") for node in grid.get_node_ids()]
        replies = grid.send_and_receive(asked, timeout=120)
        homes.extend(reply.content.config_records["home"] for reply in replies)

    return server


@needs_ray
def test_ray_gives_what_the_local_grid_gives_and_keeps_state() -> None:
    local: dict[str, Any] = {}
    on_ray: dict[str, Any] = {}
    run_local(fedavg_server(local), counting_client(), NODES)
    path = os.environ.get("PYTHONPATH")
    run_ray(fedavg_server(on_ray), counting_client(), NODES, workers=2, address="local")
    # (0*1 + 1*2 + 2*3 + 3*4) / 10 = 2 per round; Ray's order of replies is not fixed.
    np.testing.assert_allclose(on_ray["arrays"], [16.0, 5.0], rtol=1e-12)
    np.testing.assert_allclose(on_ray["arrays"], local["arrays"], rtol=1e-12)
    assert on_ray["calls"] == pytest.approx([1, 2, 3])
    assert local["calls"] == pytest.approx([1, 2, 3])
    assert os.environ.get("PYTHONPATH") == path


@needs_ray
@pytest.mark.slow
def test_a_cluster_of_our_own_has_no_more_actors_than_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    homes: list[ConfigRecord] = []
    run_ray(asking_server(homes), counting_client(), 6, workers=1)
    assert len(homes) == 6
    assert len({home["process"] for home in homes}) == 1
    assert os.getpid() not in {home["process"] for home in homes}


@needs_ray
@pytest.mark.slow
def test_what_the_server_app_raises_comes_out_unchanged() -> None:
    server, refusal = ServerApp(), DataError("the data set is empty")

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        raise refusal

    with pytest.raises(DataError) as caught:
        run_ray(server, counting_client(), 2, workers=1, address="local")
    assert caught.value is refusal


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a Ray cluster that another process of ours runs."""
    script = (
        "import ray, sys\n"
        "info = ray.init(address='local', num_cpus=2, include_dashboard=False,"
        " logging_level='ERROR')\n"
        "print('cluster', info['gcs_address'], flush=True)\n"
        "sys.stdin.read()\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**environment, "RAY_USAGE_STATS_ENABLED": "0"},
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("cluster "):
                yield line.split()[1]
                break
        else:
            pytest.fail("the cluster did not start")
        # Its standard input closes on leaving, upon which it shuts its cluster down.


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize("how", ["argument", "environment"])
def test_a_running_cluster_is_joined(
    how: str, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if how == "environment":
        monkeypatch.setenv("RAY_ADDRESS", cluster)
    homes: list[ConfigRecord] = []
    address = cluster if how == "argument" else None
    run_ray(asking_server(homes), counting_client(), 3, workers=1, address=address)
    assert [home["cluster"] for home in homes] == [cluster] * 3


def test_ray_missing_is_said_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install qfl\[ray\]"):
        run_ray(ServerApp(), ClientApp(), 1, workers=1)


@pytest.mark.parametrize("bad", [0, -1, True, 1.5])
def test_bad_numbers_are_refused(bad: int) -> None:
    with pytest.raises(ConfigError, match="nodes must be a whole number of at least 1, not"):
        run_ray(ServerApp(), ClientApp(), bad, workers=1)
    with pytest.raises(ConfigError, match="workers must be a whole number of at least 1, not"):
        run_ray(ServerApp(), ClientApp(), 1, workers=bad)


@pytest.fixture
def ray_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the doors after the check for Ray be tested where Ray is not installed."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())


@pytest.mark.usefixtures("ray_is_there")
@pytest.mark.parametrize("bad", ["nonsense", ":6379", "host:port", "ray://host:1", "host:99999"])
def test_an_address_of_another_form_is_refused(bad: str) -> None:
    with pytest.raises(ConfigError, match="must be host:port, 'auto'"):
        run_ray(ServerApp(), ClientApp(), 1, workers=1, address=bad)


@pytest.mark.usefixtures("ray_is_there")
def test_a_cluster_that_does_not_answer_is_said_at_once() -> None:
    with socket.socket() as taken:
        # Bound but not listening: nobody else gets the port, and connecting is refused.
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(FederationError, match=f"no Ray cluster answers at {address}"):
            run_ray(ServerApp(), ClientApp(), 1, workers=1, address=address)


@pytest.mark.usefixtures("ray_is_there")
def test_the_arguments_for_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []
    monkeypatch.setattr(ray_engine, "run_ray_simulation", lambda *args: given.append(args[-1]))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    run_ray(ServerApp(), ClientApp(), 9, workers=5)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    run_ray(ServerApp(), ClientApp(), 9, workers=5)
    run_ray(ServerApp(), ClientApp(), 9, workers=5, address="local")
    init = [config["init_args"] for config in given]
    assert [(a["address"], a.get("num_cpus")) for a in init] == [
        ("local", 5),
        ("auto", None),
        ("local", 5),
    ]
    assert all(a["log_to_driver"] is a["include_dashboard"] is False for a in init)
    assert all(config["client_resources"]["num_cpus"] == 1 for config in given)


@pytest.mark.usefixtures("ray_is_there")
def test_when_the_engine_fails_the_server_ends_and_the_cause_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The stand-in fails as Flower's engine does: with its server thread still at work."""
    threads: list[threading.Thread] = []
    waiting = threading.Event()
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        while True:
            waiting.set()
            grid.get_node_ids()

    def fail(server_app: ServerApp, client_app: ClientApp, nodes: int, config: Any) -> None:
        grid = LocalGrid(client_app, nodes)
        context = Context(1, 0, {}, RecordDict(), {})
        threads.append(threading.Thread(target=server_app, args=(grid, context), daemon=True))
        threads[0].start()
        waiting.wait(30)
        try:
            raise OSError("disk full")
        except OSError as error:
            raise RuntimeError("An error was encountered. Ending simulation.") from error

    monkeypatch.setattr(ray_engine, "run_ray_simulation", fail)
    with pytest.raises(FederationError, match="the Ray engine failed: OSError: disk full"):
        run_ray(server, ClientApp(), 2, workers=1, address="local")
    threads[0].join(30)
    assert not threads[0].is_alive()
