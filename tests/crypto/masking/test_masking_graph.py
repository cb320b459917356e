"""Degrees and thresholds: exact tails, minimal, and what the page on masking says."""

from __future__ import annotations

import math
from fractions import Fraction

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray
from scipy.stats import hypergeom

from qfl.crypto.masking_graph import COMPLETE_UP_TO, choose_neighbourhood, log_tails, most
from qfl.errors import ConfigError


def exact_tail(population: int, marked: int, drawn: int, least: int) -> Fraction:
    """Probability that at least so many of the drawn are marked, by counting."""
    ways = sum(
        math.comb(marked, hits) * math.comb(population - marked, drawn - hits)
        for hits in range(least, min(marked, drawn) + 1)
    )
    return Fraction(ways, math.comb(population, drawn))


@given(st.data())
def test_tails_are_those_of_counting(data: st.DataObject) -> None:
    population = data.draw(st.integers(1, 400))
    marked = data.draw(st.integers(0, population))
    drawn = data.draw(st.integers(0, population))
    tails = log_tails(population, marked, drawn)
    assert tails[-1] == -math.inf
    for least in {0, min(marked, drawn) // 2, min(marked, drawn)}:
        exact = exact_tail(population, marked, drawn, least)
        assert math.exp(tails[least]) == pytest.approx(float(exact), rel=1e-9)


@pytest.mark.parametrize("population", [1000, 10_000, 100_000])
def test_tails_are_those_of_scipy(population: int) -> None:
    marked, drawn = population // 5, 150
    expected = hypergeom.logsf(np.arange(-1, drawn), population, marked, drawn)
    assert log_tails(population, marked, drawn)[:-1] == pytest.approx(expected, abs=1e-6)


def test_the_most_marked_is_tight() -> None:
    for bits in (1, 20, 40.5, 80):
        bound = most(1000, 100, 60, bits)
        assert exact_tail(1000, 100, 60, bound + 1) <= Fraction(2.0**-bits)
        assert exact_tail(1000, 100, 60, bound) > Fraction(2.0**-bits)


Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


def failures(clients: int, degree: int, gone: int, bad: int) -> tuple[Floats, Floats]:
    """Union bounds on losing privacy and on losing the sum, with scipy's tails.

    Each by threshold (rows) and spread (columns), from 0 to the degree.
    """
    numbers, pairs = np.arange(degree + 1), clients**2 / 2
    shares = clients * hypergeom.sf(numbers - 1, clients - 1, bad, degree)
    crossing = pairs * hypergeom.sf(numbers - 1, clients, bad, degree)
    left = clients * hypergeom.sf(degree - numbers, clients - 1, gone, degree)
    staying = pairs * hypergeom.sf(degree - numbers, clients, gone, degree)
    return np.add.outer(shares, crossing), np.add.outer(left, staying)


@pytest.mark.parametrize("clients", [60, 100, 300, 1000, 10_000])
@pytest.mark.parametrize(("dropout", "corrupted"), [(0.2, 0.1), (0.1, 0.1), (0.3, 0.2)])
def test_both_failures_are_rare_enough(clients: int, dropout: float, corrupted: float) -> None:
    found = choose_neighbourhood(clients, dropout=dropout, corrupted=corrupted)
    gone, bad = int(dropout * clients), int(corrupted * clients)
    lost_privacy, lost_sum = failures(clients, found.degree, gone, bad)
    assert lost_privacy[found.threshold, found.spread] < 2.0**-80
    assert lost_sum[found.threshold, found.spread] < 2.0**-40
    assert 2 * found.quorum > clients + bad
    assert found.quorum <= clients - gone


@pytest.mark.parametrize("clients", [100, 300, 1000, 10_000])
def test_four_neighbours_fewer_would_not_do(clients: int) -> None:
    """Whatever the thresholds, and with each kind of failure at the whole of its allowance."""
    degree = choose_neighbourhood(clients).degree - 4
    lost_privacy, lost_sum = failures(clients, degree, clients // 5, clients // 10)
    assert ((lost_privacy > 2.0**-80) | (lost_sum > 2.0**-40)).all()


def test_numbers_of_the_page_on_masking() -> None:
    found = [choose_neighbourhood(n) for n in (3, 5, 10, 30, 100, 300, 1000, 10_000)]
    assert [n.degree for n in found] == [2, 4, 9, 29, 32, 72, 120, 158]
    assert [n.threshold for n in found] == [3, 4, 7, 21, 12, 33, 60, 80]
    assert [n.quorum for n in found] == [3, 4, 7, 21, 67, 201, 667, 6667]
    assert [n.spread for n in found] == [0, 0, 0, 0, 11, 31, 56, 74]
    found = [choose_neighbourhood(n, dropout=0.1) for n in (100, 300, 1000, 10_000)]
    assert [(n.degree, n.threshold) for n in found] == [(22, 12), (56, 32), (88, 53), (110, 66)]
    found = [choose_neighbourhood(n, corrupted=0.2) for n in (100, 300, 1000, 10_000)]
    assert [(n.degree, n.threshold) for n in found] == [(42, 22), (110, 61), (178, 101), (244, 139)]


def test_few_clients_have_everybody_as_neighbour() -> None:
    for clients in range(2, COMPLETE_UP_TO + 1):
        found = choose_neighbourhood(clients)
        assert found.complete
        assert found.degree == clients - 1
        assert found.threshold == found.quorum == 2 * clients // 3 + 1
    assert not choose_neighbourhood(COMPLETE_UP_TO + 1).complete


@pytest.mark.parametrize(
    ("clients", "vanish"), [(2, 0), (3, 0), (4, 1), (5, 1), (6, 1), (7, 2), (10, 3), (30, 9)]
)
def test_how_many_of_few_may_vanish(clients: int, vanish: int) -> None:
    assert clients - choose_neighbourhood(clients).threshold == vanish


def test_more_dropouts_lower_the_threshold_of_a_complete_graph() -> None:
    assert choose_neighbourhood(10, dropout=0.4).threshold == 6
    assert choose_neighbourhood(10, dropout=0.35).threshold == 7


@pytest.mark.parametrize(("bits", "trials"), [(3, 1500), (5, 1500)])
def test_failures_by_simulation(bits: int, trials: int) -> None:
    """With failures allowed once in 8 or 32 sums they happen no more often than that."""
    clients, rng = 120, np.random.default_rng(bits)
    found = choose_neighbourhood(
        clients, dropout=0.3, corrupted=0.2, privacy_bits=bits, correctness_bits=bits
    )
    assert not found.complete
    degree, half = found.degree, found.degree // 2

    def around(marks: Counts, width: int) -> Counts:
        return np.convolve(np.tile(marks, 2), np.ones(width, int))[width - 1 : width - 1 + clients]

    def two_stretches(marks: Counts) -> Counts:
        counts = around(marks, half)
        distance = np.abs(np.subtract.outer(np.arange(clients), np.arange(clients)))
        apart = np.minimum(distance, clients - distance) >= half
        return np.add.outer(counts, counts)[apart]

    privacy = lost = 0
    for _ in range(trials):
        bad = rng.permutation(np.arange(clients) < 24).astype(int)
        gone = rng.permutation(np.arange(clients) < 36).astype(int)
        centred = np.roll(around(bad, degree + 1), half) - bad
        privacy += bool(
            (centred[bad == 0] >= found.threshold).any() or two_stretches(bad).max() >= found.spread
        )
        kept = np.roll(around(1 - gone, degree + 1), half) - (1 - gone)
        lost += bool((kept < found.threshold).any() or two_stretches(1 - gone).min() < found.spread)
    assert privacy / trials < 2.0**-bits
    assert lost / trials < 2.0**-bits


@pytest.mark.parametrize("clients", [-1, 0, 1])
def test_nobody_to_hide_among(clients: int) -> None:
    with pytest.raises(ConfigError, match=f"{clients} clients cannot be summed under masks"):
        choose_neighbourhood(clients)


@pytest.mark.parametrize("value", [-0.1, 1.0, math.nan])
@pytest.mark.parametrize("name", ["dropout", "corrupted"])
def test_shares_of_clients_out_of_range(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"{name}={value} is not allowed: must be within \[0, 1"):
        choose_neighbourhood(10, **{name: value})


@pytest.mark.parametrize(("dropout", "corrupted"), [(0.4, 0.2), (0.0, 0.99), (0.5, 0.0)])
def test_too_many_dropouts_and_colluding_clients(dropout: float, corrupted: float) -> None:
    with pytest.raises(ConfigError) as refusal:
        choose_neighbourhood(100, dropout=dropout, corrupted=corrupted)
    assert f"dropout={dropout} and corrupted={corrupted} cannot both be withstood" in str(
        refusal.value
    )
    assert "2 * dropout + corrupted must stay below 1" in str(refusal.value)
