"""Per-sample gradients of quantum layers are exact, where PennyLane's own are silently zero."""

from __future__ import annotations

from typing import Any

import pennylane as qml
import pytest
import torch
from opacus.grad_sample import GradSampleModule
from torch import nn

from qfl.quantum import QuantumLayer
from qfl.quantum.kernel_engine import KernelEngine
from qfl.quantum.opacus import register_grad_sampler

FASTEST = "torch" if KernelEngine.available() else "kernel"
SHAPES = {"weights": (2, 3, 3)}


def circuit(inputs: Any, weights: Any) -> Any:
    qml.AngleEmbedding(inputs, wires=range(3))
    qml.StronglyEntanglingLayers(weights, wires=range(3))
    return [qml.expval(qml.PauliZ(wire)) for wire in range(3)]


def qnode() -> qml.QNode:
    device = qml.device("default.qubit", wires=3)
    return qml.QNode(circuit, device, interface="torch", diff_method="backprop")


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(6, 4, dtype=torch.float64), torch.tensor([0, 1, 0, 1, 1, 0])


def hybrid(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3), layer, nn.Linear(3, 2)).double()


def one_backward_per_sample(model: nn.Module) -> dict[str, torch.Tensor]:
    x, y = batch()
    found: dict[str, list[torch.Tensor]] = {name: [] for name, _ in model.named_parameters()}
    for row, label in zip(x, y, strict=True):
        model.zero_grad()
        nn.functional.cross_entropy(model(row[None]), label[None]).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            found[name].append(parameter.grad.clone())
    return {name: torch.stack(rows) for name, rows in found.items()}


def by_opacus(model: nn.Module) -> dict[str, torch.Tensor]:
    x, y = batch()
    wrapped = GradSampleModule(model, loss_reduction="sum")
    nn.functional.cross_entropy(wrapped(x), y, reduction="sum").backward()
    return {
        name.removeprefix("_module."): parameter.grad_sample
        for name, parameter in wrapped.named_parameters()
    }


@pytest.mark.parametrize("engine", [FASTEST, "torch", "pennylane"])
def test_every_per_sample_gradient_equals_one_backward_per_sample(engine: str) -> None:
    register_grad_sampler()
    torch.manual_seed(0)
    model = hybrid(QuantumLayer(qnode(), SHAPES, engine=engine))
    expected = one_backward_per_sample(model)
    found = by_opacus(model)
    assert set(found) == set(expected)
    for name, gradient in expected.items():
        assert torch.allclose(found[name], gradient, atol=1e-9), name
        assert float(gradient.abs().max()) > 1e-4


def test_torchlayer_gives_zeros_without_a_word() -> None:
    torch.manual_seed(0)
    model = hybrid(qml.qnn.TorchLayer(qnode(), SHAPES))
    expected = one_backward_per_sample(model)["1.weights"]
    found = by_opacus(model)["1.weights"]
    assert float(expected.abs().max()) > 1e-4
    assert float(found.abs().max()) == 0.0


def test_dimensions_between_batch_and_features_are_summed() -> None:
    torch.manual_seed(0)
    layer = QuantumLayer(qnode(), SHAPES).double()
    inputs = torch.randn(2, 5, 3, dtype=torch.float64)
    upstream = torch.randn(2, 5, 3, dtype=torch.float64)
    found = layer.per_sample_gradients(inputs, upstream)["weights"]
    for row, one, gradient in zip(found, inputs, upstream, strict=True):
        layer.zero_grad()
        (layer(one) * gradient).sum().backward()
        assert torch.allclose(row, layer.weights.grad, atol=1e-10)
