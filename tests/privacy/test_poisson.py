"""Poisson batches: every record on its own, at the stated rate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, chisquare

from qfl.errors import ConfigError
from qfl.privacy import poisson
from qfl.privacy.poisson import poisson_batches, steps_of
from qfl.privacy.randomness import Stream

KEY = bytes(range(32))


def taken(records: int, rate: float, steps: int) -> np.ndarray:
    """Who was in which batch, (steps, records)."""
    found = np.zeros((steps, records), dtype=bool)
    for row, batch in zip(found, poisson_batches(records, rate, steps, Stream(KEY)), strict=True):
        row[batch] = True
    return found


@pytest.mark.parametrize("rate", [0.02, 0.3, 0.9])
def test_each_record_is_taken_at_the_rate(rate: float) -> None:
    steps, records = 4000, 40
    counts = taken(records, rate, steps).sum(axis=0)
    spread = np.sqrt(steps * rate * (1 - rate))
    assert np.abs(counts - steps * rate).max() < 5 * spread
    assert abs(counts.mean() - steps * rate) < 5 * spread / np.sqrt(records)


def test_sizes_of_batches_are_binomial() -> None:
    steps, records, rate = 20_000, 12, 0.25
    sizes = np.bincount(taken(records, rate, steps).sum(axis=1), minlength=records + 1)
    expected = binom.pmf(np.arange(records + 1), records, rate) * steps
    few = expected < 5
    observed = np.append(sizes[~few], sizes[few].sum())
    assert chisquare(observed, np.append(expected[~few], expected[few].sum())).pvalue > 1e-6
    # A batch with nobody in it is a batch: a quarter to the twelfth, and 633 of these.
    assert 500 < sizes[0] < 770


def test_records_and_steps_do_not_know_of_each_other() -> None:
    drawn = taken(2, 0.5, 40_000)
    for first, second in ((drawn[:, 0], drawn[:, 1]), (drawn[:-1, 0], drawn[1:, 0])):
        assert abs(np.mean(first & second) - 0.25) < 0.012


def test_a_rate_of_one_takes_everybody_and_no_records_make_empty_batches() -> None:
    assert taken(7, 1.0, 3).all()
    assert [batch.tolist() for batch in poisson_batches(0, 0.5, 2, Stream(KEY))] == [[], []]
    assert taken(5, 1 - 2.0**-53, 3).all()


@given(st.integers(0, 300), st.floats(1e-6, 1), st.integers(0, 50))
def test_there_are_as_many_batches_as_steps(records: int, rate: float, steps: int) -> None:
    batches = list(poisson_batches(records, rate, steps, Stream(KEY)))
    assert len(batches) == steps
    for batch in batches:
        assert (np.diff(batch) > 0).all()
        assert not len(batch) or 0 <= batch[0] <= batch[-1] < records


def test_drawing_in_bulk_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = taken(10, 0.3, 50)
    monkeypatch.setattr(poisson, "_AT_ONCE", 25)
    assert (taken(10, 0.3, 50) == whole).all()


def test_other_keys_give_other_batches() -> None:
    first, second = (list(poisson_batches(50, 0.5, 1, Stream())) for _ in range(2))
    assert first[0].tolist() != second[0].tolist()


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.5, float("nan")])
def test_rates_out_of_range_are_refused(rate: float) -> None:
    with pytest.raises(ConfigError, match="above 0 and at most 1"):
        next(poisson_batches(5, rate, 1, Stream(KEY)))


def test_steps_of_a_round() -> None:
    assert [steps_of(1, 0.1), steps_of(3, 0.3), steps_of(2, 0.9), steps_of(5, 1.0)] == [10, 9, 2, 5]
