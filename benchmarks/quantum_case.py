"""One circuit, one batch: what every contender computes, and the numbers it computes with.

RX of an input on every wire, strongly entangling layers (Schuld et al. 2020: RZ, RY, RZ on every
wire, then a ring of CNOTs), <Z> on every wire. A step is one forward pass and the gradients of
``(outputs * upstream).sum()`` with respect to inputs and weights, in single precision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Case:
    """Wires, samples and strongly entangling layers."""

    n: int
    batch: int
    depth: int

    def __str__(self) -> str:
        return f"n={self.n}, batch {self.batch}, depth {self.depth}"

    @property
    def work(self) -> int:
        """Amplitudes times layers: what time and memory are proportional to in the end."""
        return self.batch * (1 << self.n) * self.depth

    def within(self, other: Case) -> bool:
        """Whether no number is larger than the other's."""
        return self.n <= other.n and self.batch <= other.batch and self.depth <= other.depth

    def numbers(self) -> tuple[Floats, Floats, Floats]:
        """Inputs (batch, n), weights (depth, n, 3) and upstream (batch, n), always the same."""
        generator = np.random.default_rng((self.n, self.batch, self.depth))
        shapes = ((self.batch, self.n), (self.depth, self.n, 3), (self.batch, self.n))
        inputs, weights, upstream = (
            generator.normal(size=shape).astype(np.float32) for shape in shapes
        )
        return inputs, weights, upstream

    def reach(self, layer: int) -> int:
        """Distance between control and target of the CNOTs of a layer."""
        return layer % (self.n - 1) + 1

    def signs(self) -> Floats:
        """(2**n, n): eigenvalues of Z on every wire; wire 0 is the most significant bit."""
        basis = np.arange(1 << self.n)[:, None]
        return (1 - 2 * ((basis >> np.arange(self.n - 1, -1, -1)) & 1)).astype(np.float32)


def pennylane_circuit(case: Case) -> Any:
    """The circuit as a function that PennyLane records."""
    import pennylane as qml

    def circuit(inputs: Any, weights: Any) -> Any:
        qml.AngleEmbedding(inputs, wires=range(case.n))
        qml.StronglyEntanglingLayers(weights, wires=range(case.n))
        return [qml.expval(qml.PauliZ(wire)) for wire in range(case.n)]

    return circuit


def torch_step(module: Any, weights: Any, case: Case) -> Any:
    """A step of a torch module, whose parameter ``weights`` it is that the gradient is wanted for.

    Returns:
        A function that returns outputs, gradient by inputs and gradient by weights.
    """
    import torch

    numbers = [torch.from_numpy(array) for array in case.numbers()]
    inputs, upstream = numbers[0].requires_grad_(), numbers[2]
    with torch.no_grad():
        weights.copy_(numbers[1])

    def step() -> tuple[Any, Any, Any]:
        inputs.grad = weights.grad = None
        outputs = module(inputs)
        outputs.backward(upstream)
        return outputs, inputs.grad, weights.grad

    return step
