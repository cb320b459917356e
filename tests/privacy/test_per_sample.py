"""Clipped sums by both routes are those of one backward pass per record, for every model."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable

import numpy as np
import pytest
import torch
from per_sample_models import (
    IMAGES,
    MODELS,
    SERIES,
    Floats,
    batch_of,
    clipped_by_hand,
    loss_of,
    model_of,
    name_of,
    one_by_one,
)
from torch import Tensor, nn

from qfl.conf.schema import LstmConfig, ModelConfig, QlstmConfig, QnnConfig
from qfl.models import DataShape
from qfl.privacy.dpsgd import collecting
from qfl.privacy.gradient_clipping import KEPT_BACK, clipped_sum
from qfl.privacy.gradient_probe import check_gradients
from qfl.privacy.per_sample import Places
from qfl.privacy.supported import check_layers

both_routes = pytest.mark.parametrize("route", ["fused", "opacus"])


def by_route(
    route: str, model: nn.Module, x: Tensor, y: Tensor, norm: float, per_layer: bool = False
) -> Floats:
    places = Places(model)
    layers = places.layers if per_layer else None
    with collecting(route, model, loss_of, places) as gradients:
        return clipped_sum(gradients(x, y), len(x), places.size, norm, layers).total


def assert_close(found: Floats, expected: Floats) -> None:
    assert np.linalg.norm(found - expected) < 1e-6 * np.linalg.norm(expected)


def norms_of(rows: list[dict[str, Tensor]]) -> list[float]:
    return sorted(float(sum((g**2).sum() for g in row.values())) ** 0.5 for row in rows)


@both_routes
@pytest.mark.parametrize(("config", "shape"), MODELS, ids=name_of)
def test_clipped_sums_are_those_of_one_backward_pass_each(
    config: ModelConfig, shape: DataShape, route: str
) -> None:
    model, (x, y) = model_of(config, shape), batch_of(shape)
    rows = one_by_one(model, x, y)
    norms = norms_of(rows)
    between = (norms[1] * norms[-2]) ** 0.5
    assert norms[1] < between / 1.1 < between * 1.1 < norms[-2]
    check_layers(model, route)
    for norm, per_layer in ((between, False), (norms[0] / 2, False), (between, True)):
        expected = clipped_by_hand(rows, norm * (1 - KEPT_BACK), per_layer)
        assert_close(by_route(route, model, x, y, norm, per_layer), expected)


@both_routes
@pytest.mark.parametrize(("config", "shape"), MODELS, ids=name_of)
def test_every_model_passes_the_trial_in_its_own_type(
    config: ModelConfig, shape: DataShape, route: str
) -> None:
    model, (x, y) = model_of(config, shape).float(), batch_of(shape)
    session = collecting(route, model, loss_of, places := Places(model))
    check_gradients(model, loss_of, session, places, (x.float(), y))


@both_routes
@pytest.mark.parametrize("engine", ["torch", "pennylane"])
def test_the_engine_of_a_circuit_does_not_matter(engine: str, route: str) -> None:
    config = QnnConfig(n_qubits=3)
    model, (x, y) = model_of(config, IMAGES, engine), batch_of(IMAGES)
    rows = one_by_one(model, x, y)
    norm = norms_of(rows)[2]
    expected = clipped_by_hand(rows, norm * (1 - KEPT_BACK), per_layer=False)
    assert_close(by_route(route, model, x, y, norm), expected)


@pytest.mark.parametrize("engine", ["torch", "pennylane"])
def test_the_engine_of_a_recurrent_model_does_not_matter(engine: str) -> None:
    model, (x, y) = model_of(QlstmConfig(n_qubits=2, hidden=3), SERIES, engine), batch_of(SERIES)
    rows = one_by_one(model, x, y)
    expected = clipped_by_hand(rows, 0.1 * (1 - KEPT_BACK), per_layer=False)
    assert_close(by_route("fused", model, x, y, 0.1), expected)


@both_routes
@pytest.mark.parametrize(
    ("config", "shape", "frozen"),
    [
        (QnnConfig(n_qubits=3), IMAGES, "circuit.weights"),
        (QnnConfig(n_qubits=3), IMAGES, "pre.weight"),
        (QnnConfig(n_qubits=3), IMAGES, "post.bias"),
        (QlstmConfig(n_qubits=2, hidden=3), SERIES, "gate_biases"),
        (QlstmConfig(n_qubits=2, hidden=3), SERIES, "from_state.weight"),
        (LstmConfig(hidden=3), SERIES, "memory.bias_hh_l0"),
    ],
)
def test_frozen_parameters_have_no_part_in_it(
    config: ModelConfig, shape: DataShape, frozen: str, route: str
) -> None:
    model, (x, y) = model_of(config, shape), batch_of(shape)
    model.get_parameter(frozen).requires_grad_(False)
    rows = one_by_one(model, x, y)
    assert frozen not in rows[0]
    norm = norms_of(rows)[2]
    expected = clipped_by_hand(rows, norm * (1 - KEPT_BACK), per_layer=False)
    assert_close(by_route(route, model, x, y, norm), expected)


class Normed(nn.Module):
    """Layers that no model of the registry has, one of them used twice."""

    def __init__(self, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.activation = activation
        self.front = nn.Conv2d(1, 4, kernel_size=3, stride=2, padding=1, dilation=1, bias=False)
        self.group = nn.GroupNorm(2, 4)
        self.mix = nn.Linear(4, 4, bias=False)
        self.layer = nn.LayerNorm([4, 4])
        self.post = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.group(self.front(x.reshape(-1, 1, 4, 4))).flatten(2).transpose(1, 2)
        seen = self.layer(self.activation(self.mix(torch.tanh(self.mix(seen)))))
        result: Tensor = self.post(seen.flatten(1))
        return result


@both_routes
def test_norms_strides_and_layers_used_twice(route: str) -> None:
    torch.manual_seed(0)
    # Opacus' hooks do not stand changes in place.
    activation = torch.relu_ if route == "fused" else torch.relu
    model, (x, y) = Normed(activation).double().train(), batch_of(IMAGES)
    rows = one_by_one(model, x, y)
    norm = norms_of(rows)[2]
    expected = clipped_by_hand(rows, norm * (1 - KEPT_BACK), per_layer=False)
    assert_close(by_route(route, model, x, y, norm), expected)


@both_routes
@pytest.mark.parametrize("config", [QnnConfig(n_qubits=3), LstmConfig(hidden=3)])
def test_a_model_is_left_as_it_was(config: ModelConfig, route: str) -> None:
    shape = SERIES if isinstance(config, LstmConfig) else IMAGES
    model, (x, y) = model_of(config, shape), batch_of(shape)
    before, state = repr(model), copy.deepcopy(model.state_dict())
    parameters = dict(model.named_parameters())
    by_route(route, model, x, y, 1.0)
    with pytest.raises(ZeroDivisionError):  # noqa: PT012, SIM117
        with collecting(route, model, loss_of, Places(model)) as gradients:
            gradients(x, y)
            _ = 1 // 0
    assert repr(model) == before
    assert all(parameters[name] is one for name, one in model.named_parameters())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(one.grad is None for one in model.parameters())
    # Neither a rule nor a hook is left: plain training works, and so does copying.
    again = copy.deepcopy(model)
    loss_of(again(x), y).backward()
    expected = sum(sum(g.sum() for g in row.values()) for row in one_by_one(model, x, y))
    assert float(sum(one.grad.sum() for one in again.parameters())) == pytest.approx(
        float(expected)
    )


@pytest.mark.parametrize(("config", "shape"), MODELS, ids=name_of)
def test_nothing_of_a_batch_outlives_it(config: ModelConfig, shape: DataShape) -> None:
    """Records that graphs hold on to would pile up, and lie in memory for nothing."""
    model, (x, y) = model_of(config, shape), batch_of(shape)

    def alive() -> int:
        return sum(type(one) is Tensor for one in gc.get_objects())

    with collecting("fused", model, loss_of, Places(model)) as gradients:
        gradients(x, y)
        gc.collect()
        gc.disable()
        try:
            before = alive()
            gradients(x, y)
            assert alive() <= before
        finally:
            gc.enable()


def test_a_cell_tells_gradients_by_its_children_s_parameters_too() -> None:
    model, (x, y) = model_of(QlstmConfig(n_qubits=2, hidden=3), SERIES), batch_of(SERIES)
    for name in ("gate_weights", "gate_biases"):
        model.get_parameter(name).requires_grad_(False)
    rows = one_by_one(model, x, y)
    assert float(rows[0]["from_state.weight"].abs().max()) > 1e-6
    norm = norms_of(rows)[2]
    expected = clipped_by_hand(rows, norm * (1 - KEPT_BACK), per_layer=False)
    assert_close(by_route("fused", model, x, y, norm), expected)


def test_rows_arrive_in_whatever_batches_come() -> None:
    model = model_of(QnnConfig(n_qubits=3), IMAGES)
    x, y = batch_of(IMAGES, 7)
    places, rows = Places(model), one_by_one(model, x, y)
    with collecting("fused", model, loss_of, places) as gradients:
        for size in (1, 7, 3):
            found = clipped_sum(gradients(x[:size], y[:size]), size, places.size, 0.1).total
            assert_close(found, clipped_by_hand(rows[:size], 0.1 * (1 - KEPT_BACK), False))
