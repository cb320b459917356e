"""Parameters of ``packed``: secure, sound, small; noise as large as derived, measured exactly."""

from __future__ import annotations

from fractions import Fraction
from math import exp, log, sqrt
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.stats import binom, kurtosis

from qfl.crypto import Packed, SumRange
from qfl.crypto.packed_choice import choose_packed
from qfl.crypto.packed_parameters import PackedParameters
from qfl.crypto.rlwe_ring import LARGEST_ERROR, seal_ring
from qfl.crypto.seal_objects import SealFile
from qfl.errors import ConfigError

# homomorphicencryption.org (2018), table 1: ternary secret, 128 bits of classical security.
STANDARD = {1024: 27, 2048: 54, 4096: 109}


@settings(deadline=None, max_examples=40)
@given(
    length=st.integers(0, 5_000_000),
    capacity=st.integers(10, 2**40),
    additions=st.integers(1, 1000),
    trust=st.sampled_from(["key_holder", "shared"]),
)
def test_what_is_chosen_is_secure_wide_and_sound(
    length: int, capacity: int, additions: int, trust: str
) -> None:
    try:
        sums = SumRange(0, float(capacity), additions)
        chosen = choose_packed(length, sums, trust)
    except ConfigError:
        return
    assert chosen.data_bits + chosen.special_bits <= STANDARD[chosen.degree]
    assert chosen.data_bits <= 60 and chosen.plain_modulus < 2**60
    assert chosen.base == 2 * sums.capacity + 1
    assert chosen.is_sound(additions, length)
    # By exact arithmetic, for the smallest prime of these bits that could be meant.
    room = Fraction(int(0.99 * 2**chosen.data_bits), 2 * chosen.plain_modulus)
    assert chosen.noise_bound(additions, length) < float(room) * 1.01
    assert 9 * chosen.noise(additions) < float(room) * 1.01 or trust == "shared"


@given(degree=st.sampled_from([1024, 2048, 4096]), n=st.integers(1, 500))
def test_the_bound_leaves_less_than_two_to_the_minus_64(degree: int, n: int) -> None:
    """The bound of the module for a public key, put together again from the pieces it names."""
    coefficients, drop, second = 1_000_001, 9, 5
    found = PackedParameters(degree, STANDARD[degree] // 2, 0, 1000, 1, drop, second)
    y = 67 * log(2)
    secret = 2 * degree / 3 + sqrt(degree * y / 2)
    # Hoeffding's bound on the number of coefficients that are not zero holds.
    assert binom.logsf(secret, degree, 2 / 3) <= -y
    error = 10.5 * (degree + 2 * sqrt(degree * y) + 2 * y)
    variance = n * (2 / 3 * error + 10.5 * (1 + secret) + (4**drop + secret * 4**second) / 12)
    # Halves of the contributions, and what is cut of the sum: three bits less, so 6 and 2 bits.
    mean_variance = 2 / 3 * degree * (n / 2 + 2**1) ** 2
    far_mean = sqrt(2 * mean_variance * log(2 * coefficients * 2**66))
    mean = n / 2 + n / 2 + 2**5 + far_mean
    far = found.noise_bound(n, coefficients - 1) - mean
    failure = 2 * coefficients * exp(-(far**2) / 2 / variance) + 2**-66 + 2 * 2**-67
    assert failure == pytest.approx(2**-64, rel=1e-6)


def test_noise_with_the_secret_key_never_passes_its_largest_value() -> None:
    """Few contributions: 21 and a half each, half of what was cut, and half of one cut more."""
    found = PackedParameters(2048, 54, 0, 2**16, 2, 6, 0, "shared")
    assert found.noise_bound(2, 10**6) == 2 * (21 + 1 / 2 + 2**5) + 2**2


@pytest.mark.parametrize(
    ("bits", "bound", "trust", "most"),
    [
        (15, 1.0, "key_holder", 4.75),
        (16, 1.0, "key_holder", 5.3),
        (20, 2.0, "key_holder", 6.6),
        (15, 1.0, "shared", 2.2),
        (16, 1.0, "shared", 2.4),
        (20, 2.0, "shared", 3.1),
    ],
)
def test_bytes_per_value_of_a_million_and_ten_clients(
    bits: int, bound: float, trust: str, most: float
) -> None:
    chosen = choose_packed(1_000_000, SumRange(bits, bound, 10), trust)
    assert chosen.upload_bytes(1_000_000) / 1_000_000 < most


def test_a_small_model_is_sent_in_less_than_its_float32s() -> None:
    chosen = choose_packed(200, SumRange(20, 2.0, 10), "shared")
    assert chosen.upload_bytes(200) < 4 * 200


def test_more_clients_never_cost_less() -> None:
    for trust in ("key_holder", "shared"):
        sizes = [
            choose_packed(100_000, SumRange(16, 1.0, n), trust).upload_bytes(100_000)
            for n in (1, 3, 10, 30, 100, 300, 1000)
        ]
        assert sizes == sorted(sizes)


def test_the_impossible_is_refused() -> None:
    with pytest.raises(
        ConfigError,
        match=r"no packed parameters sum 1000 vectors of 658 values of magnitude \d+ soundly: "
        r"lower strategy\.grid_bits or strategy\.bound",
    ):
        choose_packed(658, SumRange(52, 1.0, 1000))
    with pytest.raises(ConfigError, match=r"trust=committee .*set trust=key_holder or shared"):
        choose_packed(658, SumRange(16, 1.0, 10), "committee")


def test_primes_are_as_large_as_is_counted_on() -> None:
    for degree, bits in ((1024, (27,)), (2048, (54,)), (2048, (40, 14)), (4096, (60, 20))):
        special = bits[1] if len(bits) > 1 else 0
        found = PackedParameters(degree, bits[0], special, 100, 1, 0, 0)
        prime = seal_ring(found.ring).prime
        assert found.room() < prime / (2 * found.plain_modulus) - 1
        assert prime > 0.998 * 2 ** bits[0]


# Noise, measured


def ternary(secret: Any, ring: Any, plain_modulus: int) -> np.ndarray:
    """The secret's coefficients: (0, q / t) opens to it."""
    import tenseal.sealapi as seal

    values = np.zeros((2, ring.degree), np.uint64)
    values[1, 0] = ring.prime // plain_modulus
    ciphertext, plain = seal.Ciphertext(), seal.Plaintext()
    with SealFile() as file:
        ring.ciphertext.load(ciphertext, ring.context, file, values)
        seal.Decryptor(ring.context, secret).decrypt(ciphertext, plain)
    found = np.array([plain[i] for i in range(plain.coeff_count())] + [0] * ring.degree)
    found = found[: ring.degree].astype(np.int64)
    return np.where(found == plain_modulus - 1, -1, found)


def measured(keyed: Any, vectors: list[np.ndarray], internals: Any) -> np.ndarray:
    """Noise of the first ciphertext of a sum, in exact arithmetic."""
    scheme, length = keyed.scheme, vectors[0].size
    ring, t = seal_ring(scheme.parameters.ring), scheme.parameters.plain_modulus
    secret = ternary(internals.seal_secret(scheme, keyed.keys.secret), ring, t)
    assert set(secret) == {-1, 0, 1}
    both = internals.ciphertexts(scheme, keyed.sum_of(vectors), length)[0]
    q, c1 = ring.prime, both[1].astype(np.int64)
    phase = both[0].astype(np.int64)
    # X^j c1 moves c1 up by j places; what leaves at the top returns with the other sign.
    signed = np.concatenate([q - c1, c1])
    for j in np.flatnonzero(secret):
        moved = signed[ring.degree - j : 2 * ring.degree - j]
        phase = (phase + (moved if secret[j] > 0 else q - moved)) % q
    message = sum(scheme._laned(vector)[0].astype(object) for vector in vectors) % t
    # Noise = phase - (q / t) message modulo q, counted in multiples of 1 / t.
    numerator = (t * phase.astype(object) - q * message) % (t * q)
    numerator = np.where(numerator > t * q // 2, numerator - t * q, numerator)
    return (numerator / t).astype(np.float64)


CASES = [
    PackedParameters(1024, 27, 0, 50, 1, 0, 0, "shared"),
    PackedParameters(2048, 54, 0, 2**16, 2, 0, 0, "shared"),
    PackedParameters(4096, 60, 0, 2**16, 2, 14, 6, "shared"),
    PackedParameters(2048, 54, 0, 2**10, 2, 0, 0),
    PackedParameters(2048, 40, 14, 2**10, 2, 0, 0),
    PackedParameters(4096, 60, 20, 2**16, 2, 0, 0),
    PackedParameters(4096, 60, 20, 2**16, 2, 0, 3),
    PackedParameters(4096, 60, 0, 2**16, 2, 11, 6),
]


@pytest.mark.parametrize("additions", [1, 8])
@pytest.mark.parametrize("parameters", CASES, ids=str)
def test_noise_is_as_large_as_derived(
    parameters: PackedParameters, additions: int, internals: Any, with_keys: Any
) -> None:
    sums = SumRange(0, float(parameters.capacity - additions), additions)
    rng, length = np.random.default_rng(additions), parameters.lanes * (parameters.degree - 1)
    rows = []
    for _ in range(4):
        keyed = with_keys(Packed(sums, parameters))
        most = parameters.capacity // additions
        vectors = [rng.integers(-most, most + 1, length) for _ in range(additions)]
        rows.append(measured(keyed, vectors, internals))
    noise = np.array(rows)
    # An eighth: norms of the key differ from key to key. What the sum cuts is at most this.
    cut = [2.0**bits / 2 for bits in (parameters.total_drop, parameters.total_second_drop)]
    most = parameters.noise(additions) ** 2 + additions / 4 + cut[0] ** 2
    most += 2 / 3 * parameters.degree * (additions / 2 * (parameters.second_drop > 0) + cut[1]) ** 2
    assert 0.875 * parameters.noise(additions) < noise.std() < 1.125 * sqrt(most)
    assert np.abs(noise).max() < parameters.noise_bound(additions, length)
    # The bound is not far above: within what 2^-64 over 2^-14 and worst norms explain.
    assert np.abs(noise).max() > parameters.noise_bound(additions, length) / 5


def test_errors_of_the_secret_key_are_never_larger_than_twenty_one(
    internals: Any, with_keys: Any
) -> None:
    parameters = PackedParameters(4096, 60, 0, 2**16, 2, 0, 0, "shared")
    keyed = with_keys(Packed(SumRange(16, 0.99, 1), parameters))
    zeros = np.zeros(2 * 4095, np.int64)
    noise = np.array([measured(keyed, [zeros], internals) for _ in range(10)])
    noise = noise[:, :-1]  # in the last one a one counts the contribution
    assert (noise == np.rint(noise)).all()  # nothing to encode, nothing to round
    assert np.abs(noise).max() <= LARGEST_ERROR
    assert noise.var() == pytest.approx(10.5, rel=0.03)
    # 42 coin tosses: excess kurtosis -2 / 42.
    assert kurtosis(noise.ravel()) == pytest.approx(-2 / 42, abs=0.08)


def test_too_little_room_gives_wrong_sums_and_is_not_offered(
    internals: Any, with_keys: Any
) -> None:
    """Three lanes of 16 bits in a prime of 60, without a special one: wrong now and then."""
    sums = SumRange(15, 0.9, 10)
    tight = PackedParameters(4096, 60, 0, sums.capacity, 3, 0, 0)
    with pytest.raises(ConfigError, match="10 contributions wrong too often"):
        Packed(sums, tight)
    scheme = object.__new__(Packed)
    for name, value in (("sums", sums), ("parameters", tight), ("name", "packed")):
        object.__setattr__(scheme, name, value)
    keyed = with_keys(scheme)
    # What noise of this size does to 2^20 values follows from its measured width.
    vectors = [np.zeros(4095 * 3, np.int64)] * 10
    noise = measured(keyed, vectors, internals)
    assert noise.std() == pytest.approx(tight.noise(10), rel=0.125)
    assert tight.room() < 6 * noise.std()
    assert choose_packed(10**6, sums).special_bits > 0
