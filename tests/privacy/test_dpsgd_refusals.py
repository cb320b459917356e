"""Models that cannot be trained privately are refused by name, before any data is touched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pennylane as qml
import pytest
import torch
from per_sample_models import IMAGES, MODELS, batch_of, loss_of, model_of, name_of, one_by_one
from torch import Tensor, nn

from qfl.clients.private_training import train_privately
from qfl.conf.schema import ClientConfig, ModelConfig
from qfl.data import Examples
from qfl.errors import PrivacyError
from qfl.models import DataShape
from qfl.privacy.dpsgd import DpSgd, collecting
from qfl.privacy.gradient_probe import check_gradients
from qfl.privacy.per_sample import Places
from qfl.privacy.supported import check_layers
from qfl.quantum import QuantumLayer

SHAPES = {"weights": (2, 3, 3)}
both_routes = pytest.mark.parametrize("route", ["fused", "opacus"])


def circuit(inputs: Any, weights: Any) -> Any:
    qml.AngleEmbedding(inputs, wires=range(3))
    qml.StronglyEntanglingLayers(weights, wires=range(3))
    return [qml.expval(qml.PauliZ(wire)) for wire in range(3)]


def hybrid(layer: Callable[[Any, Any], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    qnode = qml.QNode(circuit, qml.device("default.qubit", wires=3), interface="torch")
    parts = nn.Linear(16, 3), layer(qnode, SHAPES), nn.Linear(3, 3)
    return nn.Sequential(*parts).double().train()


def test_pennylane_s_own_layer_would_be_trained_on_noise_alone() -> None:
    from opacus.grad_sample import GradSampleModule

    x, y = batch_of(IMAGES)
    model = hybrid(qml.qnn.TorchLayer)
    true = one_by_one(model, x, y)
    assert all(float(row["1.weights"].abs().max()) > 1e-4 for row in true)
    wrapped = GradSampleModule(hybrid(qml.qnn.TorchLayer), loss_reduction="sum")
    loss_of(wrapped(x), y).backward()
    silent = dict(wrapped.named_parameters())["_module.1.weights"].grad_sample
    assert float(silent.abs().max()) == 0.0
    for route in ("fused", "opacus"):
        with pytest.raises(PrivacyError, match=r"silently be zero.*qfl\.quantum\.QuantumLayer"):
            check_layers(model, route)
        ours = hybrid(QuantumLayer)
        check_layers(ours, route)
        rows = one_by_one(ours, x, y)
        places = Places(ours)
        with collecting(route, ours, loss_of, places) as gradients:
            blocks = gradients(x, y)
        start = 16 * 3 + 3
        for number, row in enumerate(rows):
            found = np.zeros(places.size)
            for block in blocks:
                block.add_to(found, np.eye(len(x))[number])
            expected = row["1.weights"].reshape(-1).numpy()
            assert np.abs(found[start : start + 18] - expected).max() < 1e-9
            assert np.abs(expected).max() > 1e-4


class Raw(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight = self.first.weight


REFUSED: list[tuple[nn.Module, str]] = [
    (nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)), r"'1' \(BatchNorm1d\).*GroupNorm"),
    (nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, affine=False)), "BatchNorm2d"),
    (nn.Sequential(nn.Linear(3, 3), nn.SyncBatchNorm(3)), "SyncBatchNorm"),
    (nn.InstanceNorm1d(3, track_running_stats=True), "track_running_stats=False"),
    (Raw(), r"'' \(Raw\).*nn\.Linear"),
    (nn.Sequential(nn.Linear(3, 3), Raw()), r"'1' \(Raw\)"),
    (nn.MultiheadAttention(4, 2), r"MultiheadAttention"),
    (Tied(), "'first' and 'second' share a parameter"),
    (nn.LSTM(2, 3, bidirectional=True, batch_first=True), "in one direction"),
    (nn.LSTM(2, 3), "batch_first=True"),
    (nn.GRU(2, 3, batch_first=True), "GRU"),
    (nn.Tanh(), "no trainable parameters"),
]


@both_routes
@pytest.mark.parametrize(("model", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_refusals_name_the_layer_and_the_way_out(model: nn.Module, words: str, route: str) -> None:
    with pytest.raises(PrivacyError, match=words):
        check_layers(model, route)


@pytest.mark.parametrize("layer", [nn.Conv2d(2, 2, 3, groups=2), nn.Conv1d(1, 2, 3)])
def test_what_opacus_alone_knows_is_sent_there(layer: nn.Module) -> None:
    with pytest.raises(PrivacyError, match=r"set privacy\.gradients=opacus"):
        check_layers(nn.Sequential(layer), "fused")
    check_layers(nn.Sequential(layer), "opacus")


@pytest.mark.parametrize(("config", "shape"), MODELS, ids=name_of)
def test_no_model_of_the_registry_is_refused(config: ModelConfig, shape: DataShape) -> None:
    for route in ("fused", "opacus"):
        check_layers(model_of(config, shape), route)


def test_frozen_parameters_of_any_layer_are_fine() -> None:
    model = nn.Sequential(Raw(), nn.Linear(3, 3))
    model[0].scale.requires_grad_(False)
    check_layers(model, "fused")
    check_layers(model, "opacus")


class Trap(nn.Module):
    """A linear layer, and something that no look at the layers shows."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 3)
        self.register_buffer("seen", torch.zeros(16))


class UsesTheWeight(Trap):
    def forward(self, x: Tensor) -> Tensor:
        return x @ self.layer.weight.T


class UsesItTwice(Trap):
    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layer(x) + x @ self.layer.weight.T
        return result


class MixesTheBatch(Trap):
    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layer(x - x.mean(0))
        return result


class NormalisesTheBatch(Trap):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.batch_norm(self.layer(x), None, None, training=True)


class KeepsABuffer(Trap):
    def forward(self, x: Tensor) -> Tensor:
        self.seen += x.detach().mean(0)
        result: Tensor = self.layer(x)
        return result


TRAPS = [UsesTheWeight, UsesItTwice, MixesTheBatch, NormalisesTheBatch, KeepsABuffer]


@both_routes
@pytest.mark.parametrize("trap", TRAPS)
def test_a_trial_finds_what_layers_do_not_show(trap: type[Trap], route: str) -> None:
    torch.manual_seed(0)
    model = trap().train()
    check_layers(model, route)
    examples = Examples(np.zeros((4, 16), np.float32), np.zeros(4, np.int64))
    before = [one.clone() for one in model.parameters()]
    with pytest.raises(PrivacyError):
        train_privately(
            model, examples, ClientConfig(), DpSgd(1.0, gradients=route), "classification"
        )
    assert all(torch.equal(one, was) for one, was in zip(model.parameters(), before, strict=True))


class Fans(nn.Module):
    """The batch is not the first dimension of what its layer sees."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layer(x.reshape(-1, 4)).reshape(len(x), 4, 3)
        return result.sum(1)


def test_layers_that_see_more_rows_than_records_are_refused() -> None:
    model = Fans()
    places, (x, y) = Places(model), batch_of(IMAGES)
    session = collecting("fused", model, loss_of, places)
    with pytest.raises(PrivacyError, match=r"sees \(12, 4\) for 3 records"):
        check_gradients(model, loss_of, session, places, (x.float(), y))


def test_dropout_is_no_obstacle() -> None:
    model = nn.Sequential(nn.Linear(16, 8), nn.Dropout(0.5), nn.Linear(8, 3)).train()
    places, (x, y) = Places(model), batch_of(IMAGES)
    session = collecting("fused", model, loss_of, places)
    check_gradients(model, loss_of, session, places, (x.float(), y))
    assert model[1].training
