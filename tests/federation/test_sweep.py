"""The table at the end of a sweep."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from qfl.federation.sweep import print_sweep, read_sweep


def job(folder: Path, name: str, overrides: list[str], **changes: Any) -> None:
    (folder / name / ".hydra").mkdir(parents=True)
    lines = "".join(f"- {json.dumps(entry)}\n" for entry in overrides)
    (folder / name / ".hydra" / "overrides.yaml").write_text(lines)
    summary = {
        "status": "finished",
        "task": "classification",
        "metrics": {"loss": 0.5, "accuracy": 0.875},
        "aggregation": {"upload_bytes_per_client": 2048},
        "seconds": {"per_round": 0.25},
    }
    (folder / name / "summary.json").write_text(json.dumps({**summary, **changes}))


def shown(folder: Path, *, terminal: bool = False) -> list[str]:
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=200, color_system=None)
    print_sweep(read_sweep(folder), console, folder)
    return [line.strip() for line in output.getvalue().splitlines()]


@pytest.mark.parametrize("terminal", [True, False])
def test_one_row_per_job_with_what_differs(tmp_path: Path, terminal: bool) -> None:
    job(tmp_path, "0", ["rounds=2", "client.lr=0.01"])
    job(tmp_path, "1", ["rounds=2", "client.lr=0.1"], metrics={"loss": 0.25, "accuracy": 1.0})
    lines = shown(tmp_path, terminal=terminal)
    assert lines[0] == f"2 jobs in {tmp_path}"
    assert lines[1].split() == [
        *("job", "overrides", "status", "loss", "accuracy", "up", "/", "client", "s", "/", "round")
    ]
    assert lines[2].split() == [
        *("0", "client.lr=0.01", "finished", "0.5000", "0.8750", "2.0", "KiB", "0.25")
    ]
    assert lines[3].split()[:5] == ["1", "client.lr=0.1", "finished", "0.2500", "1.0000"]


def test_jobs_stand_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 2, 0):
        job(tmp_path, str(number), [f"seed={number}"])
    assert [row["job"] for row in read_sweep(tmp_path)] == ["0", "2", "10"]


def test_failed_jobs_and_regression_and_a_single_job(tmp_path: Path) -> None:
    job(tmp_path, "0", ["a=1"], status="failed", task="regression", metrics={"loss": None})
    lines = shown(tmp_path)
    assert "rmse" in lines[1]
    assert lines[2].split()[:3] == ["0", "a=1", "failed"]


def test_brackets_are_text(tmp_path: Path) -> None:
    job(tmp_path / "[red]", "0", ["dataset.path=/data/[bold]/x"])
    lines = shown(tmp_path / "[red]")
    assert "[red]" in lines[0]
    assert "dataset.path=/data/[bold]/x" in lines[2]


def test_jobs_without_a_summary_or_overrides(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    assert read_sweep(tmp_path) == []
    (tmp_path / "0" / "summary.json").write_text("{}")
    assert read_sweep(tmp_path) == [{"job": "0", "overrides": [], "summary": {}}]
