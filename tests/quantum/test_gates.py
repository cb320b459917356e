"""Every gate of PennyLane's default set, and every embedding, as engines run it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pennylane as qml
import pytest
import torch

from qfl.quantum import QuantumLayer
from qfl.quantum.kernel_engine import KernelEngine

ENGINES = ["torch", *([] if KernelEngine.available() else ["kernel"])]
WIRES, BATCH = 4, 3
ONE = ["RX", "RY", "RZ", "PhaseShift", "U1"]
TWO = [
    *("CRX", "CRY", "CRZ", "ControlledPhaseShift", "CPhaseShift00", "CPhaseShift01"),
    *("CPhaseShift10", "IsingXX", "IsingYY", "IsingZZ", "IsingXY", "PSWAP", "SingleExcitation"),
    *("SingleExcitationPlus", "SingleExcitationMinus", "FermionicSWAP"),
]
FOUR = ["DoubleExcitation", "OrbitalRotation"]
FIXED = {
    1: ["Hadamard", "PauliX", "PauliY", "PauliZ", "S", "T", "SX", "Identity"],
    2: ["CNOT", "CZ", "CY", "CH", "SWAP", "ISWAP", "SISWAP", "ECR"],
    3: ["Toffoli", "CSWAP", "CCZ"],
}
U2 = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)) + 0.3j)[0]

Gate = Callable[[Any, Any], Any]


def of_input(gate: Any, x: Any, w: Any) -> None:
    gate(x[0], wires=2)


def of_weight(gate: Any, x: Any, w: Any) -> None:
    gate(w[0], wires=1)


def of_both(gate: Any, x: Any, w: Any) -> None:
    gate(w[0] + x[1], wires=[3, 1])


def of_four_wires(gate: Any, x: Any, w: Any) -> None:
    gate(w[1], wires=[3, 1, 0, 2])


def fixed(gate: Any, wires: Any, x: Any, w: Any) -> None:
    gate(wires=wires)


GATES: dict[str, Gate] = {
    **{f"{name} of inputs": partial(of_input, getattr(qml, name)) for name in ONE},
    **{f"{name} of weights": partial(of_weight, getattr(qml, name)) for name in ONE},
    **{name: partial(of_both, getattr(qml, name)) for name in TWO},
    **{name: partial(of_four_wires, getattr(qml, name)) for name in FOUR},
    **{
        name: partial(fixed, getattr(qml, name), [2, 0, 3][:size])
        for size, names in FIXED.items()
        for name in names
    },
    "Rot": lambda x, w: qml.Rot(x[0], w[1], 0.3, wires=1),
    "CRot": lambda x, w: qml.CRot(w[0], w[1], w[2], wires=[2, 0]),
    "U2": lambda x, w: qml.U2(w[0], x[1], wires=3),
    "U3": lambda x, w: qml.U3(w[0], w[1], w[2], wires=3),
    "MultiRZ": lambda x, w: qml.MultiRZ(x[0] - w[1], wires=[3, 0, 2]),
    "PauliRot": lambda x, w: qml.PauliRot(w[2], "XYZ", wires=[1, 3, 0]),
    "adjoints": lambda x, w: (qml.adjoint(qml.S(1)), qml.adjoint(qml.RX)(w[0], wires=2)),
    "powers": lambda x, w: (qml.pow(qml.T(1), 3), qml.pow(qml.RX(w[0], wires=2), 2)),
    "QubitUnitary": lambda x, w: qml.QubitUnitary(U2, wires=[2, 1]),
    "DiagonalQubitUnitary": lambda x, w: qml.DiagonalQubitUnitary(
        np.exp(1j * np.arange(8)), wires=[3, 0, 1]
    ),
    "ControlledQubitUnitary": lambda x, w: qml.ctrl(
        qml.QubitUnitary(np.array([[0, 1j], [1, 0]]), wires=1), control=[3, 0]
    ),
    "MultiControlledX": lambda x, w: qml.MultiControlledX(
        wires=[0, 3, 1, 2], control_values=[1, 0, 1]
    ),
    "multi-controlled Z": lambda x, w: qml.ctrl(qml.PauliZ(2), control=[0, 1, 3]),
    "multi-controlled RY": lambda x, w: qml.ctrl(qml.RY(w[0] * 2, wires=2), control=[0, 3]),
    "multi-controlled RX of inputs": lambda x, w: qml.ctrl(qml.RX(x[0], wires=0), control=[1, 3]),
    "multi-controlled PhaseShift": lambda x, w: qml.ctrl(
        qml.PhaseShift(x[0] - w[0], wires=0), control=[1, 3], control_values=[0, 1]
    ),
    "controlled Rot": lambda x, w: qml.ctrl(qml.Rot(*w, wires=0), control=[2]),
    "GlobalPhase": lambda x, w: qml.GlobalPhase(w[0] + 0.2),
    "QFT": lambda x, w: qml.QFT(wires=[0, 1, 2]),
    "arctan of inputs": lambda x, w: (
        qml.RY(torch.arctan(x[0]), wires=0),
        qml.RZ(torch.arctan(x[0] ** 2), wires=0),
    ),
    "inputs times weights": lambda x, w: qml.RX(x[0] * w[0], wires=1),
    "inputs times inputs": lambda x, w: qml.RX(x[0] * x[1], wires=1),
    "weights times weights": lambda x, w: qml.RX(torch.exp(w[0]) * w[2], wires=1),
}


def around(gate: Gate, measure: Callable[[], Any]) -> Callable[[Any, Any], Any]:
    def circuit(inputs: Any, weights: Any) -> Any:
        for wire in range(WIRES):
            qml.RX(inputs[..., wire % 2] + wire, wires=wire)
            qml.RZ(0.4 * wire, wires=wire)
        gate([inputs[..., 0], inputs[..., 1]], weights)
        qml.CNOT(wires=[1, 2])
        qml.RY(weights[0], wires=0)
        return measure()

    return circuit


def pennylane(circuit: Any, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Sample by sample: some gates of PennyLane 0.45 cannot take a batch of torch angles."""
    qnode = qml.QNode(circuit, qml.device("default.qubit", wires=WIRES), interface="torch")
    rows = []
    for sample in x:
        found = qnode(sample, w)
        rows.append(found if isinstance(found, torch.Tensor) else torch.stack(found))
    return torch.stack(rows)


def agree(circuit: Any, engine: str, x: torch.Tensor, w: torch.Tensor) -> QuantumLayer:
    """Values and gradients, as PennyLane has them."""
    qnode = qml.QNode(circuit, qml.device("default.qubit", wires=WIRES), interface="torch")
    layer = QuantumLayer(qnode, {"weights": tuple(w.shape)}, engine=engine).double()
    layer.weights.data = w.clone()
    x = x.clone().requires_grad_()
    w = w.clone().requires_grad_()
    found, wanted = layer(x), pennylane(circuit, x, w)
    upstream = torch.linspace(-1, 1, wanted.numel()).reshape(wanted.shape).to(wanted.dtype)
    if wanted.is_complex():
        upstream = upstream * (1 + 0.5j)
    pairs = []
    for outputs, variables in ((found, (x, layer.weights)), (wanted, (x, w))):
        total = (outputs * upstream).real.sum() + 0 * sum(part.sum() for part in variables)
        pairs.append([outputs, *torch.autograd.grad(total, variables)])
    for ours, theirs in zip(*pairs, strict=True):
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype
        assert torch.allclose(ours, theirs.detach(), atol=1e-9, rtol=0)
    assert layer.engine == engine
    return layer


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", GATES)
def test_a_gate_is_pennylanes_up_to_the_phase_of_the_state(name: str, engine: str) -> None:
    circuit = around(GATES[name], lambda: qml.state())
    agree(circuit, engine, numbers(BATCH, 2), numbers(3, seed=1))


def embedded(embedding: Callable[[Any], None]) -> Callable[[Any, Any], Any]:
    def circuit(inputs: Any, weights: Any) -> Any:
        embedding(inputs)
        qml.StronglyEntanglingLayers(weights, wires=range(WIRES))
        return [qml.expval(qml.PauliX(0) @ qml.PauliZ(1)), qml.expval(qml.PauliZ(3))]

    return circuit


ALL = range(WIRES)
EMBEDDINGS: dict[str, tuple[int, Callable[[Any], None]]] = {
    "angle X": (4, lambda x: qml.AngleEmbedding(x, wires=ALL)),
    "angle Y": (3, lambda x: qml.AngleEmbedding(x, wires=ALL, rotation="Y")),
    "angle Z": (4, lambda x: qml.AngleEmbedding(x, wires=ALL, rotation="Z")),
    "amplitude": (16, lambda x: qml.AmplitudeEmbedding(x, wires=ALL, normalize=True)),
    "amplitude, padded": (11, lambda x: qml.AmplitudeEmbedding(x, wires=ALL, pad_with=0.5)),
    "amplitude of some wires": (
        4,
        lambda x: qml.AmplitudeEmbedding(x, wires=[3, 1], normalize=True),
    ),
    "complex amplitudes": (
        16,
        lambda x: qml.StatePrep(x * torch.exp(1j * x), wires=ALL, normalize=True),
    ),
    "IQP": (4, lambda x: qml.IQPEmbedding(x, wires=ALL)),
    "IQP, repeated": (4, lambda x: qml.IQPEmbedding(x, wires=ALL, n_repeats=2)),
    "QAOA": (4, lambda x: qml.QAOAEmbedding(x, numbers(1, 8), wires=ALL)),
    "basis": (1, lambda x: qml.BasisEmbedding([1, 0, 1, 1], wires=ALL)),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", EMBEDDINGS)
def test_embeddings(name: str, engine: str) -> None:
    features, embedding = EMBEDDINGS[name]
    agree(embedded(embedding), engine, numbers(BATCH, features), numbers(2, WIRES, 3, seed=1))


TEMPLATES: dict[str, tuple[tuple[int, ...], Callable[[Any], None]]] = {
    "BasicEntanglerLayers": ((2, 4), lambda w: qml.BasicEntanglerLayers(w, wires=ALL)),
    "StronglyEntanglingLayers": ((2, 4, 3), lambda w: qml.StronglyEntanglingLayers(w, wires=ALL)),
    "RandomLayers": ((2, 5), lambda w: qml.RandomLayers(w, wires=ALL, seed=7)),
    "SimplifiedTwoDesign": (
        (2, 3, 2),
        lambda w: qml.SimplifiedTwoDesign(np.ones(4), w, wires=ALL),
    ),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_with_data_re_uploaded(name: str, engine: str) -> None:
    shape, template = TEMPLATES[name]

    def circuit(inputs: Any, weights: Any) -> Any:
        for part in range(2):
            qml.AngleEmbedding(inputs * weights.reshape(-1)[part], wires=ALL, rotation="Y")
            template(weights)
        hamiltonian = (
            0.5 * qml.PauliX(0) @ qml.PauliY(2) - 2 * qml.PauliZ(1) + 0.25 * qml.Identity(0)
        )
        return [qml.expval(hamiltonian)]

    agree(circuit, engine, numbers(BATCH, WIRES), numbers(*shape, seed=1))
