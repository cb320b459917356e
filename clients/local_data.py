"""A client's own examples, found by the names and values of its configuration."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from qfl.conf.checks import from_dict, to_dict
from qfl.conf.schema import ExperimentConfig
from qfl.data import (
    Dataset,
    Examples,
    Moments,
    Statistics,
    fit_statistics,
    load_dataset,
    moments,
    partition,
    public_statistics,
)
from qfl.errors import ConfigError
from qfl.models import DataShape


def load_parts(config: ExperimentConfig) -> tuple[Dataset, tuple[Examples, ...]]:
    """The data set and every client's training examples.

    Raises:
        DataError: The data cannot be read or split as asked.
    """
    keys = ("dataset", "partition", "clients", "seed")
    whole = to_dict(config)
    return _load_parts(json.dumps({key: whole[key] for key in keys}, sort_keys=True))


@lru_cache(maxsize=4)
def _load_parts(text: str) -> tuple[Dataset, tuple[Examples, ...]]:
    config = from_dict(json.loads(text) | {"strategy": _UNCHECKED})
    dataset = load_dataset(config.dataset, config.seed)
    parts = partition(config.partition, dataset, config.clients, config.seed)
    return dataset, tuple(dataset.train.take(indices) for indices in parts)


# The strategy plays no part in loading; these values never contradict the others.
_UNCHECKED: dict[str, Any] = {"scheme": "plain", "trust": "none", "min_clients": 1}


def own_moments(config: ExperimentConfig, examples: Examples) -> Moments:
    """What a client contributes to federated statistics."""
    return moments(
        examples,
        cross=config.preprocess.pca is not None,
        target=config.dataset.task == "regression",
    )


def moments_length(config: ExperimentConfig, features: int) -> int:
    """Numbers in :func:`own_moments`."""
    return Moments.length(
        features, config.preprocess.pca is not None, config.dataset.task == "regression"
    )


def statistics_of(
    config: ExperimentConfig, summed: Moments, *, through_scheme: bool = False
) -> Statistics:
    """Statistics from moments, of one client or of all.

    Args:
        config: Scaling and projection.
        summed: Moments.
        through_scheme: Whether they were summed through an aggregation scheme, which rounds each
            client's to 2^-24; otherwise they are exact.
    """
    return fit_statistics(
        summed,
        scale=config.preprocess.scale,
        pca=config.preprocess.pca,
        tolerance=config.clients * 2.0**-24 if through_scheme else 0.0,
    )


def public(config: ExperimentConfig, dataset: Dataset) -> Statistics:
    """Statistics from what everybody knows of the data set."""
    return public_statistics(
        dataset.public_range,
        dataset.train.features,
        scale=config.preprocess.scale,
        pca=config.preprocess.pca,
        task=config.dataset.task,
    )


def data_shape(config: ExperimentConfig, dataset: Dataset) -> DataShape:
    """The shape of preprocessed examples.

    Raises:
        ConfigError: Principal components of windows are asked for.
    """
    x = dataset.train.x
    if config.preprocess.pca and x.ndim == 3:
        raise ConfigError(
            f"preprocess.pca={config.preprocess.pca} projects rows of a table; "
            f"dataset={config.dataset.name} gives windows of a time series: set preprocess.pca=null"
        )
    return DataShape(
        features=config.preprocess.pca or int(x.shape[-1]),
        window=int(x.shape[1]) if x.ndim == 3 else 0,
        outputs=len(dataset.classes) if config.dataset.task == "classification" else 1,
        batch=config.client.batch_size,
    )
