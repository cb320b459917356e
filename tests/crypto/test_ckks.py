"""Sums under encryption are the integer sums, bit for bit; everything else is refused."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from numpy.typing import NDArray

from qfl.crypto import Ckks, CkksParameters, Header, SumRange, expect, pack, unpack
from qfl.crypto.ckks_wire import wire_of
from qfl.errors import PayloadError, RangeError

IntVector = NDArray[np.int64]
shared_keys = settings(
    deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def lengths(slots: int) -> list[int]:
    return [0, 1, slots - 1, slots, slots + 1, 3 * slots]


@pytest.mark.parametrize("place", range(6))
@shared_keys
@given(seed=st.integers(0, 2**32 - 1), clients=st.integers(2, 8))
def test_the_opened_sum_is_the_integer_sum(keyed: Any, place: int, seed: int, clients: int) -> None:
    length, capacity = lengths(keyed.slots)[place], keyed.scheme.sums.capacity
    rng = np.random.default_rng(seed)
    size = int(rng.choice([2, capacity // clients]))
    vectors = [rng.integers(-size, size + 1, length) for _ in range(clients)]
    found = keyed.scheme.open(keyed.sum_of(vectors), length, keyed.keys.secret)
    assert found.dtype == np.int64
    assert found.tolist() == np.sum(vectors, axis=0).tolist()


@pytest.mark.parametrize("clients", [2, 3, 10, 30])
@pytest.mark.parametrize("signs", ["all", "none", "mixed"])
def test_a_sum_at_full_capacity_is_exact(keyed: Any, clients: int, signs: str) -> None:
    slots = keyed.slots
    sign = {"all": -1, "none": 1, "mixed": np.where(np.arange(slots) % 3 == 0, -1, 1)}[signs]
    share = np.full(slots, keyed.scheme.sums.capacity // clients) * sign
    found = keyed.scheme.open(keyed.sum_of([share] * clients), slots, keyed.keys.secret)
    assert found.tolist() == (clients * share).tolist()


def test_the_order_of_contributions_does_not_matter(small: Any) -> None:
    rng = np.random.default_rng(5)
    bodies = [small.scheme.protect(rng.integers(-9, 9, 700), small.keys.public) for _ in range(5)]
    results = []
    for order in (bodies, bodies[::-1]):
        total = small.scheme.accumulator(700, small.keys.public)
        for body in order:
            total.add(body)
        results.append(total.result())
    assert results[0] == results[1]


def test_two_encryptions_of_the_same_vector_differ(small: Any) -> None:
    vector = np.zeros(10, np.int64)
    assert small.scheme.protect(vector, small.keys.public) != small.scheme.protect(
        vector, small.keys.public
    )


def test_a_sum_is_what_tenseal_itself_adds_and_decrypts(keyed: Any) -> None:
    """Coefficients added modulo the prime are SEAL's own addition."""
    import tenseal

    scheme, keys, slots = keyed.scheme, keyed.keys, keyed.slots
    wire = wire_of(scheme.parameters)
    vectors = [np.arange(slots) - 500, 7 * np.arange(slots)]
    bodies = [scheme.protect(vector, keys.public) for vector in vectors]
    context = tenseal.context_from(keys.secret, n_threads=1)
    parts = [
        tenseal.ckks_vector_from(context, wire.vector(wire.unpack(body, slots)[0], slots))
        for body in bodies
    ]
    theirs = wire.pack_ciphertext((parts[0] + parts[1]).serialize())
    total = scheme.accumulator(slots, keys.public)
    for body in bodies:
        total.add(body)
    assert total.result() == theirs


def test_long_vectors_print_nothing(keyed: Any, capfd: pytest.CaptureFixture[str]) -> None:
    body = keyed.sum_of([np.ones(3 * keyed.slots, np.int64)])
    keyed.scheme.open(body, 3 * keyed.slots, keyed.keys.secret)
    assert capfd.readouterr() == ("", "")


def test_upload_is_twenty_bytes_per_value(small: Any) -> None:
    body = small.scheme.protect(np.zeros(2048, np.int64), small.keys.public)
    assert len(body) == 20 * 2048


# Ranges and numbers of additions


@pytest.mark.parametrize("value", [2**21 + 1, -(2**21) - 1, -(2**63)])
def test_a_value_past_the_capacity_is_refused_before_encryption(small: Any, value: int) -> None:
    with pytest.raises(RangeError, match=rf"a value of {abs(value)} grid steps exceeds 2097152"):
        small.scheme.protect(np.array([0, value]), b"a key that is never read")


def test_without_such_a_check_sums_wrap_without_a_word() -> None:
    """Why capacity is checked: ten times 1.0 is 10, and 10 is -6 modulo 2^40 / 2^36."""
    import tenseal

    context = tenseal.context(
        tenseal.SCHEME_TYPE.CKKS, 4096, coeff_mod_bit_sizes=[40, 20], n_threads=1
    )
    context.global_scale = 2.0**36
    total = tenseal.ckks_vector(context, [1.0] * 2048)
    for _ in range(9):
        total += tenseal.ckks_vector(context, [1.0] * 2048)
    assert np.abs(np.array(total.decrypt()) - -6.0).max() < 1e-3
    scheme = Ckks.for_sums(2048, SumRange(20, 1.0, 10))
    with pytest.raises(RangeError, match="without wrapping"):
        scheme.protect(np.full(2048, 10 << 20), b"")


def test_more_additions_than_agreed_are_refused(small: Any) -> None:
    body = small.scheme.protect(np.ones(5, np.int64), small.keys.public)
    total = small.scheme.accumulator(5, small.keys.public)
    for _ in range(10):
        total.add(body)
    before = total.result()
    with pytest.raises(PayloadError, match=r"more than 10 contributions: .* not sound for another"):
        total.add(body)
    assert total.result() == before
    assert small.scheme.open(before, 5, small.keys.secret).tolist() == [10] * 5


def test_a_sum_of_nothing_is_not_opened(small: Any) -> None:
    empty = small.scheme.accumulator(5, small.keys.public).result()
    with pytest.raises(PayloadError, match="not encrypted: its second half is zero"):
        small.scheme.open(empty, 5, small.keys.secret)


# Keys

OTHERS = [
    CkksParameters(4096, 40, 20, 37),
    CkksParameters(2048, 39, 14, 37),
    CkksParameters(2048, 40, 14, 36),
]


@pytest.mark.parametrize("parameters", OTHERS, ids=str)
def test_keys_of_other_parameters_are_refused(small: Any, parameters: CkksParameters) -> None:
    other = Ckks(small.scheme.sums, parameters).generate_keys()
    ours = r"CkksParameters\(degree=2048, data_bits=40, special_bits=14, scale_bits=37\)"
    words = rf"the public key is of CkksParameters.*; this run expects {ours}"
    with pytest.raises(PayloadError, match=words):
        small.scheme.protect(np.zeros(5, np.int64), other.public)
    with pytest.raises(PayloadError, match=words):
        small.scheme.accumulator(5, other.public)
    body = small.scheme.protect(np.zeros(5, np.int64), small.keys.public)
    with pytest.raises(
        PayloadError,
        match=r"the secret key has \(degree, bits of the primes, scale\) .*; this run expects "
        r"\(2048, \[40, 14\], 137438953472\.0\)",
    ):
        small.scheme.open(body, 5, other.secret)


def test_a_ciphertext_of_another_degree_is_refused(small: Any) -> None:
    other = Ckks(small.scheme.sums, CkksParameters(4096, 40, 20, 37))
    body = other.protect(np.zeros(5, np.int64), other.generate_keys().public)
    with pytest.raises(PayloadError, match="5 values need 1 ciphertexts of 20480 bytes; found 409"):
        small.scheme.accumulator(5, small.keys.public).add(body)


def test_a_ciphertext_of_a_larger_prime_is_refused(small: Any) -> None:
    other = Ckks(SumRange(20, 2.0, 10), CkksParameters(2048, 38, 14, 35))
    with pytest.raises(
        PayloadError, match=r"a coefficient is \d+, past the prime \d+: damaged, or"
    ):
        other.accumulator(5, other.generate_keys().public).add(
            small.scheme.protect(np.zeros(5, np.int64), small.keys.public)
        )


def test_a_ciphertext_under_another_key_is_refused_by_its_header(small: Any) -> None:
    """Equal parameters: only the envelope's key id can tell, and it does, before anything is added.

    Where somebody skips it, the sum opens to noise, which is out of range.
    """
    scheme, ours, theirs = small.scheme, small.keys, small.scheme.generate_keys()
    assert ours.key_id != theirs.key_id
    vector = np.arange(100)
    here = Header("ckks", ours.key_id, "run", 1, "train", 100)
    foreign = Header("ckks", theirs.key_id, "run", 1, "train", 100)
    header, body = unpack(pack(foreign, scheme.protect(vector, theirs.public)))
    with pytest.raises(PayloadError, match=f"key_id='{theirs.key_id}', .*key_id='{ours.key_id}'"):
        expect(header, here)

    total = scheme.accumulator(100, ours.public)
    total.add(scheme.protect(vector, ours.public))
    total.add(body)
    with pytest.raises(PayloadError, match="decrypts to values out of range: it is not a sum of"):
        scheme.open(total.result(), 100, ours.secret)


def test_a_secret_key_offered_as_public_is_refused(small: Any) -> None:
    for use in (
        lambda: small.scheme.protect(np.zeros(5, np.int64), small.keys.secret),
        lambda: small.scheme.accumulator(5, small.keys.secret),
    ):
        with pytest.raises(PayloadError, match="secret key, it must never leave its holder"):
            use()


def test_a_public_key_opens_nothing(small: Any) -> None:
    import tenseal

    body = small.scheme.protect(np.zeros(5, np.int64), small.keys.public)
    with pytest.raises(PayloadError, match="the secret key cannot be read as a CKKS context"):
        small.scheme.open(body, 5, small.keys.public)
    context = tenseal.context_from(small.keys.secret, n_threads=1)
    public_only = context.serialize(save_public_key=False, save_secret_key=False)
    with pytest.raises(PayloadError, match="this key holds no secret key: it opens nothing"):
        small.scheme.open(body, 5, public_only)


def test_a_secret_key_of_another_scheme_is_refused(small: Any) -> None:
    import tenseal

    bfv = tenseal.context(tenseal.SCHEME_TYPE.BFV, 4096, 1032193).serialize(save_secret_key=True)
    body = small.scheme.protect(np.zeros(5, np.int64), small.keys.public)
    with pytest.raises(PayloadError, match="the secret key cannot be read as a CKKS context"):
        small.scheme.open(body, 5, bfv)


def test_the_public_key_holds_no_secret(keyed: Any) -> None:
    """It is head and two polynomials modulo two primes, with room for nothing else."""
    import tenseal

    parameters, public = keyed.scheme.parameters, keyed.keys.public
    octets = {40: 5, 41: 6}[parameters.data_bits] + {14: 2, 20: 3}[parameters.special_bits]
    assert len(public) == 12 + 2 * parameters.degree * octets
    context = tenseal.context_from(wire_of(parameters).context(public), n_threads=1)
    assert not context.has_secret_key() and not context.is_private()
    assert not context.has_galois_keys() and not context.has_relin_keys()
    private = tenseal.context_from(keyed.keys.secret, n_threads=1)
    points = private.secret_key().data.data()
    width = {40: 5, 41: 6}[parameters.data_bits]
    assert b"".join(points[i].to_bytes(width, "little") for i in range(4)) not in public


def test_reprs_hold_no_key_bytes(small: Any) -> None:
    assert repr(small.keys) == f"KeyPair(key_id='{small.keys.key_id}')"
    assert f"{small.keys}" == repr(small.keys)
    assert small.keys.key_id not in (small.keys.secret.hex(), "")


def test_keys_are_new_each_time(small: Any) -> None:
    first, second = small.scheme.generate_keys(), small.scheme.generate_keys()
    assert first.secret != second.secret and first.key_id != second.key_id


# Malformed bytes


def refused_or_opened(attempt: Callable[[], Any]) -> bool:
    """Whether it passed; any error but a refusal fails the test."""
    try:
        attempt()
    except PayloadError:
        return False
    return True


def test_malformed_ciphertexts_are_refused_or_open_to_something(small: Any) -> None:
    scheme, keys = small.scheme, small.keys
    good = scheme.protect(np.arange(658), keys.public)
    draw = random.Random(1)
    refused = 0
    for case in range(400):
        bad = bytearray(good)
        if case % 4 == 0:
            bad = bytearray(draw.randbytes(draw.choice([0, 1, len(good) - 1, len(good)])))
        elif case % 4 == 1:
            bad[draw.randrange(len(bad))] ^= 1 << draw.randrange(8)
        elif case % 4 == 2:
            del bad[draw.randrange(len(bad)) :]
        else:
            bad[draw.randrange(len(bad)) :] += draw.randbytes(draw.randrange(1, 9))

        def attempt(bad: bytes = bytes(bad)) -> None:
            total = scheme.accumulator(658, keys.public)
            total.add(good)
            total.add(bad)
            scheme.open(total.result(), 658, keys.secret)

        refused += not refused_or_opened(attempt)
    assert refused > 250


def test_a_flipped_bit_that_opens_is_refused_by_the_envelope(small: Any) -> None:
    header = Header("ckks", small.keys.key_id, "run", 1, "train", 658)
    payload = bytearray(pack(header, small.scheme.protect(np.arange(658), small.keys.public)))
    payload[-1000] ^= 1
    with pytest.raises(PayloadError, match="damaged"):
        unpack(bytes(payload))


@pytest.mark.parametrize("length", [0, 657, 1025, 10**6, 10**18, 2**70])
def test_claims_of_another_length_are_refused_at_once(small: Any, length: int) -> None:
    body = small.scheme.protect(np.zeros(1025, np.int64), small.keys.public)
    if length == 1025:
        assert small.scheme.open(body, length, small.keys.secret).tolist() == [0] * 1025
        return
    with pytest.raises(PayloadError, match=rf"{length} values need \d+ ciphertexts .*found 40960"):
        small.scheme.open(body, length, small.keys.secret)


def test_what_seal_serialised_is_refused_unparsed(small: Any) -> None:
    """SEAL's parser ends the process on some compressed objects, so it gets none from outside."""
    import tenseal

    context = tenseal.context_from(wire_of(small.scheme.parameters).context(small.keys.public))
    body = tenseal.ckks_vector(context, [0.0] * 658).serialize()
    with pytest.raises(PayloadError, match="658 values need 1 ciphertexts of 20480 bytes; found"):
        small.scheme.accumulator(658, small.keys.public).add(body)


def test_a_contribution_that_is_not_encrypted_is_refused(small: Any) -> None:
    body = small.scheme.protect(np.zeros(1025, np.int64), small.keys.public)
    half = len(body) // 4
    for start in (half, 3 * half):
        bare = body[:start] + bytes(half) + body[start + half :]
        with pytest.raises(PayloadError, match="a ciphertext is not encrypted"):
            small.scheme.accumulator(1025, small.keys.public).add(bare)


def test_malformed_public_keys_are_refused_or_usable(small: Any) -> None:
    good = small.keys.public
    draw = random.Random(2)
    refused = 0
    for case in range(150):
        bad = bytearray(good)
        if case % 5 == 0:
            bad = bytearray(draw.randbytes(draw.randrange(100)))
        elif case % 5 == 1:
            bad[draw.randrange(12)] ^= 1 << draw.randrange(8)
        elif case % 5 == 2:
            bad[draw.randrange(len(bad))] ^= 1 << draw.randrange(8)
        elif case % 5 == 3:
            del bad[draw.randrange(len(bad)) :]
        else:
            bad += draw.randbytes(draw.randrange(1, 9))

        def attempt(bad: bytes = bytes(bad)) -> None:
            small.scheme.protect(np.zeros(5, np.int64), bad)

        refused += not refused_or_opened(attempt)
    assert refused >= 120


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda key: key[:-1], "the public key ends after 28683 bytes"),
        (lambda key: key[:20], "the public key ends after 20 bytes"),
        (lambda key: key[:11], "not a CKKS public key"),
        (lambda key: key + b"\0", "1 bytes follow the public key"),
        (lambda key: b"", "not a CKKS public key"),
        (lambda key: key[:12] + b"\xff" * (len(key) - 12), "a coefficient is 1099511627775, past"),
    ],
)
def test_public_keys_of_wrong_size_or_content_are_named(
    small: Any, change: Callable[[bytes], bytes], words: str
) -> None:
    with pytest.raises(PayloadError, match=words):
        small.scheme.protect(np.zeros(5, np.int64), change(small.keys.public))
