"""Which engine a layer takes, what it says of it, and what every engine allows."""

from __future__ import annotations

import copy
import re
import warnings
from typing import Any

import pennylane as qml
import pytest
import torch

from qfl.errors import ConfigError
from qfl.quantum import QuantumLayer
from qfl.quantum.kernel_engine import KernelEngine

FASTEST = "torch" if KernelEngine.available() else "kernel"
SHAPES = {"weights": (2, 3, 3)}


def templates(inputs: Any, weights: Any) -> Any:
    qml.AngleEmbedding(inputs, wires=range(3))
    qml.StronglyEntanglingLayers(weights, wires=range(3))
    return [qml.expval(qml.PauliZ(wire)) for wire in range(3)]


def qnode_of(circuit: Any, shots: int | None = None) -> qml.QNode:
    device = qml.device("default.qubit", wires=3)
    method = "parameter-shift" if shots else "backprop"
    qnode = qml.QNode(circuit, device, interface="torch", diff_method=method)
    return qml.set_shots(qnode, shots) if shots else qnode


def depends_on_data(inputs: Any, weights: Any) -> Any:
    qml.AngleEmbedding(inputs, wires=range(3))
    if float(weights[0, 0, 0].detach()) > 0:
        qml.PauliX(0)
    qml.StronglyEntanglingLayers(weights, wires=range(3))
    return qml.expval(qml.PauliZ(0))


def variance(inputs: Any, weights: Any) -> Any:
    qml.AngleEmbedding(inputs, wires=range(3))
    qml.StronglyEntanglingLayers(weights, wires=range(3))
    return qml.var(qml.PauliZ(0))


def test_auto_takes_the_fastest_engine_and_explains_itself() -> None:
    layer = QuantumLayer(qnode_of(templates), SHAPES)
    assert layer.engine == "auto"
    assert "not called yet" in layer.explain()
    layer(torch.zeros(2, 3))
    assert layer.engine == FASTEST
    text = layer.explain()
    assert text.startswith(f"engine {FASTEST}")
    assert "3 wires" in text
    assert "21 Rotation" in text
    assert "3 columns, 18 weights, 3 outputs" in text


def test_capture_does_not_depend_on_the_callers_gradient_mode() -> None:
    for mode in (torch.no_grad, torch.inference_mode):
        layer = QuantumLayer(qnode_of(templates), SHAPES)
        with mode():
            layer(torch.zeros(2, 3))
        assert layer.engine == FASTEST


@pytest.mark.parametrize("engine", ["torch", FASTEST])
def test_a_layer_first_called_in_inference_mode_still_trains(engine: str) -> None:
    layer = QuantumLayer(qnode_of(templates), SHAPES, engine=engine)
    with torch.inference_mode():
        layer(torch.zeros(2, 3))
    layer(torch.rand(2, 3)).sum().backward()
    assert float(layer.weights.grad.abs().max()) > 0


@pytest.mark.parametrize(
    ("circuit", "shots", "reason"),
    [
        (depends_on_data, None, "depend on"),
        (variance, None, "measurement VarianceMP"),
        (templates, 50, "finite shots"),
    ],
)
def test_what_no_engine_runs_goes_to_the_device_with_one_warning(
    circuit: Any, shots: int | None, reason: str
) -> None:
    layer = QuantumLayer(qnode_of(circuit, shots), SHAPES)
    with pytest.warns(UserWarning, match=re.escape(reason)):
        layer(torch.rand(2, 3))
    assert layer.engine == "pennylane"
    assert reason in layer.explain()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer(torch.rand(2, 3))


def test_an_engine_asked_for_by_name_refuses_what_it_cannot_run() -> None:
    layer = QuantumLayer(qnode_of(variance), SHAPES, engine="torch")
    with pytest.raises(ConfigError, match=r"quantum\.engine=torch cannot run this circuit"):
        layer(torch.rand(2, 3))
    with pytest.raises(ConfigError, match="unknown engine 'kernal'; did you mean 'kernel'"):
        QuantumLayer(qnode_of(templates), SHAPES, engine="kernal")


@pytest.mark.parametrize("engine", ["torch", "pennylane", FASTEST])
def test_functional_call_and_per_sample_gradients_see_the_weights(engine: str) -> None:
    torch.manual_seed(0)
    layer = QuantumLayer(qnode_of(templates), SHAPES, engine=engine).double()
    inputs = torch.rand(4, 3, dtype=torch.float64)
    weights = dict(layer.named_parameters())

    def loss(parameters: dict[str, torch.Tensor], one: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, parameters, (one[None],)).sum()

    for one in inputs:
        found = torch.func.grad(loss)(weights, one)["weights"]
        layer.zero_grad()
        layer(one[None]).sum().backward()
        assert torch.allclose(found, layer.weights.grad, atol=1e-10)
        assert float(found.abs().max()) > 1e-3


def test_vmap_over_samples_gives_per_sample_gradients() -> None:
    layer = QuantumLayer(qnode_of(templates), SHAPES).double()
    inputs = torch.rand(4, 3, dtype=torch.float64)
    weights = {name: value.detach() for name, value in layer.named_parameters()}

    def loss(parameters: dict[str, torch.Tensor], one: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, parameters, (one[None],)).sum()

    found = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weights, inputs)["weights"]
    for row, one in zip(found, inputs, strict=True):
        layer.zero_grad()
        layer(one[None]).sum().backward()
        assert torch.allclose(row, layer.weights.grad, atol=1e-10)


def test_the_torch_engine_differentiates_twice() -> None:
    layer = QuantumLayer(qnode_of(templates), SHAPES, engine="torch").double()
    inputs = torch.rand(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: layer(x), (inputs,), atol=1e-6)


def test_a_copy_finds_its_engine_again() -> None:
    layer = QuantumLayer(qnode_of(templates), SHAPES)
    inputs = torch.rand(5, 3)
    before = layer(inputs)
    other = copy.deepcopy(layer)
    assert torch.equal(other(inputs), before)
    assert other.engine == FASTEST
    other.weights.data += 1.0
    assert torch.equal(layer(inputs), before)
    assert not torch.equal(other(inputs), before)
