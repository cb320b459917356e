"""The alias table: the probabilities that it represents, exactly, and what it draws."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from noise_fit import fits, masses
from numpy.typing import NDArray

from qfl.errors import PrivacyError
from qfl.privacy.alias import CHUNK, ONE, AliasTable
from qfl.privacy.randomness import Stream


class Scripted(Stream):
    """Returns the words that it is given."""

    def __init__(self, *batches: list[int]) -> None:
        super().__init__()
        self.batches = [np.array(batch, np.uint64) for batch in batches]

    def words(self, count: int) -> NDArray[np.uint64]:
        batch = self.batches.pop(0)
        assert batch.size == count
        return batch


def whole(parts: list[int]) -> list[int]:
    """Weights in about these proportions that add up to 2^128."""
    weights = [part * ONE // sum(parts) for part in parts]
    weights[parts.index(max(parts))] += ONE - sum(weights)
    return weights


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(0, 2**90), min_size=1, max_size=70).filter(any),
    st.integers(-(2**20), 2**20),
)
def test_the_table_represents_the_weights_to_the_last_unit(parts: list[int], first: int) -> None:
    weights = whole(parts)
    table = AliasTable.build(weights, first)
    found = masses(table)
    for value, mass in found.items():
        place = value - first
        weight = weights[place] if place < len(weights) else 0
        assert mass == weight * table.high.size


def test_all_128_bits_of_a_threshold_are_compared() -> None:
    """Every slot, with numbers around its threshold in both words."""
    table = AliasTable.build(whole([3, 5, 7, 11, 13, 17, 19]), first=0)
    around = (-1, 0, 1)
    slots, numbers, later, expected = [], [], [], []
    for slot, up, down in product(range(8), around, around):
        high, low = int(table.high[slot]), int(table.low[slot])
        if 0 <= high + up < 2**64 and 0 <= low + down < 2**64:
            slots.append(slot + 8 * len(slots))  # bits above the slot's number do not matter
            numbers.append(high + up)
            later += [low + down] if up == 0 else []
            number = (high + up) << 64 | (low + down)
            expected.append(int(table.owners[2 * slot + (number < (high << 64 | low))]))
    drawn = table.draw(len(slots), Scripted(slots, numbers, later))
    assert len(later) > 20
    assert drawn.tolist() == expected


def test_ties_in_the_first_word_are_settled_by_the_second() -> None:
    """A value that only the low words of the thresholds give any probability."""
    table = AliasTable.build([1, ONE - 1], first=0)
    assert int(table.high[0]) == 0
    drawn = table.draw(4, Scripted([0, 0, 0, 1], [0, 0, 1, 0], [0, int(table.low[0])]))
    assert drawn.tolist() == [0, 1, 1, 1]


def test_draws_follow_the_weights() -> None:
    probabilities = np.array([1, 2, 4, 10, 5, 2, 1]) / 25
    table = AliasTable.build(whole([1, 2, 4, 10, 5, 2, 1]), first=-3)
    drawn = table.draw(1_000_000, Stream(b"a" * 32))
    assert fits(drawn, probabilities)
    assert not fits(drawn, np.array([1, 2, 4, 9.8, 5.2, 2, 1]) / 25)


@pytest.mark.parametrize("count", [0, 1, CHUNK, CHUNK + 1, 3 * CHUNK - 1])
def test_any_number_of_draws(count: int) -> None:
    table = AliasTable.build([ONE // 2, 0, ONE // 2], first=2**40)
    drawn = table.draw(count, Stream(b"b" * 32))
    assert drawn.dtype == np.int64 and drawn.shape == (count,)
    assert set(drawn.tolist()) <= {2**40, 2**40 + 2}
    assert count < 2 or 0.45 < np.mean(drawn[-CHUNK // 2 :] == 2**40) < 0.55


def test_a_certain_value() -> None:
    assert set(AliasTable.build([ONE], first=7).draw(100, Stream()).tolist()) == {7}


@pytest.mark.parametrize("weights", [[], [ONE - 1], [ONE, 1], [ONE + 1, -1]])
def test_weights_that_are_no_probabilities_are_refused(weights: list[int]) -> None:
    with pytest.raises(PrivacyError, match="add up to 2\\^128"):
        AliasTable.build(weights, first=0)


def test_too_many_values_are_refused() -> None:
    with pytest.raises(PrivacyError, match="16777217 values is too large"):
        AliasTable.build(range(2**24 + 1), first=0)
