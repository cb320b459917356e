"""The grid and the limbs, against exact arithmetic on fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from qfl.crypto import SumRange, from_grid, from_limbs, to_grid, to_limbs
from qfl.crypto.encoding import check_capacity
from qfl.errors import ConfigError, RangeError

SUMS = SumRange(fraction_bits=20, bound=2.0, additions=10)
# The bound, and a rounding by each contribution.
MOST = 2**21 + SUMS.additions


@given(
    value=st.floats(-2.0, 2.0),
    weight=st.floats(0.0, 1.0),
    bits=st.integers(8, 22),
)
def test_to_grid_gives_the_nearest_step(value: float, weight: float, bits: int) -> None:
    (found,) = to_grid([value], weight, SumRange(bits, 2.0, 1)).tolist()
    exact = Fraction(value) * Fraction(weight) * 2**bits
    # The product of value and weight is rounded once to float64 before it is rounded to the grid.
    assert abs(found - exact) <= Fraction(1, 2) + abs(exact) / 2**53


@given(value=st.floats(-2.0, 2.0), bits=st.integers(8, 22))
def test_with_weight_one_to_grid_is_exactly_the_nearest_step(value: float, bits: int) -> None:
    (found,) = to_grid([value], 1.0, SumRange(bits, 2.0, 1)).tolist()
    assert found == round(Fraction(value) * 2**bits)


@given(steps=st.lists(st.integers(-(2**21), 2**21), max_size=20))
def test_the_grid_gives_back_what_lies_on_it(steps: list[int]) -> None:
    values = from_grid(np.array(steps, dtype=np.int64), SUMS)
    assert [Fraction(value) for value in values] == [Fraction(step, 2**20) for step in steps]
    assert to_grid(values, 1.0, SUMS).tolist() == steps


def test_to_grid_flattens_any_shape() -> None:
    assert to_grid([[1.0, -0.5], [0.25, 0.0]], 1.0, SumRange(2, 1.0, 1)).tolist() == [4, -2, 1, 0]


@pytest.mark.parametrize(
    ("values", "count"), [([np.nan], 1), ([np.inf, 0.0, -np.inf], 2), ([1.0, np.nan, np.inf], 2)]
)
def test_to_grid_refuses_nan_and_infinity_and_counts_them(values: list[float], count: int) -> None:
    with pytest.raises(RangeError, match=rf"holds {count} values that are NaN or infinite.*lr"):
        to_grid(values, 0.5, SUMS)


def test_to_grid_refuses_a_coordinate_out_of_bound_without_telling_it() -> None:
    with pytest.raises(RangeError, match=r"beyond 2, .* without.*strategy\.bound") as refusal:
        to_grid([0.1, -2.5, 2.2], 0.001, SUMS)
    assert "2.5" not in str(refusal.value)
    assert to_grid([-2.0, 2.0], 1.0, SUMS).tolist() == [-(2**21), 2**21]


@pytest.mark.parametrize("weight", [-0.1, 1.0001, float("nan")])
def test_to_grid_refuses_a_weight_outside_zero_to_one(weight: float) -> None:
    with pytest.raises(RangeError, match=rf"weight={weight} is not allowed: .*\[0, 1\]"):
        to_grid([0.0], weight, SUMS)


def test_empty_vectors_pass() -> None:
    assert to_grid([], 1.0, SUMS).shape == (0,)
    assert to_limbs([], SUMS).shape == (0,)
    assert from_limbs(to_limbs([], SUMS), SUMS).shape == (0,)


ranges = st.builds(
    lambda bits, bound, additions: SumRange(bits, bound, additions),
    st.integers(8, 22),
    st.floats(0.75, 64.0),
    st.integers(1, 60),
)
statistics = st.one_of(
    st.floats(-(2.0**60), 2.0**60, exclude_min=True, exclude_max=True),
    st.integers(-(2**53), 2**53).map(float),
    st.floats(-1.0, 1.0),
    st.sampled_from([0.0, -0.0, 2.0**60 - 128, -(2.0**60) + 128, 2.0**-24, -(2.0**-24), 5e-324]),
)


@settings(deadline=None)
@given(data=st.data(), sums=ranges)
def test_sums_of_limbs_are_the_exact_sums(data: st.DataObject, sums: SumRange) -> None:
    numbers = data.draw(st.integers(1, 3))
    contributions = data.draw(
        st.lists(
            st.lists(statistics, min_size=numbers, max_size=numbers),
            min_size=1,
            max_size=sums.additions,
        )
    )
    limbs = [to_limbs(values, sums) for values in contributions]
    total = np.sum(limbs, axis=0)
    assert int(np.abs(total).max()) <= sums.capacity
    for place, found in enumerate(from_limbs(total, sums).tolist()):
        resolved = [
            Fraction(round(Fraction(values[place]) * 2**24), 2**24) for values in contributions
        ]
        assert found == float(sum(resolved))


@settings(deadline=None)
@given(sums=ranges, sign=st.sampled_from([1, -1]))
def test_the_full_number_of_largest_contributions_fits(sums: SumRange, sign: int) -> None:
    largest = sign * (2.0**60 - 128)
    total = to_limbs([largest], sums) * sums.additions
    assert int(np.abs(total).max()) <= sums.capacity
    assert from_limbs(total, sums).tolist() == [float(Fraction(largest) * sums.additions)]


@pytest.mark.parametrize("value", [np.nan, np.inf, 2.0**60, -(2.0**60)])
def test_to_limbs_refuses_what_it_cannot_hold(value: float) -> None:
    with pytest.raises(RangeError, match=r"NaN, infinite or beyond 2\^60: check the data"):
        to_limbs([1.0, value], SUMS)


@given(
    bits=st.integers(0, 40),
    bound=st.floats(2.0**-10, 2.0**12),
    additions=st.integers(1, 5000),
)
def test_limbs_are_as_wide_as_the_capacity_allows(bits: int, bound: float, additions: int) -> None:
    capacity = int(Fraction(bound) * 2**bits) + additions
    if capacity < 2 * additions:
        with pytest.raises(ConfigError, match=rf"{additions} contributions do not fit"):
            SumRange(bits, bound, additions)
        return
    sums = SumRange(bits, bound, additions)
    assert sums.capacity == capacity
    assert additions * 2**sums.limb_bits <= capacity < additions * 2 ** (sums.limb_bits + 1)
    assert (sums.limbs - 1) * sums.limb_bits < 85 <= sums.limbs * sums.limb_bits


@pytest.mark.parametrize(
    ("bits", "bound", "additions", "words"),
    [
        (20, 2.0, 0, r"additions=0 is not allowed: must be >= 1"),
        (20, 2.0, -3, r"additions=-3 is not allowed"),
        (-1, 2.0, 1, r"grid bits=-1 is not allowed: must be 0 to 52"),
        (2000, 2.0, 1, r"grid bits=2000 is not allowed"),
        (20, 0.0, 1, r"bound=0.0 is not allowed: must be positive and finite"),
        (20, -1.0, 1, r"bound=-1.0 is not allowed"),
        (20, float("inf"), 1, r"bound=inf is not allowed"),
        (20, float("nan"), 1, r"bound=nan is not allowed"),
        (52, 2.0, 1, r"bound=2 with 52 grid bits needs more than 2\^52 steps.*lower"),
        (8, 2.0, 600, r"600 contributions do not fit a sum of at most 1112 grid steps: raise"),
        (20, 2.0, 10**400, r"contributions do not fit a sum of at most 1\d+ grid steps"),
    ],
)
def test_ranges_that_cannot_work_are_refused(
    bits: int, bound: float, additions: int, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        SumRange(bits, bound, additions)


@pytest.mark.parametrize("value", [MOST + 1, -MOST - 1, 2**63 - 1, -(2**63)])
def test_integers_past_the_capacity_are_refused(value: int) -> None:
    # The magnitude of the smallest int64 does not fit an int64: numpy's abs of it is negative.
    with pytest.raises(RangeError, match=rf"a value exceeds {MOST} grid steps"):
        check_capacity(np.array([0, value], dtype=np.int64), SUMS)


def test_integers_at_the_capacity_pass() -> None:
    check_capacity(np.array([MOST, -MOST], dtype=np.int64), SUMS)
    check_capacity(np.array([], dtype=np.int64), SUMS)


def test_stochastic_rounding_is_right_on_average_and_off_by_less_than_a_step() -> None:
    """Each result is a neighbour, and the mean of n is a binomial one: within five deviations."""
    sums, value, n = SumRange(8, 1.0, 4), 0.3137, 40_000
    source = np.random.default_rng(5)
    steps = to_grid(np.full(n, value), 1.0, sums, source.random)
    exact = value * 2**8
    assert set(np.unique(steps)) == {math.floor(exact), math.ceil(exact)}
    share = exact - math.floor(exact)
    deviation = math.sqrt(share * (1 - share) / n)
    assert abs(steps.mean() - exact) < 5 * deviation


@given(st.lists(st.integers(-1000, 1000), min_size=1), st.integers(0, 2**32))
def test_what_lies_on_the_grid_is_never_rounded(steps: list[int], seed: int) -> None:
    sums = SumRange(10, 2.0, 3)
    values = np.array(steps) * sums.step
    drawn = to_grid(values, 1.0, sums, np.random.default_rng(seed).random)
    assert drawn.tolist() == steps


@given(
    st.integers(1, 200),
    st.floats(0.01, 8.0),
    st.integers(8, 20),
    st.sampled_from(["nearest", "stochastic"]),
)
def test_no_sum_of_updates_within_the_bound_leaves_the_capacity(
    clients: int, bound: float, bits: int, rounding: str
) -> None:
    """Weights of 1/n add up to 1; each contribution may be rounded up."""
    try:
        sums = SumRange(bits, bound, clients)
    except ConfigError:
        return
    uniform = (lambda n: np.full(n, 1 - 1e-9)) if rounding == "stochastic" else None
    one = to_grid([bound], 1 / clients, sums, uniform)
    assert int(one[0]) * clients <= sums.capacity
    weight = to_grid([1.0], 1 / clients, SumRange(bits, max(1.0, bound), clients), uniform)
    assert int(weight[0]) * clients <= SumRange(bits, max(1.0, bound), clients).capacity
