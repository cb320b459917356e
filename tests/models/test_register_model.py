"""A model of the user's own goes through configuration, training and records like any other."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console
from torch import nn

from qfl import load_config, simulate
from qfl.conf.schema import MODEL_CONFIGS, ModelConfig, QuantumConfig, setting
from qfl.errors import ConfigError
from qfl.models import DataShape, build, register_model


@dataclass
class LinearConfig(ModelConfig):
    """One linear layer."""

    name: str = setting("linear", "model")
    bias: bool = setting(True, "whether outputs are shifted")
    scale: float = setting(1.0, "scale of the initial weights", gt=0)


def make(config: ModelConfig, quantum: QuantumConfig, shape: DataShape) -> nn.Module:
    assert isinstance(config, LinearConfig)
    return nn.Linear(shape.features, shape.outputs, bias=config.bias)


@pytest.fixture(autouse=True)
def linear() -> Iterator[None]:
    register_model("linear", LinearConfig, make)
    yield
    del MODEL_CONFIGS["linear"], build._BUILDERS["linear"]


@pytest.fixture
def config_dir(tmp_path: Path) -> Path:
    (tmp_path / "conf" / "model").mkdir(parents=True)
    text = "defaults: [/schema/linear@_here_]\nname: linear\nbias: false\n"
    (tmp_path / "conf" / "model" / "linear.yaml").write_text(text)
    return tmp_path / "conf"


def test_end_to_end(config_dir: Path, tmp_path: Path) -> None:
    config = load_config(
        [
            *("model=linear", "dataset=iris", "partition=iid", "clients=2", "rounds=2"),
            *("strategy=plain", "baselines.twin=true", "client.lr=0.05"),
        ],
        config_dir=config_dir,
    )
    assert config.model == LinearConfig(bias=False)
    run = tmp_path / "run"
    summary = simulate(config, run, console=Console(file=io.StringIO()), report=False)
    assert summary["model"] == {"name": "linear", "parameters": 4 * 3}
    assert "twin" not in summary["baseline"]
    saved = json.loads((run / "model.json").read_text())
    assert saved["model"] == {"name": "linear", "bias": False, "scale": 1.0}


def test_its_settings_are_checked_like_ours(config_dir: Path) -> None:
    for override, words in (
        ("model.scale=0", "model.scale=0.0 is not allowed: must be > 0"),
        ("model.bais=true", "unknown key 'model.bais'; did you mean 'model.bias'"),
        ("model.bias=3.5", "model.bias: Value '3.5'"),
    ):
        with pytest.raises(ConfigError, match=words):
            load_config(["model=linear", override], config_dir=config_dir)
