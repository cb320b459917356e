"""What the anomaly score finds, what it calls odd wrongly, and that the page says both."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from qfl.errors import DataError
from qfl.identity.anomaly import FEWEST, SUSPICIOUS, anomaly_scores, suspicious

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reputation.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
(TABLE,) = re.findall(r"^```text\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
ANY_NUMBER = st.floats(allow_nan=False, allow_infinity=False)


def crowd(nodes: int, features: int, seed: int) -> NDArray[np.float64]:
    """Nodes that differ by chance alone."""
    return np.random.default_rng(seed).normal(5, 1, (nodes, features))


@pytest.mark.parametrize("nodes", [8, 10, 30, 100])
@pytest.mark.parametrize("features", [1, 2, 4])
def test_who_stands_apart_in_one_feature_is_found(nodes: int, features: int) -> None:
    found = []
    for seed in range(40):
        table = crowd(nodes, features, seed)
        table[nodes // 2, 0] += 12
        found.append(anomaly_scores(table, seed)[nodes // 2] > SUSPICIOUS)
    assert np.mean(found) > 0.9


def test_features_that_say_nothing_hide_little() -> None:
    found = []
    for seed in range(40):
        table = crowd(30, 16, seed)
        table[4, 7] += 8
        found.append(anomaly_scores(table, seed)[4] > SUSPICIOUS)
    assert np.mean(found) > 0.6


def test_a_few_who_agree_are_found() -> None:
    """They are nobody's whole neighbourhood, since that is half of all nodes."""
    for seed in range(20):
        table = crowd(10, 2, seed)
        table[[3, 7]] = [17.0, 17.0]
        assert set(np.flatnonzero(anomaly_scores(table, seed) > SUSPICIOUS)) >= {3, 7}


def test_one_huge_value_does_not_hide_another() -> None:
    table = crowd(10, 1, 0)
    table[2], table[6] = 1e9, 20.0
    assert set(np.flatnonzero(anomaly_scores(table, 0) > SUSPICIOUS)) == {2, 6}


def test_few_of_those_that_differ_by_chance_are_called_odd() -> None:
    """The page: with four features every fortieth of eight, and of fewer not to be told."""
    for nodes in (8, 10, 30):
        found = [anomaly_scores(crowd(nodes, 4, seed), seed) > SUSPICIOUS for seed in range(60)]
        assert np.mean(found) < 0.04


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 4).flatmap(
        lambda width: st.lists(
            st.lists(ANY_NUMBER, min_size=width, max_size=width), min_size=1, max_size=14
        )
    ),
    st.integers(0, 2**32),
)
@pytest.mark.filterwarnings("error")
def test_scores_are_between_0_and_1_whatever_the_numbers(
    table: list[list[float]], seed: int
) -> None:
    given = np.array(table, dtype=np.float64).reshape(len(table), -1)
    kept = given.copy()
    scores = anomaly_scores(given, seed)
    assert scores.shape == (len(table),)
    assert ((scores >= 0) & (scores < 1)).all()
    np.testing.assert_array_equal(given, kept)
    np.testing.assert_array_equal(scores, anomaly_scores(given, seed))


@pytest.mark.parametrize("nodes", range(FEWEST))
def test_among_a_few_nobody_is_scored(nodes: int) -> None:
    table = np.zeros((nodes, 2))
    table[:1] = 1e6
    assert not anomaly_scores(table, 0).any()
    assert suspicious({str(node): list(row) for node, row in enumerate(table)}, 0) == {}


def test_one_more_and_it_is() -> None:
    assert FEWEST == 8
    assert suspicious({str(node): [1e6 * (node == 3)] for node in range(8)}, 0).keys() == {"3"}


def test_what_is_the_same_everywhere_tells_nothing() -> None:
    assert not anomaly_scores(np.full((10, 3), 7.0), 0).any()
    sizes = np.full((10, 1), 5000.0)
    sizes[4] = 5049
    assert not anomaly_scores(sizes, 0).any()
    sizes[4] = 5500
    assert anomaly_scores(sizes, 0)[4] > SUSPICIOUS


@pytest.mark.filterwarnings("error")
def test_nodes_that_are_equal_are_not_infinitely_dense() -> None:
    """Else whoever differs from them by next to nothing would be odd."""
    table = np.array([[1.0]] * 8 + [[1.001], [0.999], [1.0005], [1.03]])
    found = np.array([anomaly_scores(table, seed) > SUSPICIOUS for seed in range(40)])
    assert found[:, 11].all()
    assert found[:, :11].mean() < 0.1 and found.mean(axis=0)[:11].max() < 0.4


@pytest.mark.filterwarnings("error")
def test_the_largest_numbers_are_scored_too() -> None:
    table = crowd(10, 1, 0)
    table[2], table[6] = 1.7e308, -1.7e308
    assert set(np.flatnonzero(anomaly_scores(table, 0) > SUSPICIOUS)) == {2, 6}


def test_units_make_no_difference() -> None:
    table = crowd(10, 3, 1)
    table[5] += 6
    other = anomaly_scores(table * [1000.0, 0.001, 1.0], 3)
    np.testing.assert_allclose(anomaly_scores(table, 3), other, rtol=1e-9)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("nodes", [3, 10])
def test_what_is_not_finite_is_refused(number: float, nodes: int) -> None:
    table = crowd(nodes, 2, 0)
    table[1, 1] = number
    with pytest.raises(DataError, match=f"feature 1 of node 1 is {number}"):
        anomaly_scores(table, 0)
    with pytest.raises(DataError, match=f"feature 1 of node 1 is {number}"):
        suspicious({str(node): list(row) for node, row in enumerate(table)}, 0)


def test_what_is_no_table_is_refused() -> None:
    with pytest.raises(DataError, match=r"features of shape \(10,\)"):
        anomaly_scores(np.zeros(10), 0)
    with pytest.raises(DataError, match="nodes have from 1 to 2 features"):
        suspicious({"a": [1.0], "b": [1.0, 2.0]}, 0)


def test_names_and_their_order_make_no_difference() -> None:
    table = crowd(10, 2, 4)
    table[8] += 9
    features = {f"did:qfl:{'abcdefghij'[node]}": list(row) for node, row in enumerate(table)}
    found = suspicious(features, 5)
    assert list(found) == ["did:qfl:i"]
    assert found["did:qfl:i"] == anomaly_scores(table, 5)[8]
    assert suspicious(dict(reversed(features.items())), 5) == found
    assert suspicious({}, 5) == {}


def run(code: str, folder: Path) -> str:
    """What Python prints of a program that stands alone."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_scikit_learn_is_loaded_by_who_scores_only(tmp_path: Path) -> None:
    code = (
        "import sys, qfl.identity, qfl.identity.reputation, qfl.identity.anomaly\n"
        "qfl.identity.anomaly.suspicious({'a': [1.0]}, 1)\n"
        "print([name for name in ('sklearn', 'scipy', 'torch') if name in sys.modules])"
    )
    assert run(code, tmp_path) == "[]\n"


@pytest.mark.parametrize("number", range(len(BLOCKS) - 1))
def test_examples_of_the_page_run(number: int, tmp_path: Path) -> None:
    assert run(BLOCKS[number], tmp_path) == ""


def cells(table: str) -> dict[str, list[int]]:
    """Percentages by row: sealed, plain, forest, covariance; the two and the others of each."""
    rows = [re.split(r"\s{2,}(?=\d)", line, maxsplit=1) for line in table.splitlines()[1:]]
    return {" ".join(name.split()): [*map(int, re.findall(r"\d+", rest))] for name, rest in rows}


def test_the_experiment_of_the_page_runs_and_shows_what_the_page_says(tmp_path: Path) -> None:
    """With 3 federations in place of 20; ``make test-slow`` compares all figures."""
    assert BLOCKS[-1].count("range(20)") == 1
    found = cells(run(BLOCKS[-1].replace("range(20)", "range(3)"), tmp_path))
    assert found.keys() == cells(TABLE).keys()
    for row in ("honest, one digit each", "wrong labels", "sign turned"):
        assert found[f"alike {row}"][2] == 100
    assert found["skewed ten times the bound"][2] == 100
    for row in ("wrong labels", "sign turned"):
        assert found[f"skewed {row}"][2] < 40


@pytest.mark.slow
def test_all_figures_of_the_page(tmp_path: Path) -> None:
    found, told = cells(run(BLOCKS[-1], tmp_path)), cells(TABLE)
    for row, figures in told.items():
        np.testing.assert_allclose(found[row], figures, atol=5, err_msg=row)
