"""Partitioning: which client holds which training examples.

``dirichlet`` is the label skew of Hsu, Qi and Brown, "Measuring the effects of non-identical
data distribution for federated visual classification" (2019): clients hold equally many
examples, of classes in proportions drawn from Dirichlet(alpha x overall proportions).
``shards`` is that of McMahan et al., "Communication-efficient learning of deep networks from
decentralized data" (2017).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from qfl.conf.schema import PartitionConfig
from qfl.data.examples import Dataset
from qfl.errors import ConfigError, DataError, unknown_name

Indices = NDArray[np.intp]

_STREAM = 2
_TARGET_BINS = 10


def partition(config: PartitionConfig, dataset: Dataset, clients: int, seed: int) -> list[Indices]:
    """Split the training examples among the clients.

    Args:
        config: Partitioner and its parameters.
        dataset: Whose training examples are split. For regression, label skew is skew of ten
            quantile bins of the target.
        clients: Number of clients, at least 1.
        seed: Same seed, same partition.

    Returns:
        For each client, sorted indices into ``dataset.train``. The arrays are disjoint and
        cover all training examples. Every client has at least ``config.min_examples``: where a
        draw left fewer, examples were moved from the largest clients.

    Raises:
        ConfigError: The partitioner is unknown.
        DataError: The data cannot be split as asked.

    Example:
        >>> from qfl.conf.schema import DatasetConfig, PartitionConfig
        >>> from qfl.data import load_dataset
        >>> iris = load_dataset(DatasetConfig(name="iris"), seed=0)
        >>> [len(part) for part in partition(PartitionConfig(name="iid"), iris, 5, seed=0)]
        [24, 24, 24, 24, 24]
    """
    if config.name not in _PARTITIONERS:
        raise ConfigError(unknown_name("partitioner", config.name, _PARTITIONERS))
    n = len(dataset.train)
    if clients < 1:
        raise DataError(f"clients={clients} is not allowed: must be >= 1")
    if clients * config.min_examples > n:
        raise DataError(
            f"{clients} clients with at least {config.min_examples} examples each need "
            f"{clients * config.min_examples} training examples, and dataset={dataset.name} has "
            f"{n}: lower clients or partition.min_examples"
        )
    rng = np.random.default_rng((seed, _STREAM))
    parts = _PARTITIONERS[config.name](config, dataset, clients, rng)
    if config.name == "files":
        _check_files(parts, config.min_examples)
    else:
        _repair(parts, config.min_examples)
    return [np.sort(part) for part in parts]


def _iid(
    config: PartitionConfig, dataset: Dataset, clients: int, rng: np.random.Generator
) -> list[Indices]:
    return np.array_split(rng.permutation(len(dataset.train)).astype(np.intp), clients)


def _contiguous(
    config: PartitionConfig, dataset: Dataset, clients: int, rng: np.random.Generator
) -> list[Indices]:
    return np.array_split(np.arange(len(dataset.train), dtype=np.intp), clients)


def _quantity(
    config: PartitionConfig, dataset: Dataset, clients: int, rng: np.random.Generator
) -> list[Indices]:
    order = rng.permutation(len(dataset.train)).astype(np.intp)
    shares = _dirichlet_rows(np.full(clients, config.alpha), 1, rng)[0]
    # The last cut is n itself: rounding in the sum of the shares must not lose an example.
    cuts = np.minimum(np.rint(np.cumsum(shares)[:-1] * len(order)), len(order)).astype(np.intp)
    return np.split(order, cuts)


def _shards(
    config: PartitionConfig, dataset: Dataset, clients: int, rng: np.random.Generator
) -> list[Indices]:
    each, n = config.shards_per_client, len(dataset.train)
    if clients * each > n:
        raise DataError(
            f"{clients} clients with {each} shards each need {clients * each} shards, and "
            f"dataset={dataset.name} has only {n} training examples: lower clients or "
            "partition.shards_per_client"
        )
    shuffled = rng.permutation(n).astype(np.intp)
    by_label = shuffled[np.argsort(_labels(dataset)[shuffled], kind="stable")]
    shards = np.array_split(by_label, clients * each)
    dealt = rng.permutation(clients * each).reshape(clients, each)
    return [np.concatenate([shards[shard] for shard in hand]) for hand in dealt]


def _dirichlet(
    config: PartitionConfig, dataset: Dataset, clients: int, rng: np.random.Generator
) -> list[Indices]:
    labels = _labels(dataset)
    _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    pools = [rng.permutation(np.flatnonzero(inverse == c)).tolist() for c in range(len(counts))]
    mixes = _dirichlet_rows(config.alpha * counts / counts.sum(), clients, rng)
    # One client after the other, as in the paper's code: the last ones take what is left. Were
    # they to take turns, running out of a class would dilute the skew of all of them.
    parts = []
    for mix, share in zip(mixes, np.array_split(labels, clients), strict=True):
        part: list[int] = []
        ladder = _ladder(mix, pools)
        for draw in rng.random(len(share)).tolist():
            label = min(bisect_right(ladder, draw * ladder[-1]), len(pools) - 1)
            while not pools[label]:  # the product above may round up to the end of the ladder
                label -= 1
            part.append(pools[label].pop())
            if not pools[label]:
                ladder = _ladder(mix, pools)
        parts.append(np.array(part, dtype=np.intp))
    return parts


def _files(
    config: PartitionConfig, dataset: Dataset, clients: int, rng: np.random.Generator
) -> list[Indices]:
    if dataset.files is None:
        raise DataError(
            f"partition=files needs data with one file per client, and dataset={dataset.name} "
            "is not: set dataset.path to a folder with one file per client, or choose another "
            "partition"
        )
    if len(dataset.files) != clients:
        raise DataError(
            f"partition=files found {len(dataset.files)} files for clients={clients}: set "
            f"clients={len(dataset.files)}"
        )
    return list(dataset.files)


_PARTITIONERS: dict[
    str, Callable[[PartitionConfig, Dataset, int, np.random.Generator], list[Indices]]
] = {
    "iid": _iid,
    "dirichlet": _dirichlet,
    "shards": _shards,
    "quantity": _quantity,
    "contiguous": _contiguous,
    "files": _files,
}


def _labels(dataset: Dataset) -> NDArray[np.int64]:
    y = dataset.train.y
    if dataset.task == "classification":
        return y.astype(np.int64)
    edges = np.quantile(y, np.linspace(0, 1, _TARGET_BINS + 1)[1:-1])
    return np.searchsorted(edges, y, side="right").astype(np.int64)


def _dirichlet_rows(
    alphas: NDArray[np.float64], rows: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    drawn = rng.dirichlet(alphas, size=rows)
    # Concentrations near the ends of the float range overflow or underflow in the draw; the
    # limit of the distribution is then the mean, or all weight on one entry.
    for row in np.flatnonzero(~np.isfinite(drawn).all(axis=1)):
        mean = alphas / alphas.max()
        mean /= mean.sum()
        drawn[row] = mean if alphas.min() > 1 else np.eye(len(mean))[rng.choice(len(mean), p=mean)]
    return drawn


def _ladder(mix: NDArray[np.float64], pools: list[list[int]]) -> list[float]:
    """Running sums of a client's proportions over the classes that still have examples.

    A client whose classes are all used up takes from the others as they are left.
    """
    left = np.array([len(pool) for pool in pools], dtype=np.float64)
    weights = mix * (left > 0)
    return list(accumulate((weights if weights.sum() > 0 else left).tolist()))


def _repair(parts: list[Indices], least: int) -> None:
    """Move examples from the largest clients to those with fewer than ``least``, in place."""
    sizes = np.array([len(part) for part in parts])
    for client in np.flatnonzero(sizes < least):
        while sizes[client] < least:
            donor = int(np.argmax(sizes))
            parts[client] = np.append(parts[client], parts[donor][-1])
            parts[donor] = parts[donor][:-1]
            sizes[client] += 1
            sizes[donor] -= 1


def _check_files(parts: list[Indices], least: int) -> None:
    """A file belongs to its client: nothing is moved into it from another's."""
    for number, part in enumerate(parts):
        if len(part) < least:
            raise DataError(
                f"file {number + 1} of {len(parts)} has {len(part)} training examples, fewer "
                f"than partition.min_examples={least}: add data to it, leave it out or lower "
                "partition.min_examples"
            )
