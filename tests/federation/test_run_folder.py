"""The records of a run, and folders that are none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from qfl.conf.schema import ExperimentConfig
from qfl.errors import ConfigError, StorageError
from qfl.federation.experiment import Experiment
from qfl.federation.run_folder import RunFolder, versions
from qfl.strategies import RoundFinished

Configure = Callable[..., ExperimentConfig]


def finished(number: int, **metrics: float) -> RoundFinished:
    return RoundFinished(
        round=number,
        rounds=9,
        clients=3,
        failures=1,
        bytes_up=100,
        bytes_down=200,
        bytes_key_holder=50,
        seconds=0.25,
        max_abs_error=1e-6,
        metrics=metrics,
    )


def test_a_configuration_comes_back_as_it_was(tmp_path: Path, configure: Configure) -> None:
    config = configure({"name": "Übung: 1", "client.lr": 1e-05, "preprocess.pca": 3})
    folder = RunFolder(tmp_path / "run")
    folder.refuse_used()
    folder.write_config(config)
    assert RunFolder.open(tmp_path / "run")[1] == config


def test_a_folder_with_a_run_is_not_used_again(tmp_path: Path, configure: Configure) -> None:
    folder = RunFolder(tmp_path)
    folder.write_config(configure())
    with pytest.raises(StorageError, match=r"holds a run already: go on with resume=.* or choose"):
        folder.refuse_used()


def test_what_is_no_run_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"is no run folder: it holds no config\.yaml"):
        RunFolder.open(tmp_path)
    with pytest.raises(StorageError, match="is no run folder"):
        RunFolder.open(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        (b"rounds: [1,", StorageError, "cannot read .*config.yaml"),
        (b"\xff\xfe\x00", StorageError, "cannot read .*config.yaml"),
        (b"!!python/object/apply:os.system ['echo hi']", StorageError, "cannot read"),
        (b"", ConfigError, "configuration=None: must be a mapping"),
        (b"rounds: many", ConfigError, "rounds='many' is not allowed"),
        (b"rouns: 3", ConfigError, "unknown key 'rouns'; did you mean 'rounds'"),
    ],
)
def test_a_garbled_configuration_is_refused(
    tmp_path: Path, content: bytes, error: type[Exception], words: str
) -> None:
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(error, match=words):
        RunFolder.open(tmp_path)


def test_rounds_are_recorded_line_by_line_and_read_back(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.rounds() == {}
    folder.record_round("main", finished(0, loss=2.0))
    folder.record_round("main", finished(1, loss=1.5, accuracy=0.5))
    folder.record_round("twin", finished(1, loss=1.0))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert all(line.keys() == {"run", "round", "metric", "value"} for line in lines)
    assert folder.rounds()[1] == {
        "loss": 1.5,
        "accuracy": 0.5,
        "clients": 3,
        "failures": 1,
        "bytes_up": 100,
        "bytes_down": 200,
        "bytes_key_holder": 50,
        "seconds": 0.25,
        "max_abs_error": 1e-6,
    }
    assert folder.rounds("twin").keys() == {1}


def test_later_rounds_and_baselines_are_forgotten(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.forget_rounds_after(0)
    assert not list(tmp_path.iterdir())
    for number in range(4):
        folder.record_round("main", finished(number, loss=float(number)))
    folder.record_round("plain", finished(1, loss=1.0))
    folder.forget_rounds_after(2)
    assert folder.rounds().keys() == {0, 1, 2}
    assert folder.rounds()[2]["loss"] == 2.0
    assert folder.rounds("plain") == {}


def test_audit_lines_have_a_time_and_an_event(tmp_path: Path) -> None:
    RunFolder(tmp_path).audit("sum_opened", round=1)
    _, line = (tmp_path / "audit.jsonl").read_text().splitlines()  # after the segment's own
    entry = json.loads(line)
    assert (entry["event"], entry["round"]) == ("sum_opened", 1)
    assert entry["time"][4] == "-"
    assert entry["time"][-5] in "+-"


def test_a_saved_model_comes_with_all_that_is_needed_to_use_it(
    tmp_path: Path, configure: Configure
) -> None:
    experiment = Experiment.prepare(configure({"preprocess.fit": "local"}))
    RunFolder(tmp_path).save_model(experiment, experiment.initial, 5)
    arrays = load_file(tmp_path / "model.safetensors")
    assert arrays.keys() == experiment.initial.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, experiment.initial[name])
    about = json.loads((tmp_path / "model.json").read_text())
    raw = (tmp_path / "model.safetensors").read_bytes()
    assert about["sha256"] == hashlib.sha256(raw).hexdigest()
    assert about["round"] == 5
    assert about["model"]["name"] == "mlp"
    assert about["shape"] == {"features": 4, "window": 0, "outputs": 3, "batch": 16}
    assert about["classes"] == ["setosa", "versicolor", "virginica"]
    assert len(about["statistics"]) == 3
    assert len(about["statistics"][0]["mean"]) == 4


def test_versions_of_what_a_result_depends_on() -> None:
    found = versions()
    assert found["torch"][0].isdigit()
    assert found.keys() >= {"python", "qfl", "flwr", "torch", "pennylane", "tenseal", "numpy"}
