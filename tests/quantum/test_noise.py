"""Noise against density matrices written out here, and against what it does in closed form."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pennylane as qml
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from qfl.errors import ConfigError
from qfl.quantum.devices import Backend, Noise, make_qnode

Matrix = NDArray[np.complex128]

I2 = np.eye(2, dtype=np.complex128)
X = np.array([[0, 1], [1, 0]], dtype=np.complex128)
Y = np.array([[0, -1j], [1j, 0]])
Z = np.diag([1, -1]).astype(np.complex128)
H = (X + Z) / np.sqrt(2)
CNOT = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]], dtype=np.complex128)


def kron(*parts: Matrix) -> Matrix:
    return functools.reduce(np.kron, parts)


def on(wire: int, matrix: Matrix) -> Matrix:
    return kron(matrix, I2) if wire == 0 else kron(I2, matrix)


def rotation(axis: Matrix, angle: float) -> Matrix:
    return np.cos(angle / 2) * I2 - 1j * np.sin(angle / 2) * axis


def channel(rho: Matrix, wire: int, kraus: list[Matrix]) -> Matrix:
    return sum((on(wire, k) @ rho @ on(wire, k).conj().T for k in kraus), np.zeros((4, 4), complex))


def noisy(rho: Matrix, gate: Matrix, wires: list[int], noise: Noise) -> Matrix:
    rho = gate @ rho @ gate.conj().T
    p, gamma = noise.depolarizing, noise.amplitude_damping
    depolarizing = [math.sqrt(1 - p) * I2, *(math.sqrt(p / 3) * pauli for pauli in (X, Y, Z))]
    damping = [
        np.array([[1, 0], [0, math.sqrt(1 - gamma)]], complex),
        np.array([[0, math.sqrt(gamma)], [0, 0]], complex),
    ]
    for wire in wires:
        rho = channel(channel(rho, wire, depolarizing), wire, damping)
    return rho


def readings(rho: Matrix, noise: Noise) -> NDArray[np.float64]:
    """Probabilities of 00, 01, 10, 11 as they are read."""
    q = noise.readout_error
    table = np.array([[1 - q, q], [q, 1 - q]])
    return kron(table, table).real @ np.diag(rho).real


def circuit(inputs: Any) -> Any:
    qml.Hadamard(0)
    qml.RY(inputs[:, 0], wires=1)
    qml.CNOT([0, 1])
    qml.RX(inputs[:, 1], wires=0)
    return [qml.expval(qml.PauliZ(0)), qml.expval(qml.PauliZ(0) @ qml.PauliZ(1)), qml.probs([1, 0])]


def by_hand(first: float, second: float, noise: Noise) -> list[NDArray[np.float64]]:
    rho = np.zeros((4, 4), complex)
    rho[0, 0] = 1
    rho = noisy(rho, on(0, H), [0], noise)
    rho = noisy(rho, on(1, rotation(Y, first)), [1], noise)
    rho = noisy(rho, CNOT, [0, 1], noise)
    rho = noisy(rho, on(0, rotation(X, second)), [0], noise)
    read = readings(rho, noise)
    return [
        np.array(read @ [1, 1, -1, -1]),
        np.array(read @ [1, -1, -1, 1]),
        read.reshape(2, 2).T.reshape(-1),
    ]


LEVELS = st.floats(0, 0.3)


@settings(max_examples=30, deadline=None)
@given(noise=st.builds(Noise, LEVELS, LEVELS, LEVELS), angles=st.lists(LEVELS, min_size=4))
def test_two_wires_against_density_matrices(noise: Noise, angles: list[float]) -> None:
    inputs = 9 * torch.tensor(angles[:4], dtype=torch.float64).reshape(2, 2)
    found = make_qnode(circuit, 2, Backend("default.mixed", noise=noise))(inputs)
    for row, (first, second) in enumerate(inputs.tolist()):
        for mine, wanted in zip(found, by_hand(first, second, noise), strict=True):
            assert np.allclose(mine[row], wanted, atol=1e-12, rtol=0)


@pytest.mark.parametrize("method", ["backprop", "parameter-shift"])
def test_gradients_by_inputs_of_a_noisy_circuit(method: str) -> None:
    noise = Noise(0.05, 0.03, 0.1)
    qnode = make_qnode(circuit, 2, Backend("default.mixed", method, noise=noise))
    inputs = torch.tensor([[0.4, 1.2], [-0.7, 0.3]], dtype=torch.float64, requires_grad=True)
    qnode(inputs)[1].sum().backward()
    for row, (first, second) in enumerate(inputs.tolist()):
        for column, (a, b) in enumerate([(1e-6, 0), (0, 1e-6)]):
            above, below = (by_hand(first + s * a, second + s * b, noise)[1] for s in (1, -1))
            assert inputs.grad is not None
            assert float(inputs.grad[row, column]) == pytest.approx(
                float(above - below) / 2e-6, abs=1e-8
            )


def turned(inputs: Any) -> Any:
    for _ in range(3):
        qml.RX(inputs, wires=0)
    return qml.expval(qml.PauliZ(0))


def test_a_depolarizing_channel_shrinks_z_by_four_thirds_of_its_probability() -> None:
    qnode = make_qnode(turned, 1, Backend("default.mixed", noise=Noise(depolarizing=0.06)))
    assert float(qnode(torch.tensor(0.2))) == pytest.approx((1 - 0.08) ** 3 * math.cos(0.6))


def test_amplitude_damping_pulls_towards_zero() -> None:
    def flipped() -> Any:
        qml.PauliX(0)
        qml.Identity(0)
        return qml.expval(qml.PauliZ(0))

    gamma = 0.1
    backend = Backend("default.mixed", noise=Noise(amplitude_damping=gamma))
    # Excited once, damped twice: it is still 1 with probability (1 - gamma)^2.
    assert float(make_qnode(flipped, 1, backend)()) == pytest.approx(1 - 2 * (1 - gamma) ** 2)


@pytest.mark.parametrize("pauli", [qml.PauliX, qml.PauliY, qml.PauliZ])
def test_readout_errors_shrink_every_pauli_by_twice_their_probability(pauli: Any) -> None:
    """A wire is read in the basis of Z after it was turned: X is read no better than Z."""

    def state(inputs: Any) -> Any:
        qml.RX(inputs, wires=0)
        qml.RZ(0.9, wires=0)
        return qml.expval(pauli(0)), qml.expval(0.5 * pauli(0) + 2 * qml.PauliZ(1) @ pauli(0))

    inputs = torch.tensor([0.7, -1.1], dtype=torch.float64)
    exact = make_qnode(state, 2, Backend("default.mixed"))(inputs)
    read = make_qnode(state, 2, Backend("default.mixed", noise=Noise(readout_error=0.1)))(inputs)
    assert torch.allclose(read[0], 0.8 * exact[0], atol=1e-12)
    product = 2 * exact[0] * 0.8**2
    assert torch.allclose(read[1], 0.8 * 0.5 * exact[0] + product, atol=1e-12)


def test_templates_and_large_gates_are_taken_apart_before_noise() -> None:
    def large(inputs: Any) -> Any:
        qml.AngleEmbedding(inputs, wires=range(3))
        qml.Toffoli([0, 1, 2])
        return qml.expval(qml.PauliZ(2))

    inputs = torch.rand(2, 3, dtype=torch.float64)
    levels = [0.0, 0.001, 0.01]
    values = [
        make_qnode(large, 3, Backend("default.mixed", noise=Noise(depolarizing=p)))(inputs)
        for p in levels
    ]
    exact = make_qnode(large, 3, Backend())(inputs)
    assert torch.allclose(values[0], exact, atol=1e-12)
    # A Toffoli takes six CNOTs, so that the noise is more than that of four gates.
    for p, value in zip(levels[1:], values[1:], strict=True):
        assert bool(((value / exact) < (1 - 4 * p / 3) ** 4).all())


def test_shots_are_drawn_from_the_noisy_state() -> None:
    backend = Backend(
        "default.mixed", "parameter-shift", shots=20_000, noise=Noise(readout_error=0.2)
    )
    found = float(make_qnode(turned, 1, backend)(torch.tensor(0.2)))
    wanted = 0.6 * math.cos(0.6)
    assert abs(found - wanted) < 4.5 * math.sqrt((1 - wanted**2) / 20_000)


@pytest.mark.parametrize(
    ("measure", "words"),
    [
        (lambda: qml.var(qml.PauliZ(0)), "the circuit measures VarianceMP"),
        (lambda: qml.expval(qml.Projector([1], 0)), "products of Paulis .* measures Projector"),
    ],
)
def test_readout_errors_of_other_measurements_are_refused(measure: Any, words: str) -> None:
    def measured() -> Any:
        qml.Hadamard(0)
        return measure()

    for backend in (
        Backend("default.mixed", noise=Noise(readout_error=0.1)),
        Backend("default.mixed", mitigation="readout"),
    ):
        with pytest.raises(ConfigError, match=words):
            make_qnode(measured, 1, backend)()
