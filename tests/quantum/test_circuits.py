"""Circuits against dense matrices, written out here without PennyLane."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from qfl.errors import ConfigError
from qfl.quantum import QuantumLayer, build_circuit

Matrix = NDArray[np.complex128]

X = np.array([[0, 1], [1, 0]], dtype=np.complex128)
Z = np.diag([1, -1]).astype(np.complex128)
H = (X + Z) / np.sqrt(2)
OFF, ON = np.diag([1, 0]), np.diag([0, 1])


def rx(t: float) -> Matrix:
    return np.cos(t / 2) * np.eye(2) - 1j * np.sin(t / 2) * X


def ry(t: float) -> Matrix:
    return np.array([[np.cos(t / 2), -np.sin(t / 2)], [np.sin(t / 2), np.cos(t / 2)]], complex)


def rz(t: float) -> Matrix:
    return np.diag([np.exp(-0.5j * t), np.exp(0.5j * t)])


def on(gates: dict[int, Matrix], n: int) -> Matrix:
    return functools.reduce(np.kron, [gates.get(wire, np.eye(2)) for wire in range(n)])


def controlled(gate: Matrix, control: int, target: int, n: int) -> Matrix:
    return on({control: OFF}, n) + on({control: ON, target: gate}, n)


def layer_matrices(
    weights: NDArray[np.float64], layer: int, n: int, ansatz: str, entangler: str
) -> list[Matrix]:
    """One trainable layer, in order; ``layer`` decides how far strong entanglers reach."""
    if ansatz == "basic_entangler":
        gates = [on({wire: rx(weights[wire])}, n) for wire in range(n)]
        ring = [(0, 1)] if n == 2 else [(i, (i + 1) % n) for i in range(n)] if n > 2 else []
        return gates + [controlled(X, *pair, n) for pair in ring]
    gates = []
    for wire in range(n):
        phi, theta, omega = weights[wire]
        gates.append(on({wire: rz(omega) @ ry(theta) @ rz(phi)}, n))
    if n == 1:
        return gates
    reach = layer % (n - 1) + 1
    pair = {"cz": Z, "cnot": X}[entangler]
    return gates + [controlled(pair, wire, (wire + reach) % n, n) for wire in range(n)]


def expectations(
    x: NDArray[np.float64],
    weights: NDArray[np.float64],
    encoding: str,
    ansatz: str,
    entangler: str,
) -> NDArray[np.float64]:
    n, layers = len(x), len(weights)
    steps = [on({wire: H}, n) for wire in range(n)]
    if encoding == "angle":
        steps += [on({wire: ry(x[wire])}, n) for wire in range(n)]
    for layer in range(layers):
        if encoding == "reuploading":
            steps += [on({wire: ry(x[wire] / layers)}, n) for wire in range(n)]
        steps += layer_matrices(weights[layer], layer, n, ansatz, entangler)
    state = np.zeros(2**n, complex)
    state[0] = 1
    for step in steps:
        state = step @ state
    return np.array(
        [np.vdot(state, on({wire: Z}, n) @ state).real for wire in range(n)], dtype=np.float64
    )


@pytest.mark.parametrize("n_qubits", [1, 2, 3, 4])
@pytest.mark.parametrize("encoding", ["angle", "reuploading"])
@pytest.mark.parametrize(
    ("ansatz", "entangler"),
    [("strongly_entangling", "cz"), ("strongly_entangling", "cnot"), ("basic_entangler", "cz")],
)
def test_layer_equals_dense_matrices(
    n_qubits: int, encoding: str, ansatz: str, entangler: str
) -> None:
    import torch

    rng = np.random.default_rng((n_qubits, len(encoding), len(ansatz), len(entangler)))
    for n_layers in (1, 3):
        circuit = build_circuit(
            n_qubits=n_qubits,
            n_layers=n_layers,
            encoding=encoding,
            ansatz=ansatz,
            entangler=entangler,
        )
        layer = QuantumLayer(circuit.qnode, circuit.weight_shapes).double()
        x = rng.uniform(-3, 3, (2, n_qubits))
        weights = rng.uniform(-3, 3, circuit.weight_shapes["weights"])
        with torch.no_grad():
            layer.weights.copy_(torch.from_numpy(weights))
            found = layer(torch.from_numpy(x)).numpy()
        expected = [expectations(row, weights, encoding, ansatz, entangler) for row in x]
        np.testing.assert_allclose(found, expected, atol=1e-10)


def test_a_zero_circuit_reads_minus_sine_of_every_angle() -> None:
    import torch

    circuit = build_circuit(n_qubits=2, n_layers=1)
    layer = QuantumLayer(circuit.qnode, circuit.weight_shapes, init=torch.nn.init.zeros_).double()
    angles = torch.tensor([[0.3, -1.1]], dtype=torch.float64)
    assert torch.allclose(layer(angles), -torch.sin(angles))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"encoding": "angel"}, "unknown encoding 'angel'; did you mean 'angle'"),
        ({"ansatz": "strongly"}, "unknown ansatz 'strongly'"),
        ({"entangler": "cx"}, "unknown entangler 'cx'.* Known: cnot, cz"),
        ({"device": "no.such"}, "quantum.device=no.such is not available"),
        (
            {"device": "lightning.qubit", "diff_method": "backprop"},
            "quantum.diff_method=backprop does not work on quantum.device=lightning.qubit",
        ),
    ],
)
def test_unknown_names_are_refused(changed: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_circuit(n_qubits=2, n_layers=1, **changed)


def test_lightning_with_adjoint_agrees_in_values_and_gradients() -> None:
    import torch

    torch.manual_seed(3)
    x = torch.rand(3, 3, dtype=torch.float64)
    found = []
    for device, method in (("default.qubit", "backprop"), ("lightning.qubit", "adjoint")):
        circuit = build_circuit(n_qubits=3, n_layers=2, device=device, diff_method=method)
        layer = QuantumLayer(circuit.qnode, circuit.weight_shapes).double()
        with torch.no_grad():
            layer.weights.copy_(torch.linspace(-1, 1, 18).reshape(2, 3, 3))
        inputs = x.clone().requires_grad_()
        outputs = layer(inputs)
        (outputs**2).sum().backward()
        found.append((outputs.detach(), inputs.grad, layer.weights.grad))
    for ours, theirs in itertools.pairwise(found):
        for a, b in zip(ours, theirs, strict=True):
            assert torch.allclose(a, b, atol=1e-9)
