"""A small, fast experiment: three clients on iris."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from qfl.conf.checks import from_dict, to_dict
from qfl.conf.schema import ExperimentConfig

CLIENTS = 3


@pytest.fixture
def experiment() -> Callable[..., ExperimentConfig]:
    """Makes the configuration; keys given replace its own, section by section."""

    def make(**changes: Any) -> ExperimentConfig:
        sections: dict[str, Any] = {
            "clients": CLIENTS,
            "dataset": {"name": "iris"},
            "partition": {"name": "iid"},
            "preprocess": {"fit": "local"},
            "model": {"name": "mlp", "width": 4, "hidden": 3},
            "client": {"lr": 0.05},
        }
        return from_dict(sections | changes)

    return make


@pytest.fixture
def wire(experiment: Callable[..., ExperimentConfig]) -> Callable[..., dict[str, Any]]:
    """Makes the configuration as it travels, before it becomes JSON."""

    def make(**changes: Any) -> dict[str, Any]:
        return to_dict(experiment(**changes))

    return make
