"""Every quantum model in a small federation under encryption, beside its classical twin."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from qfl import load_config, simulate
from qfl.conf.checks import from_dict
from qfl.conf.schema import QlstmConfig

IRIS = {"name": "iris"}
DIGITS = {"name": "digits", "test_fraction": 0.8}
SERIES = {"name": "narma10", "task": "regression", "length": 160, "window": 6}
RUNS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"name": "qnn", "n_qubits": 3, "encoding": "angle"}, IRIS, "mlp"),
    ({"name": "qnn", "n_qubits": 3, "encoding": "reuploading"}, IRIS, "mlp"),
    ({"name": "qnn", "n_qubits": 3, "encoding": "iqp"}, IRIS, "mlp"),
    ({"name": "qnn", "n_qubits": 2, "encoding": "amplitude", "pre": "none"}, IRIS, "mlp"),
    ({"name": "quantum_kernel", "n_qubits": 3, "landmarks": 8}, IRIS, "rbf"),
    ({"name": "qcnn", "kind": "quanvolution", "channels": 1}, DIGITS, "cnn"),
    ({"name": "qcnn", "kind": "pooling"}, DIGITS, "cnn"),
    ({"name": "qlstm", "n_qubits": 3, "hidden": 4}, SERIES, "lstm"),
    ({"name": "qlstm", "n_qubits": 3, "hidden": 4, "attention": True}, SERIES, "lstm"),
]


@pytest.mark.parametrize(
    ("model", "dataset", "twin"), RUNS, ids=["-".join(map(str, m.values())) for m, _, _ in RUNS]
)
def test_a_federation_trains_it_under_encryption_as_in_the_clear(
    model: dict[str, Any], dataset: dict[str, Any], twin: str, tmp_path: Path
) -> None:
    config = from_dict(
        {
            "name": "small",
            "seed": 3,
            "rounds": 2,
            "clients": 2,
            "dataset": dataset,
            "partition": {"name": "contiguous" if dataset is SERIES else "iid"},
            "model": model,
            "client": {"lr": 0.03, "batch_size": 16},
            "baselines": {"plain": True, "twin": True},
        }
    )
    assert config.strategy.scheme == "ckks"
    console = Console(file=io.StringIO())
    summary = simulate(config, tmp_path / "run", console=console, report=False)
    assert summary["status"] == "finished"
    assert summary["model"]["name"] == model["name"]
    assert summary["baseline"]["plain"]["loss"] == summary["metrics"]["loss"]
    assert summary["baseline"]["twin"]["name"] == twin
    assert np.isfinite(summary["baseline"]["twin"]["loss"])
    assert summary["metrics"]["loss"] < 0.98 * first_loss(tmp_path / "run")


def first_loss(folder: Path) -> float:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    (loss,) = (
        line["value"]
        for line in lines
        if (line["run"], line["round"], line["metric"]) == ("main", 0, "loss")
    )
    return float(loss)


def test_the_forecast_trains_a_quantum_lstm_beside_the_classical_one(tmp_path: Path) -> None:
    config = load_config(["experiment=forecast", "rounds=1", "dataset.length=200"])
    assert isinstance(config.model, QlstmConfig)
    console = Console(file=io.StringIO(), width=200)
    summary = simulate(config, tmp_path / "run", console=console, report=False)
    assert summary["model"]["name"] == "qlstm"
    twin = summary["baseline"]["twin"]
    assert twin["name"] == "lstm"
    assert abs(twin["parameters"] - summary["model"]["parameters"]) < 50
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    for words in ("qlstm, federated, ckks", "classical twin (lstm)", "linear regression, pooled"):
        assert words in shown
