from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qfl.data import Examples, hold_out
from qfl.errors import DataError


def _classified(labels: list[int]) -> Examples:
    return Examples(np.zeros((len(labels), 1), np.float32), np.array(labels, np.int64))


@settings(deadline=None, max_examples=60)
@given(
    labels=st.lists(st.integers(0, 4), min_size=2, max_size=80),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32 - 1),
)
def test_parts_are_disjoint_and_cover(labels: list[int], fraction: float, seed: int) -> None:
    train, test = hold_out(_classified(labels), fraction, seed)
    assert len(train) >= 1
    assert len(test) >= 1
    assert sorted([*train, *test]) == list(range(len(labels)))
    again = hold_out(_classified(labels), fraction, seed)
    assert np.array_equal(again[0], train)
    assert np.array_equal(again[1], test)


def test_each_class_gives_its_share() -> None:
    labels = [0] * 50 + [1] * 30 + [2] * 20
    _, test = hold_out(_classified(labels), 0.2, seed=3)
    assert np.bincount(np.array(labels)[test]).tolist() == [10, 6, 4]


def test_no_class_loses_all_its_training_examples() -> None:
    labels = [0] * 40 + [1, 1]
    train, test = hold_out(_classified(labels), 0.95, seed=0)
    assert np.bincount(np.array(labels)[train]).tolist() == [1, 1]
    assert len(test) == 40


def test_a_class_of_one_example_gives_an_unstratified_split() -> None:
    labels = [0] * 9 + [1]
    train, test = hold_out(_classified(labels), 0.3, seed=0)
    assert (len(train), len(test)) == (7, 3)


def test_seeds_and_parts_differ() -> None:
    examples = _classified([0, 1] * 50)
    first = hold_out(examples, 0.2, seed=0)[1]
    assert not np.array_equal(first, hold_out(examples, 0.2, seed=1)[1])
    assert not np.array_equal(first, hold_out(examples, 0.2, seed=0, part=1)[1])


def test_one_example_is_refused() -> None:
    with pytest.raises(DataError, match="1 examples cannot be split"):
        hold_out(_classified([0]), 0.2, seed=0)
