"""Keys of ``ckks``: what each is good for, and that malformed bytes are refused unparsed."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from qfl.crypto import Ckks, CkksParameters, Header, SumRange, pack, unpack
from qfl.crypto.rlwe_ring import seal_ring
from qfl.errors import PayloadError

OTHERS = [
    CkksParameters(4096, 40, 20, 2**37),
    CkksParameters(2048, 40, 14, 2**37),
    CkksParameters(2048, 39, 14, 2**36),
]


@pytest.mark.parametrize("parameters", OTHERS, ids=str)
def test_keys_of_other_parameters_are_refused(small: Any, parameters: CkksParameters) -> None:
    other = Ckks(small.scheme.sums, parameters).generate_keys()
    ours = r"CkksParameters\(degree=2048, data_bits=39, special_bits=14, scale=\d+, .*\)"
    words = rf"the public key is of CkksParameters.*; this run expects {ours}"
    with pytest.raises(PayloadError, match=words):
        small.scheme.protect(np.zeros(5, np.int64), other.public)
    with pytest.raises(PayloadError, match=words):
        small.scheme.accumulator(5, other.public)
    body = small.sum_of([np.zeros(5)])
    with pytest.raises(
        PayloadError, match=rf"the secret key is of CkksParameters.*; this run expects {ours}"
    ):
        small.scheme.open(body, 5, other.secret)


def test_a_secret_key_offered_as_public_is_refused(small: Any) -> None:
    for use in (
        lambda: small.scheme.protect(np.zeros(5, np.int64), small.keys.secret),
        lambda: small.scheme.accumulator(5, small.keys.secret),
    ):
        with pytest.raises(PayloadError, match="secret key, it must never leave its holder"):
            use()


def test_a_public_key_opens_nothing(small: Any, small_shared: Any) -> None:
    for keyed in (small, small_shared):
        body = keyed.sum_of([np.zeros(5)])
        with pytest.raises(PayloadError, match="not a secret key; it opens nothing"):
            keyed.scheme.open(body, 5, keyed.keys.public)


def test_a_key_of_something_else_opens_nothing(small: Any) -> None:
    import tenseal

    context = tenseal.context(
        tenseal.SCHEME_TYPE.CKKS, 2048, coeff_mod_bit_sizes=[39, 14], n_threads=1
    )
    body = small.sum_of([np.zeros(5)])
    with pytest.raises(PayloadError, match="not a secret key"):
        small.scheme.open(body, 5, context.serialize(save_secret_key=True))


def test_the_public_key_holds_no_secret(keyed: Any, internals: Any) -> None:
    """It is head and two polynomials modulo each prime, with room for nothing else."""
    parameters, public = keyed.scheme.parameters, keyed.keys.public
    head = 18 + len(repr(parameters))
    if parameters.trust == "shared":
        assert len(public) == head + 32
    else:
        assert len(public) == head + 2 * parameters.degree * sum(parameters.prime_bits) // 8
    points = internals.secret_points(keyed.scheme, keyed.keys.secret)
    assert min(points) >= 0 and len(set(points)) > parameters.degree * 0.99
    width = parameters.data_bits
    # The secret as a key would carry it.
    packed = keyed.keys.secret[head : head + parameters.degree * width // 8]
    for start in range(0, len(packed) - 8, 8):
        assert packed[start : start + 8] not in public


def test_keys_are_new_each_time(small: Any) -> None:
    first, second = small.scheme.generate_keys(), small.scheme.generate_keys()
    assert first.secret != second.secret and first.key_id != second.key_id


def test_reprs_hold_no_key_bytes(small: Any, small_shared: Any) -> None:
    for keyed in (small, small_shared):
        assert repr(keyed.keys) == f"KeyPair(key_id='{keyed.keys.key_id}')"
        assert f"{keyed.keys}" == repr(keyed.keys)
        assert keyed.keys.key_id not in (keyed.keys.secret.hex(), "")


# Malformed bytes


def refused_or_opened(attempt: Callable[[], Any]) -> bool:
    """Whether it passed; any error but a refusal fails the test."""
    try:
        attempt()
    except PayloadError:
        return False
    return True


def damaged(good: bytes, case: int, draw: random.Random) -> bytes:
    bad = bytearray(good)
    if case % 4 == 0:
        bad = bytearray(draw.randbytes(draw.choice([0, 1, len(good) - 1, len(good)])))
    elif case % 4 == 1:
        bad[draw.randrange(len(bad))] ^= 1 << draw.randrange(8)
    elif case % 4 == 2:
        del bad[draw.randrange(len(bad)) :]
    else:
        bad[draw.randrange(len(bad)) :] += draw.randbytes(draw.randrange(1, 9))
    return bytes(bad)


@pytest.fixture(params=["small", "small_shared"])
def either(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def test_malformed_ciphertexts_are_refused_or_open_to_something(either: Any) -> None:
    good, draw, refused = either.protect(np.arange(658)), random.Random(1), 0
    for case in range(200):

        def attempt(bad: bytes = damaged(good, case, draw)) -> None:
            total = either.total(658)
            total.add(good)
            total.add(bad)
            either.open(total.result(), 658)

        refused += not refused_or_opened(attempt)
    assert refused > 120


def test_a_flipped_bit_that_opens_is_refused_by_the_envelope(small: Any) -> None:
    header = Header("ckks", small.keys.key_id, "run", 1, "train", 658)
    payload = bytearray(pack(header, small.protect(np.arange(658))))
    payload[-1000] ^= 1
    with pytest.raises(PayloadError, match="damaged"):
        unpack(bytes(payload))


@pytest.mark.parametrize("length", [0, 657, 1025, 10**6, 10**18, 2**70])
def test_claims_of_another_length_are_refused_at_once(small: Any, length: int) -> None:
    body = small.sum_of([np.zeros(1025)])
    if length == 1025:
        assert small.open(body, length).tolist() == [0] * 1025
        return
    with pytest.raises(PayloadError, match=rf"{length} values need \d+ bytes in .*; found 39936"):
        small.open(body, length)


def test_what_seal_serialised_is_refused_unparsed(small: Any) -> None:
    """SEAL's parser ends the process on some compressed objects, so it gets none from outside."""
    import tenseal

    context = tenseal.context(
        tenseal.SCHEME_TYPE.CKKS, 2048, coeff_mod_bit_sizes=[39, 14], n_threads=1
    )
    context.global_scale = 2.0**37
    body = tenseal.ckks_vector(context, [0.0] * 658).serialize()
    with pytest.raises(PayloadError, match="658 values need 19968 bytes in 1 ciphertexts; found"):
        small.total(658).add(body)


def test_a_contribution_that_is_not_encrypted_is_refused(small: Any) -> None:
    body = small.protect(np.zeros(1025))
    half, quarter = len(body) // 2, len(body) // 4
    for start in (half, half + quarter):
        bare = body[:start] + bytes(quarter) + body[start + quarter :]
        with pytest.raises(PayloadError, match="a ciphertext is not encrypted"):
            small.total(1025).add(bare)


def test_malformed_keys_are_refused_or_usable(either: Any) -> None:
    draw, refused = random.Random(2), 0
    for case in range(80):

        def attempt(bad: bytes = damaged(either.key, case, draw)) -> None:
            either.scheme.protect(np.zeros(5, np.int64), bad)

        refused += not refused_or_opened(attempt)
    # A flipped bit in a polynomial is a key too, one that fits nothing.
    assert 60 <= refused < 80


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda key: key[:-1], "the public key has 27251 bytes; these parameters need 27252"),
        (lambda key: key[:20], "the public key is of Ck; this run expects CkksParameters"),
        (lambda key: key[:16], "the public key is of ; this run expects CkksParameters"),
        (lambda key: key[:15], "not a public key; if it is a secret key"),
        (lambda key: key + b"\0", "the public key has 27253 bytes"),
        (lambda key: b"", "not a public key"),
        (lambda key: key[:116] + b"\xff" * (len(key) - 116), "a number in a key is past the prime"),
        (lambda key: key[:18] + b"\n" * 98 + key[116:], r"the public key is of b'\\n.*this run"),
    ],
)
def test_public_keys_of_wrong_size_or_content_are_named(
    small: Any, change: Callable[[bytes], bytes], words: str
) -> None:
    with pytest.raises(PayloadError, match=words):
        small.scheme.protect(np.zeros(5, np.int64), change(small.keys.public))


def test_the_primes_are_the_ones_that_were_asked_for(keyed: Any) -> None:
    parameters = keyed.scheme.parameters
    primes = seal_ring(parameters.ring).primes
    assert [prime.bit_length() for prime in primes] == parameters.prime_bits
    assert all(prime % (2 * parameters.degree) == 1 for prime in primes)


def test_parameters_that_are_not_secure_are_refused_by_seal() -> None:
    from qfl.errors import ConfigError

    scheme = Ckks(SumRange(20, 2.0, 10), CkksParameters(2048, 55, 0, 2**52, "shared"))
    with pytest.raises(ConfigError, match=r"SEAL refuses Ring\(.*not compliant with .* security"):
        scheme.generate_keys()
