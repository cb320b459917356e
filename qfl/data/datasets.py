"""Data sets by name."""

from __future__ import annotations

from collections.abc import Callable

from qfl.conf.schema import DATASET_NAMES, DatasetConfig
from qfl.data.examples import Dataset
from qfl.data.files import load_files
from qfl.data.timeseries import TIME_SERIES, load_time_series
from qfl.data.toy import TOY_TASKS, load_toy
from qfl.errors import ConfigError, unknown_name

Loader = Callable[[DatasetConfig, int], Dataset]

_LOADERS: dict[str, Loader] = {
    **dict.fromkeys(TOY_TASKS, load_toy),
    **dict.fromkeys(TIME_SERIES, load_time_series),
    **dict.fromkeys(("csv", "parquet", "npz"), load_files),
}


def load_dataset(config: DatasetConfig, seed: int) -> Dataset:
    """Load a data set and hold out its test set, before any partitioning.

    Args:
        config: Name of the data set and what belongs to it.
        seed: Decides the held-out examples, and the input of a generated series.

    Raises:
        ConfigError: The name is unknown, or ``config.task`` contradicts the data set.
        DataError: The data cannot be read or split.

    Example:
        >>> from qfl.conf.schema import DATASET_NAMES, DatasetConfig
        >>> digits = load_dataset(DatasetConfig(name="digits"), seed=0)
        >>> digits.train.x.shape, digits.test.x.shape, digits.public_range
        ((1438, 64), (359, 64), (0.0, 16.0))
    """
    if config.name not in _LOADERS:
        raise ConfigError(unknown_name("data set", config.name, _LOADERS))
    return _LOADERS[config.name](config, seed)


def register_dataset(name: str, loader: Loader) -> None:
    """Add a data set of your own, for :func:`load_dataset`.

    The loader takes the configuration and the seed, holds out the test set itself (see
    :func:`qfl.data.split.hold_out`) and must return the same data for the same seed.

    From then on ``dataset.name`` accepts it, in the process that registered it.

    Raises:
        ConfigError: The name is taken.
    """
    if name in _LOADERS:
        raise ConfigError(f"data set '{name}' is already registered: choose another name")
    _LOADERS[name] = loader
    if name not in DATASET_NAMES:
        DATASET_NAMES.append(name)
