"""Trust ``shared``: every client holds the key, and seeds travel in place of polynomials."""

from __future__ import annotations

import hashlib
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from qfl.crypto import SumRange, make_scheme
from qfl.errors import ConfigError, PayloadError, RangeError


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(
    length=st.integers(0, 5000),
    bits=st.integers(6, 20),
    clients=st.integers(1, 6),
    spare=st.integers(0, 50),
    trust=st.sampled_from(["key_holder", "shared"]),
    name=st.sampled_from(["ckks", "packed"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_sums_of_both_schemes_are_exact_under_either_trust(
    length: int, bits: int, clients: int, spare: int, trust: str, name: str, seed: int
) -> None:
    try:
        sums = SumRange(bits, 1.5, clients + spare)
        scheme = make_scheme(name, length, sums, trust)
    except ConfigError:
        return
    keys = scheme.generate_keys()
    key = keys.secret if trust == "shared" else keys.public
    rng, most = np.random.default_rng(seed), sums.capacity // clients
    vectors = [rng.integers(-most, most + 1, length) for _ in range(clients)]
    total = scheme.accumulator(length, keys.public)
    for vector in vectors:
        total.add(scheme.protect(vector, key))
    found = scheme.open(total.result(), length, keys.secret)
    assert found.tolist() == np.sum(vectors, axis=0).tolist()
    assert total.masked() == b""
    assert scheme.finish(found, b"", length) is found


@pytest.mark.parametrize("name", ["ckks", "packed"])
@pytest.mark.parametrize("length", [200, 5000])
def test_seeded_uploads_are_less_than_half_of_public_ones(name: str, length: int) -> None:
    sizes = {}
    for trust in ("key_holder", "shared"):
        scheme = make_scheme(name, length, SumRange(20, 2.0, 10), trust)
        keys = scheme.generate_keys()
        key = keys.secret if trust == "shared" else keys.public
        sizes[trust] = len(scheme.protect(np.zeros(length, np.int64), key))
    assert sizes["shared"] < sizes["key_holder"] / 2


@pytest.fixture(params=["small_shared", "packed_shared"])
def shared(request: pytest.FixtureRequest, with_keys: Any) -> Any:
    if request.param == "small_shared":
        return request.getfixturevalue("small_shared")
    return with_keys(make_scheme("packed", 658, SumRange(20, 2.0, 10), "shared"))


def test_the_public_part_is_a_commitment_and_nothing_else(shared: Any) -> None:
    keys = shared.keys
    assert keys.public.endswith(hashlib.sha256(keys.secret).digest())
    assert keys.key_id == hashlib.sha256(keys.public).hexdigest()[:16]
    assert len(keys.public) < 250


def test_nothing_that_travels_holds_the_secret(shared: Any) -> None:
    head = 18 + len(repr(shared.scheme.parameters))
    secret = shared.keys.secret[head:]
    travels = shared.protect(np.zeros(658)) + shared.keys.public + shared.sum_of([np.zeros(658)])
    for start in range(0, len(secret) - 8, 8):
        assert secret[start : start + 8] not in travels


def test_keys_of_the_wrong_kind_are_named(shared: Any, small: Any) -> None:
    protect, total = shared.scheme.protect, shared.scheme.accumulator
    zeros = np.zeros(658, np.int64)
    with pytest.raises(PayloadError, match="encrypts nothing under trust 'shared'"):
        protect(zeros, shared.keys.public)
    with pytest.raises(PayloadError, match="encrypts nothing under trust 'shared'"):
        protect(zeros, small.keys.public)
    with pytest.raises(
        PayloadError, match="not a descriptor of a shared key; if it is a secret key, it must never"
    ):
        total(658, shared.keys.secret)
    with pytest.raises(PayloadError, match="not a descriptor of a shared key"):
        total(658, small.keys.public)
    with pytest.raises(PayloadError, match="not a public key"):
        small.scheme.accumulator(658, shared.keys.public)
    with pytest.raises(PayloadError, match=r"the secret key is of .*; this run expects"):
        small.scheme.open(small.sum_of([zeros]), 658, shared.keys.secret)
    with pytest.raises(PayloadError, match=r"the descriptor of a shared key has \d+ bytes"):
        total(658, shared.keys.public + b"\0")


def test_a_value_past_the_capacity_is_refused_before_the_key_is_read(shared: Any) -> None:
    with pytest.raises(RangeError, match="a value exceeds 2097162 grid steps"):
        shared.scheme.protect(np.array([2**21 + 11]), b"")


def test_a_seed_that_comes_twice_is_refused_and_leaves_the_sum(shared: Any) -> None:
    length = 5000
    total = shared.total(length)
    one, other = shared.protect(np.arange(length)), shared.protect(np.arange(length))
    total.add(one)
    before = total.result()
    with pytest.raises(PayloadError, match="a seed comes twice in one sum, which gives away"):
        total.add(one)
    # One seed of another contribution's is enough, wherever it stands.
    moved = other[:-64] + one[-128:-64]
    if shared.scheme._contribution(length).rows > 1:
        with pytest.raises(PayloadError, match="a seed comes twice"):
            total.add(moved)
        with pytest.raises(PayloadError, match="a seed comes twice"):
            total.add(other[:-64] + other[-128:-64])
    assert total.result() == before
    total.add(other)
    assert shared.open(total.result(), length).tolist() == (2 * np.arange(length)).tolist()


def test_seeds_are_data(shared: Any) -> None:
    """Whatever 64 octets stand there are expanded; the sum is then not one under this key."""
    length = 658
    for seed in (bytes(64), b"\xff" * 64, b"\x5e\xa1\x10\x04" * 16):
        total = shared.total(length)
        total.add(shared.protect(np.zeros(length))[:-64] + seed)
        with pytest.raises(PayloadError, match=r"out of range|does not count"):
            shared.open(total.result(), length)
