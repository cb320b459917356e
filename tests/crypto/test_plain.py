"""Sums in the clear: exact, and as strict about what they add as the others."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from qfl.crypto import Plain, SumRange, make_scheme
from qfl.errors import ConfigError, CryptoError, PayloadError, RangeError

SUMS = SumRange(fraction_bits=20, bound=2.0, additions=10)
# The bound, and a rounding by each contribution.
MOST = 2**21 + 10
SCHEME = Plain(SUMS)


@given(data=st.data(), length=st.integers(0, 30), clients=st.integers(1, 10))
def test_the_opened_sum_is_the_integer_sum(data: st.DataObject, length: int, clients: int) -> None:
    elements = st.integers(-(2**21), 2**21)
    vectors = [data.draw(arrays(np.int64, length, elements=elements)) for _ in range(clients)]
    total = SCHEME.accumulator(length, b"")
    for vector in vectors:
        body = SCHEME.protect(vector, b"")
        assert len(body) == 4 * length
        total.add(body)
    expected = [sum(column) for column in zip(*(v.tolist() for v in vectors), strict=True)]
    assert SCHEME.open(total.result(), length, b"").tolist() == expected


@given(bits=st.integers(8, 22), data=st.data())
def test_every_step_of_the_grid_survives_float32(bits: int, data: st.DataObject) -> None:
    scheme = Plain(SumRange(bits, 4.0, 1))
    steps = data.draw(arrays(np.int64, 20, elements=st.integers(-(4 << bits), 4 << bits)))
    total = scheme.accumulator(20, b"")
    total.add(scheme.protect(steps, b""))
    assert scheme.open(total.result(), 20, b"").tolist() == steps.tolist()


@pytest.mark.parametrize("value", [MOST + 1, -MOST - 1, -(2**63)])
def test_protect_refuses_values_past_the_capacity(value: int) -> None:
    with pytest.raises(RangeError, match=rf"a value exceeds {MOST} grid steps"):
        SCHEME.protect(np.array([value], dtype=np.int64), b"")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.nan, "values out of range"),
        (np.inf, "values out of range"),
        (-np.inf, "values out of range"),
        ((MOST + 2) * 2.0**-20, "values out of range"),
        (-3e38, "values out of range"),
        (2.0**-21, "values off the grid"),
        (1.0 + 2.0**-22, "values off the grid"),
        (1e-45, "values off the grid"),
    ],
)
def test_contributions_off_the_grid_or_out_of_range_are_refused(value: float, words: str) -> None:
    total = SCHEME.accumulator(2, b"")
    total.add(SCHEME.protect(np.array([5, 6]), b""))
    with pytest.raises(CryptoError, match=words):
        total.add(np.array([0.0, value], dtype="<f4").tobytes())
    assert SCHEME.open(total.result(), 2, b"").tolist() == [5, 6]


@pytest.mark.parametrize("body", [b"", bytes(7), bytes(9), bytes(16)])
def test_contributions_of_wrong_size_are_refused(body: bytes) -> None:
    with pytest.raises(PayloadError, match=rf"2 plain values have 8 bytes, not {len(body)}"):
        SCHEME.accumulator(2, b"").add(body)


def test_a_sum_of_wrong_size_is_refused() -> None:
    with pytest.raises(PayloadError, match="a sum of 3 values has 24 bytes, not 16"):
        SCHEME.open(bytes(16), 3, b"")


def test_a_range_that_float32_does_not_hold_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"bound=8 with 22 grid bits.*float32 holds 16777216"):
        Plain(SumRange(22, 8.0, 2))


def test_there_are_no_keys() -> None:
    keys = SCHEME.generate_keys()
    assert (keys.public, keys.secret, keys.key_id, SCHEME.has_keys) == (b"", b"", "", False)


def test_schemes_are_made_by_name_and_an_unknown_one_is_refused() -> None:
    assert make_scheme("plain", 10, SUMS) == SCHEME
    assert make_scheme("ckks", 10, SUMS).name == "ckks"
    with pytest.raises(ConfigError, match="unknown scheme 'ckk'; did you mean 'ckks'"):
        make_scheme("ckk", 10, SUMS)
