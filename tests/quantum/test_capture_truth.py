"""Circuits that a careless look would get wrong: all agree with PennyLane, or run on it."""

from __future__ import annotations

import math
import threading
import warnings
from typing import Any

import numpy as np
import pennylane as qml
import pytest
import torch

from qfl.errors import ConfigError
from qfl.quantum import QuantumLayer
from qfl.quantum.kernel_engine import KernelEngine

ENGINES = ["torch", *([] if KernelEngine.available() else ["kernel"])]
OUTSIDE = torch.nn.Parameter(torch.tensor(0.7, dtype=torch.float64))


class StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad


def z(*wires: int) -> list[Any]:
    return [qml.expval(qml.PauliZ(wire)) for wire in wires]


def square_root(inputs: Any, weights: Any) -> Any:
    qml.RX(torch.sqrt(inputs[:, 0]), wires=0)
    qml.RY(torch.log1p(weights[0]), wires=0)
    return z(0)


def arcsine(inputs: Any, weights: Any) -> Any:
    qml.RX(torch.arcsin(inputs[:, 0] / 20), wires=0)
    qml.RY(weights[0], wires=0)
    return z(0)


def clamped(inputs: Any, weights: Any) -> Any:
    qml.RX(torch.clamp(inputs[:, 0], -5, 5) + weights[0], wires=0)
    return z(0)


def threshold(inputs: Any, weights: Any) -> Any:
    qml.RX(math.pi * (inputs[:, 0] > 7).double(), wires=0)
    qml.RY(inputs[:, 1] + weights[0], wires=0)
    return z(0)


def cancelling(inputs: Any, weights: Any) -> Any:
    qml.Hadamard(0)
    qml.CRX(inputs[:, 0] * weights[0], wires=[0, 1])
    qml.RY(weights[1], wires=1)
    return z(1)


def partly_detached(inputs: Any, weights: Any) -> Any:
    with torch.no_grad():
        still = weights[1] * 2
    qml.RX(torch.sin(inputs[:, 0]), wires=0)
    qml.RY(torch.sin(inputs[:, 0].detach()), wires=1)
    qml.RY(still + weights[0], wires=0)
    return z(0, 1)


def straight_through(inputs: Any, weights: Any) -> Any:
    qml.RX(StraightThrough.apply(inputs[:, 0]) * 0.3, wires=0)
    qml.RY(weights[0], wires=0)
    return z(0)


def closed_over(inputs: Any, weights: Any) -> Any:
    qml.RX(inputs[:, 0] * OUTSIDE, wires=0)
    qml.RX(weights[0], wires=0)
    return z(0)


def observable_of_data(inputs: Any, weights: Any) -> Any:
    qml.RX(inputs[:, 0], wires=0)
    return [qml.expval(float(weights[0]) * qml.PauliZ(0))]


def matrix_of_data(inputs: Any, weights: Any) -> Any:
    angle = float(weights[0])
    c, s = math.cos(angle), math.sin(angle)
    qml.RX(inputs[:, 0], wires=0)
    qml.QubitUnitary(np.array([[c, -s], [s, c]]), wires=0)
    return z(0)


def tiny_phases(inputs: Any, weights: Any) -> Any:
    qml.RX(inputs[:, 0], wires=0)
    qml.Hadamard(1)
    for _ in range(100):
        qml.QubitUnitary(np.diag([1, 1, 1, np.exp(0.9e-5j)]), wires=[0, 1])
    qml.RY(weights[0], wires=1)
    return [qml.expval(qml.PauliY(1))]


def matrix_of_weights(inputs: Any, weights: Any) -> Any:
    x = torch.tensor([[0, 1], [1, 0]], dtype=torch.complex128)
    qml.RX(inputs[:, 0], wires=0)
    qml.QubitUnitary(torch.matrix_exp(1j * weights[0] * x), wires=0)
    return z(0)


CIRCUITS = [
    *(square_root, arcsine, clamped, threshold, cancelling, partly_detached, straight_through),
    *(closed_over, observable_of_data, matrix_of_data, tiny_phases, matrix_of_weights),
]


def layer_of(function: Any, engine: str, copies: int | None = None, **device: Any) -> QuantumLayer:
    made = qml.device("default.qubit", **{"wires": 2, **device})
    qnode = qml.QNode(function, made, interface="torch")
    torch.manual_seed(1)
    return QuantumLayer(
        qnode, {"weights": (3,)}, engine=engine, copies=copies, init=lambda p: p.uniform_(0.2, 0.9)
    ).double()


@pytest.mark.filterwarnings("ignore:this circuit runs on")
@pytest.mark.parametrize("circuit", CIRCUITS)
def test_values_and_gradients_are_pennylanes(circuit: Any) -> None:
    x = torch.tensor([[0.4, 0.1], [11.0, -0.3], [2.6, 0.8]], dtype=torch.float64)
    results = []
    for engine in ("pennylane", "auto"):
        layer, inputs = layer_of(circuit, engine), x.clone().requires_grad_()
        outputs = layer(inputs)
        variables = [inputs, layer.weights, OUTSIDE]
        grads = torch.autograd.grad(outputs.sum() + 0 * sum(v.sum() for v in variables), variables)
        results.append((outputs, *grads))
    for theirs, ours in zip(*results, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-9)


@pytest.mark.parametrize("engine", ENGINES)
def test_columns_that_cancel_still_follow_the_weights(engine: str) -> None:
    x = torch.rand(4, 2, dtype=torch.float64)
    stacked = layer_of(cancelling, engine, copies=2)
    alone = layer_of(cancelling, "pennylane")
    for row, weights in zip(stacked(x), stacked.weights, strict=True):
        alone.weights.data = weights.detach()
        assert torch.allclose(row, alone(x), atol=1e-9)
    single = layer_of(cancelling, engine)
    found = single.per_sample_gradients(x, torch.ones(4, 1, dtype=torch.float64))["weights"]
    wanted = [torch.autograd.grad(single(row[None]).sum(), single.weights)[0] for row in x]
    assert torch.allclose(found, torch.stack(wanted), atol=1e-9)
    assert float(found[:, 0].abs().min()) > 1e-6


@pytest.mark.parametrize("engine", ENGINES)
def test_samples_that_follow_each_other_have_no_gradients_of_their_own(engine: str) -> None:
    def circuit(inputs: Any, weights: Any) -> Any:
        qml.RX((inputs[:, 0] - inputs[:, 0].mean()) * weights[0], wires=0)
        return z(0)

    layer = layer_of(circuit, engine)
    with pytest.raises(ConfigError, match="from other samples too"):
        layer.per_sample_gradients(torch.rand(3, 2).double(), torch.ones(3, 1).double())


@pytest.mark.parametrize("engine", ENGINES)
def test_devices_without_wires_number_them_as_pennylane_does(engine: str) -> None:
    def circuit(inputs: Any, weights: Any) -> Any:
        qml.RX(inputs[:, 0], wires=3)
        qml.RY(weights[0], wires=1)
        qml.CNOT(wires=[3, 1])
        return qml.probs()

    x = torch.rand(3, 2, dtype=torch.float64)
    found, wanted = (layer_of(circuit, name, wires=None)(x) for name in (engine, "pennylane"))
    assert torch.allclose(found, wanted, atol=1e-9)


def test_measurements_out_of_order_go_to_the_device_which_refuses_them() -> None:
    def circuit(inputs: Any, weights: Any) -> Any:
        qml.RX(inputs[:, 0], wires=0)
        first, second = z(0, 1)
        return [second, first]

    with pytest.warns(UserWarning, match="in order"), pytest.raises(Exception, match="order"):
        layer_of(circuit, "auto")(torch.rand(3, 2, dtype=torch.float64))


@pytest.mark.parametrize("engine", ENGINES)
def test_constants_inside_of_single_precision_models(engine: str) -> None:
    matrix = torch.rand(2, 2, dtype=torch.float64)

    def circuit(inputs: Any, weights: Any) -> Any:
        qml.StatePrep(np.array([0.6, 0.8]), wires=[1])
        qml.RX(torch.tanh(inputs @ matrix.to(inputs.dtype))[:, 0] * weights[0], wires=0)
        return z(0, 1)

    layer = layer_of(circuit, engine).float()
    outputs = layer(torch.rand(3, 2))
    assert outputs.dtype == torch.float32
    assert torch.allclose(outputs[:, 1], torch.full((3,), 0.36 - 0.64))


@pytest.mark.parametrize("engine", [*ENGINES, "pennylane"])
def test_whole_numbers_are_no_angles(engine: str) -> None:
    with pytest.raises(ConfigError, match="int64: a type of real numbers"):
        layer_of(clamped, engine)(torch.tensor([[1, 2]]))


@pytest.mark.parametrize("engine", ENGINES)
def test_negative_views(engine: str) -> None:
    layer = layer_of(clamped, engine)
    x = torch.rand(1, 2, dtype=torch.float64)
    assert torch.equal(layer(torch._neg_view(-x)), layer(x))


@pytest.mark.parametrize("engine", [*ENGINES, "pennylane"])
def test_an_empty_batch(engine: str) -> None:
    layer = layer_of(clamped, engine)
    assert layer(torch.zeros(0, 2, dtype=torch.float64)).shape == (0, 1)
    nothing = torch.zeros(0, 2, dtype=torch.float64), torch.zeros(0, 1, dtype=torch.float64)
    assert layer.per_sample_gradients(*nothing)["weights"].shape == (0, 3)


def test_a_layer_inside_of_a_circuit_does_not_wait_for_ever() -> None:
    inner = layer_of(cancelling, "auto")

    def circuit(inputs: Any, weights: Any) -> Any:
        with qml.QueuingManager.stop_recording():
            angle = inner(inputs)[:, 0]
        qml.RX(angle.detach(), wires=0)
        return z(0)

    done = threading.Event()

    def run() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            layer_of(circuit, "auto")(torch.rand(3, 2, dtype=torch.float64))
        done.set()

    threading.Thread(target=run, daemon=True).start()
    assert done.wait(60)
