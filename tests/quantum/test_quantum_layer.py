"""The layer as a torch module: gradients, shapes, copies, files, threads."""

from __future__ import annotations

import copy
import io
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor
from torch.func import functional_call, grad

from qfl.quantum import QuantumLayer, build_circuit


def make_layer(seed: int = 0, n_qubits: int = 2, **options: str) -> QuantumLayer:
    torch.manual_seed(seed)
    circuit = build_circuit(n_qubits=n_qubits, n_layers=2, **options)
    return QuantumLayer(circuit.qnode, circuit.weight_shapes)


def square_sum(layer: QuantumLayer, weights: Tensor, x: Tensor) -> Tensor:
    return (functional_call(layer, {"weights": weights}, (x,)) ** 2).sum()


@pytest.mark.parametrize("encoding", ["angle", "reuploading"])
def test_gradients_equal_central_differences(encoding: str) -> None:
    layer = make_layer(encoding=encoding).double()
    x = torch.tensor([[0.4, -0.9], [1.3, 0.2]], dtype=torch.float64, requires_grad=True)
    square_sum(layer, layer.weights, x).backward()

    def difference(values: Tensor, index: int, of_weights: bool) -> float:
        step = torch.zeros_like(values).reshape(-1)
        step[index] = 1e-5
        moved = [values.detach() + sign * step.reshape(values.shape) for sign in (1, -1)]
        with torch.no_grad():
            up, down = (
                square_sum(layer, *((m, x) if of_weights else (layer.weights, m))) for m in moved
            )
        return float(up - down) / 2e-5

    for values, of_weights in ((layer.weights, True), (x, False)):
        assert values.grad is not None
        expected = [difference(values, i, of_weights) for i in range(values.numel())]
        assert torch.allclose(
            values.grad.reshape(-1), torch.tensor(expected, dtype=torch.float64), atol=1e-8
        )
        assert values.grad.abs().max() > 0.01


@pytest.mark.parametrize("leading", [(), (1,), (3,), (2, 3), (2, 1, 3)])
def test_leading_shapes_are_kept(leading: tuple[int, ...]) -> None:
    layer = make_layer().double()
    x = torch.linspace(-2, 2, 12, dtype=torch.float64).reshape(6, 2)
    count = int(torch.tensor(leading).prod()) if leading else 1
    x = x[:count]
    outputs = layer(x.reshape(*leading, 2))
    assert outputs.shape == (*leading, 2)
    one_by_one = torch.cat([layer(row[None]) for row in x])
    assert torch.allclose(outputs.reshape(-1, 2), one_by_one, atol=1e-12)


def test_outputs_have_the_type_of_the_inputs() -> None:
    assert make_layer()(torch.zeros(2, 2)).dtype == torch.float32
    assert make_layer().double()(torch.zeros(2, 2, dtype=torch.float64)).dtype == torch.float64


def test_a_deep_copy_computes_the_same_and_is_independent() -> None:
    layer, x = make_layer(), torch.tensor([[0.5, 1.0]])
    twin = copy.deepcopy(layer)
    before = layer(x)
    assert torch.equal(twin(x), before)
    with torch.no_grad():
        twin.weights.add_(1.0)
    assert torch.equal(layer(x), before)
    assert not torch.allclose(twin(x), before)


def test_weights_survive_torch_save_and_safetensors() -> None:
    layer, x = make_layer(seed=1), torch.tensor([[0.5, 1.0]])
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    for state in (torch.load(file, weights_only=True), load(save(layer.state_dict()))):
        other = make_layer(seed=2)
        assert not torch.equal(other(x), layer(x))
        other.load_state_dict(state)
        assert torch.equal(other(x), layer(x))


def test_per_sample_gradients_of_torch_func_equal_backward() -> None:
    """qml.qnn.TorchLayer gives zeros here, and differentially private training would be noise."""
    layer = make_layer().double()
    xs = torch.tensor([[0.4, -0.9], [1.3, 0.2], [0.0, 2.0]], dtype=torch.float64)
    of_weights = grad(lambda weights, x: square_sum(layer, weights, x[None]))
    for x in xs:
        layer.zero_grad()
        square_sum(layer, layer.weights, x[None]).backward()
        assert layer.weights.grad is not None
        found = of_weights(layer.weights.detach(), x)
        assert found.abs().max() > 0.01
        assert torch.allclose(found, layer.weights.grad, atol=1e-12)


def test_only_the_weights_are_parameters() -> None:
    layer = make_layer(n_qubits=3)
    assert {name: tuple(p.shape) for name, p in layer.named_parameters()} == {"weights": (2, 3, 3)}


def test_initial_weights_are_small_and_follow_the_seed() -> None:
    torch.manual_seed(0)
    circuit = build_circuit(n_qubits=4, n_layers=100)
    spread = QuantumLayer(circuit.qnode, circuit.weight_shapes).weights.std().item()
    assert 0.09 < spread < 0.11
    assert torch.equal(make_layer(5).weights, make_layer(5).weights)
    assert not torch.equal(make_layer(5).weights, make_layer(6).weights)


def test_four_threads_compute_what_one_does() -> None:
    layers = [make_layer(seed, n_qubits=3) for seed in range(4)]
    x = torch.linspace(-1, 1, 12).reshape(4, 3)

    def work(layer: QuantumLayer) -> list[Tensor]:
        found = []
        for _ in range(5):
            layer.zero_grad()
            outputs = layer(x)
            (outputs**2).sum().backward()
            assert layer.weights.grad is not None
            found += [outputs.detach(), layer.weights.grad.clone()]
        return found

    alone = [work(layer) for layer in layers]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(work, layers))
    for a, b in zip(alone, together, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
