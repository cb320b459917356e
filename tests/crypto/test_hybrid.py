"""Sums under ``hybrid`` are the integer sums, bit for bit, and masks look like noise."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray
from scipy import stats

from qfl.crypto import KeyPair, MemberKeys, Roster, SumRange
from qfl.crypto.hybrid import Hybrid
from qfl.errors import ConfigError

IntVector = NDArray[np.int64]
PLACE = "run/1/train/0"
SUMS = SumRange(fraction_bits=20, bound=2.0, additions=50)
LENGTHS = [0, 1, 658, 2047, 2048, 2049, 65_535, 65_536, 65_537, 70_000]


def summed(
    scheme: Hybrid, keys: KeyPair, vectors: list[IntVector], signers: list[Any] | None = None
) -> IntVector:
    length = vectors[0].size
    total = scheme.accumulator(length, keys.public)
    key = keys.secret if scheme.trust == "shared" else keys.public
    for vector, signer in zip(vectors, signers or [None] * len(vectors), strict=True):
        total.add(scheme.protect(vector, key, place=PLACE, signer=signer))
    roster = Roster(signer.member for signer in signers) if signers else None
    opened = scheme.open(total.result(), length, keys.secret, place=PLACE, roster=roster)
    return scheme.finish(opened, total.masked(), length, place=PLACE)


@pytest.mark.parametrize("trust", ["key_holder", "shared"])
@settings(deadline=None, max_examples=25)
@given(
    length=st.sampled_from(LENGTHS),
    clients=st.integers(3, 50),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_opened_sum_is_the_integer_sum(
    trust: str, length: int, clients: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    scheme = Hybrid.for_sums(length, SUMS, trust)
    size = int(rng.choice([1, SUMS.capacity // clients]))
    vectors = [rng.integers(-size, size + 1, length) for _ in range(clients)]
    found = summed(scheme, scheme.generate_keys(), vectors)
    assert found.dtype == np.int64
    assert (found == np.sum(vectors, axis=0)).all()


@settings(deadline=None, max_examples=20)
@given(
    bits=st.integers(8, 20),
    bound=st.floats(0.5, 2),
    additions=st.integers(3, 12),
    signs=st.sampled_from([-1, 1, 0]),
)
def test_a_sum_at_full_capacity_is_exact(
    bits: int, bound: float, additions: int, signs: int
) -> None:
    sums = SumRange(bits, bound, additions)
    scheme = Hybrid.for_sums(3000, sums)
    sign = signs or np.where(np.arange(3000) % 3 == 0, -1, 1)
    vectors = [np.full(3000, sums.capacity) * sign] + [np.zeros(3000, np.int64)] * (additions - 1)
    assert (summed(scheme, scheme.generate_keys(), vectors) == sums.capacity * sign).all()


def test_signed_contributions_open_to_the_same_sum() -> None:
    rng = np.random.default_rng(1)
    vectors = [rng.integers(-1000, 1000, 5000) for _ in range(5)]
    scheme = Hybrid.for_sums(5000, SUMS)
    found = summed(scheme, scheme.generate_keys(), vectors, [MemberKeys() for _ in vectors])
    assert (found == np.sum(vectors, axis=0)).all()


def test_the_order_of_contributions_does_not_matter() -> None:
    rng = np.random.default_rng(5)
    scheme = Hybrid.for_sums(700, SUMS)
    keys = scheme.generate_keys()
    bodies = [scheme.protect(rng.integers(-9, 9, 700), keys.public) for _ in range(5)]
    found = []
    for order in (bodies, bodies[::-1]):
        total = scheme.accumulator(700, keys.public)
        for body in order:
            total.add(body)
        opened = scheme.open(total.result(), 700, keys.secret)
        found.append((total.masked(), scheme.finish(opened, total.masked(), 700).tolist()))
    assert found[0] == found[1]


def masked_part(body: bytes, length: int) -> NDArray[np.uint32]:
    return np.frombuffer(body[-4 * length :], "<u4")


def test_a_masked_vector_looks_uniform_and_is_new_each_time() -> None:
    length = 200_000
    scheme = Hybrid.for_sums(length, SUMS)
    public = scheme.generate_keys().public
    first, second = (
        masked_part(scheme.protect(np.zeros(length, np.int64), public, place=PLACE), length)
        for _ in range(2)
    )
    for words in (first, second, first - second):
        # Uniform keys are not what this tests: they are drawn, so a fluke of 10^-9 is allowed.
        for byte in range(4):
            counts = np.bincount(words >> (8 * byte) & 255, minlength=256)
            assert stats.chisquare(counts).pvalue > 1e-9
    assert (first == second).mean() < 1e-3


def test_errors_of_every_client_are_in_the_sum() -> None:
    """What is left after the key and the values are taken away is Gaussian of the right width."""
    length, clients = 100_000, 9
    scheme = Hybrid.for_sums(length, SUMS)
    keys = scheme.generate_keys()
    total = scheme.accumulator(length, keys.public)
    for _ in range(clients):
        total.add(scheme.protect(np.zeros(length, np.int64), keys.public))
    opened = scheme.open(total.result(), length, keys.secret)
    assert opened.shape == (2048,)
    assert 6.4 * 3 * 0.9 < opened.std() < 6.4 * 3 * 1.1
    # With a scale of one every error shows.
    bare = Hybrid(scheme.sums, scheme.parameters.__class__(1, 1, scheme.parameters.key))
    errors = bare.finish(opened, total.masked(), length)
    assert 6.4 * 3 * 0.98 < errors.std() < 6.4 * 3 * 1.02
    assert abs(errors.mean()) < 6 * 6.4 * 3 / np.sqrt(length)
    assert np.abs(errors).max() <= scheme.parameters.noise


def test_uploads_are_float32_and_a_few_kilobytes() -> None:
    sizes = {"key_holder": 104 + 2048 + 1136, "shared": 104 + 2048 + 28}
    for trust, record in sizes.items():
        scheme = Hybrid.for_sums(658, SUMS, trust)
        keys = scheme.generate_keys()
        key = keys.secret if trust == "shared" else keys.public
        for signer in (None, MemberKeys()):
            assert len(scheme.protect(np.zeros(658, np.int64), key, signer=signer)) == record + 2632
    assert (sizes["key_holder"] + 4_000_000) / 4_000_000 < 1.001


def test_an_opener_sees_how_many_there_are() -> None:
    scheme = Hybrid.for_sums(10, SUMS)
    keys = scheme.generate_keys()
    total = scheme.accumulator(10, keys.public)
    for count in range(4):
        assert scheme.contributions(total.result()) == count
        total.add(scheme.protect(np.zeros(10, np.int64), keys.public))
    assert len(total.result()) == 10 + 4 * 3288


def test_keys_are_new_each_time_and_no_repr_holds_them() -> None:
    for trust in ("key_holder", "shared"):
        scheme = Hybrid.for_sums(10, SUMS, trust)
        first, second = scheme.generate_keys(), scheme.generate_keys()
        assert first.secret != second.secret and first.key_id != second.key_id
        assert first.secret[4:] not in first.public
        assert repr(first) == f"KeyPair(key_id='{first.key_id}')"


def test_no_value_is_read_past_the_vector() -> None:
    """Int64 below the capacity, whatever its sign; larger ones are refused in another file."""
    scheme = Hybrid.for_sums(3, SUMS)
    vectors = [np.array([SUMS.capacity, -SUMS.capacity, 0])] + [np.array([0, 0, -1])] * 2
    assert summed(scheme, scheme.generate_keys(), vectors).tolist() == [
        SUMS.capacity,
        -SUMS.capacity,
        -2,
    ]


def test_other_trusts_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown trust of scheme hybrid 'none'"):
        Hybrid.for_sums(10, SUMS, "none")


@pytest.mark.slow
def test_ten_thousand_clients_and_ten_million_values() -> None:
    """Sums of many keys, which float64 must still multiply exactly."""
    rng = np.random.default_rng(8)
    sums = SumRange(16, 2.0, 10_000)
    scheme = Hybrid.for_sums(5000, sums)
    keys = scheme.generate_keys()
    vectors = rng.integers(-13, 14, (10_000, 5000))
    assert (summed(scheme, keys, list(vectors)) == vectors.sum(axis=0)).all()
    length = 10_000_000
    scheme = Hybrid.for_sums(length, SUMS)
    long = [rng.integers(-1000, 1000, length) for _ in range(3)]
    assert (summed(scheme, scheme.generate_keys(), long) == np.sum(long, axis=0)).all()
