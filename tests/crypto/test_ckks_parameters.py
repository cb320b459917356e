"""Parameters are secure by the standard's table, wide enough, and quiet enough."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from math import log

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from scipy.stats import kurtosis, laplace

from qfl.crypto import Ckks, CkksParameters, SumRange, choose_parameters
from qfl.errors import ConfigError

# homomorphicencryption.org (2018), table 1: ternary secret, 128 bits of classical security.
STANDARD = {2048: 54, 4096: 109}


@given(
    length=st.integers(0, 5_000_000),
    bits=st.integers(8, 22),
    bound=st.floats(0.01, 64.0),
    additions=st.integers(1, 300),
)
def test_what_is_chosen_is_secure_wide_and_quiet_enough(
    length: int, bits: int, bound: float, additions: int
) -> None:
    try:
        sums = SumRange(bits, bound, additions)
        chosen = choose_parameters(length, sums)
    except ConfigError:
        return
    assert sum(chosen.prime_bits) <= STANDARD[chosen.degree]
    assert max(chosen.prime_bits) <= 60
    # A prime of b bits is at least 2^(b-1), so half of it is at least 2^(b-2).
    largest = sums.capacity * sums.step * 2.0**chosen.scale_bits
    assert 2 * largest <= 2.0 ** (chosen.data_bits - 1)
    deviation = chosen.noise(additions)
    log_tail = laplace.logsf(sums.step / 2, scale=deviation / np.sqrt(2)) + log(2)
    failure_bits = -(log_tail + log(max(length, 1))) / log(2)
    assert failure_bits >= 64
    assert chosen.failure_bits(length, sums) == pytest.approx(failure_bits, rel=1e-9)


def test_the_primes_that_seal_makes_have_these_bits() -> None:
    from qfl.crypto.ckks_wire import wire_of

    for parameters in (CkksParameters(2048, 40, 14, 37), CkksParameters(4096, 42, 20, 39)):
        primes = wire_of(parameters).primes
        assert [prime.bit_length() for prime in primes] == parameters.prime_bits
        # Head-room is counted against half of the full power of two.
        assert primes[0] > 0.999 * 2**parameters.data_bits
        assert all(prime % (2 * parameters.degree) == 1 for prime in primes)


@pytest.mark.parametrize(
    ("length", "bits", "additions", "degree", "data_bits"),
    [
        (658, 20, 10, 2048, 40),
        (658, 20, 1, 2048, 38),
        (20_000, 20, 30, 4096, 42),
        (658, 22, 10, 4096, 43),
    ],
)
def test_known_choices(length: int, bits: int, additions: int, degree: int, data_bits: int) -> None:
    chosen = choose_parameters(length, SumRange(bits, 2.0, additions))
    assert (chosen.degree, chosen.data_bits) == (degree, data_bits)
    assert chosen.scale_bits == data_bits - 3  # one bit for the bound 2, one of head-room, a sign
    assert chosen.slots == degree // 2


@pytest.mark.parametrize("degree", [2048, 4096])
def test_more_clients_or_a_finer_grid_never_need_fewer_bits(degree: int) -> None:
    compared = 0
    for length in (10, 658, 20_000):
        by_clients = [[SumRange(bits, 2.0, n) for n in range(1, 120, 7)] for bits in range(10, 23)]
        by_grid = [[SumRange(bits, 2.0, n) for bits in range(10, 23)] for n in (1, 10, 50, 100)]
        for line in by_clients + by_grid:
            chosen = [choose_parameters(length, sums) for sums in line]
            for coarse, fine in pairwise(found for found in chosen if found.degree == degree):
                assert fine.data_bits >= coarse.data_bits
                compared += 1
            assert [c.degree for c in chosen] == sorted(c.degree for c in chosen)
    assert compared > 100


def test_the_impossible_is_refused() -> None:
    with pytest.raises(
        ConfigError,
        match=r"no CKKS parameters sum 100 vectors of 658 values with bound 4 on a grid of 2\^-45 "
        r"soundly: lower strategy\.grid_bits or strategy\.bound",
    ):
        choose_parameters(658, SumRange(45, 4.0, 100))


RawDecryption = Callable[[Ckks, bytes, int, bytes], np.ndarray]


def measured_errors(
    scheme: Ckks, keys: int, additions: int, raw_decryption: RawDecryption, seed: int
) -> np.ndarray:
    """Raw decryption minus exact sum, one row per key."""
    rng = np.random.default_rng(seed)
    slots, most = scheme.parameters.slots, scheme.sums.capacity // additions
    rows = []
    for _ in range(keys):
        pair = scheme.generate_keys()
        total, exact = scheme.accumulator(slots, pair.public), np.zeros(slots, np.int64)
        for _ in range(additions):
            vector = rng.integers(-most, most + 1, slots)
            total.add(scheme.protect(vector, pair.public))
            exact += vector
        raw = raw_decryption(scheme, total.result(), slots, pair.secret)
        rows.append(raw - exact * scheme.sums.step)
    return np.array(rows)


@pytest.mark.parametrize(
    ("parameters", "additions", "keys"),
    [
        (CkksParameters(2048, 40, 14, 37), 1, 40),
        (CkksParameters(2048, 40, 14, 37), 10, 12),
        (CkksParameters(4096, 42, 20, 39), 4, 12),
    ],
)
def test_noise_is_as_large_as_computed(
    parameters: CkksParameters, additions: int, keys: int, raw_decryption: RawDecryption
) -> None:
    scheme = Ckks(SumRange(20, 2.0, additions), parameters)
    errors = measured_errors(scheme, keys, additions, raw_decryption, seed=additions)
    assert errors.std() == pytest.approx(parameters.noise(additions), rel=0.06)
    assert abs(errors.mean()) < 0.1 * errors.std()


def test_noise_over_many_keys_has_the_heavy_tail_of_a_laplace_distribution(
    raw_decryption: RawDecryption,
) -> None:
    scheme = Ckks(SumRange(20, 2.0, 1), CkksParameters(2048, 38, 14, 35))
    errors = measured_errors(scheme, 40, 1, raw_decryption, seed=0).ravel()
    # Excess kurtosis: 3 for Laplace, 0 for Gaussian.
    assert 2.0 < kurtosis(errors) < 4.5
    # Beyond five deviations: Laplace 8.5e-4, Gaussian 6e-7.
    beyond = float((np.abs(errors) > 5 * errors.std()).mean())
    assert 2e-4 < beyond < 3e-3
