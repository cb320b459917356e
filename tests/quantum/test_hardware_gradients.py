"""Gradients from further circuits: parameter shifts are exact, SPSA is right on average."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pennylane as qml
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qfl.quantum import QuantumLayer, build_circuit
from qfl.quantum.devices import Backend, Noise, make_qnode

ONE = ["RX", "RY", "RZ", "PhaseShift", "Hadamard", "S", "SX"]
TWO = ["CRX", "CRZ", "ControlledPhaseShift", "IsingXX", "IsingZZ", "SingleExcitation", "CNOT"]
PARAMETRISED = {*ONE[:4], *TWO[:6]}
FEATURES, WEIGHTS = 2, 3


@dataclass(frozen=True)
class Gate:
    name: str
    wires: tuple[int, ...]
    is_input: bool
    index: int
    scale: float


@st.composite
def gates(draw: st.DrawFn) -> Gate:
    name = draw(st.sampled_from(ONE + TWO))
    wires = tuple(draw(st.permutations(range(3))))[: 1 if name in ONE else 2]
    is_input = draw(st.booleans())
    index = draw(st.integers(0, (FEATURES if is_input else WEIGHTS) - 1))
    return Gate(name, wires, is_input, index, draw(st.sampled_from([1.0, -0.5, 2.0])))


def qnode_of(drawn: list[Gate], probabilities: bool, backend: Backend) -> Any:
    def circuit(inputs: Any, weights: Any) -> Any:
        qml.RX(inputs[:, 0], wires=0)
        qml.RY(weights[0], wires=1)
        for gate in drawn:
            angle = inputs[:, gate.index] if gate.is_input else weights[gate.index]
            angles = [gate.scale * angle] if gate.name in PARAMETRISED else []
            getattr(qml, gate.name)(*angles, wires=gate.wires)
        if probabilities:
            return qml.probs(wires=[2, 0])
        return [
            qml.expval(qml.PauliX(0)),
            qml.expval(0.5 * qml.PauliZ(1) @ qml.PauliY(2) + 2 * qml.PauliZ(0)),
        ]

    return make_qnode(circuit, 3, backend)


def outputs_and_gradients(
    qnode: Any, inputs: torch.Tensor, start: torch.Tensor, engine: str
) -> list[torch.Tensor]:
    layer = QuantumLayer(qnode, {"weights": (WEIGHTS,)}, engine=engine).to(inputs.dtype)
    layer.weights.data = start.clone()
    inputs = inputs.clone().requires_grad_()
    outputs = layer(inputs)
    upstream = torch.linspace(-1, 1, outputs.numel(), dtype=outputs.dtype).reshape(outputs.shape)
    gradients = torch.autograd.grad((outputs * upstream).sum(), [inputs, layer.weights])
    return [outputs.detach(), *gradients]


@settings(max_examples=12, deadline=None)
@given(drawn=st.lists(gates(), max_size=6), probabilities=st.booleans(), batch=st.integers(1, 3))
def test_parameter_shifts_agree_with_backpropagation(
    drawn: list[Gate], probabilities: bool, batch: int
) -> None:
    rng = np.random.default_rng(len(drawn))
    inputs = torch.from_numpy(rng.normal(size=(batch, FEATURES)))
    start = torch.from_numpy(rng.normal(size=WEIGHTS))
    exact = qnode_of(drawn, probabilities, Backend())
    shifted = qnode_of(drawn, probabilities, Backend(diff_method="parameter-shift"))
    wanted = outputs_and_gradients(exact, inputs, start, "torch")
    found = outputs_and_gradients(shifted, inputs, start, "pennylane")
    for mine, theirs in zip(found, wanted, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-9, rtol=0)
    in_float32 = outputs_and_gradients(shifted, inputs.float(), start.float(), "pennylane")
    for mine, theirs in zip(in_float32, wanted, strict=True):
        assert mine.dtype == torch.float32
        assert torch.allclose(mine.double(), theirs, atol=1e-5, rtol=1e-5)


def test_gradients_are_only_what_is_asked_for() -> None:
    qnode = qnode_of([], False, Backend(diff_method="parameter-shift"))
    inputs, weights = torch.rand(2, FEATURES), torch.rand(WEIGHTS, requires_grad=True)
    sum(value.sum() for value in qnode(inputs, weights=weights)).backward()
    assert weights.grad is not None
    assert weights.grad.dtype == torch.float32
    # The circuit does not use the others.
    assert weights.grad[1:].tolist() == [0.0, 0.0]
    assert inputs.grad is None
    with torch.no_grad():
        assert not qnode(inputs, weights=weights)[0].requires_grad


def test_a_graph_may_be_used_twice_but_not_differentiated_twice() -> None:
    qnode = qnode_of([], False, Backend(diff_method="parameter-shift"))
    weights = torch.rand(WEIGHTS, requires_grad=True)
    output = (qnode(torch.rand(2, FEATURES), weights=weights)[1] ** 2).sum()
    (first,) = torch.autograd.grad(output, weights, retain_graph=True)
    (again,) = torch.autograd.grad(output, weights, create_graph=True)
    assert torch.equal(first, again)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        again.sum().backward()


def test_a_circuit_without_parameters_has_no_gradient() -> None:
    def circuit(inputs: Any, scale: float) -> Any:
        qml.RX(scale, wires=0)
        return qml.expval(qml.PauliZ(0))

    qnode = make_qnode(circuit, 1, Backend("lightning.qubit", "spsa", shots=10))
    inputs = torch.rand(2, requires_grad=True)
    output = qnode(inputs, scale=0.0)
    assert float(output.detach()) == 1.0
    assert torch.autograd.grad(output, inputs, allow_unused=True) == (None,)


SMALL = {"n_qubits": 2, "n_layers": 1}


def gradient_of(backend: Backend) -> torch.Tensor:
    """By two samples of inputs and by weights, in one row."""
    circuit = build_circuit(**SMALL, backend=backend)
    inputs = torch.tensor([[0.3, -0.8], [1.1, 0.4]], dtype=torch.float64, requires_grad=True)
    weights = torch.linspace(-1, 1.5, 6, dtype=torch.float64).reshape(1, 2, 3).requires_grad_()
    outputs = torch.stack(circuit.qnode(inputs, weights=weights), dim=1)
    upstream = torch.tensor([[1.0, -0.5], [0.3, 2.0]], dtype=torch.float64)
    found = torch.autograd.grad((outputs * upstream).sum(), [inputs, weights])
    return torch.cat([part.reshape(-1) for part in found])


@pytest.mark.parametrize("shots", [None, 200])
def test_spsa_is_unbiased(shots: int | None) -> None:
    draws, device = 250, "lightning.qubit" if shots else "default.qubit"
    exact = gradient_of(Backend())
    found = torch.stack(
        [gradient_of(Backend(device, "spsa", shots=shots, seed=seed)) for seed in range(draws)]
    )
    spread = found.std(dim=0) / draws**0.5
    # A step of 0.2 adds at most 0.2^2/6 of a third derivative, itself at most 2.5 a parameter.
    bias = 0.05 if shots else 0.0
    assert bool(((found.mean(dim=0) - exact).abs() < 4.5 * spread + bias).all())
    assert float(spread.max()) > 0.01
    assert float(exact.abs().max()) > 20 * float(spread.max() + bias) / 4.5


def test_spsa_follows_from_its_seed() -> None:
    backends = [Backend(diff_method="spsa", seed=seed) for seed in (1, 1, 2)]
    first, again, other = (gradient_of(backend) for backend in backends)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_shifted_circuits_with_shots_are_unbiased() -> None:
    draws, shots = 40, 500
    exact = gradient_of(Backend())
    found = torch.stack(
        [
            gradient_of(Backend("lightning.qubit", "parameter-shift", shots=shots, seed=seed))
            for seed in range(draws)
        ]
    )
    spread = found.std(dim=0) / draws**0.5
    assert bool(((found.mean(dim=0) - exact).abs() < 4.5 * spread).all())
    assert float(spread.max()) < 0.05


def test_per_sample_gradients_come_from_the_device_too() -> None:
    backend = Backend("default.mixed", "parameter-shift", noise=Noise(depolarizing=0.05))
    circuit = build_circuit(**SMALL, backend=backend)
    layer = QuantumLayer(circuit.qnode, circuit.weight_shapes, engine="pennylane").double()
    inputs, upstream = torch.rand(3, 2).double(), torch.rand(3, 2).double()
    found = layer.per_sample_gradients(inputs, upstream)["weights"]
    for row in range(3):
        (alone,) = torch.autograd.grad((layer(inputs[[row]]) * upstream[row]).sum(), layer.weights)
        assert torch.allclose(found[row], alone, atol=1e-12)


def test_circuits_made_for_gradients_stay_out_of_other_threads_circuits() -> None:
    """PennyLane records in a list of the class; a backward pass makes circuits as well."""
    backend = Backend("lightning.qubit", "parameter-shift")
    exact = gradient_of(Backend())
    start = threading.Barrier(4)

    def work(_: int) -> list[torch.Tensor]:
        start.wait()
        return [gradient_of(backend) for _ in range(5)]

    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(work, range(4)):
            assert all(torch.allclose(one, exact, atol=1e-9) for one in found)
