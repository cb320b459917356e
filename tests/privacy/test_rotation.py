"""The rotation, against a dense Walsh-Hadamard matrix and what orthogonal maps keep."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.linalg import hadamard

from qfl.privacy.rotation import padded_length, rotate, unrotate

VECTORS = arrays(np.float64, st.integers(1, 70), elements=st.floats(-1e3, 1e3))


@pytest.mark.parametrize(
    ("length", "padded"), [(1, 1), (2, 2), (3, 4), (4, 4), (1025, 2048), (2**20, 2**20)]
)
def test_padded_length_is_the_next_power_of_two(length: int, padded: int) -> None:
    assert padded_length(length) == padded


@given(vector=VECTORS, seed=st.binary(max_size=8))
def test_unrotate_is_the_inverse(vector: NDArray[np.float64], seed: bytes) -> None:
    rotated = rotate(vector, seed)
    assert rotated.size == padded_length(vector.size)
    np.testing.assert_allclose(unrotate(rotated, seed, vector.size), vector, rtol=0, atol=1e-10)


@given(vector=VECTORS, seed=st.binary(max_size=8))
def test_norms_stay(vector: NDArray[np.float64], seed: bytes) -> None:
    found = np.linalg.norm(rotate(vector, seed))
    np.testing.assert_allclose(found, np.linalg.norm(vector), rtol=1e-12)


def test_inner_products_stay() -> None:
    draws = np.random.default_rng(0)
    one, other = draws.normal(size=300), draws.normal(size=300)
    assert rotate(one, b"s") @ rotate(other, b"s") == pytest.approx(one @ other, rel=1e-12)


@pytest.mark.parametrize("size", [1, 2, 8, 64])
def test_it_is_signs_and_then_the_walsh_hadamard_matrix(size: int) -> None:
    columns = np.array([rotate(unit, b"seed") for unit in np.eye(size)]).T
    signs = np.sign(columns[0])  # the first row of a Walsh-Hadamard matrix is all ones
    np.testing.assert_allclose(columns, hadamard(size) * signs / np.sqrt(size), atol=1e-15)


def signs_of(seed: bytes, count: int) -> NDArray[np.float64]:
    # Turning back the first column of H leaves the signs alone.
    first = np.zeros(count)
    first[0] = np.sqrt(count)
    return unrotate(first, seed, count)


def test_signs_are_the_bits_of_shake_256() -> None:
    # printf 'qfl rotation seed' | openssl dgst -shake256 -xoflen 1 gives 60: 0110 0000.
    np.testing.assert_allclose(signs_of(b"seed", 8), [1, -1, -1, 1, 1, 1, 1, 1], rtol=1e-12)


def test_a_seed_gives_one_rotation_and_another_seed_another() -> None:
    vector = np.arange(1.0, 65.0)
    np.testing.assert_array_equal(rotate(vector, b"a"), rotate(vector, b"a"))
    assert not np.allclose(np.abs(rotate(vector, b"a")), np.abs(rotate(vector, b"b")))


def test_signs_are_even_and_those_of_two_seeds_unrelated() -> None:
    count = 2**14
    one, other = signs_of(b"a", count), signs_of(b"b", count)
    for found in (one, other, one * other):
        assert abs(float(found.mean())) < 4.5 / np.sqrt(count)


def test_one_large_coordinate_is_spread_over_all() -> None:
    vector = np.zeros(1000)
    vector[17] = 32.0
    np.testing.assert_allclose(np.abs(rotate(vector, b"seed")), 1.0, rtol=1e-12)


def test_sums_may_be_turned_back_together() -> None:
    draws = np.random.default_rng(1)
    updates = draws.normal(size=(5, 37))
    summed = np.sum([rotate(update, b"round 3") for update in updates], axis=0)
    np.testing.assert_allclose(unrotate(summed, b"round 3", 37), updates.sum(axis=0), atol=1e-12)


def test_the_vector_itself_is_left_alone() -> None:
    vector = np.arange(8.0)
    rotate(vector, b"")
    unrotate(vector, b"", 8)
    np.testing.assert_array_equal(vector, np.arange(8.0))
