"""Circuits against dense matrices, written out here without PennyLane."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from qfl.errors import ConfigError
from qfl.quantum import Backend, Circuit, QuantumLayer, build_circuit, build_pooling_circuit

Matrix = NDArray[np.complex128]

X = np.array([[0, 1], [1, 0]], dtype=np.complex128)
Y = np.array([[0, -1j], [1j, 0]], dtype=np.complex128)
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


def ising(pauli: Matrix, angle: float, pair: tuple[int, int], n: int) -> Matrix:
    word = on(dict.fromkeys(pair, pauli), n)
    return np.cos(angle / 2) * np.eye(2**n) - 1j * np.sin(angle / 2) * word


def encode(x: NDArray[np.float64], n: int, encoding: str) -> Matrix:
    """The state before the first trainable layer."""
    state = np.zeros(2**n, complex)
    if encoding == "amplitude":
        state[: len(x)] = x / np.linalg.norm(x)
        return state
    state[0] = 1
    steps = [on({wire: H}, n) for wire in range(n)]
    if encoding == "angle":
        steps += [on({wire: ry(x[wire])}, n) for wire in range(n)]
    if encoding == "iqp":
        steps += [on({wire: rz(x[wire])}, n) for wire in range(n)]
        pairs = itertools.combinations(range(n), 2)
        steps += [ising(Z, x[i] * x[j], (i, j), n) for i, j in pairs]
        steps += [on({wire: rx(np.pi / 2)}, n) for wire in range(n)]
    return functools.reduce(lambda old, step: step @ old, steps, state)


def expectations(
    x: NDArray[np.float64],
    weights: NDArray[np.float64],
    encoding: str,
    ansatz: str,
    entangler: str,
    paulis: tuple[Matrix, ...] = (Z,),
) -> NDArray[np.float64]:
    layers, n = weights.shape[:2]
    steps = []
    for layer in range(layers):
        if encoding == "reuploading":
            steps += [on({wire: ry(x[wire] / layers)}, n) for wire in range(n)]
        steps += layer_matrices(weights[layer], layer, n, ansatz, entangler)
    state = functools.reduce(lambda old, step: step @ old, steps, encode(x, n, encoding))
    return read(state, n, paulis)


def read(state: Matrix, n: int, paulis: tuple[Matrix, ...]) -> NDArray[np.float64]:
    return np.array(
        [np.vdot(state, on({wire: p}, n) @ state).real for p in paulis for wire in range(n)]
    )


@pytest.mark.parametrize("n_qubits", [1, 2, 3, 4])
@pytest.mark.parametrize("encoding", ["angle", "reuploading", "iqp", "amplitude"])
@pytest.mark.parametrize(
    ("ansatz", "entangler"),
    [("strongly_entangling", "cz"), ("strongly_entangling", "cnot"), ("basic_entangler", "cz")],
)
def test_layer_equals_dense_matrices(
    n_qubits: int, encoding: str, ansatz: str, entangler: str
) -> None:
    rng = np.random.default_rng((n_qubits, len(encoding), len(ansatz), len(entangler)))
    width = 2**n_qubits - n_qubits // 2 if encoding == "amplitude" else n_qubits
    for n_layers in (1, 3):
        circuit = build_circuit(
            n_qubits=n_qubits,
            n_layers=n_layers,
            encoding=encoding,
            ansatz=ansatz,
            entangler=entangler,
        )
        x = rng.uniform(-3, 3, (2, width))
        weights = rng.uniform(-3, 3, circuit.weight_shapes["weights"])
        expected = [expectations(row, weights, encoding, ansatz, entangler) for row in x]
        np.testing.assert_allclose(outputs(circuit, x, weights), expected, atol=1e-10)


def outputs(
    circuit: Circuit, x: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    import torch

    layer = QuantumLayer(circuit.qnode, circuit.weight_shapes).double()
    with torch.no_grad():
        layer.weights.copy_(torch.from_numpy(weights))
        found: NDArray[np.float64] = layer(torch.from_numpy(x)).numpy()
    assert found.shape == (len(x), circuit.outputs)
    return found


@pytest.mark.parametrize("encoding", ["angle", "iqp"])
def test_xyz_reads_all_three_axes_of_every_wire(encoding: str) -> None:
    rng = np.random.default_rng(5)
    circuit = build_circuit(n_qubits=3, n_layers=2, encoding=encoding, readout="xyz")
    x = rng.uniform(-2, 2, (2, 3))
    weights = rng.uniform(-3, 3, (2, 3, 3))
    expected = [
        expectations(row, weights, encoding, "strongly_entangling", "cz", (X, Y, Z)) for row in x
    ]
    np.testing.assert_allclose(outputs(circuit, x, weights), expected, atol=1e-10)


@pytest.mark.parametrize("n_qubits", [2, 4])
def test_pooling_circuit_equals_dense_matrices(n_qubits: int) -> None:
    rng = np.random.default_rng(n_qubits)
    circuit = build_pooling_circuit(n_qubits=n_qubits)
    x = rng.uniform(-2, 2, (2, n_qubits))
    weights = rng.uniform(-3, 3, circuit.weight_shapes["weights"])
    rings = {2: [[(0, 1)]], 4: [[(0, 1), (1, 2), (2, 3), (3, 0)], [(1, 3)]]}[n_qubits]
    pools = {2: [[(0, 1)]], 4: [[(0, 1), (2, 3)], [(1, 3)]]}[n_qubits]
    steps = []
    for ring, pool, w in zip(rings, pools, weights, strict=True):
        for a, b in ring:
            steps += [ising(p, t, (a, b), n_qubits) for p, t in zip((X, Y, Z), w, strict=False)]
            steps += [on({a: ry(w[3])}, n_qubits), on({b: ry(w[4])}, n_qubits)]
        for gone, kept in pool:
            steps.append(controlled(rz(w[5]), gone, kept, n_qubits))
            steps.append(on({gone: X}, n_qubits))
            steps.append(controlled(rx(w[6]), gone, kept, n_qubits))
    expected = []
    for row in x:
        start = encode(row, n_qubits, "angle")
        state = functools.reduce(lambda old, step: step @ old, steps, start)
        expected.append([read(state, n_qubits, (Z,))[-1]])
    np.testing.assert_allclose(outputs(circuit, x, weights), expected, atol=1e-10)


@pytest.mark.parametrize("n_qubits", [0, 1, 3, 6])
def test_pooling_needs_a_power_of_two(n_qubits: int) -> None:
    with pytest.raises(ConfigError, match=f"on {n_qubits} qubits is not possible.*use 2, 4, 8"):
        build_pooling_circuit(n_qubits=n_qubits)


@pytest.mark.parametrize(
    ("encoding", "width", "words"),
    [
        ("angle", 3, "angle encoding takes one feature per qubit, 2 here; 3 were given"),
        ("angle", 1, "2 here; 1 were given: change the number of qubits"),
        ("reuploading", 3, "reuploading encoding takes one feature per qubit, 2 here; 3"),
        ("iqp", 1, "iqp encoding takes one feature per qubit, 2 here; 1 were given"),
        ("amplitude", 5, "2 qubits hold 1 to 4 amplitudes; 5 features were given: .*3 qubits"),
        ("pooling", 4, "one feature per qubit, 2 here; 4 were given"),
    ],
)
@pytest.mark.parametrize("engine", ["auto", "pennylane"])
def test_inputs_of_another_width_are_refused(
    encoding: str, width: int, words: str, engine: str
) -> None:
    import torch

    if encoding == "pooling":
        circuit = build_pooling_circuit(n_qubits=2)
    else:
        circuit = build_circuit(n_qubits=2, n_layers=1, encoding=encoding)
    layer = QuantumLayer(circuit.qnode, circuit.weight_shapes, engine=engine)
    with pytest.raises(ConfigError, match=words):
        layer(torch.ones(3, width))


def test_a_zero_iqp_circuit_reads_the_sine_of_its_feature_times_cosines_of_products() -> None:
    import torch

    circuit = build_circuit(n_qubits=2, n_layers=1, encoding="iqp")
    layer = QuantumLayer(circuit.qnode, circuit.weight_shapes, init=torch.nn.init.zeros_).double()
    x = torch.tensor([[0.3, -1.1]], dtype=torch.float64)
    assert torch.allclose(layer(x), torch.sin(x) * torch.cos(x.prod()))


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
        ({"readout": "y"}, "unknown readout 'y'.* Known: xyz, z"),
        ({"backend": Backend("no.such")}, "quantum.device=no.such is not available"),
        (
            {"backend": Backend("lightning.qubit", "backprop")},
            "quantum.diff_method=backprop does not work on quantum.device=lightning.qubit",
        ),
    ],
)
def test_unknown_names_are_refused(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_circuit(n_qubits=2, n_layers=1, **changed)


def test_lightning_with_adjoint_agrees_in_values_and_gradients() -> None:
    import torch

    torch.manual_seed(3)
    x = torch.rand(3, 3, dtype=torch.float64)
    found = []
    for device, method in (("default.qubit", "backprop"), ("lightning.qubit", "adjoint")):
        circuit = build_circuit(n_qubits=3, n_layers=2, backend=Backend(device, method))
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
