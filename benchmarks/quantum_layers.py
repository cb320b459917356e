"""Forward plus backward of a quantum layer, with respect to inputs and weights.

AngleEmbedding, strongly entangling layers, <Z> on every wire; float32, one core. Ours is
``QuantumLayer`` on the compiled kernel and on torch; peers are PennyLane's ``TorchLayer`` on
default.qubit with backpropagation and on lightning.qubit with adjoint gradients. All take turns in
one process, in blocks; figures are medians of processor time, which other load disturbs least.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import warnings
from collections.abc import Callable

import pennylane as qml
import torch
from common import Row, report

from qfl.quantum import QuantumLayer
from qfl.quantum.kernel_engine import KernelEngine

SIZES = [(n, batch) for n in (4, 6, 8, 10, 12, 14) for batch in (1, 32, 256)]
QUICK = [(4, 1), (4, 32), (8, 32), (8, 256)]
TARGETS = {(4, 1): 140, (4, 32): 120, (8, 32): 150, (8, 256): 80, (12, 256): 60}
TORCH_TARGET = 10.0
BLOCKS = 5


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="four sizes, depth 2 only")
    quick = parser.parse_args().quick
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rows: list[Row] = []
    met: list[bool] = []
    for depth in (2,) if quick else (2, 6):
        for n, batch in QUICK if quick else SIZES:
            measured = measure(candidates(n, depth), n, batch)
            compare(rows, met, f"n={n}, batch {batch}, depth {depth}", (n, batch, depth), measured)
    report("quantum_layers", rows, met)


def candidates(n: int, depth: int) -> dict[str, torch.nn.Module]:
    """Ours and the peers, for one circuit."""

    def circuit(inputs, weights):  # type: ignore[no-untyped-def]
        qml.AngleEmbedding(inputs, wires=range(n))
        qml.StronglyEntanglingLayers(weights, wires=range(n))
        return [qml.expval(qml.PauliZ(wire)) for wire in range(n)]

    def qnode(device: str, method: str) -> qml.QNode:
        made = qml.device(device, wires=n)
        return qml.QNode(circuit, made, interface="torch", diff_method=method)

    shapes = {"weights": (depth, n, 3)}
    plain = qnode("default.qubit", "backprop")
    made: dict[str, torch.nn.Module] = {"torch": QuantumLayer(plain, shapes, engine="torch")}
    if KernelEngine.available() is None:
        made["kernel"] = QuantumLayer(plain, shapes, engine="kernel")
    made["TorchLayer"] = qml.qnn.TorchLayer(plain, shapes)
    made["lightning"] = qml.qnn.TorchLayer(qnode("lightning.qubit", "adjoint"), shapes)
    return made


def measure(layers: dict[str, torch.nn.Module], n: int, batch: int) -> dict[str, float]:
    """Median milliseconds of processor time of one forward and backward pass."""
    inputs = torch.randn(batch, n, requires_grad=True)
    taken: dict[str, list[float]] = {name: [] for name in layers}
    steps = {name: _step(layer, inputs) for name, layer in layers.items()}
    often = {name: _repeats(step) for name, step in steps.items()}
    for _ in range(BLOCKS):
        for name, step in steps.items():
            if often[name] == 0:
                continue
            started = time.process_time()
            for _ in range(often[name]):
                step()
            taken[name].append((time.process_time() - started) / often[name] * 1e3)
    return {name: statistics.median(values) for name, values in taken.items() if values}


def _step(layer: torch.nn.Module, inputs: torch.Tensor) -> Callable[[], None]:
    def step() -> None:
        inputs.grad = None
        layer.zero_grad(set_to_none=True)
        layer(inputs).sum().backward()

    return step


def _repeats(step: Callable[[], None]) -> int:
    """Runs in a block of about 50 ms; 0 for a step that would take the whole run."""
    step()
    started = time.process_time()
    step()
    once = time.process_time() - started
    return 0 if once > 20 else max(1, int(0.05 / once))


def compare(
    rows: list[Row],
    met: list[bool],
    case: str,
    size: tuple[int, int, int],
    measured: dict[str, float],
) -> None:
    """Each of our engines beside each peer."""
    for engine in ("kernel", "torch"):
        if engine not in measured:
            continue
        for peer in ("TorchLayer", "lightning"):
            value = measured.get(peer)
            target = None
            if peer == "TorchLayer" and size[2] == 2:
                target = TARGETS.get(size[:2]) if engine == "kernel" else None
                if engine == "torch" and size[:2] in TARGETS:
                    target = TORCH_TARGET
            words = "" if target is None else f">= {target:g}x"
            row = Row(f"{case}, {engine}", "fwd + bwd", "ms", measured[engine], peer, value, words)
            rows.append(row)
            met.append(target is None or row.ratio is None or row.ratio >= target)


if __name__ == "__main__":
    main()
