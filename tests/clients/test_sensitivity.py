"""Sensitivities against derivatives taken another way."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qfl.clients.sensitivity import sensitivities
from qfl.data import Examples


def test_of_a_linear_classifier_they_follow_from_the_softmax() -> None:
    """d(-log p_c)/dW = (p - onehot(c)) x^T: its norm over classes, averaged over examples."""
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 4)
    x = np.random.default_rng(1).normal(size=(5, 3))
    found = sensitivities(model, Examples(x, np.zeros(5, dtype=np.int64)), "classification")
    weight, bias = (value.detach().numpy().astype(float) for value in model.parameters())
    wanted = np.zeros((4, 3))
    for row in x:
        logits = weight @ row + bias
        p = np.exp(logits - logits.max())
        p /= p.sum()
        rows = p[None] - np.eye(4)
        wanted += np.sqrt((rows**2).sum(axis=0))[:, None] * np.abs(row)[None]
    np.testing.assert_allclose(found["weight"], wanted / 5, rtol=1e-4)


def test_of_a_regression_they_are_twice_the_gradient_of_the_prediction() -> None:
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 1))
    x = np.array([[1.0, -2.0], [3.0, 4.0]])
    found = sensitivities(model, Examples(x, np.zeros(2)), "regression")
    inputs = x / np.sqrt(1 + 1e-5)
    np.testing.assert_allclose(found["1.weight"][0], 2 * np.abs(inputs).mean(axis=0), rtol=1e-5)
    assert found["1.bias"] == pytest.approx([2.0])
    # Buffers are no parameters, but have a place.
    assert found["0.running_mean"].tolist() == [0.0, 0.0]


def test_a_client_without_examples_knows_nothing() -> None:
    model = torch.nn.Linear(2, 2)
    empty = Examples(np.zeros((0, 2)), np.zeros(0, dtype=np.int64))
    assert not sensitivities(model, empty, "classification")["weight"].any()
