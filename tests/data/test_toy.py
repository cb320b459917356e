from __future__ import annotations

import numpy as np
import pytest
from sklearn import datasets as sk

from qfl.conf.schema import DatasetConfig
from qfl.data import load_dataset
from qfl.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "examples", "features", "classes"),
    [("digits", 1797, 64, 10), ("breast_cancer", 569, 30, 2), ("wine", 178, 13, 3)],
)
def test_classification_sets(name: str, examples: int, features: int, classes: int) -> None:
    dataset = load_dataset(DatasetConfig(name=name), seed=0)
    assert len(dataset.train) + len(dataset.test) == examples
    assert len(dataset.test) == round(0.2 * examples)
    assert dataset.train.x.shape[1] == dataset.train.features == features
    assert dataset.train.x.dtype == np.float32
    assert dataset.train.y.dtype == np.int64
    assert len(dataset.classes) == classes
    assert set(np.unique(dataset.test.y)) == set(range(classes))
    assert dataset.files is None


def test_no_example_is_lost_or_in_both_parts() -> None:
    dataset = load_dataset(DatasetConfig(name="digits"), seed=5)
    rows = np.concatenate([dataset.train.x, dataset.test.x])
    raw = sk.load_digits().data.astype(np.float32)
    assert np.array_equal(rows[np.lexsort(rows.T)], raw[np.lexsort(raw.T)])


def test_only_digits_have_a_public_range() -> None:
    assert load_dataset(DatasetConfig(name="digits"), 0).public_range == (0.0, 16.0)
    assert load_dataset(DatasetConfig(name="wine"), 0).public_range is None


def test_class_names() -> None:
    iris = load_dataset(DatasetConfig(name="iris"), 0)
    assert iris.classes == ("setosa", "versicolor", "virginica")
    assert np.bincount(iris.test.y).tolist() == [10, 10, 10]


def test_diabetes_is_in_its_original_units() -> None:
    dataset = load_dataset(DatasetConfig(name="diabetes", task="regression"), 0)
    assert dataset.classes == ()
    assert dataset.train.y.dtype == np.float32
    everything = np.concatenate([dataset.train.y, dataset.test.y])
    assert np.array_equal(np.sort(everything), np.sort(sk.load_diabetes().target))
    ages = np.concatenate([dataset.train.x, dataset.test.x])[:, 0]
    assert (ages.min(), ages.max()) == (19, 79)


def test_same_seed_same_split() -> None:
    config = DatasetConfig(name="wine")
    first, second = load_dataset(config, 4), load_dataset(config, 4)
    assert np.array_equal(first.test.x, second.test.x)
    assert not np.array_equal(first.test.x, load_dataset(config, 5).test.x)


@pytest.mark.parametrize(
    ("name", "task", "right"),
    [
        ("digits", "regression", "classification"),
        ("diabetes", "classification", "regression"),
        ("narma10", "classification", "regression"),
    ],
)
def test_a_contradicting_task_is_refused(name: str, task: str, right: str) -> None:
    message = f"dataset.task={task} contradicts dataset={name}.*set dataset.task={right}"
    with pytest.raises(ConfigError, match=message):
        load_dataset(DatasetConfig(name=name, task=task), 0)
