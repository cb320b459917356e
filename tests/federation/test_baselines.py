"""What a result is held against, computed again here."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

from qfl.conf.schema import BaselinesConfig, ExperimentConfig, MlpConfig
from qfl.federation.baselines import plain_config, pooled, twin_config
from qfl.federation.experiment import Experiment

Configure = Callable[..., ExperimentConfig]
Run = Callable[..., dict[str, Any]]
ENCRYPTED = {"strategy.scheme": "ckks", "strategy.trust": "key_holder"}
QUANTUM = {"model": {"name": "qnn", "n_qubits": 2, "n_layers": 1}}


def test_the_plain_baseline_differs_in_encryption_alone(configure: Configure) -> None:
    config = configure({**ENCRYPTED, "strategy.bound": 1.5, "baselines.plain": True})
    other = plain_config(config)
    assert other == configure({"strategy.bound": 1.5})
    assert other.baselines == BaselinesConfig()


def test_the_twin_is_classical_and_in_the_clear(configure: Configure) -> None:
    other = twin_config(configure({**ENCRYPTED, **QUANTUM}))
    assert other is not None
    assert other.model == MlpConfig(width=2, hidden=2)
    assert other.strategy.scheme == "plain"
    assert twin_config(configure()) is None


@pytest.mark.parametrize("dataset", ["iris", "wine"])
def test_pooled_classification_is_logistic_regression(configure: Configure, dataset: str) -> None:
    experiment = Experiment.prepare(configure({"dataset.name": dataset}))
    train, test = experiment.dataset.train, experiment.dataset.test
    scaler = StandardScaler().fit(train.x)
    model = LogisticRegression(max_iter=1000).fit(scaler.transform(train.x), train.y)
    probabilities = model.predict_proba(scaler.transform(test.x))
    found = pooled(experiment)
    assert found["name"] == "logistic regression"
    assert found["accuracy"] == pytest.approx(np.mean(probabilities.argmax(axis=1) == test.y))
    assert found["loss"] == pytest.approx(log_loss(test.y, probabilities), rel=1e-3)


def test_pooled_regression_is_linear_regression_in_the_datas_units(configure: Configure) -> None:
    experiment = Experiment.prepare(
        configure({"dataset.name": "diabetes", "dataset.task": "regression"})
    )
    train, test = experiment.dataset.train, experiment.dataset.test
    model = LinearRegression().fit(train.x, train.y)
    error = model.predict(test.x) - test.y
    found = pooled(experiment)
    assert found["name"] == "linear regression"
    assert found["rmse"] == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-4)
    assert found["mae"] == pytest.approx(np.mean(np.abs(error)), rel=1e-4)
    assert found["loss"] == pytest.approx(np.mean(error**2) / np.var(train.y), rel=1e-4)


def test_all_baselines_of_a_quantum_run_appear(
    configure: Configure, run: Run, tmp_path: Path, console: Console
) -> None:
    baselines = {"plain": True, "twin": True, "pooled": True}
    summary = run(configure({**ENCRYPTED, **QUANTUM, "rounds": 1, "baselines": baselines}))
    found = summary["baseline"]
    assert found.keys() == {"plain", "twin", "pooled"}
    assert found["plain"]["parameters"] == summary["model"]["parameters"] == 10 + 6 + 9
    assert found["plain"]["accuracy"] == summary["metrics"]["accuracy"]
    assert found["plain"]["loss"] == summary["metrics"]["loss"]
    assert (found["twin"]["name"], found["twin"]["parameters"]) == ("mlp", 10 + 6 + 9)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    assert {line["run"] for line in lines} == {"main", "plain", "twin"}
    output = console.file.getvalue()  # type: ignore[attr-defined]
    for words in (
        "qnn, federated, ckks",
        "the same without encryption",
        "classical twin (mlp), federated",
        "logistic regression, pooled data",
    ):
        assert words in output


def test_a_plain_run_is_not_repeated_in_the_clear_and_mlp_has_no_twin(
    configure: Configure, run: Run
) -> None:
    summary = run(configure({"rounds": 1, "baselines": {"plain": True, "twin": True}}))
    assert summary["baseline"] == {}


def test_a_class_that_only_the_test_set_holds_has_no_pooled_loss(
    configure: Configure, run: Run, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "data.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "b", "y"])
        writer.writerows([rng.normal(), rng.normal(), "xy"[i % 2]] for i in range(20))
        writer.writerow([0.0, 0.0, "z"])
    dataset = {"name": "csv", "path": str(path), "target": "y", "test_fraction": 0.3}
    for seed in range(20):
        config = configure({"dataset": dataset, "seed": seed, "rounds": 1})
        if 2 not in Experiment.prepare(config).dataset.train.y:
            break
    else:
        pytest.fail("no seed puts the only z into the test set")
    config = configure({"dataset": dataset, "seed": seed, "rounds": 1, "baselines.pooled": True})
    run(config)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert summary["baseline"]["pooled"]["loss"] is None
    assert 0 <= summary["baseline"]["pooled"]["accuracy"] < 1
