"""Lazy sums: as many as the parameters say, reduced in time, in the memory of one."""

from __future__ import annotations

import gc
import os
import tracemalloc
from typing import Any

import numpy as np
import pytest

from qfl.crypto import Ckks, CkksParameters, Packed, SumRange
from qfl.crypto.packed_parameters import PackedParameters
from qfl.crypto.rlwe_ring import seal_ring


@pytest.mark.parametrize("trust", ["key_holder", "shared"])
def test_sums_of_more_than_64_bits_hold_are_reduced_in_time(trust: str, with_keys: Any) -> None:
    """Sixteen numbers of 60 bits fit; forty are added."""
    parameters = PackedParameters(4096, 60, 0, 10_000, 1, 0, 0, trust)
    keyed = with_keys(Packed(SumRange(0, 9_900.0, 40), parameters))
    assert seal_ring(parameters.ring).prime * 17 > 2**64
    vectors = [np.arange(300) // 2 - i for i in range(40)]
    assert keyed.open(keyed.sum_of(vectors), 300).tolist() == sum(vectors).tolist()


def test_the_largest_coefficients_do_not_overflow(with_keys: Any, internals: Any) -> None:
    """Crafted contributions, all of prime - 1: the sum is minus their number."""
    parameters = PackedParameters(4096, 60, 0, 10_000, 1, 0, 0)
    keyed = with_keys(Packed(SumRange(0, 9_900.0, 40), parameters))
    prime = seal_ring(parameters.ring).prime
    form, total = keyed.scheme._contribution(4095), keyed.total(4095)
    body = b"".join(
        section.pack(np.full((1, 4096), prime - 1, np.uint64), 1) for section in form.sections
    )
    for _ in range(40):
        total.add(body)
    assert set(internals.ciphertexts(keyed.scheme, total.result(), 4095).ravel()) == {prime - 40}


@pytest.mark.parametrize("trust", ["key_holder", "shared"])
def test_memory_does_not_grow_with_the_number_of_clients(trust: str, with_keys: Any) -> None:
    special, data = (14, 40) if trust == "key_holder" else (0, 36)
    parameters = CkksParameters(2048, data, special, 2 ** (data - 3), trust)
    keyed, length = with_keys(Ckks(SumRange(18, 1.0, 30), parameters)), 60_000
    bodies = [keyed.protect(np.ones(length)) for _ in range(20)]
    total = keyed.total(length)
    total.add(bodies[0])
    tracemalloc.start()
    for body in bodies[1:]:
        total.add(body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # One more upload would be at least half a megabyte; what is seen of seeds is kept.
    assert peak < 2**21
    assert keyed.open(total.result(), length).tolist() == [20] * length


def test_nothing_stays_open(small_shared: Any) -> None:
    def descriptors() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0

    before = descriptors()
    for _ in range(20):
        small_shared.open(small_shared.sum_of([np.ones(5), np.ones(5)]), 5)
    assert descriptors() <= before


def test_a_result_can_be_asked_for_at_any_time(small_shared: Any, small: Any) -> None:
    for keyed in (small_shared, small):
        total = keyed.total(5)
        for count in (1, 2, 3):
            total.add(keyed.protect(np.arange(5)))
            assert keyed.open(total.result(), 5).tolist() == [count * i for i in range(5)]
            assert total.result() == total.result()
