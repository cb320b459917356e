"""Copies of a circuit in one call, computed angles under per-sample gradients, many wires."""

from __future__ import annotations

import copy
from typing import Any

import pennylane as qml
import pytest
import torch
from torch import nn

from qfl.quantum import QuantumLayer
from qfl.quantum.kernel_engine import KernelEngine
from qfl.quantum.opacus import register_grad_sampler

ENGINES = ["torch", "pennylane", *([] if KernelEngine.available() else ["kernel"])]
SHAPES = {"weights": (2, 3, 3), "scales": (3,)}


def plain(inputs: Any, weights: Any, scales: Any) -> Any:
    qml.AngleEmbedding(inputs, wires=range(3))
    qml.StronglyEntanglingLayers(weights, wires=range(3))
    for wire in range(3):
        qml.RX(scales[wire], wires=wire)
    return [qml.expval(qml.PauliZ(wire)) for wire in range(3)]


def scaled(inputs: Any, weights: Any, scales: Any) -> Any:
    qml.AngleEmbedding(inputs * scales, wires=range(3))
    qml.StronglyEntanglingLayers(weights, wires=range(3))
    return [qml.expval(qml.PauliZ(wire)) for wire in range(3)]


def amplitude(inputs: Any, weights: Any, scales: Any) -> Any:
    qml.AmplitudeEmbedding(inputs, wires=range(3), pad_with=0.3)
    qml.StronglyEntanglingLayers(weights, wires=range(3))
    qml.RZ(scales[0] * scales[1], wires=1)
    qml.RX(scales[2], wires=1)
    return qml.probs(wires=[0, 1])


CIRCUITS = [plain, scaled, amplitude]


def make(circuit: Any, engine: str, copies: int | None = None) -> QuantumLayer:
    torch.manual_seed(1)
    qnode = qml.QNode(circuit, qml.device("default.qubit", wires=3), interface="torch")
    return QuantumLayer(qnode, SHAPES, init=nn.init.normal_, engine=engine, copies=copies).double()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("circuit", CIRCUITS)
def test_copies_are_layers_with_weights_of_their_own(circuit: Any, engine: str) -> None:
    stacked = make(circuit, engine, copies=4)
    assert {name: tuple(p.shape) for name, p in stacked.named_parameters()} == {
        "weights": (4, 2, 3, 3),
        "scales": (4, 3),
    }
    x = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    together = stacked(x)
    assert together.shape == (4, 2, 5, together.shape[-1])
    upstream = torch.randn_like(together)
    found = torch.autograd.grad((together * upstream).sum(), [x, *stacked.parameters()])
    by_inputs = torch.zeros_like(x)
    for number in range(4):
        alone = make(circuit, "pennylane")
        alone.load_state_dict({name: p[number] for name, p in stacked.state_dict().items()})
        outputs = alone(x)
        assert torch.allclose(together[number], outputs, atol=1e-9)
        total = (outputs * upstream[number]).sum()
        grads = torch.autograd.grad(total, [x, *alone.parameters()])
        by_inputs += grads[0]
        for ours, theirs in zip(found[1:], grads[1:], strict=True):
            assert torch.allclose(ours[number], theirs, atol=1e-9)
    assert torch.allclose(found[0], by_inputs, atol=1e-9)


class Twice(nn.Module):
    """A stacked layer between linear ones, called twice as a recurrent cell does."""

    def __init__(self, circuit: Any, engine: str, copies: int | None) -> None:
        super().__init__()
        self.circuit = make(circuit, engine, copies)
        width = 4 if circuit is amplitude else 3
        self.last = nn.Linear(width, 3).double()
        self.copies = copies

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(2):
            y = self.circuit(x)
            x = x + torch.tanh(self.last(y if self.copies is None else y.prod(0)))
        return x


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("copies", [None, 2])
@pytest.mark.parametrize("circuit", CIRCUITS)
def test_per_sample_gradients_under_opacus(circuit: Any, copies: int | None, engine: str) -> None:
    from opacus.grad_sample import GradSampleModule

    register_grad_sampler()
    model = Twice(circuit, engine, copies)
    x = torch.randn(4, 3, dtype=torch.float64)
    wanted = []
    for sample in x:
        alone = copy.deepcopy(model)
        alone(sample[None]).square().sum().backward()
        wanted.append({name: p.grad for name, p in alone.named_parameters()})
    wrapped = GradSampleModule(model, loss_reduction="sum")
    wrapped(x).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad_sample.shape == (4, *parameter.shape)
        for row, theirs in zip(parameter.grad_sample, wanted, strict=True):
            assert torch.allclose(row, theirs[name], atol=1e-9)
        assert float(parameter.grad_sample.detach().abs().max()) > 1e-4


@pytest.mark.skipif("kernel" not in ENGINES, reason="the kernel is not built")
def test_threads_change_nothing() -> None:
    qnode = qml.QNode(plain, qml.device("default.qubit", wires=3), interface="torch")
    one, two = (QuantumLayer(qnode, SHAPES, engine="kernel", threads=t) for t in (1, 2))
    two.load_state_dict(one.state_dict())
    x = torch.randn(5000, 3)
    assert torch.equal(one(x), two(x))


@pytest.mark.skipif("kernel" not in ENGINES, reason="the kernel is not built")
def test_twenty_wires_against_the_shadow_of_each_wire() -> None:
    """A chain of CNOTs makes each <Z> a product of those before it: a closed form."""
    n = 20

    def circuit(inputs: Any, weights: Any) -> Any:
        qml.AngleEmbedding(inputs, wires=range(n))
        for wire in range(n):
            qml.RY(weights[wire], wires=wire)
        for wire in range(n - 1):
            qml.CNOT(wires=[wire, wire + 1])
        return [qml.expval(qml.PauliZ(wire)) for wire in (0, 1, n - 1)]

    qnode = qml.QNode(circuit, qml.device("default.qubit", wires=n), interface="torch")
    layer = QuantumLayer(qnode, {"weights": (n,)}, init=nn.init.normal_, engine="kernel").double()
    x = torch.randn(2, n, dtype=torch.float64, requires_grad=True)
    found = layer(x)
    alone = torch.cos(x) * torch.cos(layer.weights)
    wanted = torch.cumprod(alone, dim=1)[:, [0, 1, n - 1]]
    assert torch.allclose(found, wanted, atol=1e-12)
    pairs = [
        torch.autograd.grad(y.sum(), (x, layer.weights), retain_graph=True) for y in (found, wanted)
    ]
    for ours, theirs in zip(*pairs, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-12)
