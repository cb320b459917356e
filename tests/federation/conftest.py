"""Small experiments and a silent console; test files here share ``run_folders.py``."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from qfl.conf.checks import from_dict
from qfl.conf.schema import ExperimentConfig

sys.path.append(str(Path(__file__).parent))
Configure = Callable[..., ExperimentConfig]


@pytest.fixture
def configure() -> Configure:
    """A small, plain experiment; changes by their full names: ``{"client.lr": 0.1}``."""
    return small


@pytest.fixture
def console() -> Console:
    """Writes into its ``file``."""
    return Console(file=io.StringIO(), width=200)


@pytest.fixture
def run(tmp_path: Path, console: Console) -> Callable[..., dict[str, Any]]:
    """Run an experiment in ``tmp_path/NAME`` without a report; gives its summary."""

    def execute(config: ExperimentConfig, name: str = "run") -> dict[str, Any]:
        from qfl import simulate

        return simulate(config, tmp_path / name, console=console, report=False)

    return execute


def small(changes: dict[str, Any] | None = None) -> ExperimentConfig:
    data: dict[str, Any] = {
        "name": "small",
        "seed": 7,
        "rounds": 2,
        "clients": 3,
        "dataset": {"name": "iris"},
        "partition": {"name": "iid"},
        "model": {"name": "mlp"},
        "client": {"lr": 0.05, "batch_size": 16},
        "strategy": {"scheme": "plain", "trust": "none", "min_clients": 2},
    }
    for name, value in (changes or {}).items():
        *folders, key = name.split(".")
        inner = data
        for folder in folders:
            inner = inner.setdefault(folder, {})
        inner[key] = value
    return from_dict(data)
