"""Data, model and held-out evaluation, against scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from sklearn.preprocessing import StandardScaler

from qfl.conf.schema import ExperimentConfig
from qfl.errors import ConfigError, DataError
from qfl.federation.engine import Watchers, run_federation
from qfl.federation.experiment import Experiment

Configure = Callable[..., ExperimentConfig]
ENCRYPTED = {"strategy.scheme": "ckks", "strategy.trust": "key_holder"}


def after_setup(config: ExperimentConfig) -> Experiment:
    experiment = Experiment.prepare(config)
    run_federation(experiment, Watchers(lambda event: None))
    return experiment


@pytest.mark.parametrize("scheme", [{}, ENCRYPTED], ids=["plain", "ckks"])
def test_federated_statistics_are_those_of_all_data_together(
    configure: Configure, scheme: dict[str, Any]
) -> None:
    config = configure(
        {
            **scheme,
            "rounds": 1,
            "clients": 4,
            "dataset.name": "diabetes",
            "dataset.task": "regression",
            "partition.name": "quantity",
        }
    )
    experiment = after_setup(config)
    (found,) = experiment.statistics
    train = experiment.dataset.train
    scaler = StandardScaler().fit(train.x.astype(np.float64))
    np.testing.assert_allclose(found.mean, scaler.mean_, atol=1e-5)
    np.testing.assert_allclose(found.scale, scaler.scale_, rtol=1e-5)
    np.testing.assert_allclose(found.target_mean, train.y.astype(float).mean(), rtol=1e-6)
    np.testing.assert_allclose(found.target_scale, train.y.astype(float).std(), rtol=1e-5)
    pooled = experiment.pooled_statistics()
    np.testing.assert_allclose(found.mean, pooled.mean, atol=1e-5)
    np.testing.assert_allclose(found.scale, pooled.scale, rtol=1e-5)


def test_federated_components_are_those_of_scikit_learn_up_to_sign(configure: Configure) -> None:
    experiment = after_setup(configure({**ENCRYPTED, "rounds": 1, "preprocess.pca": 3}))
    (found,) = experiment.statistics
    scaled = StandardScaler().fit_transform(experiment.dataset.train.x.astype(np.float64))
    expected = PCA(3).fit(scaled).components_
    assert found.components is not None
    cosines = np.abs(np.sum(found.components * expected, axis=1))
    np.testing.assert_allclose(cosines, 1.0, atol=1e-5)
    assert experiment.shape.features == 3
    assert experiment.initial["pre.weight"].shape == (8, 3)
    assert found.apply(experiment.dataset.test).x.shape == (30, 3)


def test_local_statistics_are_each_clients_own(configure: Configure) -> None:
    experiment = Experiment.prepare(configure({"preprocess.fit": "local"}))
    assert len(experiment.statistics) == 3
    for part, found in zip(experiment.parts, experiment.statistics, strict=True):
        np.testing.assert_allclose(found.mean, part.x.astype(float).mean(axis=0), rtol=1e-5)
    means, predictions = experiment.evaluate(experiment.initial, experiment.dataset.test)
    truth = experiment.dataset.test.y
    assert predictions.shape == (3, len(truth))
    assert means["accuracy"] == pytest.approx(np.mean(predictions == truth))


def test_public_statistics_map_the_known_range_to_one(configure: Configure) -> None:
    experiment = Experiment.prepare(
        configure({"dataset.name": "digits", "preprocess.fit": "public"})
    )
    (found,) = experiment.statistics
    assert set(found.mean) == {8.0}
    assert set(found.scale) == {8.0}


def test_accuracy_and_loss_by_hand(configure: Configure) -> None:
    experiment = Experiment.prepare(configure({"preprocess.fit": "local", "clients": 2}))
    experiment.statistics = experiment.statistics[:1]
    metrics, predicted = experiment.evaluate(experiment.initial, experiment.dataset.test)
    model = experiment.model_with(experiment.initial)
    scaled = experiment.statistics[0].apply(experiment.dataset.test)
    with torch.no_grad():
        outputs = model(torch.from_numpy(scaled.x)).double().numpy()
    shifted = outputs - outputs.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    expected = -log_p[np.arange(len(scaled)), scaled.y.astype(int)].mean()
    assert metrics["loss"] == pytest.approx(expected, rel=1e-5)
    np.testing.assert_array_equal(predicted[0], outputs.argmax(axis=1))


def test_regression_metrics_are_those_of_scikit_learn(configure: Configure) -> None:
    config = configure({"dataset.name": "diabetes", "dataset.task": "regression"})
    experiment = Experiment.prepare(config)
    rng = np.random.default_rng(0)
    truth = rng.normal(100, 20, 50)
    predicted = truth + rng.normal(3, 5, 50)
    found = experiment.metrics(0.5, predicted, truth)
    assert found["loss"] == 0.5
    assert found["rmse"] == pytest.approx(root_mean_squared_error(truth, predicted))
    assert found["mae"] == pytest.approx(mean_absolute_error(truth, predicted))
    assert found["r2"] == pytest.approx(r2_score(truth, predicted))
    assert experiment.metrics(0.0, np.ones(3), np.ones(3))["r2"] == 0.0


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"clients": 90}, DataError, "90 clients with at least 2 examples each"),
        ({"partition.name": "files"}, DataError, "partition=files needs data with one file"),
        ({"model": {"name": "lstm"}}, ConfigError, "model=lstm takes windows"),
        ({"preprocess.fit": "public"}, ConfigError, "needs a range of the features that everybody"),
        (
            {"model": {"name": "qnn", "n_qubits": 30}},
            ConfigError,
            r"n_qubits=30 needs about 47,104.0 GiB of memory for 16 states",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_anything_runs(
    configure: Configure, changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        Experiment.prepare(configure(changes))
