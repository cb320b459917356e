"""Federations whose circuits are noisy or sampled: they train, and a seed repeats them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qfl import load_config, simulate
from qfl.conf.schema import ExperimentConfig

OVERRIDES = [
    "dataset=iris",
    "dataset.test_fraction=0.8",
    "model.n_qubits=2",
    "model.n_layers=1",
    "partition=iid",
    "strategy=plain",
    "client.batch_size=16",
    "clients=2",
    "rounds=1",
    "baselines.plain=false",
    "baselines.twin=false",
    "baselines.pooled=false",
]
CASES = {
    "noisy": ["quantum=noisy"],
    "mitigated": ["quantum=noisy", "quantum.mitigation=readout"],
    "shots": ["quantum=shots", "quantum.shots=100"],
    "spsa": ["quantum=shots", "quantum.shots=100", "quantum.diff_method=spsa"],
}


def experiment(*overrides: str) -> ExperimentConfig:
    return load_config([*OVERRIDES, *overrides])


@pytest.fixture
def model_of(tmp_path: Path, console: Any) -> Callable[..., bytes]:
    """Run an experiment; gives the bytes of its model."""

    def execute(name: str, *overrides: str) -> bytes:
        config = experiment(*overrides)
        summary = simulate(config, tmp_path / name, console=console, report=False)
        assert summary["status"] == "finished"
        return (tmp_path / name / "model.safetensors").read_bytes()

    return execute


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("case", CASES)
def test_a_seed_repeats_a_federation(case: str, model_of: Callable[..., bytes]) -> None:
    first = model_of("first", *CASES[case])
    assert model_of("again", *CASES[case]) == first
    assert model_of("exact", "quantum=fast") != first
    if case in ("shots", "spsa"):
        assert model_of("other", *CASES[case], "quantum.seed=1") != first


def test_the_experiments_seed_is_that_of_its_shots() -> None:
    assert experiment("quantum=shots", "seed=5").quantum.seed == 5
    assert experiment("quantum=shots", "seed=5", "quantum.seed=6").quantum.seed == 6
