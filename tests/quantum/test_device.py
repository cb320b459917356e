"""``qfl.fast`` gives what default.qubit gives: values and gradients, in torch and autograd."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pennylane as qml
import pytest
import scipy.sparse
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pennylane import numpy as pnp

from qfl.quantum import tapes
from qfl.quantum.device import FastDevice
from qfl.quantum.engines import choose_engine
from qfl.quantum.kernel_engine import KernelEngine

ENGINES = ["torch", *([] if KernelEngine.available() else ["kernel"])]
WIRES = 4
X = torch.tensor([0.3, -0.7, 0.9], dtype=torch.float64)
W = torch.linspace(-1, 1, 20, dtype=torch.float64)


@contextmanager
def on_engine(name: str) -> Iterator[None]:
    """Every circuit on one engine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tapes, "choose_engine", lambda plan, wanted: choose_engine(plan, name))
        patch.setattr(tapes, "_RUNNERS", tapes._Cache(256, 1 << 22))
        yield


def results_and_gradients(device: Any, circuit: Any, *inputs: torch.Tensor) -> Any:
    """Results, and gradients of a function of them that no symmetry of the state makes zero."""
    leaves = [value.detach().clone().requires_grad_() for value in inputs]
    results = qml.QNode(circuit, device, interface="torch")(*leaves)
    results = list(results) if isinstance(results, tuple | list) else [results]
    total = torch.zeros((), dtype=torch.float64)
    for result in results:
        scale = torch.arange(1, result.numel() + 1).reshape(result.shape)
        total = total + (scale * (result.abs() ** 2 + result.real)).sum()
    found = torch.autograd.grad(total, leaves, allow_unused=True) if total.requires_grad else []
    gradients = [g for g in found if g is not None]
    return [result.detach() for result in results], gradients


def agree(circuit: Any, *inputs: torch.Tensor, wires: Any = WIRES) -> None:
    found, gradients = results_and_gradients(FastDevice(wires=wires), circuit, *inputs)
    exact = qml.device("default.qubit", wires=wires)
    wanted, wanted_gradients = results_and_gradients(exact, circuit, *inputs)
    assert len(found) == len(wanted)
    assert len(gradients) == len(wanted_gradients)
    for mine, theirs in zip([*found, *gradients], [*wanted, *wanted_gradients], strict=True):
        assert mine.shape == theirs.shape
        assert torch.allclose(mine.to(theirs.dtype), theirs, atol=1e-9, rtol=1e-9)


def layers(inputs: Any, weights: Any) -> None:
    qml.AngleEmbedding(inputs, wires=range(3))
    qml.StronglyEntanglingLayers(weights, wires=range(3))


def z_on_every_wire(inputs: Any, weights: Any) -> Any:
    layers(inputs, weights)
    return [qml.expval(qml.PauliZ(wire)) for wire in range(3)]


# --- Registration


def test_pennylane_finds_the_device_by_name() -> None:
    device = qml.device("qfl.fast", wires=2)
    assert isinstance(device, FastDevice)
    assert device.name == "qfl.fast"
    assert list(device.wires) == [0, 1]


# --- Random circuits

PARAMETRISED = {
    1: ["RX", "RY", "RZ", "PhaseShift"],
    2: ["CRX", "CRY", "CRZ", "ControlledPhaseShift", "IsingXX", "IsingYY", "IsingZZ"],
}
FIXED = {
    1: ["Hadamard", "PauliX", "PauliY", "S", "T", "SX"],
    2: ["CNOT", "CZ", "CY", "CH", "SWAP", "ISWAP", "SISWAP"],
    3: ["Toffoli", "CSWAP", "CCZ"],
}
Gate = tuple[str, tuple[int, ...], str, int]


@st.composite
def circuits(draw: st.DrawFn) -> tuple[int, list[Gate], str, int | None]:
    n = draw(st.integers(1, 4))
    gates = []
    for _ in range(draw(st.integers(1, 10))):
        size = draw(st.integers(1, min(3, n)))
        wires = tuple(draw(st.permutations(range(n)))[:size])
        source = draw(st.sampled_from(["input", "weight", "number", ""])) if size < 3 else ""
        names = PARAMETRISED[size] if source else FIXED[size]
        gates.append((draw(st.sampled_from(names)), wires, source, draw(st.integers(0, 2))))
    kind = draw(st.sampled_from(["expectations", "probabilities", "state", "mixture"]))
    return n, gates, kind, draw(st.sampled_from([None, 1, 5]))


def built(n: int, gates: list[Gate], kind: str) -> Callable[..., Any]:
    def circuit(inputs: Any, weights: Any) -> Any:
        qml.RX(inputs[0], wires=0)
        qml.RY(weights[0], wires=0)
        for name, wires, source, index in gates:
            angle = {"input": inputs[index], "weight": 2 * weights[index] + 0.1, "number": 0.7}
            getattr(qml, name)(*([angle[source]] if source else []), wires=wires)
        if kind == "state":
            return qml.state()
        reversed_wires = list(range(n))[::-1]
        if kind == "probabilities":
            return qml.probs(wires=reversed_wires)
        word = qml.PauliY(0) @ qml.PauliX(n - 1) if n > 1 else qml.PauliY(0)
        words = [qml.expval(word), qml.expval(0.5 * qml.PauliZ(n - 1) - 2 * qml.PauliX(0))]
        if kind == "expectations":
            return words
        return [*words, qml.probs(wires=reversed_wires), qml.expval(qml.PauliZ(0)), qml.probs(0)]

    return circuit


@pytest.mark.parametrize("engine", ENGINES)
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(drawn=circuits())
def test_random_circuits_agree_with_default_qubit(
    engine: str, drawn: tuple[int, list[Gate], str, int | None]
) -> None:
    n, gates, kind, batch = drawn
    rng = np.random.default_rng(len(gates))
    inputs = torch.from_numpy(rng.normal(size=(3,) if batch is None else (3, batch)))
    weights = torch.from_numpy(rng.normal(size=3))
    with on_engine(engine):
        agree(built(n, gates, kind), inputs, weights, wires=n)


# --- Operators that are more than angles

U = np.linalg.qr(np.random.default_rng(0).normal(size=(8, 8)) + 0.3j)[0]
FLIP = np.array([[0, 1j], [1, 0]])


class OnlyAMatrix(qml.operation.Operation):
    num_wires = 1
    num_params = 1

    @staticmethod
    def compute_matrix(angle: Any) -> Any:
        return np.diag([1, np.exp(1j * angle)])


OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "templates": lambda x, w: (
        qml.BasicEntanglerLayers(w[:6].reshape(2, 3), wires=range(3)),
        qml.QAOAEmbedding(x, w[:12].reshape(2, 6), wires=range(3)),
        qml.SimplifiedTwoDesign(w[:3], w[3:11].reshape(2, 2, 2), wires=range(3)),
        qml.RandomLayers(w[:6].reshape(2, 3), wires=range(3), seed=1),
    ),
    "products of features": lambda x, w: qml.IQPEmbedding(x, wires=range(3)),
    "controls": lambda x, w: qml.ctrl(qml.RX(x[0], 0), [1, 2], control_values=[0, 1]),
    "controlled phase": lambda x, w: qml.ctrl(qml.GlobalPhase(w[0]), 1),
    "adjoint": lambda x, w: qml.adjoint(qml.Rot(w[0], w[1], x[1], 0)),
    "powers": lambda x, w: (qml.pow(qml.RX(w[0], 0), 2), qml.pow(qml.RY(w[1], 0), 0.3)),
    "PauliRot": lambda x, w: qml.PauliRot(x[0], "XYZ", wires=[2, 0, 1]),
    "U2, U3, CRot": lambda x, w: (
        qml.U2(w[0], w[1], 0),
        qml.U3(w[0], x[1], w[2], 0),
        qml.CRot(w[0], x[1], w[2], [0, 1]),
    ),
    "matrices": lambda x, w: (qml.QubitUnitary(FLIP, 0), qml.QubitUnitary(U, range(3))),
    "controlled matrix": lambda x, w: qml.ctrl(qml.QubitUnitary(FLIP, 0), 1),
    "diagonal": lambda x, w: qml.DiagonalQubitUnitary(np.array([1, -1, 1j, 1]), [0, 2]),
    "only a matrix": lambda x, w: OnlyAMatrix(0.3, wires=0),
    "exponentials": lambda x, w: (
        qml.exp(qml.PauliX(0) @ qml.PauliZ(1), -0.3j * w[0]),
        qml.evolve(qml.PauliX(0) @ qml.PauliY(1), w[1]),
        qml.evolve(qml.Identity(0), w[2]),
    ),
    "Trotter": lambda x, w: qml.TrotterProduct(
        qml.PauliX(0) + 0.4 * qml.PauliZ(0) @ qml.PauliY(2), w[0]
    ),
    "products of numbers": lambda x, w: qml.ApproxTimeEvolution(
        qml.PauliX(0) + 0.4 * qml.PauliZ(0), w[0], 2
    ),
    "fixed on many wires": lambda x, w: (qml.QFT(range(3)), qml.MultiControlledX([0, 1, 2, 3])),
    "chemistry": lambda x, w: (
        qml.SingleExcitation(w[0], [0, 1]),
        qml.DoubleExcitation(x[0], wires=range(4)),
    ),
    "operators inside": lambda x, w: (
        qml.prod(qml.RX(w[0], 0), qml.RY(x[1], 1)),
        qml.Select([qml.RX(w[0], 1), qml.RY(x[1], 1)], control=0),
        qml.QuantumPhaseEstimation(qml.RX(w[2], 0), estimation_wires=[1, 2]),
    ),
    "states amid": lambda x, w: (
        qml.BasisState([1, 0], [2, 3]),
        qml.StatePrep(np.array([0.6, 0.8j]), [3]),
    ),
    "nothing": lambda x, w: (qml.Snapshot("a"), qml.Barrier([0, 1]), qml.Identity(0)),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_agree_with_default_qubit(name: str) -> None:
    def circuit(x: Any, w: Any) -> Any:
        qml.Hadamard(0)
        qml.RY(0.3, 1)
        qml.RX(x[0], 2)
        OPERATORS[name](x, w)
        qml.CNOT([0, 1])
        qml.RX(w[0], 2)
        return qml.state()

    agree(circuit, X, W)


def test_numbers_that_make_other_gates_are_told_apart() -> None:
    """One structure each, as far as shapes go: none may get the plan of another."""
    device, exact = FastDevice(wires=3), qml.device("default.qubit", wires=3)

    def circuit(choice: int) -> Any:
        angle = 0.3 + choice
        qml.RX(angle, 0)
        qml.BasisEmbedding([choice, 1 - choice], wires=[1, 2])
        qml.QubitUnitary([FLIP, np.diag([1, 1j])][choice], wires=0)
        table = np.array([[0], [1]] if choice else [[1], [1]])
        qml.QROM(table, [0], [1], None, clean=False)
        qml.QuantumPhaseEstimation(qml.RX(angle, 0), estimation_wires=[1, 2])
        observable = qml.Hamiltonian([angle, 2.0], [qml.PauliX(0), qml.PauliZ(1)])
        return qml.expval(observable), qml.expval(qml.Hermitian(np.diag([angle, 1]), 2))

    for choice in (0, 1, 0, 1):
        assert np.allclose(
            qml.QNode(circuit, device)(choice), qml.QNode(circuit, exact)(choice), atol=1e-12
        )


def test_a_structure_is_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    built_so_far = []

    def counted(tape: Any, wires: Any) -> Any:
        built_so_far.append(tape)
        return build(tape, wires)

    build = tapes._build
    monkeypatch.setattr(tapes, "_build", counted)
    monkeypatch.setattr(tapes, "_RUNNERS", tapes._Cache(256, 1 << 22))
    node = qml.QNode(z_on_every_wire, FastDevice(wires=3))
    for batch in (2, 3, 7):
        node(np.ones((batch, 3)), np.ones((1, 3, 3)) * batch)
    assert len(built_so_far) == 1
    node(np.ones(3), np.ones((1, 3, 3)))
    assert len(built_so_far) == 2


def test_what_was_used_last_is_kept() -> None:
    cache = tapes._Cache(entries=3, size=10)
    for key, size in (("a", 4), ("b", 4), ("a", 4), ("c", 1)):
        cache.get("a")
        cache.put(key, key.upper(), size)
    assert [cache.get(key) for key in "abc"] == ["A", "B", "C"]
    cache.put("d", "D", 1)
    assert [cache.get(key) for key in "abcd"] == [None, "B", "C", "D"]
    cache.put("large", "L", 100)
    assert [cache.get(key) for key in ("b", "d", "large")] == [None, None, "L"]


# --- Wires, batches, measurements


@pytest.mark.parametrize("wires", [None, 5, [2, "b", 0, 1, "a"]])
def test_wires_are_ordered_as_on_default_qubit(wires: Any) -> None:
    def circuit(x: Any) -> Any:
        qml.RX(x[0], 2)
        qml.CRY(x[1], [2, 0])
        qml.RY(x[2], 0)
        return qml.probs(), qml.expval(qml.PauliZ(1)), qml.probs(wires=[0, 2]), qml.state()

    agree(circuit, X, wires=wires)


def test_labels_of_any_kind_are_ordered_by_appearance() -> None:
    def circuit(x: Any) -> Any:
        qml.RX(x[0], "b")
        qml.CRY(x[1], ["b", 7])
        return qml.state()

    agree(circuit, X, wires=None)


def test_a_circuit_without_gates_runs() -> None:
    device = FastDevice()
    assert qml.QNode(lambda: qml.expval(qml.Identity(3)), device)() == 1
    assert qml.QNode(lambda: qml.probs(wires=[0, 1]), device)().tolist() == [1, 0, 0, 0]


def test_batches_of_matrices_run_one_by_one() -> None:
    matrices = np.stack([np.eye(2), np.array([[0, 1], [1, 0]]), FLIP])

    def circuit(angle: Any) -> Any:
        qml.QubitUnitary(matrices, wires=0)
        qml.RX(angle, wires=0)
        return qml.expval(qml.PauliZ(0)), qml.probs(wires=0)

    agree(circuit, torch.tensor(0.3, dtype=torch.float64))


def test_weights_of_layers_may_have_a_batch() -> None:
    agree(
        lambda w: (qml.StronglyEntanglingLayers(w, range(2)), qml.probs(0))[1],
        W[:18].reshape(3, 1, 2, 3),
    )


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("batch", [(), (5,)])
def test_amplitudes_are_the_start_and_have_gradients(engine: str, batch: tuple[int, ...]) -> None:
    def circuit(x: Any, w: Any) -> Any:
        qml.AmplitudeEmbedding(x, wires=[0, 2], normalize=True, pad_with=0.1)
        qml.StronglyEntanglingLayers(w.reshape(2, 3, 3), wires=range(3))
        return qml.state(), qml.expval(qml.PauliX(1))

    rng = np.random.default_rng(1)
    with on_engine(engine):
        agree(circuit, torch.from_numpy(rng.normal(size=(*batch, 3))), W[:18])


def test_sparse_states_are_taken() -> None:
    state = scipy.sparse.csr_matrix([0, 0.6, 0.8, 0])
    agree(lambda w: (qml.StatePrep(state, [1, 0]), qml.RX(w[0], 0), qml.state())[2], W, wires=3)


def test_complex_amplitudes_have_gradients() -> None:
    def circuit(state: Any) -> Any:
        qml.StatePrep(state, wires=[1, 0])
        qml.CRX(0.4, [0, 1])
        return qml.expval(qml.PauliZ(1) @ qml.PauliX(0)), qml.expval(qml.PauliY(0))

    state = np.exp(1j * np.arange(4)) / 2
    agree(circuit, torch.from_numpy(state))

    def total(node: Any) -> Any:
        return qml.grad(lambda given: sum(node(given)))(pnp.array(state, requires_grad=True))

    exact = qml.device("default.qubit", wires=2)
    assert np.allclose(
        total(qml.QNode(circuit, FastDevice(2))), total(qml.QNode(circuit, exact)), atol=1e-12
    )


@pytest.mark.parametrize("wires", [None, 6])
def test_measurements_amid_a_circuit_are_deferred(wires: Any) -> None:
    def circuit(x: Any) -> Any:
        qml.RX(x[0], 0)
        qml.RY(x[1], 1)
        first = qml.measure(0)
        qml.cond(first, qml.RY)(x[2], 1)
        second = qml.measure(1, reset=True)
        qml.CRX(x[0], [0, 1])
        return qml.expval(first + 2 * second), qml.probs(op=first), qml.expval(qml.PauliY(1))

    agree(circuit, X, wires=wires)


def test_observables_beyond_pauli_words() -> None:
    def circuit(x: Any) -> Any:
        qml.RX(x[0], 0)
        qml.CRY(x[1], [0, 1])
        return (
            qml.expval(qml.Hermitian(np.array([[1, 2j], [-2j, -1]]), 0)),
            qml.expval(qml.Projector([0, 1], [1, 0]) + 0.3 * qml.Hadamard(1)),
            qml.probs(op=qml.PauliX(0) @ qml.PauliY(1)),
        )

    agree(circuit, X)


def test_coefficients_of_observables_can_be_trained() -> None:
    def circuit(x: Any) -> Any:
        qml.RX(x[0], 0)
        qml.CRY(x[1], [0, 1])
        return qml.expval(qml.Hamiltonian([x[2], 2.0], [qml.PauliZ(0), qml.PauliY(1)]))

    agree(circuit, X)
