"""Parameters of ``hybrid``: sound, the largest that are, and refused with a way out."""

from __future__ import annotations

import re
from math import log, sqrt

import hypothesis.strategies as st
import pytest
from hypothesis import given

from qfl.crypto import SumRange
from qfl.crypto.discrete_gaussian import tables_of
from qfl.crypto.hybrid_parameters import MOST_CONTRIBUTIONS, SIGMA, choose_hybrid
from qfl.crypto.ring import DEGREE, LARGEST_NORM
from qfl.errors import ConfigError


@given(
    bits=st.integers(8, 22),
    bound=st.floats(0.01, 64),
    additions=st.integers(3, 10_000),
    length=st.integers(0, 10**8),
)
def test_chosen_parameters_neither_wrap_nor_round_wrong(
    bits: int, bound: float, additions: int, length: int
) -> None:
    try:
        sums = SumRange(bits, bound, additions)
        found = choose_hybrid(length, sums)
    except ConfigError:
        return
    assert found.scale * sums.capacity + found.noise < 2**31
    assert (found.scale + 1) * sums.capacity + found.noise >= 2**31
    assert 2 * found.noise < found.scale
    # 2 exp(-x^2 / (2 n sigma^2)) for every value, written out again.
    variance = additions * 6.4**2
    assert log(2) + log(max(length, 1)) - found.noise**2 / (2 * variance) <= -65 * log(2)
    assert log(2) + log(DEGREE) - found.key**2 / (2 * variance) <= -65 * log(2)


def test_the_default_grid_sums_up_to_fifty_three_clients() -> None:
    assert choose_hybrid(1_000_000, SumRange(20, 2.0, 53)).scale == 1023
    words = (
        "scheme hybrid cannot sum 54 vectors of 1000000 values with bound 2 on a grid of 2^-20: "
        "noise of up to 514 needs a scale above 1028, and 2097206 steps modulo 2^32 leave 1023: "
        "lower strategy.grid_bits to 19 or less, or use at most 53 clients, or lower "
        "strategy.bound"
    )
    with pytest.raises(ConfigError, match=re.escape(words)):
        choose_hybrid(1_000_000, SumRange(20, 2.0, 54))


@pytest.mark.parametrize(("additions", "bits"), [(53, 20), (214, 19), (856, 18), (3349, 17)])
def test_each_bit_of_the_grid_is_worth_four_times_the_clients(additions: int, bits: int) -> None:
    choose_hybrid(1_000_000, SumRange(bits, 2.0, additions))
    with pytest.raises(ConfigError, match=f"grid_bits to {bits - 1} or less"):
        choose_hybrid(1_000_000, SumRange(bits, 2.0, additions + 1))


def test_the_way_out_that_a_refusal_names_is_one() -> None:
    with pytest.raises(ConfigError) as caught:
        choose_hybrid(5000, SumRange(22, 2.0, 400))
    grid, clients = re.findall(
        r"to (\d+) or less, or use at most (\d+) clients", str(caught.value)
    )[0]
    choose_hybrid(5000, SumRange(int(grid), 2.0, 400))
    with pytest.raises(ConfigError):
        choose_hybrid(5000, SumRange(int(grid) + 1, 2.0, 400))
    choose_hybrid(5000, SumRange(22, 2.0, int(clients)))
    with pytest.raises(ConfigError):
        choose_hybrid(5000, SumRange(22, 2.0, int(clients) + 1))


def test_where_no_number_of_clients_is_sound_none_is_offered() -> None:
    with pytest.raises(ConfigError, match=r"to 16 or less, or lower strategy\.bound$"):
        choose_hybrid(5000, SumRange(22, 64.0, 10))


@pytest.mark.parametrize("additions", [1, 2, 10_001])
def test_too_few_and_too_many_clients_are_refused(additions: int) -> None:
    words = (
        rf"additions={additions} is not allowed with scheme hybrid: must be 3 \(a sum of fewer "
        r"keys hides none\) to 10000"
    )
    with pytest.raises(ConfigError, match=words):
        choose_hybrid(100, SumRange(16, 2.0, additions))


def test_the_summed_key_of_the_most_clients_is_short_enough_for_float64() -> None:
    """A chi-square bound (Laurent and Massart 2000), at 2^-64."""
    t = 64 * log(2)
    norm = sqrt(MOST_CONTRIBUTIONS) * 6.4 * sqrt(DEGREE + 2 * sqrt(DEGREE * t) + 2 * t)
    assert norm < LARGEST_NORM


def test_keys_fit_the_format_they_travel_in() -> None:
    assert tables_of(SIGMA).largest <= 127
    choices = choose_hybrid(1, SumRange(16, 1.0, MOST_CONTRIBUTIONS))
    assert choices.key <= 2**14 - 1  # room that a committee's shares leave a coefficient
