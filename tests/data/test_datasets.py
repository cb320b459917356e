from __future__ import annotations

import numpy as np
import pytest

from qfl.conf.schema import DatasetConfig
from qfl.data import Dataset, Examples, load_dataset, register_dataset
from qfl.data import datasets as registry
from qfl.errors import ConfigError


def _own(config: DatasetConfig, seed: int) -> Dataset:
    examples = Examples(np.full((4, 1), seed, np.float32), np.array([0, 1, 0, 1]))
    return Dataset(config.name, config.task, examples, examples, ("a", "b"))


def test_an_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown data set 'digit'; did you mean 'digits'"):
        load_dataset(DatasetConfig(name="digit"), 0)


def test_every_choice_of_the_schema_has_a_loader() -> None:
    field = DatasetConfig.__dataclass_fields__["name"]
    assert set(field.metadata["choices"]) == set(registry._LOADERS)


def test_a_registered_data_set_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_LOADERS", dict(registry._LOADERS))
    register_dataset("own", _own)
    dataset = load_dataset(DatasetConfig(name="own"), 7)
    assert dataset.name == "own"
    assert dataset.train.x[0, 0] == 7


def test_a_taken_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="'digits' is already registered"):
        register_dataset("digits", _own)
