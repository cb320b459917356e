"""Beside the layer itself: per-sample gradients, a quantum LSTM, two threads."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pennylane as qml
import torch
from common import Row
from quantum_case import Case
from quantum_ours import kernel_engine
from quantum_rows import Judged

from qfl.conf.schema import QlstmConfig, QuantumConfig
from qfl.models.qlstm import Qlstm

BLOCKS = 7
BLOCK_S = 0.05


def per_sample(case: Case) -> list[Judged]:
    """Every sample's own gradients beside the plain backward pass.

    The target is for the same call of the kernel with one flag set; the public function, which
    checks its arguments first, stands below it.
    """
    engine = kernel_engine(case)
    inputs, weights, upstream = (torch.from_numpy(array) for array in case.numbers())
    flat = weights.reshape(-1)
    taken = _turns(
        {
            "plain": lambda: engine.backward(inputs, flat, upstream, False),
            "same call": lambda: engine.backward(inputs, flat, upstream, True),
            "public": lambda: engine.per_sample_gradients(inputs, flat, upstream),
        },
        time.process_time,
    )
    plain = taken["plain"]

    def row(ours: str, words: str, target: str) -> Row:
        return Row(f"{case}, {words}", "backward", "ms", taken[ours], "plain", plain, target)

    return [
        (
            row(
                "same call",
                "per sample",
                f"at most 1.3x the time; is {taken['same call'] / plain:.2f}x",
            ),
            taken["same call"] <= 1.3 * plain,
        ),
        (row("public", "per sample, with checks", ""), None),
    ]


def threads(case: Case) -> tuple[Row, bool, str]:
    """Wall time of a step on two threads beside one; needs two cores that nobody else uses."""
    inputs, weights, upstream = (torch.from_numpy(array) for array in case.numbers())

    def step(engine: Any) -> Callable[[], None]:
        def run() -> None:
            engine.forward(inputs, weights)
            engine.backward(inputs, weights, upstream, False)

        return run

    pinned = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    if pinned is not None:
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
    before = _ticks()
    taken = _turns(
        {"one": step(kernel_engine(case, 1)), "two": step(kernel_engine(case, 2))},
        time.perf_counter,
    )
    after = _ticks()
    if pinned is not None:
        os.sched_setaffinity(0, pinned)
    row = Row(
        f"{case}, two threads",
        "wall time",
        "ms",
        taken["two"],
        "one thread",
        taken["one"],
        ">= 1.7x",
    )
    busy = "not known"
    if before is not None and after is not None:
        ours, everyone, idle = (b - a for a, b in zip(before, after, strict=True))
        total = everyone + idle
        busy = f"{max(0.0, everyone - ours) / total:.0%}"
    return row, taken["one"] >= 1.7 * taken["two"], busy


def _ticks() -> tuple[float, float, float] | None:
    """Clock ticks so far: of this process, of everything, of nothing at all."""
    try:
        numbers = [int(part) for part in Path("/proc/stat").read_text().split("\n")[0].split()[1:]]
    except OSError:
        return None
    idle = numbers[3] + numbers[4]
    ours = time.process_time() * os.sysconf("SC_CLK_TCK")
    return ours, float(sum(numbers[:8]) - idle), float(idle)


def qlstm() -> tuple[Row, bool]:
    """A training step of the quantum LSTM: our stacked circuits beside four QNodes."""
    torch.manual_seed(0)
    config = QlstmConfig(n_qubits=4, n_layers=2)
    ours, theirs = (Qlstm(config, QuantumConfig(), channels=4, outputs=1) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    theirs.circuits = _FourLayers(qml.qnn.TorchLayer, theirs.circuits)
    windows = torch.randn(32, 10, 4)

    def step(model: Any) -> Callable[[], Any]:
        def run() -> Any:
            model.zero_grad(set_to_none=True)
            outputs = model(windows)
            outputs.square().sum().backward()
            return outputs

        return run

    steps = {"ours": step(ours), "peer": step(theirs)}
    results = [run() for run in steps.values()]
    assert torch.allclose(results[0], results[1], atol=1e-4)
    gradients = (ours.from_input.weight.grad, theirs.from_input.weight.grad)
    assert torch.allclose(*gradients, atol=1e-3)
    taken = _turns(steps, time.process_time, blocks=3)
    row = Row(
        "QLSTM n=4, T=10, batch 32",
        "fwd + bwd",
        "ms",
        taken["ours"],
        "four TorchLayers",
        taken["peer"],
        ">= 110x",
    )
    return row, taken["peer"] >= 110 * taken["ours"]


class _FourLayers(torch.nn.Module):
    """Stands in for a layer of four copies: one TorchLayer for each, with the same weights."""

    def __init__(self, kind: Any, layer: Any) -> None:
        super().__init__()
        shape = tuple(layer.weights.shape[1:])
        self.layers = torch.nn.ModuleList(kind(layer.qnode, {"weights": shape}) for _ in range(4))
        with torch.no_grad():
            for made, weights in zip(self.layers, layer.weights, strict=True):
                made.weights.copy_(weights)

    def forward(self, inputs: Any) -> Any:
        return torch.stack([layer(inputs) for layer in self.layers])


def _turns(
    steps: dict[str, Callable[[], Any]], clock: Callable[[], float], blocks: int = BLOCKS
) -> dict[str, float]:
    """Median milliseconds of each, in blocks that take turns."""
    times = {}
    for name, step in steps.items():
        step()
        started = time.perf_counter()
        step()
        times[name] = max(1, int(BLOCK_S / (time.perf_counter() - started)))
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(blocks):
        for name, step in steps.items():
            started = clock()
            for _ in range(times[name]):
                step()
            taken[name].append((clock() - started) / times[name] * 1e3)
    return {name: statistics.median(values) for name, values in taken.items()}
