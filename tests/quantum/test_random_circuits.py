"""Every engine agrees with PennyLane on random circuits, in values and in gradients."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass

import numpy as np
import pennylane as qml
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qfl.quantum import QuantumLayer
from qfl.quantum.kernel_engine import KernelEngine

ONE_ANGLE = {1: ["RX", "RY", "RZ", "PhaseShift"], 2: ["CRX", "CRY", "CRZ", "ControlledPhaseShift"]}
ONE_ANGLE[2] += ["IsingXX", "IsingYY", "IsingZZ", "SingleExcitation"]
# Not drawn: IsingXY and PSWAP, which PennyLane 0.45 cannot run itself on a batch of torch angles.
FIXED = {
    1: ["Hadamard", "PauliX", "PauliY", "PauliZ", "S", "T", "SX"],
    2: ["CNOT", "CZ", "CY", "CH", "SWAP", "ISWAP", "SISWAP"],
    3: ["Toffoli", "CSWAP", "CCZ"],
}
FEATURES, WEIGHTS = 3, 4
ENGINES = ["torch", *([] if KernelEngine.available() else ["kernel"])]


@dataclass(frozen=True)
class Gate:
    name: str
    wires: tuple[int, ...]
    source: str = ""
    index: int = 0
    scale: float = 1.0
    offset: float = 0.0


@st.composite
def circuits(draw: st.DrawFn) -> tuple[int, list[Gate], tuple[str, ...], int]:
    n = draw(st.integers(1, 5))
    gates = []
    for _ in range(draw(st.integers(1, 12))):
        size = draw(st.integers(1, min(3, n)))
        wires = tuple(draw(st.permutations(range(n)))[:size])
        parametrised = size < 3 and draw(st.booleans())
        names = ONE_ANGLE[size] if parametrised else FIXED[size]
        name = draw(st.sampled_from(names))
        if not parametrised:
            gates.append(Gate(name, wires))
            continue
        source = draw(st.sampled_from(["input", "weight", "constant", "product", "arctan"]))
        index = draw(st.integers(0, (WEIGHTS if source == "weight" else FEATURES) - 1))
        scale = draw(st.sampled_from([1.0, -0.5, 2.0]))
        offset = draw(st.sampled_from([0.0, 0.3]))
        gates.append(Gate(name, wires, source, index, scale, offset))
    kind = draw(st.sampled_from(["z", "words", "probs", "state"]))
    if kind == "words":
        words = tuple(
            "".join(draw(st.sampled_from("IXYZ")) for _ in range(n))
            for _ in range(draw(st.integers(1, 3)))
        )
    else:
        words = (kind,)
    return n, gates, words, draw(st.sampled_from([1, 2, 7, 19]))


def make_qnode(n: int, gates: list[Gate], words: tuple[str, ...]) -> qml.QNode:
    def circuit(inputs, weights):  # type: ignore[no-untyped-def]
        for gate in gates:
            operator = getattr(qml, gate.name)
            if not gate.source:
                operator(wires=gate.wires)
                continue
            operator(angle(gate, inputs, weights) + gate.offset, wires=gate.wires)
        if words == ("z",):
            return [qml.expval(qml.PauliZ(wire)) for wire in range(n)]
        if words == ("probs",):
            return qml.probs(wires=list(range(n))[::-1])
        if words == ("state",):
            return qml.state()
        return [qml.expval(observable(word, number)) for number, word in enumerate(words)]

    device = qml.device("default.qubit", wires=n)
    return qml.QNode(circuit, device, interface="torch", diff_method="backprop")


def angle(gate: Gate, inputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor | float:
    if gate.source == "constant":
        return 0.7
    if gate.source == "weight":
        return gate.scale * weights[gate.index]
    value = inputs[:, gate.index]
    if gate.source == "product":
        return gate.scale * value * weights[gate.index] + torch.sin(weights[0])
    return gate.scale * (torch.arctan(value) if gate.source == "arctan" else value)


def observable(word: str, number: int) -> qml.operation.Operator:
    """A Hamiltonian of the word and a Z, so that terms of both kinds are summed."""
    return (0.5 + number) * qml.pauli.string_to_pauli_word(word) + 0.25 * qml.PauliZ(0)


def outputs_and_gradients(
    layer: QuantumLayer, inputs: torch.Tensor, upstream: torch.Tensor | None
) -> tuple[torch.Tensor, list[torch.Tensor], torch.Tensor]:
    inputs = inputs.clone().requires_grad_()
    outputs = layer(inputs)
    if upstream is None:
        upstream = torch.linspace(-1, 1, outputs.numel()).reshape(outputs.shape).to(outputs.dtype)
        if outputs.is_complex():
            upstream = upstream * (1 - 0.3j)
    gradients = torch.autograd.grad(
        (outputs * upstream.to(outputs.dtype)).sum().real,
        [inputs, *layer.parameters()],
        allow_unused=True,
    )
    filled = [
        torch.zeros_like(like) if gradient is None else gradient
        for gradient, like in zip(gradients, [inputs, *layer.parameters()], strict=True)
    ]
    return outputs.detach(), filled, upstream


def agree(circuit: tuple[int, list[Gate], tuple[str, ...], int], engine: str) -> None:
    n, gates, words, batch = circuit
    # Without inputs PennyLane answers once for the whole batch.
    gates = [Gate("RX", (0,), "input"), *gates, Gate("RY", (0,), "weight")]
    qnode = make_qnode(n, gates, words)
    rng = np.random.default_rng(len(gates) + batch)
    inputs = torch.from_numpy(rng.normal(size=(batch, FEATURES)))
    start = torch.from_numpy(rng.normal(size=WEIGHTS))

    def layer_on(name: str) -> QuantumLayer:
        layer = QuantumLayer(qnode, {"weights": (WEIGHTS,)}, engine=name).double()
        layer.weights.data = start.clone()
        return layer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted, wanted_gradients, upstream = outputs_and_gradients(
            layer_on("pennylane"), inputs, None
        )
    layer = layer_on(engine)
    found, gradients, _ = outputs_and_gradients(layer, inputs, upstream)
    assert layer.engine == engine
    assert torch.allclose(found, wanted, atol=1e-9, rtol=0)
    for mine, theirs in zip(gradients, wanted_gradients, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-9, rtol=1e-9)
    found, gradients, _ = outputs_and_gradients(layer.float(), inputs.float(), upstream)
    assert torch.allclose(found.to(wanted.dtype), wanted, atol=1e-5, rtol=0)
    for mine, theirs in zip(gradients, wanted_gradients, strict=True):
        size = max(1.0, float(theirs.abs().max()))
        assert torch.allclose(mine.double() / size, theirs / size, atol=1e-5, rtol=0)


CI = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
NIGHTLY = settings(CI, max_examples=int(os.environ.get("QFL_CIRCUITS", "2000")))


@pytest.mark.parametrize("engine", ENGINES)
@CI
@given(circuit=circuits())
def test_engines_agree_with_pennylane(
    engine: str, circuit: tuple[int, list[Gate], tuple[str, ...], int]
) -> None:
    agree(circuit, engine)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("engine", ENGINES)
@NIGHTLY
@given(circuit=circuits())
def test_engines_agree_with_pennylane_on_thousands(
    engine: str, circuit: tuple[int, list[Gate], tuple[str, ...], int]
) -> None:
    agree(circuit, engine)
