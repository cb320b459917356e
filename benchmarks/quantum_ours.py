"""What is measured of ours: the layer on both engines, and the kernel apart from torch.

``kernel`` and ``torch engine`` are :class:`qfl.quantum.QuantumLayer` in an ordinary training step.
``kernel, direct`` calls the kernel's forward and backward pass on tensors, without autograd, and
``bridge alone`` is a training step through an autograd function that computes nothing: together
they say what of a small step is torch's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from quantum_case import Case, pennylane_circuit, torch_step
from quantum_peers import LeftOutError, Prepared

from qfl.quantum import QuantumLayer
from qfl.quantum.capture import capture
from qfl.quantum.kernel_engine import KernelEngine

OURS = ("kernel", "torch engine", "kernel, direct", "bridge alone")


class Local:
    """A contender in this process.

    Args:
        name: One of :data:`OURS`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._step: Callable[[], Any] | None = None

    def begin(self, case: Case) -> None:
        """Nothing takes long here."""

    def prepare(self, case: Case) -> Prepared:
        """The first step, capture of the circuit included.

        Raises:
            LeftOutError: The kernel is not built.
        """
        reason = KernelEngine.available()
        if "kernel" in self.name and reason is not None:
            raise LeftOutError(reason)
        started = time.process_time()
        self._step = _BUILD[self.name](case)
        results = self._step()
        first = time.process_time() - started
        if self.name == "bridge alone":
            return Prepared([], first)
        return Prepared([result.detach().numpy().copy() for result in results], first)

    def run(self, times: int) -> float:
        """Seconds of processor time for so many steps."""
        assert self._step is not None
        step = self._step
        started = time.process_time()
        for _ in range(times):
            step()
        return time.process_time() - started

    def finish(self) -> None:
        """Give the memory back."""
        self._step = None


def qnode_of(case: Case) -> Any:
    """The circuit as a QNode."""
    import pennylane as qml

    device = qml.device("default.qubit", wires=case.n)
    return qml.QNode(pennylane_circuit(case), device, interface="torch", diff_method="backprop")


def kernel_engine(case: Case, threads: int = 1) -> KernelEngine:
    """The kernel for the circuit."""
    plan, _ = capture(qnode_of(case), {"weights": (case.depth, case.n, 3)}, case.n)
    return KernelEngine(plan, threads=threads)


def _layer(engine: str) -> Callable[[Case], Any]:
    def build(case: Case) -> Any:
        shapes = {"weights": (case.depth, case.n, 3)}
        layer = QuantumLayer(qnode_of(case), shapes, engine=engine)
        return torch_step(layer, layer.weights, case)

    return build


def _direct(case: Case) -> Any:
    engine = kernel_engine(case)
    inputs, weights, upstream = (torch.from_numpy(array) for array in case.numbers())

    def step() -> tuple[Any, Any, Any]:
        outputs = engine.forward(inputs, weights)
        by_inputs, by_weights = engine.backward(inputs, weights, upstream, False)
        return outputs, by_inputs, by_weights.view_as(weights)

    return step


class _Nothing(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Any, weights: Any) -> Any:
        ctx.save_for_backward(inputs, weights)
        return torch.empty_like(inputs)

    @staticmethod
    def backward(ctx: Any, grad_outputs: Any) -> Any:
        inputs, weights = ctx.saved_tensors
        return torch.empty_like(inputs), torch.empty_like(weights)


class _Bridge(torch.nn.Module):
    def __init__(self, case: Case) -> None:
        super().__init__()
        self.weights = torch.nn.Parameter(torch.empty(case.depth, case.n, 3))

    def forward(self, inputs: Any) -> Any:
        return _Nothing.apply(inputs, self.weights)


def _bridge(case: Case) -> Any:
    module = _Bridge(case)
    return torch_step(module, module.weights, case)


_BUILD: dict[str, Callable[[Case], Any]] = {
    "kernel": _layer("kernel"),
    "torch engine": _layer("torch"),
    "kernel, direct": _direct,
    "bridge alone": _bridge,
}
