"""Local training against steps worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from qfl.clients.training import evaluate, train
from qfl.conf.schema import ClientConfig
from qfl.data import Examples

X = np.array([[1.0], [2.0], [-1.0]], np.float32)
Y = np.array([1.0, 0.0, 2.0], np.float32)


def line(weight: float = 0.5, bias: float = -0.25) -> nn.Linear:
    model = nn.Linear(1, 1)
    with torch.no_grad():
        model.weight.fill_(weight)
        model.bias.fill_(bias)
    return model


def numbers(model: nn.Linear) -> list[float]:
    return [model.weight.item(), model.bias.item()]


def gradient(weight: float, bias: float) -> tuple[float, float]:
    """Of the mean of (w x + b - y)^2."""
    off = weight * X[:, 0] + bias - Y
    return float(np.mean(2 * off * X[:, 0])), float(np.mean(2 * off))


def config(**options: Any) -> ClientConfig:
    return ClientConfig(**{"optimizer": "sgd", "lr": 0.1, "batch_size": 3, **options})


@pytest.mark.parametrize("mu", [0.0, 0.7])
def test_gradient_steps_with_fedprox_are_those_on_paper(mu: float) -> None:
    """The pull is zero in the first step, from the start itself, and mu (w - w0) in the second."""
    model = line()
    w0, b0 = w, b = 0.5, -0.25
    loss_before = float(np.mean((w * X[:, 0] + b - Y) ** 2))
    for _ in range(3):
        gw, gb = gradient(w, b)
        w, b = w - 0.1 * (gw + mu * (w - w0)), b - 0.1 * (gb + mu * (b - b0))
    options = config(local_epochs=3, proximal_mu=mu)
    losses = train(model, Examples(X, Y), options, "regression", (0,))
    assert numbers(model) == pytest.approx([w, b], rel=1e-5)
    first = train(line(), Examples(X, Y), config(proximal_mu=mu), "regression", (0,))
    assert first == pytest.approx(loss_before, rel=1e-5)
    assert losses < first  # the mean over three passes, without the proximal term


def test_the_pull_keeps_a_client_nearer_to_the_global_model() -> None:
    moved = []
    for mu in (0.0, 0.5, 5.0):
        model = line()
        options = config(local_epochs=20, proximal_mu=mu, lr=0.05)
        train(model, Examples(X, Y), options, "regression", (0,))
        moved.append(abs(model.weight.item() - 0.5) + abs(model.bias.item() + 0.25))
    assert moved[0] > moved[1] > moved[2]


def test_momentum_and_weight_decay_reach_the_optimizer() -> None:
    model = line()
    w, b, vw, vb = 0.5, -0.25, 0.0, 0.0
    for _ in range(3):
        gw, gb = gradient(w, b)
        vw, vb = 0.9 * vw + gw + 0.01 * w, 0.9 * vb + gb + 0.01 * b
        w, b = w - 0.1 * vw, b - 0.1 * vb
    options = config(local_epochs=3, momentum=0.9, weight_decay=0.01)
    train(model, Examples(X, Y), options, "regression", (0,))
    assert numbers(model) == pytest.approx([w, b], rel=1e-5)


def test_the_first_adam_step_has_the_size_of_the_learning_rate() -> None:
    model = line()
    train(model, Examples(X, Y), config(optimizer="adam", lr=0.01), "regression", (0,))
    gw, gb = gradient(0.5, -0.25)
    expected = [0.5 - 0.01 * np.sign(gw), -0.25 - 0.01 * np.sign(gb)]
    assert numbers(model) == pytest.approx(expected, abs=1e-6)


def blobs(count: int = 60) -> Examples:
    random = np.random.default_rng(0)
    y = np.arange(count) % 3
    x = random.normal(0, 0.3, (count, 2)) + np.array([[0, 0], [2, 0], [0, 2]])[y]
    return Examples(x.astype(np.float32), y.astype(np.int64))


def classifier(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 3))


def state(model: nn.Module) -> list[list[float]]:
    return [value.flatten().tolist() for value in model.state_dict().values()]


def test_training_lowers_the_loss() -> None:
    model, examples = classifier(), blobs()
    before = evaluate(model, examples, "classification")
    options = ClientConfig(lr=0.02, local_epochs=20, batch_size=16)
    train(model, examples, options, "classification", (1, 2))
    after = evaluate(model, examples, "classification")
    assert after.loss < before.loss / 3
    assert np.mean(after.predictions == examples.y) > 0.95


def test_the_seed_decides_the_order_and_with_it_the_result() -> None:
    made = []
    for seed in ((1, 2, 3), (1, 2, 3), (1, 2, 4)):
        model = classifier()
        torch.manual_seed(len(made))  # the global generator plays no part
        loss = train(model, blobs(), ClientConfig(batch_size=7), "classification", seed)
        made.append((loss, state(model)))
    assert made[0] == made[1]
    assert made[0] != made[2]


def test_the_loss_is_a_mean_over_examples_not_over_batches() -> None:
    """With a learning rate of nearly nothing it is the loss of the model as it stands."""
    model, examples = classifier(), blobs(50)
    expected = evaluate(model, examples, "classification").loss
    options = ClientConfig(lr=1e-12, optimizer="sgd", batch_size=32, local_epochs=2)
    assert train(model, examples, options, "classification", (0,)) == pytest.approx(expected, 1e-5)


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_without_examples_nothing_happens(task: str) -> None:
    model = classifier()
    before = state(model)
    none = Examples(np.zeros((0, 2), np.float32), np.zeros(0, np.int64))
    assert train(model, none, ClientConfig(), task, (0,)) == 0.0
    assert state(model) == before
    found = evaluate(model, none, task)
    assert (found.loss, found.predictions.tolist()) == (0.0, [])


def test_evaluation_does_not_depend_on_the_batch_size() -> None:
    model, examples = line(), Examples(X, Y)
    whole = evaluate(model, examples, "regression", batch_size=100)
    parts = evaluate(model, examples, "regression", batch_size=2)
    assert whole.loss == pytest.approx(float(np.mean((0.5 * X[:, 0] - 0.25 - Y) ** 2)), rel=1e-6)
    assert parts.loss == pytest.approx(whole.loss, rel=1e-6)
    assert whole.predictions.tolist() == pytest.approx([0.25, 0.75, -0.75])
    assert parts.predictions.tolist() == whole.predictions.tolist()
