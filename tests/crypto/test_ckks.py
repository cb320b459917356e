"""Sums under encryption are the integer sums, bit for bit; what is not allowed is refused."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from numpy.typing import NDArray

from qfl.crypto import Ckks, CkksParameters, Header, SumRange, expect, pack, unpack
from qfl.crypto.rlwe_ring import seal_ring
from qfl.crypto.seal_objects import SealFile
from qfl.errors import ConfigError, PayloadError, RangeError

IntVector = NDArray[np.int64]
shared_keys = settings(
    deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def lengths(slots: int) -> list[int]:
    return [0, 1, slots - 1, slots, slots + 1, 3 * slots]


@pytest.mark.parametrize("place", range(6))
@shared_keys
@given(seed=st.integers(0, 2**32 - 1), clients=st.integers(2, 8))
def test_the_opened_sum_is_the_integer_sum(keyed: Any, place: int, seed: int, clients: int) -> None:
    length = lengths(keyed.per_ciphertext)[place]
    rng = np.random.default_rng(seed)
    size = int(rng.choice([2, keyed.scheme.sums.capacity // clients]))
    vectors = [rng.integers(-size, size + 1, length) for _ in range(clients)]
    found = keyed.open(keyed.sum_of(vectors), length)
    assert found.dtype == np.int64
    assert found.tolist() == np.sum(vectors, axis=0).tolist()


@pytest.mark.parametrize("clients", [2, 10, 30])
@pytest.mark.parametrize("signs", ["all", "none", "mixed"])
def test_a_sum_at_full_capacity_is_exact(keyed: Any, clients: int, signs: str) -> None:
    slots = keyed.per_ciphertext
    sign = {"all": -1, "none": 1, "mixed": np.where(np.arange(slots) % 3 == 0, -1, 1)}[signs]
    share = np.full(slots, keyed.scheme.sums.capacity // clients) * sign
    found = keyed.open(keyed.sum_of([share] * clients), slots)
    assert found.tolist() == (clients * share).tolist()


def test_more_ciphertexts_than_are_worked_on_at_once(keyed: Any) -> None:
    length = 35 * keyed.per_ciphertext + 1
    vectors = [np.arange(length) % 997 - 300, np.arange(length) % 1009]
    assert (keyed.open(keyed.sum_of(vectors), length) == vectors[0] + vectors[1]).all()


def test_the_order_of_contributions_does_not_matter(keyed: Any) -> None:
    rng = np.random.default_rng(5)
    bodies = [keyed.protect(rng.integers(-9, 9, 700)) for _ in range(5)]
    results = []
    for order in (bodies, bodies[::-1]):
        total = keyed.total(700)
        for body in order:
            total.add(body)
        results.append(total.result())
    assert results[0] == results[1]


def test_two_encryptions_of_the_same_vector_differ(keyed: Any) -> None:
    first, second = keyed.protect(np.zeros(10)), keyed.protect(np.zeros(10))
    same = np.frombuffer(first, np.uint8) == np.frombuffer(second, np.uint8)
    assert same.mean() < 0.01


def test_a_sum_is_what_seal_itself_adds(keyed: Any, internals: Any) -> None:
    """Coefficients added lazily, and seeds expanded, are SEAL's own addition."""
    import tenseal.sealapi as seal

    slots, ring = keyed.per_ciphertext, seal_ring(keyed.scheme.parameters.ring)
    bodies = [keyed.protect(np.arange(slots) - 500), keyed.protect(7 * np.arange(slots))]
    loaded = []
    with SealFile() as file:
        for body in bodies:
            alone = keyed.total(slots)
            alone.add(body)
            parts = internals.ciphertexts(keyed.scheme, alone.result(), slots)[0]
            loaded.append(seal.Ciphertext())
            ring.ciphertext.load(loaded[-1], ring.context, file, parts)
        seal.Evaluator(ring.context).add_inplace(*loaded)
        theirs = ring.ciphertext.values(file.save(loaded[0]))
    total = keyed.total(slots)
    for body in bodies:
        total.add(body)
    assert (internals.ciphertexts(keyed.scheme, total.result(), slots).ravel() == theirs).all()


def test_long_vectors_print_nothing(keyed: Any, capfd: pytest.CaptureFixture[str]) -> None:
    length = 3 * keyed.per_ciphertext
    keyed.open(keyed.sum_of([np.ones(length)]), length)
    assert capfd.readouterr() == ("", "")


def test_uploads_have_the_size_that_was_promised(small: Any, small_shared: Any) -> None:
    # For each value four numbers of 39 bits; or two of 35 bits, and seeds.
    assert len(small.protect(np.zeros(2048))) == 2048 * 4 * 39 // 8
    assert len(small_shared.protect(np.zeros(2048))) == 2048 * 2 * 35 // 8 + 2 * 64
    for keyed in (small, small_shared):
        for length in (0, 1, 1024, 1025, 5000):
            promised = keyed.scheme.parameters.upload_bytes(length)
            assert len(keyed.protect(np.zeros(length))) == promised


# Ranges and numbers of additions


@pytest.mark.parametrize("value", [2**21 + 11, -(2**21) - 11, -(2**63)])
def test_a_value_past_the_capacity_is_refused_before_encryption(small: Any, value: int) -> None:
    with pytest.raises(RangeError, match="a value exceeds 2097162 grid steps"):
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


def test_more_additions_than_agreed_are_refused(small: Any, small_shared: Any) -> None:
    for keyed in (small, small_shared):
        total = keyed.total(5)
        for _ in range(10):
            total.add(keyed.protect(np.ones(5)))
        before = total.result()
        words = r"more than 10 contributions: .* not sound for another"
        with pytest.raises(PayloadError, match=words):
            total.add(keyed.protect(np.ones(5)))
        assert total.result() == before
        assert keyed.open(before, 5).tolist() == [10] * 5


def test_a_sum_of_nothing_is_not_opened(keyed: Any) -> None:
    with pytest.raises(PayloadError, match="not encrypted: its second half is zero"):
        keyed.open(keyed.total(5).result(), 5)


def test_an_unknown_trust_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"trust=committee .*set trust=key_holder or shared"):
        Ckks.for_sums(5, SumRange(20, 2.0, 10), "committee")


# Ciphertexts of others


def test_a_ciphertext_of_another_degree_is_refused(small: Any, with_keys: Any) -> None:
    other = with_keys(Ckks(small.scheme.sums, CkksParameters(4096, 40, 20, 2**37)))
    with pytest.raises(
        PayloadError, match="5 values need 19968 bytes in 1 ciphertexts; found 40960 bytes"
    ):
        small.total(5).add(other.protect(np.zeros(5)))


def test_a_ciphertext_of_a_larger_prime_is_refused(with_keys: Any, internals: Any) -> None:
    """At an equal number of bits the sizes agree, and the prime is what tells them apart."""
    sums = SumRange(18, 1.0, 10)
    ours = with_keys(Ckks(sums, CkksParameters(2048, 40, 14, 2**37)))
    prime = seal_ring(ours.scheme.parameters.ring).prime
    section = ours.scheme._total(5).sections[0]
    values = np.full((1, 2048), prime, np.uint64)
    body = section.pack(values - np.uint64(1), 1) + section.pack(values, 1)
    with pytest.raises(
        PayloadError, match=rf"a coefficient is {prime}, past the prime {prime}: damaged, or of"
    ):
        ours.total(5).add(body)


def test_a_ciphertext_under_another_key_is_refused_by_its_header(keyed: Any) -> None:
    """Equal parameters: only the envelope's key id can tell, and it does, before anything is added.

    Where somebody skips it, the sum opens to noise, which is out of range.
    """
    ours, theirs = keyed.keys, keyed.scheme.generate_keys()
    assert ours.key_id != theirs.key_id
    here = Header("ckks", ours.key_id, "run", 1, "train", 100)
    foreign = Header("ckks", theirs.key_id, "run", 1, "train", 100)
    key = theirs.secret if keyed.scheme.parameters.trust == "shared" else theirs.public
    header, body = unpack(pack(foreign, keyed.scheme.protect(np.arange(100), key)))
    with pytest.raises(PayloadError, match=f"key_id='{theirs.key_id}', .*key_id='{ours.key_id}'"):
        expect(header, here)

    total = keyed.total(100)
    total.add(keyed.protect(np.arange(100)))
    total.add(body)
    with pytest.raises(PayloadError, match="decrypts to values out of range: it is not a sum of"):
        keyed.open(total.result(), 100)
