"""What a layer refuses, and what it leaves to the QNode's own device."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pennylane as qml
import pytest
import torch

from qfl.errors import ConfigError, DataError
from qfl.quantum import QuantumLayer, memory
from qfl.quantum.kernel_engine import KernelEngine

ENGINES = ["torch", "pennylane", *([] if KernelEngine.available() else ["kernel"])]
Function = Callable[[Any, Any], Any]


def layer_of(function: Function, engine: str = "auto", wires: int = 2, **device: Any) -> Any:
    made = qml.device(device.pop("name", "default.qubit"), wires=wires, **device)
    return QuantumLayer(
        qml.QNode(function, made, interface="torch"), {"weights": (3,)}, engine=engine
    )


def angles(inputs: Any, weights: Any) -> Any:
    qml.AngleEmbedding(inputs, wires=range(2))
    qml.Rot(*weights, wires=0)
    return [qml.expval(qml.PauliZ(0)), qml.expval(qml.PauliZ(1))]


def amplitudes(inputs: Any, weights: Any) -> Any:
    qml.AmplitudeEmbedding(inputs, wires=range(2), normalize=True)
    qml.Rot(*weights, wires=0)
    return [qml.expval(qml.PauliZ(0))]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_inputs_that_are_no_numbers(engine: str, wrong: float) -> None:
    inputs = torch.zeros(5, 2)
    inputs[3, 1] = wrong
    with pytest.raises(DataError, match=r"1 inputs of a circuit .* row 3, column 1"):
        layer_of(angles, engine)(inputs)


@pytest.mark.parametrize("engine", ENGINES)
def test_rows_without_a_direction_are_no_amplitudes(engine: str) -> None:
    inputs = torch.ones(4, 4)
    inputs[2] = 0
    words = "1 rows cannot be amplitudes, first row 2"
    if engine == "pennylane":
        words = "no numbers for row 2"
    with pytest.raises(DataError, match=words):
        layer_of(amplitudes, engine)(inputs)


@pytest.mark.parametrize("engine", ENGINES[::2])
def test_rows_of_another_norm_where_the_circuit_does_not_normalise(engine: str) -> None:
    def circuit(inputs: Any, weights: Any) -> Any:
        qml.AmplitudeEmbedding(inputs, wires=range(2), normalize=False)
        qml.Rot(*weights, wires=0)
        return [qml.expval(qml.PauliZ(0))]

    layer = layer_of(circuit, engine)
    assert layer(torch.full((3, 4), 0.5)).shape == (3, 1)
    with pytest.raises(DataError, match=r"3 rows cannot be amplitudes, first row 0 .norm 2"):
        layer(torch.ones(3, 4))


@pytest.mark.parametrize(("function", "features"), [(angles, 3), (amplitudes, 3), (amplitudes, 8)])
def test_inputs_of_another_width(function: Function, features: int) -> None:
    with pytest.raises(ConfigError, match=f"the circuit fails with inputs of {features} features"):
        layer_of(function)(torch.ones(2, features))


def test_weights_of_another_shape() -> None:
    qnode = qml.QNode(angles, qml.device("default.qubit", wires=2), interface="torch")
    layer = QuantumLayer(qnode, {"weights": (4,)})
    with pytest.raises(ConfigError, match=r"weights of shape weights \(4,\)"):
        layer(torch.ones(2, 2))


def test_wires_that_repeat() -> None:
    def circuit(inputs: Any, weights: Any) -> Any:
        qml.CNOT(wires=[1, 1])
        return qml.expval(qml.PauliZ(0))

    with pytest.raises(ConfigError, match=r"the circuit fails .*must be different"):
        layer_of(circuit)(torch.ones(2, 2))


def test_a_custom_matrix_that_is_not_unitary() -> None:
    def circuit(inputs: Any, weights: Any) -> Any:
        qml.RX(inputs[:, 0], wires=0)
        qml.QubitUnitary(np.diag([1.0, 2.0]), wires=0)
        return qml.expval(qml.PauliZ(0))

    with pytest.raises(ConfigError, match="not unitary"):
        layer_of(circuit)(torch.ones(2, 2))


@pytest.mark.parametrize("engine", ENGINES)
def test_copies_below_one(engine: str) -> None:
    qnode = qml.QNode(angles, qml.device("default.qubit", wires=2), interface="torch")
    with pytest.raises(ConfigError, match="copies=0"):
        QuantumLayer(qnode, {"weights": (3,)}, engine=engine, copies=0)


def test_more_wires_than_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 1 << 30)
    with pytest.raises(ConfigError, match=r"a circuit of 24 wires needs about 1\.5 GiB.* 1\.0 GiB"):
        layer_of(angles, wires=24)(torch.ones(2, 2))


@pytest.mark.parametrize("engine", ENGINES[::2])
def test_a_batch_larger_than_memory(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = layer_of(angles, engine, wires=14)
    layer(torch.ones(2, 2))
    monkeypatch.setattr(memory, "available_memory", lambda: 1 << 20)
    with pytest.raises(ConfigError, match="a batch of 4000000 through 14 wires needs about"):
        layer(torch.ones(1, 1).expand(4_000_000, 2))


def on_the_device(layer: QuantumLayer, reason: str) -> torch.Tensor:
    """Runs a layer, expecting one warning that names the reason, and no second one."""
    inputs = torch.tensor([[0.3, -0.2], [1.0, 0.5]])
    with pytest.warns(UserWarning, match=reason):
        outputs: torch.Tensor = layer(inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        layer(inputs)
    assert layer.engine == "pennylane"
    assert reason in layer.explain()
    return outputs


def test_gates_that_depend_on_data() -> None:
    def circuit(inputs: Any, weights: Any) -> Any:
        if inputs.sum() > 0:
            qml.Hadamard(0)
        qml.AngleEmbedding(inputs, wires=range(2))
        return [qml.expval(qml.PauliX(0))]

    on_the_device(layer_of(circuit), "a circuit whose gates depend on its data")


def test_angles_that_leave_torch() -> None:
    def circuit(inputs: Any, weights: Any) -> Any:
        qml.RX(inputs[:, 0], wires=0)
        qml.RY(float(weights[0]) ** 2, wires=0)
        return [qml.expval(qml.PauliZ(0))]

    on_the_device(layer_of(circuit), "an angle that is neither constant nor a torch number")


def test_angles_that_look_at_values() -> None:
    def circuit(inputs: Any, weights: Any) -> Any:
        qml.RX(inputs[:, 0] ** 2 if inputs[0, 0] > 0 else inputs[:, 0] ** 3, wires=0)
        return [qml.expval(qml.PauliZ(0))]

    on_the_device(layer_of(circuit), "an angle whose computation cannot be followed")


def test_shots() -> None:
    qnode = qml.QNode(angles, qml.device("default.qubit", wires=2), interface="torch", shots=50)
    on_the_device(QuantumLayer(qnode, {"weights": (3,)}), "finite shots")


def test_noise_is_not_left_out() -> None:
    strong = qml.NoiseModel(
        {qml.noise.op_in([qml.RX]): qml.noise.partial_wires(qml.DepolarizingChannel, 0.75)}
    )
    device = qml.device("default.mixed", wires=2)
    qnode = qml.QNode(angles, device, interface="torch")
    found = on_the_device(
        QuantumLayer(qml.add_noise(qnode, strong), {"weights": (3,)}), "transforms"
    )
    # A depolarising channel with p = 3/4 forgets everything; the engines would have known it.
    assert torch.allclose(found, torch.zeros(2, 2), atol=1e-6)


def test_devices_with_a_behaviour_of_their_own() -> None:
    on_the_device(layer_of(angles, name="default.mixed"), "circuits for default.mixed")


def test_what_no_engine_measures() -> None:
    def circuit(inputs: Any, weights: Any) -> Any:
        qml.AngleEmbedding(inputs, wires=range(2))
        return [qml.var(qml.PauliZ(0))]

    on_the_device(layer_of(circuit), "measurement VarianceMP")
