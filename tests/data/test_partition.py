from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qfl.conf.schema import DatasetConfig, PartitionConfig
from qfl.data import Dataset, Examples, load_dataset, partition
from qfl.errors import ConfigError, DataError

SPLITTING = ("iid", "dirichlet", "shards", "quantity", "contiguous")


def _dataset(
    labels: np.ndarray, task: str = "classification", files: tuple[int, ...] | None = None
) -> Dataset:
    y = labels.astype(np.int64) if task == "classification" else labels.astype(np.float32)
    examples = Examples(np.zeros((len(y), 1), np.float32), y)
    ends = np.cumsum(files or ())[:-1]
    arrays = None if files is None else tuple(np.split(np.arange(len(y)), ends))
    return Dataset("made", task, examples, examples, files=arrays)


def _balanced(n: int, classes: int) -> Dataset:
    return _dataset(np.arange(n) % classes)


@settings(deadline=None, max_examples=150)
@given(
    name=st.sampled_from(SPLITTING),
    task=st.sampled_from(["classification", "regression"]),
    n=st.integers(1, 120),
    classes=st.integers(1, 6),
    clients=st.integers(1, 15),
    least=st.integers(0, 4),
    alpha=st.sampled_from([1e-300, 1e-3, 0.1, 1.0, 100.0, 1e300]),
    seed=st.integers(0, 2**32 - 1),
)
def test_parts_are_disjoint_cover_and_are_large_enough(
    name: str,
    task: str,
    n: int,
    classes: int,
    clients: int,
    least: int,
    alpha: float,
    seed: int,
) -> None:
    labels = np.random.default_rng(seed).integers(0, classes, n)
    dataset = _dataset(labels, task)
    config = PartitionConfig(name=name, alpha=alpha, min_examples=least)
    if clients * least > n or (name == "shards" and clients * 2 > n):
        with pytest.raises(DataError, match=f"{n} training examples|has {n}"):
            partition(config, dataset, clients, seed)
        return
    parts = partition(config, dataset, clients, seed)
    assert len(parts) == clients
    assert all(np.array_equal(part, np.sort(part)) for part in parts)
    assert sorted(np.concatenate(parts).tolist()) == list(range(n))
    assert min(len(part) for part in parts) >= least
    again = partition(config, dataset, clients, seed)
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))


@pytest.mark.parametrize("name", ["iid", "dirichlet", "shards", "quantity"])
def test_another_seed_gives_another_partition(name: str) -> None:
    dataset = _balanced(200, 4)
    first = partition(PartitionConfig(name=name), dataset, 5, 0)
    second = partition(PartitionConfig(name=name), dataset, 5, 1)
    assert any(not np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_iid_parts_are_equally_large_and_mixed() -> None:
    parts = partition(PartitionConfig(name="iid"), _balanced(1003, 2), 4, 0)
    assert sorted(len(part) for part in parts) == [250, 251, 251, 251]
    assert all(80 < np.sum(part % 2) < 170 for part in parts)


def test_contiguous_keeps_the_order() -> None:
    parts = partition(PartitionConfig(name="contiguous"), _balanced(10, 2), 3, 0)
    assert [part.tolist() for part in parts] == [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9]]


def _largest_shares(dataset: Dataset, alpha: float) -> np.ndarray:
    """Share of each client's commonest class."""
    parts = partition(PartitionConfig(name="dirichlet", alpha=alpha), dataset, 10, 0)
    return np.array([np.bincount(dataset.train.y[p]).max() / len(p) for p in parts])


def test_small_alpha_skews_labels_and_large_alpha_does_not() -> None:
    dataset = _balanced(5000, 10)
    assert np.median(_largest_shares(dataset, 0.01)) > 0.8
    assert _largest_shares(dataset, 1e4).max() < 0.2


def test_dirichlet_clients_are_equally_large() -> None:
    parts = partition(PartitionConfig(name="dirichlet", alpha=0.05), _balanced(103, 4), 10, 0)
    assert sorted(len(part) for part in parts) == [10] * 7 + [11] * 3


def test_dirichlet_follows_the_distribution_of_the_paper() -> None:
    # The variance of a Dirichlet(alpha p) proportion is p (1 - p) / (alpha + 1). The last clients
    # take what is left and follow no distribution.
    dataset = _balanced(20000, 2)
    parts = partition(PartitionConfig(name="dirichlet", alpha=3.0), dataset, 200, 1)
    shares = np.array([dataset.train.y[part].mean() for part in parts])
    assert shares.mean() == pytest.approx(0.5)
    assert shares[:150].var() == pytest.approx(0.25 / 4, rel=0.25)


def test_regression_targets_are_skewed_by_quantile_bin() -> None:
    dataset = _dataset(np.random.default_rng(0).exponential(size=2000), "regression")
    ranks = dataset.train.y.argsort().argsort()

    def spread(alpha: float) -> float:
        parts = partition(PartitionConfig(name="dirichlet", alpha=alpha), dataset, 10, 0)
        return float(np.median([ranks[part].std() for part in parts]))

    assert spread(0.01) < 0.6 * spread(1e4)


def test_shards_give_each_client_few_labels() -> None:
    config = PartitionConfig(name="shards", shards_per_client=2)
    dataset = _balanced(400, 10)
    parts = partition(config, dataset, 20, 0)
    assert [len(part) for part in parts] == [20] * 20
    assert max(len(np.unique(dataset.train.y[part])) for part in parts) <= 2


def test_quantity_skews_sizes_and_not_labels() -> None:
    dataset = _balanced(10000, 2)
    sizes = [len(p) for p in partition(PartitionConfig(name="quantity", alpha=0.3), dataset, 8, 0)]
    even = [len(p) for p in partition(PartitionConfig(name="quantity", alpha=1e6), dataset, 8, 0)]
    assert max(sizes) > 4 * np.median(sizes)
    assert max(even) < 1.1 * min(even)
    largest = max(partition(PartitionConfig(name="quantity"), dataset, 8, 0), key=len)
    assert dataset.train.y[largest].mean() == pytest.approx(0.5, abs=0.05)


def test_missing_examples_come_from_the_largest_clients() -> None:
    dataset = _balanced(100, 2)
    config = PartitionConfig(name="quantity", alpha=0.01, min_examples=0)
    drawn = [len(part) for part in partition(config, dataset, 4, 0)]
    assert min(drawn) < 5
    config.min_examples = 5
    mended = [len(part) for part in partition(config, dataset, 4, 0)]
    assert min(mended) == 5
    assert np.argmax(mended) == np.argmax(drawn)
    assert max(mended) == max(drawn) - sum(max(5 - size, 0) for size in drawn)


def test_min_examples_zero_allows_more_clients_than_examples() -> None:
    config = PartitionConfig(name="iid", min_examples=0)
    assert sorted(len(part) for part in partition(config, _balanced(3, 2), 5, 0)) == [0, 0, 1, 1, 1]


def test_files_stay_with_their_clients() -> None:
    dataset = _dataset(np.zeros(9), files=(2, 4, 3))
    parts = partition(PartitionConfig(name="files"), dataset, 3, 0)
    assert [part.tolist() for part in parts] == [[0, 1], [2, 3, 4, 5], [6, 7, 8]]


def test_a_number_of_files_other_than_clients_is_refused() -> None:
    with pytest.raises(DataError, match="found 2 files for clients=3: set clients=2"):
        partition(PartitionConfig(name="files"), _dataset(np.zeros(9), files=(4, 5)), 3, 0)


def test_files_without_one_file_per_client_is_refused() -> None:
    with pytest.raises(DataError, match="one file per client, and dataset=made is not"):
        partition(PartitionConfig(name="files"), _balanced(10, 2), 2, 0)


def test_a_file_with_too_few_examples_is_refused_and_not_filled_from_others() -> None:
    config = PartitionConfig(name="files", min_examples=2)
    with pytest.raises(DataError, match=r"file 2 of 2 has 1 training examples.*min_examples=2"):
        partition(config, _dataset(np.zeros(9), files=(8, 1)), 2, 0)


def test_too_many_clients_are_refused_with_the_numbers() -> None:
    message = "6 clients with at least 2 examples each need 12 training examples.*has 10"
    with pytest.raises(DataError, match=message):
        partition(PartitionConfig(name="iid"), _balanced(10, 2), 6, 0)


def test_too_few_examples_for_the_shards_are_refused() -> None:
    config = PartitionConfig(name="shards", shards_per_client=4, min_examples=0)
    with pytest.raises(DataError, match=r"3 clients with 4 shards each need 12 shards.*only 10"):
        partition(config, _balanced(10, 2), 3, 0)


def test_no_clients_are_refused() -> None:
    with pytest.raises(DataError, match="clients=0 is not allowed"):
        partition(PartitionConfig(name="iid"), _balanced(10, 2), 0, 0)


def test_an_unknown_partitioner_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown partitioner 'dirichle'; did you mean"):
        partition(PartitionConfig(name="dirichle"), _balanced(10, 2), 2, 0)


def test_time_series_can_be_partitioned() -> None:
    config = DatasetConfig(name="bessel_j2", task="regression", length=200)
    dataset = load_dataset(config, 0)
    parts = partition(PartitionConfig(name="contiguous"), dataset, 4, 0)
    assert sum(len(dataset.train.take(part)) for part in parts) == len(dataset.train)
