"""A whole run and what it leaves behind."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_tensors
from sklearn.datasets import load_iris
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from qfl import simulate
from qfl.conf.checks import from_dict
from qfl.conf.schema import ExperimentConfig, ModelConfig
from qfl.data import Statistics
from qfl.errors import ConfigError, DataError, FederationError, StorageError
from qfl.federation.experiment import Experiment
from qfl.models import DataShape, build_model

Configure = Callable[..., ExperimentConfig]
Run = Callable[..., dict[str, Any]]
ENCRYPTED = {"strategy.scheme": "ckks", "strategy.trust": "key_holder"}
REGRESSION = {"dataset.name": "diabetes", "dataset.task": "regression"}


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def test_a_run_folder_holds_everything(
    configure: Configure, tmp_path: Path, console: Console
) -> None:
    config = configure({**ENCRYPTED, "rounds": 3, "baselines.pooled": True})
    returned = simulate(config, tmp_path / "run", console=console)
    folder = tmp_path / "run"
    assert sorted(path.name for path in folder.iterdir()) == [
        "audit.jsonl",
        "checkpoints",
        "config.yaml",
        "evaluation.json",
        "metrics.jsonl",
        "model.json",
        "model.safetensors",
        "report.html",
        "summary.json",
    ]
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == [
        "round-00002.safetensors",
        "round-00003.safetensors",
    ]
    summary = read_json(folder / "summary.json")
    assert returned == {**summary, "path": str(folder)}
    assert summary["experiment"] == "small"
    assert (summary["status"], summary["reason"]) == ("finished", None)
    assert (summary["seed"], summary["rounds"], summary["clients"]) == (7, 3, 3)
    assert summary["metrics"].keys() == {"loss", "accuracy", "train_loss"}
    nothing = {"epsilon": None, "delta": None, "mechanism": "none", "accountant": "none"}
    assert nothing.items() <= summary["privacy"].items()
    aggregation = summary["aggregation"]
    assert (aggregation["scheme"], aggregation["trust"]) == ("ckks", "key_holder")
    assert "do not collude" in aggregation["assumption"]
    # A ciphertext holds at least 12 bytes a parameter; the mean of 3 is off by a few grid steps.
    assert aggregation["upload_bytes_per_client"] > 12 * 79
    assert aggregation["download_bytes_per_client"] > 4 * 79
    assert 0 < aggregation["max_abs_error"] < 10 * 2**-20
    assert summary["seconds"]["total"] >= summary["seconds"]["per_round"] > 0
    assert summary["versions"].keys() >= {"python", "qfl", "flwr", "torch", "tenseal"}
    assert summary["baseline"]["pooled"]["name"] == "logistic regression"
    events = [json.loads(line)["event"] for line in (folder / "audit.jsonl").open()]
    set_up = ["segment_started", "run_started", "sum_opened", "sum_opened", "keys_made"]
    rounds = ["clients_selected", "sum_opened", "round_finished"] * 3
    assert events == [*set_up, "round_finished", *rounds, "run_finished"]
    output = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Held-out accuracy after 3 rounds" in output
    assert "logistic regression, pooled data" in output
    assert "report.html" in output


def test_the_saved_model_reproduces_the_reported_accuracy(
    configure: Configure, run: Run, tmp_path: Path
) -> None:
    config = configure({**ENCRYPTED, "rounds": 4, "preprocess.pca": 3})
    summary = run(config)
    about = read_json(tmp_path / "run" / "model.json")
    saved = from_dict({"model": about["model"], "quantum": about["quantum"]})
    assert isinstance(saved.model, ModelConfig)
    model = build_model(saved.model, saved.quantum, DataShape(**about["shape"]))
    model.load_state_dict(load_tensors(tmp_path / "run" / "model.safetensors"))
    (entry,) = about["statistics"]
    statistics = Statistics(
        mean=np.array(entry["mean"]),
        scale=np.array(entry["scale"]),
        components=np.array(entry["components"]),
    )
    test = Experiment.prepare(config).dataset.test
    with torch.no_grad():
        predicted = model(torch.from_numpy(statistics.apply(test).x)).argmax(dim=1).numpy()
    assert np.mean(predicted == test.y) == summary["metrics"]["accuracy"]
    assert summary["metrics"]["accuracy"] > 0.5
    matrix = np.array(read_json(tmp_path / "run" / "evaluation.json")["confusion_matrix"])
    assert matrix.sum() == len(test)
    assert matrix.trace() / len(test) == pytest.approx(summary["metrics"]["accuracy"])


def test_the_same_seed_gives_the_same_file(configure: Configure, run: Run, tmp_path: Path) -> None:
    variants: dict[str, dict[str, Any]] = {
        "first": {},
        "again": {},
        "ckks": ENCRYPTED,
        "seed": {"seed": 8},
    }
    for name, changes in variants.items():
        run(configure(changes), name)
    files = {n: (tmp_path / n / "model.safetensors").read_bytes() for n in variants}
    assert files["first"] == files["again"] == files["ckks"]
    assert files["first"] != files["seed"]


@pytest.mark.parametrize(
    "changes",
    [
        {"preprocess.fit": "local"},
        {"preprocess.fit": "federated", "preprocess.pca": 2},
        {"preprocess.fit": "public", "dataset.name": "digits", "rounds": 1},
        {"preprocess.fit": "local", **REGRESSION},
        {"preprocess.scale": "none"},
    ],
    ids=lambda changes: "-".join(str(value) for value in changes.values()),
)
def test_every_way_of_preprocessing_runs(
    configure: Configure, run: Run, tmp_path: Path, changes: dict[str, Any]
) -> None:
    summary = run(configure(changes))
    assert summary["status"] == "finished"
    assert np.isfinite(list(summary["metrics"].values())).all()
    local = changes.get("preprocess.fit") == "local"
    assert any("own scaling" in note for note in summary["notes"]) == local
    about = read_json(tmp_path / "run" / "model.json")
    assert len(about["statistics"]) == (3 if local else 1)


@pytest.mark.parametrize(
    "changes",
    [
        {**REGRESSION, "rounds": 3},
        {
            "dataset": {"name": "narma10", "task": "regression", "length": 120},
            "model": {"name": "lstm", "hidden": 4},
            "partition.name": "contiguous",
        },
    ],
    ids=["diabetes", "narma10"],
)
def test_regression_metrics_are_those_of_the_saved_predictions(
    configure: Configure, run: Run, tmp_path: Path, changes: dict[str, Any]
) -> None:
    summary = run(configure({**ENCRYPTED, **changes}))
    found = read_json(tmp_path / "run" / "evaluation.json")
    truth, predicted = np.array(found["truth"]), np.array(found["prediction"])
    metrics = summary["metrics"]
    assert metrics["rmse"] == pytest.approx(root_mean_squared_error(truth, predicted), rel=1e-6)
    assert metrics["mae"] == pytest.approx(mean_absolute_error(truth, predicted), rel=1e-6)
    assert metrics["r2"] == pytest.approx(r2_score(truth, predicted), rel=1e-6)
    assert [client["client"] for client in found["clients"]] == [0, 1, 2]
    assert all(client["target_std"] > 0 for client in found["clients"])


def test_the_evaluation_says_what_each_client_holds(
    configure: Configure, run: Run, tmp_path: Path
) -> None:
    config = configure({"partition": {"name": "shards", "shards_per_client": 1}})
    run(config)
    found = read_json(tmp_path / "run" / "evaluation.json")
    parts = Experiment.prepare(config).parts
    for client, part in zip(found["clients"], parts, strict=True):
        assert client["examples"] == len(part) == sum(client["labels"])
        assert client["labels"] == [int(np.sum(part.y == k)) for k in range(3)]
        assert 0 <= client["accuracy"] <= 1


def test_patience_stops_a_run_that_no_longer_improves(
    configure: Configure, run: Run, tmp_path: Path
) -> None:
    changes = {"rounds": 20, "client.lr": 1e-9, "stop.patience": 2, "stop.min_delta": 0.01}
    summary = run(configure(changes))
    assert (summary["status"], summary["rounds"]) == ("converged", 3)
    assert read_json(tmp_path / "run" / "summary.json")["status"] == "converged"


def test_one_file_per_client(configure: Configure, run: Run, tmp_path: Path) -> None:
    iris = load_iris()
    (tmp_path / "data").mkdir()
    for number, rows in enumerate(np.array_split(np.random.default_rng(0).permutation(150), 3)):
        with (tmp_path / "data" / f"site-{number}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["a", "b", "c", "d", "species"])
            writer.writerows([*iris.data[i], iris.target_names[iris.target[i]]] for i in rows)
    dataset = {"name": "csv", "path": str(tmp_path / "data"), "target": "species"}
    changes = {"dataset": dataset, "partition.name": "files", "rounds": 3}
    summary = run(configure(changes))
    assert summary["metrics"]["accuracy"] > 0.5
    found = read_json(tmp_path / "run" / "evaluation.json")
    assert found["classes"] == ["setosa", "versicolor", "virginica"]
    assert [client["examples"] for client in found["clients"]] == [40, 40, 40]
    with pytest.raises(DataError, match="found 3 files for clients=4: set clients=3"):
        run(configure({**changes, "clients": 4}), "four")
    assert not (tmp_path / "four").exists()


def test_clients_without_data_do_no_harm(configure: Configure, run: Run) -> None:
    partition = {"name": "quantity", "alpha": 0.05, "min_examples": 0}
    config = configure({"partition": partition, "clients": 8, "seed": 1})
    assert 0 in [len(part) for part in Experiment.prepare(config).parts]
    summary = run(config)
    assert summary["status"] == "finished"
    assert np.isfinite(summary["metrics"]["loss"])


def test_without_a_folder_runs_get_folders_of_their_own(
    configure: Configure, console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("qfl.federation.simulate.time.strftime", lambda _: "2030-01-01_00-00-00")
    config = configure({"rounds": 1})
    paths = [simulate(config, console=console, report=False)["path"] for _ in range(3)]
    assert paths == [
        "outputs/small/2030-01-01_00-00-00",
        "outputs/small/2030-01-01_00-00-00-2",
        "outputs/small/2030-01-01_00-00-00-3",
    ]


def test_a_folder_that_holds_a_run_is_refused_and_left_alone(
    configure: Configure, run: Run, tmp_path: Path
) -> None:
    run(configure({"rounds": 1}))
    before = {path: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}
    with pytest.raises(StorageError, match="holds a run already"):
        run(configure({"rounds": 1, "seed": 9}))
    assert all(path.read_bytes() == content for path, content in before.items())


def test_a_refused_configuration_leaves_no_folder(
    configure: Configure, run: Run, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="30"):
        run(configure({"model": {"name": "qnn", "n_qubits": 30}}))
    assert not (tmp_path / "run").exists()


def test_a_failed_run_says_so_in_its_summary(
    configure: Configure, run: Run, tmp_path: Path
) -> None:
    with pytest.raises(FederationError, match=r"raise strategy\.bound"):
        run(configure({**ENCRYPTED, "strategy.bound": 0.001}))
    summary = read_json(tmp_path / "run" / "summary.json")
    assert (summary["status"], summary["rounds"]) == ("failed", 0)
    assert "raise strategy.bound" in summary["reason"]
    assert not (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_diverged_run_fails_as_such_and_its_summary_is_json(
    configure: Configure, run: Run, tmp_path: Path
) -> None:
    with pytest.raises(FederationError, match="training diverged"):
        run(configure({"strategy.server_optimizer.lr": 1e300}))
    summary = read_json(tmp_path / "run" / "summary.json")
    assert summary["status"] == "failed"
    assert summary["metrics"]["loss"] is None


def test_a_defect_is_on_record_too(
    configure: Configure, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("qfl.federation.simulate.pooled", broken)
    with pytest.raises(ZeroDivisionError):
        run(configure({"baselines.pooled": True}))
    summary = read_json(tmp_path / "run" / "summary.json")
    assert (summary["status"], summary["reason"]) == ("failed", "a defect")


def test_metrics_have_one_line_per_round_and_metric(
    configure: Configure, run: Run, tmp_path: Path
) -> None:
    run(configure({"rounds": 3}))
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    keys = [(line["run"], line["round"], line["metric"]) for line in lines]
    assert len(keys) == len(set(keys))
    for number in range(4):
        found = {metric for run_, n, metric in keys if (run_, n) == ("main", number)}
        expected = {"loss", "accuracy", "clients", "failures", "bytes_up", "bytes_down", "seconds"}
        assert found >= expected | ({"train_loss"} if number else set())


def test_no_temporary_file_is_left(configure: Configure, run: Run, tmp_path: Path) -> None:
    run(configure())
    names = [name for _, _, files in os.walk(tmp_path / "run") for name in files]
    assert not [name for name in names if name.startswith(".")]
    assert load_file(tmp_path / "run" / "model.safetensors").keys() >= {"pre.weight"}
