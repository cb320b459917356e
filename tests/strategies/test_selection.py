"""Who trains in a round."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from qfl.errors import FederationError
from qfl.strategies import SelectAll, SelectBySize, SelectCount, SelectFraction, Selection

NODES = [11, 3, 8, 20, 5]  # ordered by the clients' numbers, not by id
SIZES = {3: 10, 5: 20, 8: 30, 11: 40, 20: 100}


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (SelectAll(), 5),
        (SelectCount(2), 2),
        (SelectCount(5), 5),
        (SelectFraction(0.5), 3),
        (SelectFraction(0.01), 1),
        (SelectFraction(0.4), 2),
        (SelectFraction(1.0), 5),
        (SelectBySize(3), 3),
    ],
)
def test_as_many_as_asked_in_order_and_without_repetition(
    selection: Selection, expected: int
) -> None:
    for round in range(20):
        chosen = selection.choose(NODES, round, 7, SIZES)
        assert len(chosen) == expected
        assert chosen == [node for node in NODES if node in chosen]


@given(
    seed=st.integers(0, 2**32 - 1),
    round=st.integers(0, 10_000),
    selection=st.sampled_from([SelectCount(2), SelectFraction(0.6), SelectBySize(2)]),
)
def test_a_choice_is_a_function_of_seed_and_round(
    seed: int, round: int, selection: Selection
) -> None:
    first = selection.choose(NODES, round, seed, SIZES)
    assert selection.choose(list(NODES), round, seed, dict(SIZES)) == first


@pytest.mark.parametrize("selection", [SelectCount(2), SelectFraction(0.4), SelectBySize(2)])
def test_choices_change_with_the_round_and_with_the_seed(selection: Selection) -> None:
    over_rounds = {tuple(selection.choose(NODES, r, 0, SIZES)) for r in range(100)}
    over_seeds = {tuple(selection.choose(NODES, 1, s, SIZES)) for s in range(100)}
    assert len(over_rounds) > 5
    assert len(over_seeds) > 5


def test_positions_are_drawn_so_that_engines_with_other_ids_choose_alike() -> None:
    small, large = [1, 2, 3, 4], [10**12 + 5, 10**18, 7, 10**12]
    for round in range(10):
        a = SelectCount(2).choose(small, round, 1, {})
        b = SelectCount(2).choose(large, round, 1, {})
        assert [small.index(node) for node in a] == [large.index(node) for node in b]


def test_count_is_uniform_over_all_pairs() -> None:
    pairs = list(combinations(NODES, 2))
    drawn = [tuple(SelectCount(2).choose(NODES, round, 3, {})) for round in range(2000)]
    counts = [drawn.count(pair) for pair in pairs]
    assert sum(counts) == 2000
    assert chisquare(counts).pvalue > 1e-4


def test_by_size_draws_in_proportion_to_size() -> None:
    drawn = [SelectBySize(1).choose(NODES, round, 5, SIZES)[0] for round in range(2000)]
    order = sorted(SIZES)
    counts = [drawn.count(node) for node in order]
    expected = [2000 * SIZES[node] / 200 for node in order]
    assert chisquare(counts, expected).pvalue > 1e-4
    assert chisquare(counts).pvalue < 1e-6  # the same test refuses a uniform draw


def test_by_size_draws_several_one_after_the_other() -> None:
    sizes = {1: 1, 2: 2, 3: 3}
    # Without replacement: P({2, 3}) = 2/6 * 3/4 + 3/6 * 2/3.
    expected = 2 / 6 * 3 / 4 + 3 / 6 * 2 / 3
    hits = [SelectBySize(2).choose([1, 2, 3], r, 9, sizes) == [2, 3] for r in range(2000)]
    spread = np.sqrt(expected * (1 - expected) / 2000)
    assert abs(np.mean(hits) - expected) < 5 * spread


def test_clients_without_examples_are_never_drawn_by_size() -> None:
    sizes = {**SIZES, 8: 0}
    assert all(8 not in SelectBySize(4).choose(NODES, r, 0, sizes) for r in range(50))


def test_more_than_there_are_is_refused() -> None:
    with pytest.raises(FederationError, match=r"round 4 needs 6 clients, 5 are connected"):
        SelectCount(6).choose(NODES, 4, 0, {})
    with pytest.raises(FederationError, match=r"lower strategy\.selection\.count"):
        SelectBySize(6).choose(NODES, 4, 0, SIZES)


def test_more_than_hold_data_is_refused() -> None:
    sizes = dict.fromkeys(NODES, 0) | {3: 5}
    with pytest.raises(FederationError, match=r"round 2 needs 2 clients with data, 1 have any"):
        SelectBySize(2).choose(NODES, 2, 0, sizes)
