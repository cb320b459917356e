"""A run folder belongs to one run, failures are on record, and scaling works at every size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qfl.clients import local_data
from qfl.conf.checks import from_dict
from qfl.data import Examples
from qfl.errors import FederationError, StorageError
from qfl.federation.run_folder import RunFolder
from qfl.federation.simulate import simulate

SMALL = {
    "rounds": 1,
    "clients": 3,
    "dataset": {"name": "iris"},
    "partition": {"name": "iid"},
    "model": {"name": "mlp", "width": 2, "hidden": 2},
}


def test_a_folder_in_use_is_refused_and_free_afterwards(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with RunFolder(folder).claimed():
        with pytest.raises(StorageError, match="is in use by another run"):
            simulate(from_dict(SMALL), folder, report=False)
        assert not (folder / "config.yaml").exists()
    summary = simulate(from_dict(SMALL), folder, report=False)
    assert summary["status"] == "finished"
    assert not (folder / ".lock").exists()


def test_clients_left_out_are_in_the_audit_trail(tmp_path: Path) -> None:
    config = from_dict({**SMALL, "strategy": {"bound": 0.01}})
    with pytest.raises(FederationError):
        simulate(config, tmp_path / "run", report=False)
    lines = [
        json.loads(line)
        for line in (tmp_path / "run" / "audit.jsonl").read_text().split("\n")
        if line
    ]
    left_out = [line for line in lines if line["event"] == "client_left_out"]
    assert sorted(line["node"] for line in left_out) == [1, 2, 3]
    assert all("lower client.lr or raise strategy.bound" in line["reason"] for line in left_out)


@pytest.mark.parametrize("through_scheme", [False, True])
def test_small_features_are_scaled_too(through_scheme: bool) -> None:
    config = from_dict({**SMALL, "clients": 10})
    size = 1e-2 if through_scheme else 1e-6
    x = (np.random.default_rng(0).normal(size=(200, 3)) * size).astype(np.float32)
    examples = Examples(x, np.zeros(200, dtype=np.int64))
    moments = local_data.own_moments(config, examples)
    statistics = local_data.statistics_of(config, moments, through_scheme=through_scheme)
    assert np.allclose(statistics.apply(examples).x.std(axis=0), 1.0, atol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["resume="], "resume= names no folder"),
        (["resume=x", "--multirun"], "resume goes on with one run"),
    ],
)
def test_resume_says_what_it_cannot_do(
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: Any,
    tmp_path: Path,
) -> None:
    from qfl.cli import main

    monkeypatch.chdir(tmp_path)
    assert main(["simulate", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_a_storage_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from qfl.cli import main

    assert main(["simulate", "hydra.run.dir=/proc/none"]) == 7
    assert "cannot be made or used" in capsys.readouterr().err
