"""What a step of private training costs beside a plain one, and beside Opacus.

A contender trains through the functions that a client calls: :func:`train` and
:func:`train_privately`. Their time over the number of steps holds everything: sampling, gradients
of single records, clipping, noise, the optimizer, and a share of the checks in front of them; a
call of a single step shows what these cost. Opacus' own step (``GradSampleModule``, ``DPLSTM``,
``DPOptimizer`` with torch's generator, batches given) is the peer of the recurrent model.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from common import Row, report
from torch import nn

from qfl.clients.private_training import train_privately
from qfl.clients.training import train
from qfl.conf.schema import (
    ClientConfig,
    LstmConfig,
    ModelConfig,
    QlstmConfig,
    QnnConfig,
    QuantumConfig,
)
from qfl.data import Examples
from qfl.models import DataShape, initial_model
from qfl.privacy.dpsgd import DpSgd

FUSED_TARGET, OPACUS_TARGET = 1.5, 4.0
SERIES = DataShape(features=2, window=12, outputs=1)
Run = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """One model, batches of one size, and how many a call trains on."""

    name: str
    model: ModelConfig
    shape: DataShape
    batch: int
    task: str = "classification"
    steps: int = 50

    def fresh(self) -> nn.Module:
        """The model as it starts."""
        return initial_model(self.model, QuantumConfig(), self.shape, seed=0)

    def examples(self) -> Examples:
        """Made-up records for all batches."""
        random, count = np.random.default_rng(0), self.steps * self.batch
        row = (self.shape.window, self.shape.features)[not self.shape.window :]
        x = random.normal(size=(count, *row)).astype(np.float32)
        if self.task == "regression":
            return Examples(x, random.normal(size=count).astype(np.float32))
        return Examples(x, random.integers(0, self.shape.outputs, count))


def qnn(n_qubits: int, batch: int, steps: int = 50) -> Case:
    """The hybrid network on 64 features and 10 classes."""
    shape = DataShape(features=64, window=0, outputs=10, batch=batch)
    name = f"qnn, {n_qubits} qubits, batch {batch}"
    return Case(name, QnnConfig(n_qubits=n_qubits), shape, batch, steps=steps)


QNN = qnn(8, 64)
LSTM = Case("lstm, window 12, batch 32", LstmConfig(), SERIES, 32, "regression", 20)
QLSTM = Case("qlstm, window 12, batch 32", QlstmConfig(), SERIES, 32, "regression", 20)


def plain(case: Case) -> Run:
    """Training without privacy."""
    examples, config = case.examples(), ClientConfig(batch_size=case.batch)
    model = case.fresh()
    return lambda: train(model, examples, config, case.task, (0,))


def private(case: Case, gradients: str, clipping: str = "flat", steps: int | None = None) -> Run:
    """Training by us, with gradients of single records by one of the routes."""
    examples, config, model = case.examples(), ClientConfig(), case.fresh()
    privacy = DpSgd(
        1.0,
        clipping=clipping,
        sample_rate=1 / case.steps,
        steps=steps or case.steps,
        gradients=gradients,
    )
    return lambda: train_privately(model, examples, config, privacy, case.task)


def opacus(case: Case) -> Run:
    """Training by Opacus: its modules, its optimizer, its noise."""
    from opacus.grad_sample import GradSampleModule
    from opacus.layers import DPLSTM
    from opacus.optimizers import DPOptimizer

    examples, model = case.examples(), case.fresh()
    own = model.memory
    assert isinstance(own, nn.LSTM)
    theirs = DPLSTM(own.input_size, own.hidden_size, own.num_layers, batch_first=True)
    theirs.load_state_dict(own.state_dict())
    model.memory = theirs
    wrapped = GradSampleModule(model)
    optimizer = DPOptimizer(
        torch.optim.Adam(model.parameters(), lr=ClientConfig().lr),
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        expected_batch_size=case.batch,
    )
    x, y = torch.from_numpy(examples.x), torch.from_numpy(examples.y)

    def run() -> None:
        for batch in torch.split(torch.randperm(len(x)), case.batch):
            optimizer.zero_grad()
            ((wrapped(x[batch])[:, 0] - y[batch]) ** 2).mean().backward()
            optimizer.step()

    return run


def milliseconds(contenders: dict[str, Run], steps: int, turns: int) -> dict[str, float]:
    """Median processor time of a step; contenders take turns."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for run in contenders.values():
        run()
    for _ in range(turns):
        for name, run in contenders.items():
            began = time.process_time()
            run()
            taken[name].append((time.process_time() - began) / steps * 1e3)
    return {name: statistics.median(values) for name, values in taken.items()}


def rows(quick: bool) -> tuple[list[Row], list[bool]]:
    """Figures, and whether each one's target is met.

    Args:
        quick: Fewer cases and turns.
    """
    warnings.filterwarnings("ignore", message="Full backward hook is firing")
    threads, cores = torch.get_num_threads(), os.sched_getaffinity(0)
    torch.set_num_threads(1)
    os.sched_setaffinity(0, {max(cores)})
    try:
        return _rows(quick, turns=15 if quick else 41)
    finally:
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(threads)


def _rows(quick: bool, turns: int) -> tuple[list[Row], list[bool]]:
    found: list[Row] = []
    met: list[bool] = []

    def add(
        case: Case, times: dict[str, float], ours: str, peer: str, most: float | None = None
    ) -> None:
        mine, theirs = times[ours], times[peer]
        target = "" if most is None else f"<= {most:g}x the time"
        found.append(Row(f"{case.name}, {ours}", "step", "ms", mine, peer, theirs, target))
        met.append(most is None or mine <= most * theirs)

    contenders = {
        "plain": plain(QNN),
        "fused": private(QNN, "fused"),
        "opacus": private(QNN, "opacus"),
        "fused, per_layer": private(QNN, "fused", "per_layer"),
        "fused, adaptive": private(QNN, "fused", "adaptive"),
    }
    times = milliseconds(contenders, QNN.steps, turns)
    add(QNN, times, "fused", "plain", FUSED_TARGET)
    add(QNN, times, "opacus", "plain", OPACUS_TARGET)
    for ours in ("fused, per_layer", "fused, adaptive"):
        add(QNN, times, ours, "plain")
    single = {"a call of one step, fused": private(QNN, "fused", steps=1)}
    single["a call of one step"] = plain(qnn(8, 64, steps=1))
    add(QNN, milliseconds(single, 1, 4 * turns), *single)
    for case in [QLSTM] if quick else [qnn(4, 64), qnn(8, 256), qnn(12, 64), QLSTM]:
        contenders = {"plain": plain(case), "fused": private(case, "fused")}
        if not quick:
            contenders["opacus"] = private(case, "opacus")
        times = milliseconds(contenders, case.steps, turns)
        for ours in list(contenders)[1:]:
            add(case, times, ours, "plain")
    contenders = {"plain": plain(LSTM), "fused": private(LSTM, "fused"), "Opacus": opacus(LSTM)}
    times = milliseconds(contenders, LSTM.steps, turns)
    add(LSTM, times, "fused", "plain")
    add(LSTM, times, "fused", "Opacus", 1.0)
    return found, met


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer cases and turns")
    report("privacy_step", *rows(parser.parse_args().quick))
