"""Weights start where gradients do not vanish with the number of qubits."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from qfl.models.circuit_layer import near_identity
from qfl.quantum import QuantumLayer, build_circuit

LAYERS = 8


def gradient(n_qubits: int, init: Callable[[Tensor], Tensor], seed: int) -> float:
    """Squared norm of the gradient of one wire's expectation."""
    torch.manual_seed(seed)
    circuit = build_circuit(n_qubits=n_qubits, n_layers=LAYERS)
    layer = QuantumLayer(circuit.qnode, circuit.weight_shapes, init=init)
    layer(torch.full((1, n_qubits), 0.7))[0, 0].backward()
    return float(layer.weights.grad.square().sum())


def mean_gradient(n_qubits: int, init: Callable[[Tensor], Tensor]) -> float:
    return sum(gradient(n_qubits, init, seed) for seed in range(8)) / 8


def anywhere(parameter: Tensor) -> Tensor:
    return nn.init.uniform_(parameter, 0, 2 * math.pi)


def test_gradients_near_the_identity_survive_width_where_uniform_angles_lose_them() -> None:
    narrow, wide, widest = (mean_gradient(n, near_identity(LAYERS)) for n in (6, 10, 12))
    assert widest > 0.4 * narrow
    assert wide > 5 * mean_gradient(10, anywhere)
    assert mean_gradient(10, anywhere) < 0.2 * mean_gradient(6, anywhere)


@pytest.mark.parametrize(("layers", "std"), [(1, 0.1), (8, 0.1), (98, 0.05)])
def test_deep_circuits_start_nearer(layers: int, std: float) -> None:
    torch.manual_seed(0)
    weights = near_identity(layers)(torch.empty(20_000))
    assert float(weights.std()) == pytest.approx(std, rel=0.03)
    assert float(weights.mean()) == pytest.approx(0, abs=std / 20)
