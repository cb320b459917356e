"""Private training against steps worked out by hand, and against what must not be seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from qfl.clients.private_training import train_privately
from qfl.clients.training import evaluate
from qfl.conf.schema import (
    ClientConfig,
    LstmConfig,
    MlpConfig,
    ModelConfig,
    QlstmConfig,
    QnnConfig,
    QuantumConfig,
)
from qfl.data import Examples
from qfl.errors import DataError, PrivacyError
from qfl.models import DataShape, initial_model
from qfl.privacy.dpsgd import DpSgd
from qfl.privacy.gradient_clipping import KEPT_BACK
from qfl.privacy.randomness import Stream

X = np.array([[1.0], [2.0], [-1.0]], np.float32)
Y = np.array([1.0, 0.0, 2.0], np.float32)
KEY = bytes(32)


def line(weight: float = 0.5, bias: float = -0.25) -> nn.Linear:
    model = nn.Linear(1, 1)
    with torch.no_grad():
        model.weight.fill_(weight)
        model.bias.fill_(bias)
    return model


def numbers(model: nn.Module) -> list[float]:
    return [value for one in model.parameters() for value in one.detach().reshape(-1).tolist()]


def clipped(weight: float, bias: float, norm: float) -> np.ndarray:
    """Sum over records of the clipped gradients of (w x + b - y)^2, over three."""
    off = weight * X[:, 0] + bias - Y
    gradients = np.stack([2 * off * X[:, 0], 2 * off], axis=1).astype(np.float64)
    sizes = np.linalg.norm(gradients, axis=1, keepdims=True)
    limit = norm * (1 - KEPT_BACK)
    found: np.ndarray = (gradients * np.minimum(1, limit / sizes)).sum(axis=0) / 3
    return found


def config(**options: Any) -> ClientConfig:
    return ClientConfig(**{"optimizer": "sgd", "lr": 0.1, **options})


@pytest.mark.parametrize("gradients", ["fused", "opacus"])
@pytest.mark.parametrize("mu", [0.0, 0.7])
def test_steps_with_fedprox_are_those_on_paper(mu: float, gradients: str) -> None:
    model, start = line(), np.array([0.5, -0.25])
    at = start
    for _ in range(4):
        at = at - 0.1 * (clipped(*at, 2.0) + mu * (at - start))
    privacy = DpSgd(0.0, 2.0, steps=4, gradients=gradients)
    train_privately(model, Examples(X, Y), config(proximal_mu=mu), privacy, "regression")
    assert numbers(model) == pytest.approx(at.tolist(), rel=1e-5)


def test_momentum_and_weight_decay_act_on_the_noisy_gradient() -> None:
    model, at, speed = line(), np.array([0.5, -0.25]), np.zeros(2)
    for _ in range(4):
        speed = 0.9 * speed + clipped(*at, 2.0) + 0.01 * at
        at = at - 0.1 * speed
    options = config(momentum=0.9, weight_decay=0.01)
    train_privately(model, Examples(X, Y), options, DpSgd(0.0, 2.0, steps=4), "regression")
    assert numbers(model) == pytest.approx(at.tolist(), rel=1e-5)


def test_the_first_adam_step_has_the_size_of_the_learning_rate() -> None:
    model, options = line(), config(optimizer="adam", lr=0.01)
    train_privately(model, Examples(X, Y), options, DpSgd(0.0, 2.0), "regression")
    expected = np.array([0.5, -0.25]) - 0.01 * np.sign(clipped(0.5, -0.25, 2.0))
    assert numbers(model) == pytest.approx(expected.tolist(), abs=1e-6)


def classes(count: int = 60, features: int = 4) -> Examples:
    random = np.random.default_rng(0)
    y = np.arange(count) % 3
    x = random.normal(0, 0.3, (count, features)) + 2 * np.eye(3, features)[y]
    return Examples(x.astype(np.float32), y.astype(np.int64))


def made(model: ModelConfig, window: int = 0) -> nn.Module:
    shape = DataShape(features=2 if window else 4, window=window, outputs=3)
    return initial_model(model, QuantumConfig(), shape, seed=0)


def windows(count: int = 30) -> Examples:
    random = np.random.default_rng(0)
    x = random.normal(size=(count, 5, 2)).astype(np.float32)
    return Examples(x, (np.arange(count) % 3).astype(np.int64))


CASES: list[tuple[nn.Module, Examples]] = [
    (made(QnnConfig(n_qubits=2)), classes()),
    (made(MlpConfig()), classes()),
    (made(QlstmConfig(n_qubits=2, hidden=3), 5), windows()),
    (made(LstmConfig(hidden=3), 5), windows()),
]


@pytest.mark.parametrize("clipping", ["flat", "per_layer", "adaptive"])
@pytest.mark.parametrize(("model", "examples"), CASES, ids=["qnn", "mlp", "qlstm", "lstm"])
def test_both_routes_train_the_same_model(
    model: nn.Module, examples: Examples, clipping: str
) -> None:
    start = {name: value.clone() for name, value in model.state_dict().items()}
    found, norms = [], []
    for gradients in ("fused", "opacus"):
        model.load_state_dict(start)
        privacy = DpSgd(
            0.5, 0.5, clipping, sample_rate=0.2, steps=10, count_noise=2.0, gradients=gradients
        )
        trained = train_privately(
            model, examples, config(), privacy, "classification", stream=Stream(KEY)
        )
        found.append(np.array(numbers(model)))
        norms.append(trained.clipping_norm)
    moved = np.linalg.norm(found[0] - [v for one in start.values() for v in one.reshape(-1)])
    assert moved > 0.05
    assert np.linalg.norm(found[0] - found[1]) < 1e-4 * moved
    assert norms[0] == norms[1]
    assert (norms[0] == 0.5) == (clipping != "adaptive")


def test_a_hybrid_model_learns_under_noise() -> None:
    model, examples = made(QnnConfig(n_qubits=3)), classes(900)
    privacy = DpSgd(1.0, sample_rate=0.1, steps=60)
    train_privately(model, examples, ClientConfig(lr=0.05), privacy, "classification")
    found = evaluate(model, examples, "classification")
    assert np.mean(found.predictions == examples.y) > 0.9


def test_noise_never_repeats_and_the_global_generators_play_no_part() -> None:
    results = []
    for _ in range(2):
        torch.manual_seed(0)
        np.random.seed(0)
        model = line()
        train_privately(model, Examples(X, Y), config(), DpSgd(1.0), "regression")
        results.append(numbers(model))
    assert results[0] != results[1]
    model = line()
    train_privately(model, Examples(X, Y), config(), DpSgd(1.0), "regression", stream=Stream(KEY))
    again = line()
    train_privately(again, Examples(X, Y), config(), DpSgd(1.0), "regression", stream=Stream(KEY))
    assert numbers(model) == numbers(again)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_records_that_are_not_numbers_change_nothing(wrong: float) -> None:
    """They count as records, and as nothing else, whatever of them is not a number."""
    results = []
    spoilt = [
        Examples(np.vstack([X, [[wrong]]]).astype(np.float32), np.append(Y, np.float32(1))),
        Examples(np.vstack([X, [[1.0]]]).astype(np.float32), np.append(Y, np.float32(wrong))),
    ]
    for examples in spoilt:
        model = line()
        train_privately(model, examples, config(), DpSgd(0.0, 2.0), "regression")
        results.append(numbers(model))
    expected = np.array([0.5, -0.25]) - 0.1 * clipped(0.5, -0.25, 2.0) * 3 / 4
    for found in results:
        assert found == pytest.approx(expected.tolist(), rel=1e-5)


def test_a_record_that_overflows_inside_the_model_changes_nothing() -> None:
    huge = np.array([[3e38], [1.0]], np.float32)
    model = line(weight=3.0)
    train_privately(model, Examples(huge, Y[:2]), config(), DpSgd(0.0), "regression")
    alone = line(weight=3.0)
    half = Examples(np.array([[1.0], [np.nan]], np.float32), np.array([0.0, 0.0], np.float32))
    train_privately(alone, half, config(), DpSgd(0.0), "regression")
    assert numbers(model) == numbers(alone)


@pytest.mark.parametrize("gradients", ["fused", "opacus"])
def test_a_record_that_a_circuit_refuses_changes_nothing(gradients: str) -> None:
    """A row of zeros is no direction of a state."""
    shape = DataShape(features=4, window=0, outputs=3)
    config_of_model = QnnConfig(n_qubits=2, encoding="amplitude", pre="none")
    results = []
    for spoilt in (0.0, np.nan):
        model = initial_model(config_of_model, QuantumConfig(), shape, seed=0)
        examples = classes(12)
        examples.x[5] = spoilt
        privacy = DpSgd(0.0, gradients=gradients)
        train_privately(model, examples, config(), privacy, "classification")
        results.append(numbers(model))
    assert results[0] == pytest.approx(results[1], rel=1e-5)


@pytest.mark.parametrize("gradients", ["fused", "opacus"])
def test_empty_batches_are_steps(gradients: str) -> None:
    model, privacy = line(), DpSgd(0.0, sample_rate=1e-9, steps=20, gradients=gradients)
    train_privately(model, Examples(X, Y), config(), privacy, "regression")
    assert numbers(model) == [0.5, -0.25]
    noisy = DpSgd(1.0, sample_rate=1e-9, steps=1, gradients=gradients)
    train_privately(model, Examples(X, Y), config(lr=1e-9), noisy, "regression")
    assert numbers(model) != [0.5, -0.25]


def test_without_records_nothing_happens() -> None:
    model = line()
    none = Examples(np.zeros((0, 1), np.float32), np.zeros(0, np.float32))
    trained = train_privately(model, none, config(), DpSgd(1.0, 0.7), "regression")
    assert (numbers(model), trained.clipping_norm) == ([0.5, -0.25], 0.7)


def test_a_model_that_cannot_be_trained_is_refused_also_without_records() -> None:
    none = Examples(np.zeros((0, 1), np.float32), np.zeros(0, np.float32))
    model = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
    with pytest.raises(PrivacyError, match="BatchNorm1d"):
        train_privately(model, none, config(), DpSgd(1.0), "regression")


def test_divergence_is_told_without_numbers() -> None:
    model = line()
    options = config(lr=1e30, momentum=0.9, weight_decay=1.0)
    with pytest.raises(DataError, match=r"smaller client\.lr") as refused:
        train_privately(model, Examples(X, Y), options, DpSgd(1.0, steps=20), "regression")
    assert not any(letter.isdigit() for letter in str(refused.value))


@pytest.mark.parametrize("gradients", ["fused", "opacus"])
def test_parameters_keep_memory_of_their_own(gradients: str) -> None:
    model, threads = made(QnnConfig(n_qubits=2)), torch.get_num_threads()
    privacy = DpSgd(1.0, sample_rate=0.2, steps=2, gradients=gradients)
    train_privately(model, classes(), config(), privacy, "classification")
    storages = {one.untyped_storage().data_ptr() for one in model.parameters()}
    assert len(storages) == len(list(model.parameters()))
    assert all(one.grad is None for one in model.parameters())
    assert (model.training, torch.get_num_threads()) == (True, threads)
