"""Products in the ring against integer convolutions."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from hypothesis import given, settings
from numpy.typing import NDArray

from qfl.crypto import ring
from qfl.crypto.ring import DEGREE, LARGEST_NORM, multiply, products
from qfl.errors import RangeError

Integers = NDArray[np.int64]
LARGEST_KEY = 83  # magnitude that a client's key never exceeds


def coefficients(memory: Integers) -> Integers:
    """From the order in memory, where 0, 1024, 1, 1025 follow each other, to 0, 1, 2."""
    return np.concatenate([memory[0::2], memory[1::2]])


def exact(chunk: Integers, element: Integers) -> Integers:
    """The product over the integers; halves of 16 bits keep int64 convolutions from wrapping."""
    a, s = coefficients(chunk.astype(np.int64)), coefficients(element)
    low, high = (np.convolve(half, s) for half in (a & 0xFFFF, a >> 16))
    assert max(np.abs(low).max(), np.abs(high).max()) < 2**45
    full = low + (high << 16)  # below 2^62
    wrapped = np.append(full[:DEGREE], 0)[:DEGREE]
    wrapped[: DEGREE - 1] -= full[DEGREE:]  # X^2048 = -1
    return np.stack([wrapped[: DEGREE // 2], wrapped[DEGREE // 2 :]], axis=1).ravel()


def uniform(rng: np.random.Generator, chunks: int) -> NDArray[np.int32]:
    return rng.integers(-(2**31), 2**31, (chunks, DEGREE)).astype(np.int32)


def key_like(rng: np.random.Generator, clients: int) -> Integers:
    return np.rint(rng.normal(0, 6.4 * np.sqrt(clients), DEGREE)).astype(np.int64)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), clients=st.sampled_from([1, 3, 10, 100, 1000, 10_000]))
def test_products_are_integer_products_modulo_2_to_the_32(seed: int, clients: int) -> None:
    rng = np.random.default_rng(seed)
    chunks, element = uniform(rng, 3), key_like(rng, clients)
    found = multiply(chunks, element)
    for chunk, product in zip(chunks, found, strict=True):
        assert (product == (exact(chunk, element) % 2**32)).all()


def test_a_product_worked_out_with_python_integers() -> None:
    """The reference above is itself right: one coefficient by hand, without numpy's integers."""
    rng = np.random.default_rng(4)
    chunk, element = uniform(rng, 1)[0], key_like(rng, 10_000)
    a, s = coefficients(chunk.astype(np.int64)).tolist(), coefficients(element).tolist()
    for place in (0, 1, 1000, 2047):
        total = sum(
            a[i] * s[(place - i) % DEGREE] * (1 if i <= place else -1) for i in range(DEGREE)
        )
        at = 2 * place if place < DEGREE // 2 else 2 * (place - DEGREE // 2) + 1
        assert exact(chunk, element)[at] == total
        assert int(multiply(chunk[None], element)[0, at]) == total % 2**32


@pytest.mark.parametrize("value", [-(2**31), 2**31 - 1])
@pytest.mark.parametrize("signs", ["equal", "alternating", "drawn"])
def test_the_largest_inputs_that_have_the_format_are_exact(value: int, signs: str) -> None:
    drawn = np.where(np.random.default_rng(1).random(DEGREE) < 0.5, -1, 1)
    sign = {"equal": 1, "alternating": (-1) ** np.arange(DEGREE), "drawn": drawn}[signs]
    element = np.full(DEGREE, LARGEST_KEY) * sign
    for chunk in (
        np.full(DEGREE, value),
        np.where(element > 0, value, -(2**31) - value - 1 + 2**31),
    ):
        chunk = chunk.astype(np.int32)
        assert (multiply(chunk[None], element)[0] == exact(chunk, element) % 2**32).all()


def test_rounding_errors_stay_below_what_the_limit_is_worked_out_from() -> None:
    rng = np.random.default_rng(2)
    element = key_like(rng, 14_000)
    element = (element * (LARGEST_NORM / np.linalg.norm(element))).astype(np.int64)
    chunks = uniform(rng, 64)
    block = chunks.astype(np.float64)
    ring._multiply_unrounded(block, ring._transformed(element))
    errors = np.array(
        [row - exact(chunk, element) for row, chunk in zip(block, chunks, strict=True)]
    )
    unit = 2.0**-53 * 2**31 / np.sqrt(3) * np.linalg.norm(element)
    assert errors.std() < 5 * unit < 1 / 40
    # As light in the tails as a Gaussian: 131,072 of them, of which one in 10^9 is past 6.1.
    assert np.abs(errors).max() < 6.1 * errors.std()


def test_longer_elements_are_refused() -> None:
    element = np.zeros(DEGREE, np.int64)
    element[7] = int(LARGEST_NORM)
    assert multiply(np.ones((1, DEGREE), np.int32), element).shape == (1, DEGREE)
    element[7] += 1
    words = "norm 35001 was given; float64 multiplies up to 35000 exactly: use fewer clients"
    with pytest.raises(RangeError, match=words):
        multiply(np.ones((1, DEGREE), np.int32), element)
    with pytest.raises(RangeError, match=words):
        next(products(bytes(32), element, 1))


@pytest.mark.parametrize("length", [0, 1, 2047, 2048, 2049, 65_535, 65_536, 65_537, 150_000])
def test_the_stream_is_aes_in_counter_mode_cut_at_the_length(length: int) -> None:
    key = bytes(range(32))
    element = key_like(np.random.default_rng(length), 3)
    chunks = -(-length // DEGREE)
    stream = Cipher(AES(key), CTR(bytes(16))).encryptor().update(bytes(4 * chunks * DEGREE))
    public = np.frombuffer(stream, "<i4").reshape(chunks, DEGREE)
    wanted = multiply(public, element).ravel()[:length]
    parts = [(start, part.copy()) for start, part in products(key, element, length)]
    assert [start for start, _ in parts] == list(range(0, length, 65_536))
    found = np.concatenate([part for _, part in parts]) if parts else np.zeros(0, np.uint32)
    assert found.dtype == np.uint32
    assert (found == wanted).all()
    assert found.size == length


def test_products_add_up_over_elements() -> None:
    """What the scheme rests on: the mask of a sum of keys is the sum of the masks."""
    rng = np.random.default_rng(3)
    chunks, elements = uniform(rng, 2), [key_like(rng, 1) for _ in range(20)]
    together = sum(multiply(chunks, element).astype(np.int64) for element in elements) % 2**32
    assert (multiply(chunks, np.sum(elements, axis=0)) == together).all()
