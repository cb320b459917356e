"""Gradients of ``qfl.fast``: first and second, in torch and autograd, and by hand."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pennylane as qml
import pytest
import torch
from pennylane import numpy as pnp
from pennylane.exceptions import DeviceError

from qfl.errors import ConfigError
from qfl.quantum.device import FastDevice


def layers(inputs: Any, weights: Any) -> None:
    qml.AngleEmbedding(inputs, wires=range(3))
    qml.StronglyEntanglingLayers(weights, wires=range(3))


def z_on_every_wire(inputs: Any, weights: Any) -> Any:
    layers(inputs, weights)
    return [qml.expval(qml.PauliZ(wire)) for wire in range(3)]


def one_word(a: Any, b: Any) -> Any:
    qml.RX(a[0], 0)
    qml.RY(a[1], 0)
    qml.CNOT([0, 1])
    qml.RZ(a[0] * b, 1)
    qml.Rot(b, 0.3, b, 0)
    qml.PhaseShift(b, 1)
    return qml.expval(qml.PauliZ(1) @ qml.PauliX(0) + 0.3 * qml.PauliZ(0))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", [(3,), (5, 3), (2, 5, 3)])
def test_torch_layers_agree(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    inputs, weights = (
        torch.from_numpy(rng.normal(size=shape)),
        torch.linspace(-1, 1, 18).reshape(2, 3, 3),
    )
    outcomes = []
    for device in (FastDevice(wires=3), qml.device("default.qubit", wires=3)):
        node = qml.QNode(z_on_every_wire, device)
        layer = qml.qnn.TorchLayer(node, {"weights": (2, 3, 3)}).to(dtype)
        layer.qnode_weights["weights"].data.copy_(weights)
        leaf = inputs.to(dtype).requires_grad_()
        outputs = layer(leaf)
        upstream = torch.linspace(-1, 1, outputs.numel(), dtype=dtype).reshape(outputs.shape)
        gradients = torch.autograd.grad((outputs * upstream).sum(), [leaf, *layer.parameters()])
        assert all(value.dtype == dtype for value in (outputs, *gradients))
        outcomes.append([outputs.detach(), *gradients])
    tolerance = 1e-9 if dtype == torch.float64 else 1e-5
    for mine, theirs in zip(*outcomes, strict=True):
        assert torch.allclose(mine, theirs, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(
    "method", ["best", "device", "adjoint", "backprop", "parameter-shift", "hadamard"]
)
def test_every_way_to_differentiate_agrees(method: str) -> None:
    boxed = pnp.array([0.3, 0.4], requires_grad=True), pnp.array(0.7, requires_grad=True)
    leaves = [torch.tensor(np.asarray(value), requires_grad=True) for value in boxed]
    exact = qml.grad(qml.QNode(one_word, qml.device("default.qubit", wires=4)))(*boxed)
    node = qml.QNode(one_word, FastDevice(wires=4), diff_method=method)
    for found in (qml.grad(node)(*boxed), torch.autograd.grad(node(*leaves), leaves)):
        for mine, theirs in zip(found, exact, strict=True):
            assert np.allclose(mine, theirs, atol=1e-9)


@pytest.mark.parametrize("batch", [(), (4,)])
def test_autograd_agrees_on_every_measurement(batch: tuple[int, ...]) -> None:
    def states(inputs: Any, weights: Any) -> Any:
        layers(inputs, weights)
        qml.PhaseShift(weights[0, 0, 0], 0)
        return qml.state()

    def mixture(inputs: Any, weights: Any) -> Any:
        layers(inputs, weights)
        return qml.probs(wires=[1]), qml.expval(qml.PauliY(0)), qml.probs(wires=[0, 2])

    rng = np.random.default_rng(2)
    inputs = pnp.array(rng.normal(size=(*batch, 3)), requires_grad=True)
    weights = pnp.array(rng.normal(size=(1, 3, 3)), requires_grad=True)
    for circuit in (states, mixture, z_on_every_wire):
        outcomes = []
        for device in (FastDevice(wires=3), qml.device("default.qubit", wires=3)):
            node = qml.QNode(circuit, device)

            def total(inputs: Any, weights: Any, node: Any = node) -> Any:
                results = node(inputs, weights)
                results = results if isinstance(results, tuple | list) else [results]
                scaled = [np.arange(1, r.size + 1).reshape(r.shape) * r for r in results]
                return sum(qml.math.sum(qml.math.abs(r) ** 2 + qml.math.real(r)) for r in scaled)

            outcomes.append([total(inputs, weights), *qml.grad(total)(inputs, weights)])
        for mine, theirs in zip(*outcomes, strict=True):
            assert np.allclose(mine, theirs, atol=1e-9)


def test_autograd_jacobians_agree() -> None:
    rng = np.random.default_rng(3)
    inputs = pnp.array(rng.normal(size=3), requires_grad=True)
    weights = pnp.array(rng.normal(size=(1, 3, 3)), requires_grad=True)
    found = []
    for device in (FastDevice(wires=3), qml.device("default.qubit", wires=3)):
        node = qml.QNode(z_on_every_wire, device)
        found.append(
            qml.jacobian(lambda *given, node=node: pnp.stack(node(*given)))(inputs, weights)
        )
    for mine, theirs in zip(*found, strict=True):
        assert np.allclose(mine, theirs, atol=1e-12)


def hessians(node: Any) -> list[Any]:
    a, b = pnp.array([0.3, 0.4], requires_grad=True), pnp.array(0.7, requires_grad=True)
    by_a, by_b = qml.grad(node, argnums=0), qml.grad(node, argnums=1)
    return [qml.jacobian(by_a, argnums=n)(a, b) for n in (0, 1)] + [
        qml.jacobian(by_b, argnums=n)(a, b) for n in (0, 1)
    ]


def test_second_derivatives_in_autograd_are_not_lost() -> None:
    """PennyLane's adjoint differentiation gives zeros here without a word."""
    node = qml.QNode(one_word, FastDevice(wires=2))
    exact = qml.QNode(one_word, qml.device("default.qubit", wires=2))
    wanted = hessians(lambda a, b: exact(a, b) ** 2)
    found = hessians(lambda a, b: node(a, b) ** 2)
    assert min(np.abs(entry).max() for entry in wanted) > 1e-3
    for mine, theirs in zip(found, wanted, strict=True):
        assert np.allclose(mine, theirs, atol=1e-12)
    a, b = pnp.array([0.3, 0.4], requires_grad=True), pnp.array(0.7, requires_grad=True)
    # d/ds of the gradient of s**2 f is 2 s times that of f.
    scaled = qml.grad(lambda s: qml.grad(lambda a: s**2 * node(a, b))(a)[0])(pnp.array(0.2))
    assert np.isclose(scaled, 0.4 * qml.grad(node, argnums=0)(a, b)[0], atol=1e-12)


def test_second_derivatives_of_states_in_autograd() -> None:
    def circuit(a: Any, b: Any) -> Any:
        qml.RX(a[0], 0)
        qml.CRY(a[1] * b, [0, 1])
        qml.PhaseShift(b, 1)
        return qml.state()

    def total(node: Any) -> Any:
        def value(a: Any, b: Any) -> Any:
            state = node(a, b)
            return qml.math.real(state[1] + 2j * state[3]) ** 3 + qml.math.abs(state[0]) ** 4

        return value

    found = hessians(total(qml.QNode(circuit, FastDevice(wires=2))))
    wanted = hessians(total(qml.QNode(circuit, qml.device("default.qubit", wires=2))))
    for mine, theirs in zip(found, wanted, strict=True):
        assert np.allclose(mine, theirs, atol=1e-12)


def test_third_derivatives_in_autograd_are_refused() -> None:
    node = qml.QNode(lambda x: (qml.RX(x, 0), qml.expval(qml.PauliZ(0)))[1], FastDevice(1))
    third = qml.grad(qml.grad(qml.grad(node)))
    with pytest.raises(ConfigError, match="two derivatives of a circuit: use torch"):
        third(pnp.array(0.3, requires_grad=True))


def test_second_derivatives_in_torch() -> None:
    def hessian(node: Any) -> torch.Tensor:
        both = torch.tensor([0.3, 0.4, 0.7], dtype=torch.float64)
        return torch.autograd.functional.hessian(lambda v: node(v[:2], v[2]), both)

    wanted = hessian(qml.QNode(one_word, qml.device("default.qubit", wires=2)))
    found = hessian(qml.QNode(one_word, FastDevice(wires=2), max_diff=2))
    assert torch.allclose(found, wanted, atol=1e-12)
    inside = torch.func.hessian(lambda v: qml.QNode(one_word, FastDevice(2))(v[:2], v[2]))
    assert torch.allclose(inside(torch.tensor([0.3, 0.4, 0.7]).double()), wanted, atol=1e-6)


def test_transforms_that_only_execute_tapes() -> None:
    a, b = pnp.array([0.3, 0.4], requires_grad=True), pnp.array(0.7, requires_grad=False)
    found = []
    for device in (FastDevice(wires=3), qml.device("default.qubit", wires=3)):
        node = qml.QNode(one_word, device)
        found.append(
            [
                qml.gradients.param_shift(node)(a, b),
                qml.gradients.param_shift_hessian(node)(a, b),
                qml.metric_tensor(node)(a, b),
                qml.adjoint_metric_tensor(node)(a, b),
                qml.fourier.circuit_spectrum(node)(a, b),
            ]
        )
    for mine, theirs in zip(found[0][:4], found[1][:4], strict=True):
        assert np.allclose(mine, theirs, atol=1e-9)
    assert found[0][4] == found[1][4]


def rotations(measurements: list[Any], trainable: list[int]) -> Any:
    operations = [qml.RX(0.3, 0), qml.RY(0.5, 0), qml.CNOT([0, 1])]
    return qml.tape.QuantumScript(operations, measurements, trainable_params=trainable)


def test_derivatives_by_hand() -> None:
    """<Z> is cos(a) cos(b) after RX(a) RY(b); <X> on the same wire cos(a) sin(b)."""
    device, (ca, sa), (cb, sb) = FastDevice(), _turn(0.3), _turn(0.5)
    one = rotations([qml.expval(qml.PauliZ(1))], [0, 1])
    assert np.allclose(device.execute(one), ca * cb)
    assert np.allclose(device.compute_derivatives(one), [-sa * cb, -ca * sb])
    assert np.allclose(device.compute_vjp(one, 2.0), [-2 * sa * cb, -2 * ca * sb])
    two = rotations([qml.expval(qml.PauliZ(0)), qml.probs(wires=1)], [1])
    assert not device.supports_vjp(qml.devices.ExecutionConfig(gradient_method="spsa"))
    with pytest.raises(DeviceError, match="does not run this tape as it is"):
        device.execute(two)
    words = rotations([qml.expval(qml.PauliZ(0)), qml.expval(qml.PauliX(0) @ qml.PauliX(1))], [1])
    by_first, by_second = device.compute_derivatives(words)
    assert np.allclose([by_first, by_second], [-ca * sb, ca * cb])
    results, vjps = device.execute_and_compute_vjp((words,), ((1.0, 3.0),))
    assert np.allclose(results, [[ca * cb, ca * sb]])
    assert np.allclose(vjps, -ca * sb + 3 * ca * cb)


def test_derivatives_of_a_state() -> None:
    device, step = FastDevice(), 1e-6
    tape = rotations([qml.state()], [0])
    shifted = [
        device.execute(tape.bind_new_parameters([0.3 + sign * step], [0])) for sign in (1, -1)
    ]
    slope = (shifted[0] - shifted[1]) / (2 * step)
    assert np.allclose(device.compute_derivatives(tape), slope, atol=1e-8)
    upstream = np.arange(4) * (1 + 0.5j)
    assert np.allclose(device.compute_vjp(tape, upstream), (slope @ upstream).real, atol=1e-8)


def _turn(angle: float) -> tuple[float, float]:
    return float(np.cos(angle)), float(np.sin(angle))


def test_results_are_of_the_kind_that_pennylane_expects() -> None:
    device = FastDevice(wires=2)
    value = device.execute(rotations([qml.expval(qml.PauliZ(0))], []))
    assert isinstance(value, np.float64)
    batch = device.execute((rotations([qml.probs(wires=0)], []),))
    assert isinstance(batch, tuple)
    assert isinstance(batch[0], np.ndarray)
    with qml.Tracker(device) as tracker:
        qml.QNode(one_word, device)([0.1, 0.2], 0.3)
    assert tracker.totals["simulations"] == 1


def test_tapes_run_in_several_threads() -> None:
    device = FastDevice()

    def run(number: int) -> float:
        angle = number / 10
        tape = qml.tape.QuantumScript([qml.RX(angle, 0)], [qml.expval(qml.PauliZ(0))])
        return float(device.execute(tape))

    with ThreadPoolExecutor(4) as threads:
        assert np.allclose(list(threads.map(run, range(40))), np.cos(np.arange(40) / 10))


def test_what_has_no_gradient_is_refused() -> None:
    observable = rotations([qml.expval(2.0 * qml.PauliZ(0))], [0, 2])
    matrix = qml.tape.QuantumScript(
        [qml.QubitUnitary(np.diag([1, 1j]), 0)], [qml.expval(qml.PauliZ(0))]
    )
    for tape in (observable, matrix):
        with pytest.raises(DeviceError, match="not by matrices or coefficients of observables"):
            FastDevice().compute_vjp(tape, 1.0)
