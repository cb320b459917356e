"""Runs one peer in a process of its own, told by lines of JSON what to do.

``peer_worker.py NAME`` reads requests from standard input and answers each with one line on
standard output: which packages there are, ``prepare`` a case (the first call, which is where JAX
compiles), ``run`` it some times, ``forget`` it. It is run by the Python that has the peer
installed, which need not have qfl.
"""

from __future__ import annotations

import gc
import importlib.abc
import importlib.machinery
import json
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from quantum_case import Case, pennylane_circuit, torch_step

Step = Callable[[], tuple[Any, Any, Any]]


def torch_layer(case: Case) -> Step:
    """PennyLane's TorchLayer on default.qubit, backpropagation, the batch broadcast."""
    return _torch_layer(case, "default.qubit", "backprop")


def lightning(case: Case) -> Step:
    """PennyLane's TorchLayer on lightning.qubit, adjoint gradients."""
    return _torch_layer(case, "lightning.qubit", "adjoint")


def _torch_layer(case: Case, device: str, method: str) -> Step:
    import pennylane as qml

    made = qml.device(device, wires=case.n)
    qnode = qml.QNode(pennylane_circuit(case), made, interface="torch", diff_method=method)
    layer = qml.qnn.TorchLayer(qnode, {"weights": (case.depth, case.n, 3)})
    return torch_step(layer, layer.weights, case)


def pennylane_jax(case: Case) -> Step:
    """PennyLane on default.qubit, differentiated and compiled by JAX."""
    import jax.numpy as jnp
    import pennylane as qml

    made = qml.device("default.qubit", wires=case.n)
    qnode = qml.QNode(pennylane_circuit(case), made, interface="jax", diff_method="backprop")
    return _jax_step(lambda inputs, weights: jnp.stack(qnode(inputs, weights), -1), case)


def tensorcircuit_jax(case: Case) -> Step:
    """TensorCircuit-NG, vectorised over the batch, differentiated and compiled by JAX.

    <Z> of all wires comes from one state, which is faster than asking for them one by one.
    """
    import jax
    import jax.numpy as jnp
    import tensorcircuit as tc

    tc.set_backend("jax")
    tc.set_dtype("complex64")
    signs = jnp.asarray(case.signs())

    def one(inputs: Any, weights: Any) -> Any:
        circuit = tc.Circuit(case.n)
        for wire in range(case.n):
            circuit.rx(wire, theta=inputs[wire])
        for layer in range(case.depth):
            for wire in range(case.n):
                circuit.rz(wire, theta=weights[layer, wire, 0])
                circuit.ry(wire, theta=weights[layer, wire, 1])
                circuit.rz(wire, theta=weights[layer, wire, 2])
            for wire in range(case.n):
                circuit.cnot(wire, (wire + case.reach(layer)) % case.n)
        return (jnp.abs(circuit.state()) ** 2) @ signs

    return _jax_step(jax.vmap(one, in_axes=(0, None)), case)


def _jax_step(function: Callable[[Any, Any], Any], case: Case) -> Step:
    import jax
    import jax.numpy as jnp

    def both(inputs: Any, weights: Any, upstream: Any) -> Any:
        outputs, pull = jax.vjp(function, inputs, weights)
        return outputs, *pull(upstream)

    compiled = jax.jit(both)
    numbers = [jnp.asarray(array) for array in case.numbers()]
    return lambda: jax.block_until_ready(compiled(*numbers))


def torchquantum(case: Case) -> Step:
    """TorchQuantum's functional gates; <Z> from the state, a little faster than its MeasureAll."""
    _stand_in_for(TORCHQUANTUM_UNUSED)
    import torch
    import torchquantum as tq
    import torchquantum.functional as tqf

    signs = torch.from_numpy(case.signs())
    weights = torch.nn.Parameter(torch.empty(case.depth, case.n, 3))

    def module(inputs: Any) -> Any:
        device = tq.QuantumDevice(n_wires=case.n, bsz=case.batch)
        for wire in range(case.n):
            tqf.rx(device, wires=wire, params=inputs[:, wire])
        for layer in range(case.depth):
            for wire in range(case.n):
                for number, gate in enumerate((tqf.rz, tqf.ry, tqf.rz)):
                    gate(device, wires=wire, params=weights[layer, wire, number : number + 1])
            for wire in range(case.n):
                tqf.cnot(device, wires=[wire, (wire + case.reach(layer)) % case.n])
        state = device.get_states_1d()
        return (state.real**2 + state.imag**2) @ signs

    return torch_step(module, weights, case)


# TorchQuantum imports an old Qiskit, one package that it does not even ask for, and more, and asks
# for TensorFlow. Its simulator uses none of them: it is installed alone, and stand-ins let it be
# imported.
TORCHQUANTUM_UNUSED = (
    *("matplotlib", "pathos", "qiskit", "qiskit_ibm_runtime"),
    *("torchdiffeq", "torchpack", "torchvision", "tqdm"),
)


class _StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name.split(".")[0] not in self.names:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: Any) -> Any:
        from unittest.mock import MagicMock

        module = MagicMock(name=spec.name)
        module.__path__, module.__file__, module.__spec__ = [], "", spec
        return module

    def exec_module(self, module: Any) -> None:
        pass


def _stand_in_for(names: tuple[str, ...]) -> None:
    if not any(isinstance(finder, _StandIns) for finder in sys.meta_path):
        sys.meta_path.insert(0, _StandIns(names))


PEERS: dict[str, tuple[Callable[[Case], Step], tuple[str, ...]]] = {
    "TorchLayer": (torch_layer, ("pennylane", "torch")),
    "lightning adjoint": (lightning, ("pennylane", "pennylane-lightning", "torch")),
    "PennyLane jax.jit": (pennylane_jax, ("pennylane", "jax", "jaxlib")),
    "TensorCircuit jax.jit": (tensorcircuit_jax, ("tensorcircuit-ng", "jax", "jaxlib")),
    "TorchQuantum": (torchquantum, ("torchquantum", "torch")),
}


class Worker:
    """Holds at most one prepared case."""

    def __init__(self, name: str) -> None:
        self.build, self.packages = PEERS[name]
        self.step: Step | None = None

    def hello(self) -> dict[str, Any]:
        """Versions of the peer's packages; fails where one is missing or does not run."""
        versions = {}
        for package in self.packages:
            try:
                versions[package] = version(package)
            except PackageNotFoundError:
                raise RuntimeError("not installed: make bench-peers") from None
        step = self.build(Case(2, 1, 1))
        step()
        return {"versions": versions, "peak_bytes": _peak_bytes()}

    def prepare(self, n: int, batch: int, depth: int, cores: list[list[int]]) -> dict[str, Any]:
        """First call, on one core; afterwards the process moves to the core of measurements."""
        _pin(cores[0])
        started = time.process_time()
        self.step = self.build(Case(n, batch, depth))
        results = [np.asarray(_detached(result)) for result in self.step()]
        first = time.process_time() - started
        _pin(cores[1])
        arrays = [[list(array.shape), array.ravel().tolist()] for array in results]
        return {"first_s": first, "arrays": arrays, "peak_bytes": _peak_bytes()}

    def run(self, times: int) -> dict[str, Any]:
        """Seconds of processor time for so many steps."""
        assert self.step is not None
        started = time.process_time()
        for _ in range(times):
            self.step()
        return {"seconds": time.process_time() - started}

    def forget(self) -> dict[str, Any]:
        """Give the case's memory back."""
        self.step = None
        if "jax" in sys.modules:
            sys.modules["jax"].clear_caches()
        gc.collect()
        return {}


def _detached(result: Any) -> Any:
    return result.detach() if hasattr(result, "detach") else result


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _pin(cores: list[int]) -> None:
    """Every thread of this process: those of XLA exist before they are needed."""
    if not hasattr(os, "sched_setaffinity"):
        return
    for thread in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(thread.name), cores)


def main() -> None:
    """Answer requests until there are no more."""
    # What the libraries print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    worker = Worker(sys.argv[1])
    if "torch" in worker.packages:
        import torch

        torch.set_num_threads(1)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(worker, request.pop("do"))(**request)
        except Exception as error:
            worker.step = None
            words = str(error) or type(error).__name__
            answer = {"failed": words.strip().splitlines()[0][:200]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
