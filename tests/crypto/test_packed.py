"""Packed sums are the integer sums, bit for bit, whatever stands in the neighbouring lanes."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from qfl.crypto import Header, Packed, SumRange, expect, pack, unpack
from qfl.crypto.packed_choice import choose_packed
from qfl.crypto.packed_parameters import PackedParameters
from qfl.crypto.rlwe_ring import seal_ring
from qfl.errors import ConfigError, PayloadError, RangeError


def lengths(packed: Any) -> list[int]:
    full, lanes = packed.per_ciphertext, packed.scheme.parameters.lanes
    # One coefficient counts contributions: a full ciphertext of values already needs a second.
    return [0, 1, lanes, lanes + 1, full - lanes, full - lanes + 1, full, 3 * full + 5]


@pytest.mark.parametrize("place", range(8))
@pytest.mark.parametrize("clients", [2, 10])
def test_the_opened_sum_is_the_integer_sum(packed: Any, place: int, clients: int) -> None:
    length, most = lengths(packed)[place], packed.scheme.sums.capacity // clients
    rng = np.random.default_rng(place)
    vectors = [rng.integers(-most, most + 1, length) for _ in range(clients)]
    found = packed.open(packed.sum_of(vectors), length)
    assert found.dtype == np.int64
    assert found.tolist() == np.sum(vectors, axis=0).tolist()


@pytest.mark.parametrize("pattern", ["all", "none", "alternating", "one lane"])
def test_sums_at_full_capacity_do_not_reach_into_other_lanes(packed: Any, pattern: str) -> None:
    length, sums = packed.per_ciphertext + 7, packed.scheme.sums
    places = np.arange(length)
    sign = {
        "all": np.full(length, -1),
        "none": np.full(length, 1),
        "alternating": np.where(places % 2, -1, 1),
        "one lane": np.where(places < length // packed.scheme.parameters.lanes, -1, 1),
    }[pattern]
    # Nine contributions of a tenth, and one of whatever is missing.
    tenth = sums.capacity // 10
    vectors = [tenth * sign] * 9 + [(sums.capacity - 9 * tenth) * sign]
    assert (packed.open(packed.sum_of(vectors), length) == sums.capacity * sign).all()


def test_contributions_may_cancel_far_beyond_what_a_lane_holds(packed: Any) -> None:
    """Only the sum must fit: lanes of single contributions add modulo t."""
    capacity = packed.scheme.sums.capacity
    vectors = [np.full(50, sign * capacity) for sign in (1, 1, 1, -1, -1, -1, 1)]
    assert packed.open(packed.sum_of(vectors), 50).tolist() == [capacity] * 50


@settings(deadline=None, max_examples=40)
@given(
    capacity=st.integers(1, 2**52),
    additions=st.integers(1, 2000),
    length=st.integers(0, 9000),
    trust=st.sampled_from(["key_holder", "shared"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_lanes_hold_every_sum_apart(
    capacity: int, additions: int, length: int, trust: str, seed: int
) -> None:
    """Without encryption: lanes of plaintexts, added modulo t as big integers."""
    try:
        sums = SumRange(0, float(capacity), additions)
        scheme = Packed.for_sums(length, sums, trust)
    except ConfigError:
        return
    rng, most = np.random.default_rng(seed), sums.capacity
    first = rng.integers(-most, most + 1, length)
    # The sum of both is anything within the capacity.
    second = np.clip(rng.integers(-most, most + 1, length), -most - first, most - first)
    second = np.clip(second, -most, most)
    plain = sum(scheme._laned(vector).astype(object) for vector in (first, second))
    plain = (plain % scheme.parameters.plain_modulus).astype(np.uint64)
    used = scheme.parameters.coefficients(length)
    found = plain.ravel()[:used]
    assert found[-1] == 2
    found[-1] = 1
    assert scheme._unlaned(found, length).tolist() == (first + second).tolist()


def test_lanes_are_the_digits_that_the_module_says() -> None:
    sums = SumRange(0, 90.0, 10)
    parameters = PackedParameters(2048, 54, 0, sums.capacity, 3, 0, 0, "shared")
    plain = Packed(sums, parameters)._laned(np.array([1, -2, 3, 4, -5, 6]))
    base = 201
    assert parameters.base == base
    expected = [1 + 3 * base - 5 * base**2, -2 + 4 * base + 6 * base**2, 1]
    assert plain[0, :3].tolist() == [value % base**3 for value in expected]
    assert not plain[0, 3:].any()


def test_seal_carries_the_coefficients_that_lanes_made(packed: Any, internals: Any) -> None:
    """A body decrypted by SEAL alone holds the plaintext, to the last bit."""
    import tenseal.sealapi as seal

    from qfl.crypto.seal_objects import SealFile

    scheme, ring = packed.scheme, seal_ring(packed.scheme.parameters.ring)
    values = np.arange(packed.per_ciphertext) % 2003 - 1000
    body = packed.sum_of([values])
    opener = seal.Decryptor(ring.context, internals.seal_secret(scheme, packed.keys.secret))
    plain, ciphertext = seal.Plaintext(), seal.Ciphertext()
    with SealFile() as file:
        both = internals.ciphertexts(scheme, body, values.size)[0]
        ring.ciphertext.load(ciphertext, ring.context, file, both)
        opener.decrypt(ciphertext, plain)
    degree = scheme.parameters.degree
    assert [plain[i] for i in range(degree)] == scheme._laned(values)[0].tolist()


def test_uploads_have_the_size_that_was_promised(packed: Any) -> None:
    parameters = packed.scheme.parameters
    for length in lengths(packed):
        body = packed.protect(np.zeros(length))
        assert len(body) == parameters.upload_bytes(length)
        assert len(packed.sum_of([np.zeros(length)])) == parameters.download_bytes(length)


def test_two_encryptions_of_the_same_vector_differ(packed: Any) -> None:
    first, second = packed.protect(np.zeros(5000)), packed.protect(np.zeros(5000))
    same = np.frombuffer(first, np.uint8) == np.frombuffer(second, np.uint8)
    assert same.mean() < 0.01


def test_the_order_of_contributions_does_not_matter(packed: Any) -> None:
    rng = np.random.default_rng(5)
    bodies = [packed.protect(rng.integers(-9, 9, 700)) for _ in range(5)]
    results = []
    for order in (bodies, bodies[::-1]):
        total = packed.total(700)
        for body in order:
            total.add(body)
        results.append(total.result())
    assert results[0] == results[1]


# Refusals


@pytest.mark.parametrize("value", [65547, -65547, -(2**63)])
def test_a_value_past_the_capacity_is_refused_before_encryption(packed: Any, value: int) -> None:
    with pytest.raises(RangeError, match="a value exceeds 65546 grid steps"):
        packed.scheme.protect(np.array([0, value]), b"a key that is never read")


def test_more_additions_than_agreed_are_refused(packed: Any) -> None:
    total = packed.total(5)
    for _ in range(10):
        total.add(packed.protect(np.ones(5)))
    before = total.result()
    with pytest.raises(PayloadError, match=r"more than 10 contributions: .* not sound for another"):
        total.add(packed.protect(np.ones(5)))
    assert total.result() == before
    assert packed.open(before, 5).tolist() == [10] * 5


def test_parameters_that_do_not_fit_the_sums_are_refused() -> None:
    sums = SumRange(16, 1.0, 10)
    chosen = choose_packed(1000, sums, "shared")
    with pytest.raises(ConfigError, match="magnitude 65546 do not hold sums of 131082"):
        Packed(SumRange(17, 1.0, 10), chosen)
    with pytest.raises(
        ConfigError, match=r"open 400 contributions wrong too often: noise may reach \d+, and \d+"
    ):
        Packed(SumRange(0, 600.0, 400), PackedParameters(2048, 54, 0, 1000, 4, 4, 4, "shared"))


def test_a_sum_of_nothing_is_not_opened(packed: Any) -> None:
    with pytest.raises(PayloadError, match="not encrypted: its second half is zero"):
        packed.open(packed.total(5).result(), 5)


def test_a_contribution_under_another_key_is_refused(packed: Any) -> None:
    """By the envelope; and where somebody skips it, by the count of contributions."""
    ours, theirs = packed.keys, packed.scheme.generate_keys()
    key = theirs.secret if packed.scheme.parameters.trust == "shared" else theirs.public
    here = Header("packed", ours.key_id, "run", 1, "train", 100)
    foreign = Header("packed", theirs.key_id, "run", 1, "train", 100)
    header, body = unpack(pack(foreign, packed.scheme.protect(np.arange(100), key)))
    with pytest.raises(PayloadError, match=f"key_id='{theirs.key_id}', .*key_id='{ours.key_id}'"):
        expect(header, here)
    total = packed.total(100)
    total.add(packed.protect(np.arange(100)))
    total.add(body)
    words = "the sum does not count its contributions: it is not a sum under this key"
    with pytest.raises(PayloadError, match=words):
        packed.open(total.result(), 100)
    with pytest.raises(PayloadError, match=words):
        packed.scheme.open(packed.sum_of([np.arange(100)]), 100, theirs.secret)


def test_keys_of_other_parameters_or_schemes_are_refused(packed: Any, small: Any) -> None:
    trust = packed.scheme.parameters.trust
    other = Packed.for_sums(30_000, SumRange(16, 1.0, 11), trust).generate_keys()
    key = other.secret if trust == "shared" else other.public
    with pytest.raises(PayloadError, match=r"is of PackedParameters.*expects PackedParameters\("):
        packed.scheme.protect(np.zeros(5, np.int64), key)
    with pytest.raises(PayloadError, match=r"is of PackedParameters.*expects PackedParameters\("):
        packed.scheme.accumulator(5, other.public)
    body = packed.sum_of([np.zeros(5)])
    with pytest.raises(PayloadError, match=r"is of CkksParameters.*expects PackedParameters\("):
        packed.scheme.open(body, 5, small.keys.secret)
    with pytest.raises(PayloadError, match="not a secret key; it opens nothing"):
        packed.scheme.open(body, 5, packed.keys.public)


def test_a_secret_key_offered_as_public_is_refused(packed: Any) -> None:
    with pytest.raises(PayloadError, match="if it is a secret key, it must never leave its holder"):
        packed.scheme.accumulator(5, packed.keys.secret)


def test_a_contribution_that_is_not_encrypted_is_refused(packed: Any) -> None:
    if packed.scheme.parameters.trust == "shared":
        return  # a seed always encrypts
    length = 2 * packed.per_ciphertext
    body = packed.protect(np.zeros(length))
    size = packed.scheme._contribution(length).sections[1].row_bytes
    for row in (1, 2, 3):
        start = len(body) - row * size
        bare = body[:start] + bytes(size) + body[start + size :]
        with pytest.raises(PayloadError, match="a ciphertext is not encrypted"):
            packed.total(length).add(bare)


@pytest.mark.parametrize("trust", ["key_holder", "shared"])
def test_a_coefficient_past_the_prime_is_refused_and_leaves_the_sum(
    trust: str, with_keys: Any
) -> None:
    # Enough ciphertexts for several blocks: what was added of the first ones is taken back.
    parameters = PackedParameters(2048, 54, 0, 110, 1, 0, 0, trust)
    packed, length = with_keys(Packed(SumRange(0, 100.0, 10), parameters)), 40 * 2048
    form, total = packed.scheme._contribution(length), packed.total(length)
    total.add(packed.protect(np.arange(length) % 10))
    before = total.result()
    end = 0
    for section in form.sections:
        end += section.size
        damaged = bytearray(packed.protect(np.arange(length) % 10))
        damaged[end - section.row_bytes : end] = b"\xff" * section.row_bytes
        prime = seal_ring(parameters.ring).prime
        with pytest.raises(
            PayloadError, match=rf"a coefficient is {2**54 - 1}, past the .* {prime}"
        ):
            total.add(bytes(damaged))
        assert total.result() == before


@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b + b"\0", lambda b: b""])
def test_bodies_of_another_size_are_refused(packed: Any, change: Callable[[bytes], bytes]) -> None:
    words = r"100 values need \d+ bytes in 1 ciphertexts; found \d+ bytes"
    with pytest.raises(PayloadError, match=words):
        packed.total(100).add(change(packed.protect(np.zeros(100))))
    with pytest.raises(PayloadError, match=words):
        packed.open(change(packed.sum_of([np.zeros(100)])), 100)
    with pytest.raises(PayloadError, match=f"{2**70} values need"):
        packed.open(packed.sum_of([np.zeros(100)]), 2**70)


def test_damaged_bytes_are_refused_or_open_to_something(packed: Any) -> None:
    good, draw, refused = packed.protect(np.arange(658)), random.Random(3), 0
    for case in range(100):
        bad = bytearray(good)
        if case % 2:
            bad = bytearray(draw.randbytes(len(good)))
        else:
            bad[draw.randrange(len(bad))] ^= 1 << draw.randrange(8)
        total = packed.total(658)
        total.add(packed.protect(np.arange(658)))
        try:
            total.add(bytes(bad))
            packed.open(total.result(), 658)
        except PayloadError:
            refused += 1
    assert refused >= 50
