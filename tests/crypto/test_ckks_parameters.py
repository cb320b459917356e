"""Parameters are secure by the standard's table, wide enough, and quiet enough."""

from __future__ import annotations

from itertools import pairwise
from math import log
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from scipy.stats import kurtosis, laplace, norm

from qfl.crypto import Ckks, CkksParameters, SumRange, choose_parameters, make_scheme
from qfl.crypto.rlwe_ring import seal_ring
from qfl.errors import ConfigError

# homomorphicencryption.org (2018), table 1: ternary secret, 128 bits of classical security.
STANDARD = {1024: 27, 2048: 54, 4096: 109}


@given(
    length=st.integers(0, 5_000_000),
    bits=st.integers(8, 22),
    bound=st.floats(0.01, 64.0),
    additions=st.integers(1, 300),
    trust=st.sampled_from(["key_holder", "shared"]),
)
def test_what_is_chosen_is_secure_wide_and_quiet_enough(
    length: int, bits: int, bound: float, additions: int, trust: str
) -> None:
    try:
        sums = SumRange(bits, bound, additions)
        chosen = choose_parameters(length, sums, trust)
    except ConfigError:
        return
    assert sum(chosen.prime_bits) <= STANDARD[chosen.degree]
    assert max(chosen.prime_bits) <= 60
    deviation = chosen.noise(additions)
    # A prime of b bits exceeds 0.99 times 2^b, and coefficients wrap at half of it. They are no
    # larger than the largest slot; noise of a coefficient is smaller than noise of a slot.
    largest = (sums.capacity * sums.step + 10 * deviation) * chosen.scale
    assert largest <= 0.99 * 2.0 ** (chosen.data_bits - 1)
    if trust == "shared":
        # exp(-x^2 / 2) bounds the tail of a Gaussian and of everything sub-Gaussian.
        log_tail = log(2) - (sums.step / 2 / deviation) ** 2 / 2
        assert log_tail >= norm.logsf(sums.step / 2, scale=deviation) + log(2)
    else:
        log_tail = laplace.logsf(sums.step / 2, scale=deviation / np.sqrt(2)) + log(2)
    failure_bits = -(log_tail + log(max(length, 1))) / log(2)
    assert failure_bits >= 64
    if failure_bits < 900:  # else scipy's is infinite
        assert chosen.failure_bits(length, sums) == pytest.approx(failure_bits, rel=1e-9)


def test_the_primes_that_seal_makes_have_these_bits() -> None:
    for parameters in (
        CkksParameters(2048, 40, 14, 2**37),
        CkksParameters(4096, 42, 20, 2**39),
        CkksParameters(1024, 27, 0, 2**20, "shared"),
        CkksParameters(2048, 36, 0, 2**33, "shared"),
    ):
        primes = seal_ring(parameters.ring).primes
        assert [prime.bit_length() for prime in primes] == parameters.prime_bits
        # Head-room is counted against half of the full power of two.
        assert primes[0] > 0.99 * 2**parameters.data_bits
        assert all(prime % (2 * parameters.degree) == 1 for prime in primes)


@pytest.mark.parametrize(
    ("length", "bits", "additions", "trust", "degree", "data_bits"),
    [
        (658, 20, 10, "key_holder", 2048, 39),
        (658, 20, 1, "key_holder", 2048, 37),
        (20_000, 20, 30, "key_holder", 2048, 40),
        (658, 22, 10, "key_holder", 4096, 42),
        (658, 20, 10, "shared", 2048, 35),
        (1_000_000, 20, 10, "shared", 4096, 36),
        (658, 20, 1, "shared", 2048, 34),
        (500, 8, 10, "shared", 1024, 25),
    ],
)
def test_known_choices(
    length: int, bits: int, additions: int, trust: str, degree: int, data_bits: int
) -> None:
    sums = SumRange(bits, 0.25 if degree == 1024 else 2.0, additions)
    chosen = choose_parameters(length, sums, trust)
    assert (chosen.degree, chosen.data_bits) == (degree, data_bits)
    assert chosen.slots == degree // 2
    # One bit less is refused, at this degree, by the noise alone.
    less = CkksParameters(degree, data_bits - 1, chosen.special_bits, chosen.scale // 2, trust)
    assert less.failure_bits(length, sums) < 64 or data_bits == 25


def test_a_larger_degree_may_cost_three_percent_under_shared_only() -> None:
    sums = SumRange(20, 2.0, 10)
    for trust, most in (("key_holder", 1.0), ("shared", 1.03)):
        for length in (200, 2000, 20_000, 200_000):
            chosen = choose_parameters(length, sums, trust).upload_bytes(length)
            for degree, special in ((2048, 14), (4096, 20)):
                for bits in range(30, 45):
                    found = CkksParameters(
                        degree,
                        bits,
                        special if trust == "key_holder" else 0,
                        int(0.45 * 2**bits / (sums.capacity * sums.step)),
                        trust,
                    )
                    if (
                        sum(found.prime_bits) <= STANDARD[degree]
                        and found.failure_bits(length, sums) >= 64
                    ):
                        assert chosen <= most * found.upload_bytes(length)


@pytest.mark.parametrize("trust", ["key_holder", "shared"])
@pytest.mark.parametrize("degree", [2048, 4096])
def test_more_clients_or_a_finer_grid_never_need_fewer_bits(degree: int, trust: str) -> None:
    compared = 0
    for length in (10, 658, 20_000):
        by_clients = [[SumRange(bits, 2.0, n) for n in range(1, 120, 7)] for bits in range(10, 23)]
        by_grid = [[SumRange(bits, 2.0, n) for bits in range(10, 23)] for n in (1, 10, 50, 100)]
        for line in by_clients + by_grid:
            chosen = [choose_parameters(length, sums, trust) for sums in line]
            for coarse, fine in pairwise(found for found in chosen if found.degree == degree):
                assert fine.data_bits >= coarse.data_bits
                compared += 1
    assert compared > 50


def test_the_impossible_is_refused() -> None:
    for trust in ("key_holder", "shared"):
        with pytest.raises(
            ConfigError,
            match=r"no CKKS parameters sum 100 vectors of 658 values with bound 4 on a grid of "
            r"2\^-47 soundly: lower strategy\.grid_bits or strategy\.bound",
        ):
            choose_parameters(658, SumRange(47, 4.0, 100), trust)


def measured_errors(
    keyed_of: Any, scheme: Ckks, keys: int, additions: int, internals: Any, seed: int
) -> np.ndarray:
    """Raw decryption minus exact sum, one row per key."""
    rng = np.random.default_rng(seed)
    slots, most = scheme.parameters.slots, scheme.sums.capacity // additions
    rows = []
    for _ in range(keys):
        keyed = keyed_of(scheme)
        vectors = [rng.integers(-most, most + 1, slots) for _ in range(additions)]
        raw = internals.raw(scheme, keyed.sum_of(vectors), slots, keyed.keys.secret)
        rows.append(raw - np.sum(vectors, axis=0) * scheme.sums.step)
    return np.array(rows)


@pytest.mark.parametrize(
    ("parameters", "additions", "keys"),
    [
        (CkksParameters(2048, 40, 14, 2**37), 1, 40),
        (CkksParameters(2048, 40, 14, 2**37), 10, 12),
        (CkksParameters(4096, 42, 20, 2**39), 4, 12),
        (CkksParameters(2048, 36, 0, 2**33, "shared"), 1, 20),
        (CkksParameters(2048, 36, 0, 2**33, "shared"), 10, 12),
        (CkksParameters(4096, 38, 0, 2**35, "shared"), 4, 8),
    ],
    ids=str,
)
def test_noise_is_as_large_as_computed(
    parameters: CkksParameters, additions: int, keys: int, internals: Any, with_keys: Any
) -> None:
    scheme = Ckks(SumRange(20, 2.0, additions), parameters)
    errors = measured_errors(with_keys, scheme, keys, additions, internals, seed=additions)
    tolerance = 0.03 if parameters.trust == "shared" else 0.06
    assert errors.std() == pytest.approx(parameters.noise(additions), rel=tolerance)
    assert abs(errors.mean()) < 0.1 * errors.std()


def test_noise_of_public_keys_has_the_heavy_tail_of_a_laplace_distribution(
    internals: Any, with_keys: Any
) -> None:
    scheme = Ckks(SumRange(20, 2.0, 1), CkksParameters(2048, 38, 14, 2**35))
    errors = measured_errors(with_keys, scheme, 40, 1, internals, seed=0).ravel()
    # Excess kurtosis: 3 for Laplace, 0 for Gaussian.
    assert 2.0 < kurtosis(errors) < 4.5
    # Beyond five deviations: Laplace 8.5e-4, Gaussian 6e-7.
    beyond = float((np.abs(errors) > 5 * errors.std()).mean())
    assert 2e-4 < beyond < 3e-3


def test_noise_of_shared_keys_has_no_such_tail(internals: Any, with_keys: Any) -> None:
    scheme = Ckks(SumRange(20, 2.0, 1), CkksParameters(2048, 36, 0, 2**33, "shared"))
    errors = measured_errors(with_keys, scheme, 40, 1, internals, seed=0).ravel()
    assert abs(kurtosis(errors)) < 0.3
    assert np.abs(errors).max() < 6 * errors.std()


@pytest.mark.parametrize("trust", ["key_holder", "shared"])
@pytest.mark.parametrize("bound", [1e-3, 0.02, 0.125, 0.4, 0.5])
def test_narrow_bounds_get_a_scale_that_seal_takes(bound: float, trust: str) -> None:
    sums = SumRange(20, bound, 4)
    scheme = make_scheme("ckks", 5, sums, trust)
    keys = scheme.generate_keys()
    key = keys.public if trust == "key_holder" else keys.secret
    total = scheme.accumulator(5, keys.public)
    most = sums.capacity // 4
    for _ in range(4):
        total.add(scheme.protect(np.array([most, -most, 1, 0, -1]), key))
    opened = scheme.open(total.result(), 5, keys.secret)
    assert opened.tolist() == [4 * most, -4 * most, 4, 0, -4]
