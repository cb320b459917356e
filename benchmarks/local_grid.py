"""What the local grid itself costs: a trivial client under Flower's FedAvg.

The peer is Flower's own simulation engine on Ray, doing the same work; ``--quick`` leaves it out.
"""

from __future__ import annotations

import argparse
import logging
import random
import statistics
import time

import numpy as np
from common import Row, report
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from qfl.federation.local_grid import run_local

ROUNDS = 10


def client_app() -> ClientApp:
    """A client that adds one to 1000 numbers."""
    app = ClientApp()

    @app.train()
    def _train(message: Message, context: Context) -> Message:
        arrays = [array + 1 for array in message.content["arrays"].to_numpy_ndarrays()]
        metrics = MetricRecord({"num-examples": 1})
        content = RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics})
        return Message(content, reply_to=message)

    return app


def server_app(clients: int) -> ServerApp:
    """FedAvg over all clients, without evaluation."""
    app = ServerApp()

    @app.main()
    def _main(grid: Grid, context: Context) -> None:
        random.seed(0)
        strategy = FedAvg(
            fraction_evaluate=0.0, min_train_nodes=clients, min_available_nodes=clients
        )
        initial = ArrayRecord([np.zeros(1000, np.float32)])
        result = strategy.start(grid, initial, num_rounds=ROUNDS)
        assert abs(float(result.arrays.to_numpy_ndarrays()[0][0]) - ROUNDS) < 1e-3

    return app


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="without the peer")
    quick = parser.parse_args().quick
    logging.getLogger("flwr").setLevel(logging.ERROR)
    rows, met = [], []
    for clients in (10, 100):
        cpu, wall = [], []
        for _ in range(5):
            started, began = time.process_time(), time.perf_counter()
            run_local(server_app(clients), client_app(), clients)
            cpu.append(time.process_time() - started)
            wall.append(time.perf_counter() - began)
        case = f"{clients} clients x {ROUNDS} rounds"
        ours = statistics.median(cpu)
        rows.append(Row(case, "CPU time", "s", ours, "", None, "< 1 s at 100 clients"))
        met.append(ours < 1.0)
        peer = None if quick else _ray(clients)
        rows.append(Row(case, "wall time", "s", statistics.median(wall), "Ray", peer, ""))
        met.append(True)
    report("local_grid", rows, met)


def _ray(clients: int) -> float:
    from qfl.federation.ray_engine import run_ray

    began = time.perf_counter()
    run_ray(server_app(clients), client_app(), clients, workers=2)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
