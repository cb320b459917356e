"""Mitigation gives back what noise took: exactly where it can, nearly where it extrapolates."""

from __future__ import annotations

import math
from typing import Any

import pennylane as qml
import pytest
import torch

from qfl.errors import ConfigError
from qfl.quantum import QuantumLayer, build_circuit
from qfl.quantum.devices import Backend, Noise, make_qnode
from qfl.quantum.mitigation import correct_readout, folded, richardson_weights

NOISE = Noise(depolarizing=0.01, amplitude_damping=0.01, readout_error=0.03)


def outputs_and_gradients(backend: Backend) -> list[torch.Tensor]:
    circuit = build_circuit(n_qubits=2, n_layers=1, backend=backend)
    layer = QuantumLayer(circuit.qnode, circuit.weight_shapes, engine="pennylane").double()
    generator = torch.Generator().manual_seed(4)
    layer.weights.data = torch.randn(layer.weights.shape, generator=generator, dtype=torch.float64)
    inputs = torch.rand(3, 2, generator=generator, dtype=torch.float64).requires_grad_()
    outputs = layer(inputs)
    upstream = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(3, 2)
    gradients = torch.autograd.grad((outputs * upstream).sum(), [inputs, layer.weights])
    return [outputs.detach(), *gradients]


def largest_errors(backend: Backend) -> list[float]:
    pairs = zip(outputs_and_gradients(backend), outputs_and_gradients(Backend()), strict=True)
    return [float((found - exact).abs().max()) for found, exact in pairs]


def everything(inputs: Any) -> Any:
    """All kinds of measurements that can be corrected."""
    qml.AngleEmbedding(inputs, wires=range(3))
    qml.CNOT([0, 1])
    qml.IsingXX(0.7, wires=[1, 2])
    qml.Rot(0.1, 0.2, 0.3, wires=2)
    return [
        qml.expval(qml.PauliZ(0)),
        qml.expval(qml.PauliY(2) @ qml.PauliZ(1) @ qml.Identity(0)),
        qml.expval(0.5 * qml.PauliX(0) @ qml.PauliY(1) + 2 * qml.PauliZ(0) + 1.5 * qml.Identity(0)),
        qml.probs(wires=[2, 0]),
        qml.probs(),
    ]


@pytest.mark.parametrize("mitigation", ["readout", "both"])
@pytest.mark.parametrize("method", ["backprop", "parameter-shift"])
def test_corrected_readout_is_exact(mitigation: str, method: str) -> None:
    inputs = torch.linspace(-2, 2, 12, dtype=torch.float64).reshape(4, 3)
    exact = make_qnode(everything, 3, Backend())(inputs)
    noise = Noise(readout_error=0.2)
    raw = make_qnode(everything, 3, Backend("default.mixed", method, noise=noise))(inputs)
    backend = Backend("default.mixed", method, noise=noise, mitigation=mitigation)
    found = make_qnode(everything, 3, backend)(inputs)
    for mine, wanted, uncorrected in zip(found, exact, raw, strict=True):
        assert torch.allclose(mine, wanted, atol=1e-9, rtol=0)
        assert not torch.allclose(uncorrected, wanted, atol=1e-2, rtol=0)


def test_gradients_of_corrected_readout_are_exact() -> None:
    backend = Backend("default.mixed", noise=Noise(readout_error=0.1), mitigation="readout")
    assert max(largest_errors(backend)) < 1e-9


def test_wires_may_be_read_wrongly_in_different_ways() -> None:
    """Decay while a wire is read: 1 is read as 0 more often than 0 as 1."""

    @qml.transform
    def decay(tape: Any) -> Any:
        channels = [qml.AmplitudeDamping(0.1 + 0.2 * wire, wires=wire) for wire in (0, 1)]
        operations = [*tape.operations, *channels, qml.BitFlip(0.05, wires=1)]
        return (tape.copy(operations=operations),), lambda results: results[0]

    def circuit(angle: Any) -> Any:
        qml.RX(angle, wires=0)
        qml.CNOT([0, 1])
        qml.RY(0.4, wires=1)
        return qml.expval(qml.PauliZ(0) @ qml.PauliZ(1)), qml.expval(qml.PauliZ(1)), qml.probs()

    qnode = qml.QNode(circuit, qml.device("default.mixed", wires=2), interface="torch")
    angle = torch.tensor(0.8, dtype=torch.float64)
    corrected = decay(correct_readout(qnode, wires=[0, 1]))(angle)
    for mine, wanted, raw in zip(corrected, qnode(angle), decay(qnode)(angle), strict=True):
        assert torch.allclose(mine, wanted, atol=1e-12, rtol=0)
        assert not torch.allclose(raw, wanted, atol=1e-2, rtol=0)


def test_readout_that_tells_nothing_cannot_be_corrected() -> None:
    def circuit() -> Any:
        return qml.expval(qml.PauliZ(0))

    @qml.transform
    def coin(tape: Any) -> Any:
        return (tape.copy(operations=[*tape.operations, qml.BitFlip(0.5, wires=0)]),), lambda r: r[
            0
        ]

    qnode = qml.QNode(circuit, qml.device("default.mixed", wires=1))
    with pytest.raises(ConfigError, match=r"cannot correct wire 0: it reads 1 at 0 with .* 0\.500"):
        coin(correct_readout(qnode, wires=[0]))()


def test_corrected_shots_lie_within_their_confidence_interval() -> None:
    shots, error = 20_000, 0.1

    def circuit(angle: Any) -> Any:
        qml.RX(angle, wires=0)
        return qml.expval(qml.PauliZ(0))

    backend = Backend(
        "default.mixed",
        "parameter-shift",
        shots=shots,
        noise=Noise(readout_error=error),
        mitigation="readout",
    )
    found = float(make_qnode(circuit, 1, backend)(torch.tensor(1.0)))
    # Counted in three circuits, each of which is amplified by 1 / (1 - 2 error).
    spread = math.sqrt(3 / shots) / (1 - 2 * error)
    assert 0 < abs(found - math.cos(1.0)) < 4 * spread


@pytest.mark.parametrize("scales", [(1, 2, 3), (1, 3, 5), (1, 1.5)])
def test_richardson_weights_take_polynomials_to_zero(scales: tuple[float, ...]) -> None:
    weights = richardson_weights(scales)
    for degree in range(len(scales)):
        at_zero = 1.0 if degree == 0 else 0.0
        summed = sum(w * s**degree for w, s in zip(weights, scales, strict=True))
        assert summed == pytest.approx(at_zero, abs=1e-12)


@pytest.mark.parametrize("scale", [1, 3, 5])
def test_folding_keeps_the_unitary_and_multiplies_the_gates(scale: int) -> None:
    gates = [qml.RX(0.3, 0), qml.CNOT([0, 1]), qml.S(1), qml.Rot(0.1, 0.2, 0.3, 0)]
    made = [g for g in folded(gates, scale, [0, 1]) if not isinstance(g, qml.Barrier)]
    assert len(made) == scale * len(gates)

    def unitary(operations: list[Any]) -> Any:
        return qml.matrix(qml.prod(*operations[::-1]), wire_order=[0, 1])

    assert qml.math.allclose(unitary(made), unitary(gates), atol=1e-12)
    barriers = [i for i, g in enumerate(folded(gates, scale, [0, 1])) if isinstance(g, qml.Barrier)]
    assert len(barriers) == scale - 1


@pytest.mark.parametrize("gates", [1, 2, 5])
def test_exponential_decay_is_extrapolated_by_the_parabola_through_three_points(gates: int) -> None:
    def circuit(angle: Any) -> Any:
        for _ in range(gates):
            qml.RX(angle, wires=0)
        return qml.expval(qml.PauliZ(0))

    p = 0.03
    backend = Backend("default.mixed", noise=Noise(depolarizing=p), mitigation="zne")
    angle = torch.tensor([0.1, 0.5], dtype=torch.float64)
    decay = (1 - 4 * p / 3) ** gates
    # Lagrange at 0 through 1, 3, 5: 15/8, -10/8, 3/8.
    factor = (15 * decay - 10 * decay**3 + 3 * decay**5) / 8
    found = make_qnode(circuit, 1, backend)(angle)
    assert torch.allclose(found, factor * torch.cos(gates * angle), atol=1e-12, rtol=0)
    assert abs(factor - 1) < abs(decay - 1)


def test_a_circuit_without_gates_has_nothing_to_fold() -> None:
    backend = Backend("default.mixed", noise=Noise(depolarizing=0.1), mitigation="zne")
    assert float(make_qnode(lambda: qml.expval(qml.PauliZ(0)), 1, backend)()) == 1.0


def test_mitigated_values_and_gradients_are_nearer_to_the_truth() -> None:
    raw = largest_errors(Backend("default.mixed", noise=NOISE))
    for mitigation, better in (("readout", 0.95), ("zne", 0.95), ("both", 0.1)):
        found = largest_errors(Backend("default.mixed", noise=NOISE, mitigation=mitigation))
        assert found[0] < better * raw[0], mitigation
    assert all(mine < 0.1 * theirs for mine, theirs in zip(found, raw, strict=True))


def test_parameter_shifts_and_backpropagation_of_mitigated_circuits_agree() -> None:
    def circuit(inputs: Any, weights: Any) -> Any:
        qml.RY(inputs[:, 0], wires=0)
        qml.Rot(weights[0], weights[1], inputs[:, 1], wires=0)
        return qml.expval(qml.PauliX(0))

    def gradients(method: str) -> tuple[torch.Tensor, ...]:
        backend = Backend("default.mixed", method, noise=NOISE, mitigation="both")
        inputs = torch.tensor([[0.3, 1.2], [-0.4, 0.9]], dtype=torch.float64, requires_grad=True)
        weights = torch.tensor([0.5, -0.8], dtype=torch.float64, requires_grad=True)
        outputs = make_qnode(circuit, 1, backend)(inputs, weights=weights)
        return torch.autograd.grad(outputs @ torch.tensor([1.0, -2.0]).double(), [inputs, weights])

    for mine, theirs in zip(gradients("parameter-shift"), gradients("backprop"), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-9, rtol=0)
        assert float(mine.abs().min()) > 0.01


@pytest.mark.parametrize("mitigation", ["zne", "both"])
@pytest.mark.parametrize("device", ["lightning.qubit", "default.qubit"])
def test_mitigation_changes_nothing_where_there_is_no_noise(device: str, mitigation: str) -> None:
    method = "adjoint" if mitigation == "zne" else "parameter-shift"

    def circuit(inputs: Any) -> Any:
        qml.RY(inputs, wires=0)
        qml.CRX(0.7, wires=[0, 1])
        return qml.expval(qml.PauliZ(0) @ qml.PauliX(1)), qml.expval(qml.PauliY(1))

    inputs = torch.tensor([0.3, 1.2], dtype=torch.float64, requires_grad=True)
    found, exact = (
        [*values, *torch.autograd.grad(values[1].sum(), inputs)]
        for values in (
            make_qnode(circuit, 2, Backend(device, method, mitigation=mitigation))(inputs),
            make_qnode(circuit, 2, Backend())(inputs),
        )
    )
    # PennyLane hands on what lightning computes in float32.
    tolerance = 1e-6 if device == "lightning.qubit" else 1e-9
    for mine, theirs in zip(found, exact, strict=True):
        assert torch.allclose(mine.double(), theirs, atol=tolerance, rtol=0)
