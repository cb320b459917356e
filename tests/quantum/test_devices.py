"""Every device gives what the engines give: exactly, or within the confidence of its shots."""

from __future__ import annotations

import copy
import sys
import types
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pennylane as qml
import pytest
import torch

from qfl import load_config
from qfl.conf.checks import from_dict
from qfl.errors import ConfigError, MissingDependencyError
from qfl.quantum import Backend, QuantumLayer, build_circuit, plugins
from qfl.quantum.devices import Noise, make_qnode
from qfl.quantum.mitigation import folded

PLUGINS = {"qiskit.aer": "pennylane_qiskit", "cirq.simulator": "pennylane_cirq"}
EXACT = [
    ("default.qubit", "backprop"),
    ("default.qubit", "adjoint"),
    ("default.qubit", "parameter-shift"),
    ("default.mixed", "backprop"),
    ("lightning.qubit", "adjoint"),
    ("lightning.qubit", "best"),
    ("qiskit.aer", "parameter-shift"),
    ("cirq.simulator", "best"),
]
SAMPLED = ["default.qubit", "default.mixed", "lightning.qubit", "qiskit.aer", "cirq.simulator"]
SHOTS = 2000


def layer_on(backend: Backend, engine: str = "pennylane", encoding: str = "angle") -> QuantumLayer:
    if backend.device in PLUGINS:
        pytest.importorskip(PLUGINS[backend.device])
    circuit = build_circuit(n_qubits=2, n_layers=1, encoding=encoding, backend=backend)
    layer = QuantumLayer(circuit.qnode, circuit.weight_shapes, engine=engine)
    values = np.random.default_rng(1).normal(size=tuple(layer.weights.shape))
    layer.weights.data = torch.from_numpy(values).float()
    return layer


def inputs_for(encoding: str = "angle") -> torch.Tensor:
    width = 4 if encoding == "amplitude" else 2
    values = np.random.default_rng(2).normal(size=(3, width))
    return torch.from_numpy(values).float()


def outputs_and_gradients(
    layer: QuantumLayer, encoding: str = "angle"
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    inputs = inputs_for(encoding).requires_grad_()
    outputs = layer(inputs)
    upstream = torch.linspace(-1, 1, outputs.numel()).reshape(outputs.shape)
    gradients = torch.autograd.grad((outputs * upstream).sum(), [inputs, layer.weights])
    return outputs.detach(), list(gradients)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("encoding", ["angle", "iqp", "amplitude"])
@pytest.mark.parametrize(("device", "method"), EXACT)
def test_exact_devices_agree_with_the_engine(device: str, method: str, encoding: str) -> None:
    wanted, wanted_gradients = outputs_and_gradients(
        layer_on(Backend(), "auto", encoding), encoding
    )
    layer = layer_on(Backend(device, method), encoding=encoding)
    found, gradients = outputs_and_gradients(layer, encoding)
    assert layer.engine == "pennylane"
    assert found.dtype == torch.float32
    assert torch.allclose(found, wanted, atol=1e-5, rtol=0)
    for mine, theirs in zip(gradients, wanted_gradients, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5, rtol=1e-5)


def test_a_batch_of_one_and_inputs_with_more_dimensions() -> None:
    exact = layer_on(Backend(), "torch")
    layer = layer_on(Backend("lightning.qubit", "adjoint"))
    for shape in ((1, 2), (2, 3, 2)):
        inputs = torch.rand(shape)
        assert torch.allclose(layer(inputs), exact(inputs), atol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("device", SAMPLED)
def test_sampled_expectations_lie_within_their_confidence_interval(device: str) -> None:
    exact = layer_on(Backend(), "torch")(inputs_for()).detach()
    layer = layer_on(Backend(device, "parameter-shift", shots=SHOTS))
    found = layer(inputs_for()).detach()
    # One shot of Z has the variance 1 - <Z>^2; 4.5 standard deviations for each of six numbers.
    spread = torch.sqrt((1 - exact**2) / SHOTS)
    assert bool(((found - exact).abs() < 4.5 * spread).all())
    assert bool(((found - exact).abs() > 0).any())
    # As many shots as asked for: the mean of n signs is a multiple of 2 / n.
    steps = (found.double() + 1) * SHOTS / 2
    assert torch.allclose(steps, steps.round(), atol=1e-2)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("device", SAMPLED)
def test_shots_follow_from_the_seed_and_from_nothing_else(device: str) -> None:
    def run(seed: int, state: int) -> list[torch.Tensor]:
        np.random.seed(state)  # what devices would draw from by themselves
        layer = layer_on(Backend(device, "parameter-shift", shots=50, seed=seed))
        outputs, gradients = outputs_and_gradients(layer)
        return [outputs, *gradients]

    first, again, other = run(7, 1), run(7, 2), run(8, 1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_the_circuits_of_one_call_have_shots_of_their_own() -> None:
    layer = layer_on(Backend("lightning.qubit", "parameter-shift", shots=400))
    same = inputs_for()[:1].expand(20, 2)
    assert len({tuple(row.tolist()) for row in layer(same)}) > 10


def test_aer_has_new_shots_for_every_circuit_and_every_run() -> None:
    pytest.importorskip("pennylane_qiskit")
    qnode = make_qnode(coin, 1, Backend("qiskit.aer", "parameter-shift", shots=400))
    values = [float(value) for _ in range(2) for value in qnode._shown(torch.zeros(4))]
    assert len(set(values)) > 4


def coin(inputs: Any) -> Any:
    qml.RX(inputs, wires=0)
    qml.Hadamard(0)
    return qml.expval(qml.PauliZ(0))


def test_threads_get_the_numbers_that_one_thread_gets() -> None:
    backend = Backend("lightning.qubit", "parameter-shift", shots=20)

    def run(number: int) -> list[torch.Tensor]:
        layer = layer_on(backend)
        layer.weights.data += number
        outputs, gradients = outputs_and_gradients(layer)
        return [outputs, *gradients]

    alone = [run(number) for number in range(6)]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(run, range(6)))
    for one, other in zip(alone, together, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_what_runs_on_a_device_is_announced_once_and_queryable() -> None:
    layer = layer_on(Backend("default.mixed", noise=Noise(depolarizing=0.1)), engine="auto")
    with pytest.warns(UserWarning, match="default.mixed"):
        layer(inputs_for())
    assert layer.engine == "pennylane"
    assert "default.mixed" in layer.explain()


@pytest.mark.parametrize("method", ["parameter-shift", "adjoint", "spsa"])
def test_an_exact_simulator_leaves_circuits_to_the_engines(method: str) -> None:
    layer = layer_on(Backend("lightning.qubit", method), engine="auto")
    layer(inputs_for())
    assert layer.engine in ("kernel", "torch")


def test_a_copy_of_a_layer_shares_its_device() -> None:
    layer = layer_on(Backend("lightning.qubit", "parameter-shift", shots=10))
    other = copy.deepcopy(layer)
    assert other.qnode is layer.qnode
    assert torch.equal(other(inputs_for()), layer(inputs_for()))


def test_best_is_what_suits_the_device() -> None:
    assert Backend("default.qubit", "best").gradient == "backprop"
    assert Backend("default.mixed", "best").gradient == "backprop"
    assert Backend("lightning.qubit", "best").gradient == "adjoint"
    assert Backend("qiskit.aer", "best").gradient == "parameter-shift"
    assert Backend("default.qubit", "best", shots=5).gradient == "parameter-shift"


@pytest.mark.parametrize(
    ("option", "backend"),
    [
        ("fast", Backend(seed=3)),
        ("lightning", Backend("lightning.qubit", "adjoint", seed=3)),
        ("noisy", Backend("default.mixed", noise=Noise(0.005, 0.005, 0.02), seed=3)),
        ("shots", Backend("lightning.qubit", "parameter-shift", shots=1000, seed=3)),
        ("qiskit_aer", Backend("qiskit.aer", "parameter-shift", seed=3)),
        ("cirq", Backend("cirq.simulator", "parameter-shift", seed=3)),
        ("ibm", Backend("qiskit.remote", "spsa", shots=1000, seed=3)),
    ],
)
def test_options_of_the_configuration(option: str, backend: Backend) -> None:
    quantum = load_config([f"quantum={option}", "seed=3"]).quantum
    assert Backend.of(quantum) == backend
    assert quantum.engine == ("auto" if option == "fast" else "pennylane")


def test_every_setting_reaches_the_backend() -> None:
    overrides = ["quantum=noisy", "quantum.mitigation=both", "quantum.noise.readout_error=0.1"]
    quantum = load_config([*overrides, "quantum.seed=9", "quantum.backend=fake_manila"]).quantum
    found = Backend.of(quantum)
    assert (found.mitigation, found.seed, found.computer) == ("both", 9, "fake_manila")
    assert found.noise == Noise(0.005, 0.005, 0.1)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"shots": 10}, r"quantum\.shots=10 is not possible with quantum\.engine=torch"),
        ({"mitigation": "zne"}, r"quantum\.mitigation=zne is not possible"),
        (
            {"noise": {"readout_error": 0.1}},
            r"quantum\.noise\.readout_error=0\.1 .* set quantum\.engine=pennylane",
        ),
    ],
)
def test_engines_are_not_asked_for_what_they_would_ignore(
    setting: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        from_dict({"quantum": {"engine": "torch", **setting}})
    assert from_dict({"quantum": {"engine": "pennylane", **setting}})


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"shots": 0}, r"quantum\.shots=0 is not allowed: must be >= 1"),
        ({"mitigation": "mitiq"}, "one of none, readout, zne, both"),
        ({"diff_method": "finite-diff"}, "parameter-shift, spsa, best"),
        ({"noise": {"depolarizing": 1.0}}, r"noise\.depolarizing=1\.0 .* >= 0 and < 1"),
        ({"noise": {"amplitude_damping": -0.1}}, r"noise\.amplitude_damping=-0\.1"),
        ({"noise": {"readout_error": 0.5}}, r"noise\.readout_error=0\.5 .* < 0\.5"),
        ({"noise": {"dephasing": 0.1}}, r"unknown key 'quantum\.noise\.dephasing'"),
    ],
)
def test_values_out_of_range_are_refused(setting: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        from_dict({"quantum": setting})


@pytest.mark.parametrize(
    ("backend", "words"),
    [
        (Backend(noise=Noise(0.1)), r"default\.qubit has no simulated noise: .*default\.mixed"),
        (Backend(shots=5), "backprop needs exact expectations.*parameter-shift or spsa"),
        (Backend("lightning.qubit", "adjoint", shots=5), "adjoint needs exact expectations"),
        (Backend("qiskit.remote", "spsa"), r"quantum\.shots=null is not possible"),
        (Backend(computer="ibm_x"), r"quantum\.backend=ibm_x is for .*qiskit\.remote"),
        (Backend("default.qbit"), r"quantum\.device=default\.qbit is not available"),
        (Backend("lightning.qubit", "adjoint", mitigation="both"), "both works on probabilities"),
        (Backend("default.mixed", "adjoint"), r"adjoint does not work on .*default\.mixed"),
    ],
)
def test_what_a_device_cannot_do_is_refused(backend: Backend, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_qnode(coin, 1, backend)


@pytest.mark.parametrize(
    ("device", "module", "extra"),
    [
        ("qiskit.aer", "qiskit_aer", "qiskit"),
        ("cirq.simulator", "cirq", "cirq"),
        ("qiskit.remote", "qiskit_ibm_runtime", "ibm"),
    ],
)
def test_a_missing_package_is_named_with_its_remedy(
    device: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    plugins._computer.cache_clear()
    with pytest.raises(MissingDependencyError, match=rf"{device}.*pip install 'qfl\[{extra}\]'"):
        make_qnode(coin, 1, Backend(device, "parameter-shift", shots=10))


class Service:
    """Stands for IBM's service: refuses, or has one computer."""

    computer: Any = None

    def __init__(self) -> None:
        if self.computer is None:
            raise RuntimeError("401 for token s3cret")

    def backend(self, name: str) -> Any:
        return (name, self.computer)

    def least_busy(self, **wanted: Any) -> Any:
        return (wanted, self.computer)


@pytest.fixture
def ibm(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Service]]:
    class Stub(Service):
        pass

    module = types.SimpleNamespace(QiskitRuntimeService=Stub)
    monkeypatch.setitem(sys.modules, "qiskit_ibm_runtime", module)
    monkeypatch.setenv(plugins.TOKEN, "s3cret")
    plugins._computer.cache_clear()
    yield Stub
    plugins._computer.cache_clear()


def test_ibm_without_a_token_says_where_to_put_it(
    ibm: type[Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(plugins.TOKEN)
    with pytest.raises(ConfigError, match="set the environment variable QISKIT_IBM_TOKEN"):
        make_qnode(coin, 1, Backend("qiskit.remote", "spsa", shots=10))


def test_the_token_is_not_in_a_refusal(ibm: type[Service]) -> None:
    with pytest.raises(ConfigError, match="401 for token …") as refusal:
        make_qnode(coin, 1, Backend("qiskit.remote", "spsa", shots=10, computer="ibm_x"))
    assert "s3cret" not in str(refusal.value)
    assert refusal.value.__cause__ is None
    assert "quantum.backend=ibm_x" in str(refusal.value)


def test_a_computer_is_taken_by_name_or_by_its_queue(ibm: type[Service]) -> None:
    ibm.computer = "computer"
    assert plugins._computer("ibm_x", 3) == ("ibm_x", "computer")
    wanted, _ = plugins._computer(None, 3)
    assert wanted == {"min_num_qubits": 3, "simulator": False, "operational": True}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_computer_of_ibm_in_simulation() -> None:
    pytest.importorskip("pennylane_qiskit")
    plugins._computer.cache_clear()
    backend = Backend("qiskit.remote", "spsa", shots=4000, computer="fake_manila", seed=1)

    def run(chosen: Backend) -> torch.Tensor:
        values: torch.Tensor = make_qnode(coin, 1, chosen)(torch.tensor([0.3, 0.9]))
        return values

    found = run(backend)
    # RX turns about the axis that H makes Z: 0 on average; the computer's noise adds a few percent.
    assert bool((found.abs() < 0.12).all())
    assert torch.equal(found, run(backend))
    with pytest.raises(ConfigError, match=r"quantum\.backend=fake_moon is unknown; known: "):
        make_qnode(coin, 1, Backend("qiskit.remote", "spsa", shots=10, computer="fake_moon"))


IBM = Backend("qiskit.remote", "spsa", 50_000, computer="fake_manila")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_mitigation_on_a_computer_of_ibm_in_simulation() -> None:
    pytest.importorskip("pennylane_qiskit")
    inputs = torch.tensor([0.2, 0.5])

    def circuit(inputs: Any) -> Any:
        qml.RX(inputs, wires=0)
        return qml.expval(qml.PauliZ(0))

    def error(mitigation: str) -> float:
        found = make_qnode(circuit, 1, replace(IBM, mitigation=mitigation))(inputs)
        return float((found - torch.cos(inputs)).abs().max())

    assert error("none") > 0.01
    assert error("both") < 0.5 * error("none")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("scale", [1, 3, 5])
def test_the_compiler_of_qiskit_does_not_cancel_folded_gates(scale: int) -> None:
    converter = pytest.importorskip("pennylane_qiskit.converter")
    gates = [qml.RX(0.3, 0), qml.CNOT([0, 1]), qml.RY(0.4, 1), qml.CNOT([0, 1])]
    script = qml.tape.QuantumScript(folded(gates, scale, [0, 1]))
    device = plugins.open_device(IBM, [0, 1], seed=0)
    circuit = converter.circuit_to_qiskit(script, 2, diagonalize=False, measure=False)
    (compiled,) = device.compile_circuits([circuit])
    assert compiled.count_ops()["cx"] == 2 * scale
