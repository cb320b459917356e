"""What clipping promises, for any gradients: no record moves the sum by more than the norm."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from qfl.privacy.gradient_clipping import KEPT_BACK, clipped_sum
from qfl.privacy.per_sample import Block, Floats, Outer, Rows

FINITE = st.floats(-(2.0**100), 2.0**100, width=32)
ANY = st.floats(width=32)
NORMS = st.floats(1e-6, 1e6)


def blocks_of(rows: Floats, inputs: Floats, upstream: Floats) -> list[Block]:
    """One layer of rows, and one linear layer with a bias."""
    first, size = rows.shape[1], inputs.shape[1] * upstream.shape[1]
    weight = slice(first, first + size)
    bias = slice(first + size, first + size + upstream.shape[1])
    tensors = [torch.from_numpy(np.array(one)) for one in (rows, inputs, upstream)]
    return [
        Rows(tensors[0], slice(0, first), layer=0),
        Outer(tensors[1], tensors[2], weight, bias, layer=1),
    ]


def in_full(rows: Floats, inputs: Floats, upstream: Floats) -> Floats:
    """Gradients of every record, (batch, parameters), in float64."""
    rows, inputs, upstream = (one.astype(np.float64) for one in (rows, inputs, upstream))
    with np.errstate(invalid="ignore"):
        outer = upstream[:, :, None] * inputs[:, None, :]
    return np.concatenate([rows, outer.reshape(len(rows), -1), upstream], axis=1)


def parts(batch: int, values: st.SearchStrategy[float]) -> st.SearchStrategy[tuple[Floats, ...]]:
    return st.tuples(
        *(arrays.arrays(np.float32, (batch, width), elements=values) for width in (3, 2, 4))
    )


@settings(deadline=None)
@given(parts(1, FINITE), NORMS, st.booleans())
def test_no_record_is_longer_than_the_norm(
    given: tuple[Floats, ...], norm: float, per_layer: bool
) -> None:
    found = clipped_sum(blocks_of(*given), 1, 15, norm, 2 if per_layer else None).total
    assert math.sqrt(math.fsum(value * value for value in found.tolist())) <= norm
    for part in (found[:3], found[3:]):
        limit = norm / math.sqrt(2) if per_layer else norm
        assert math.sqrt(math.fsum(value * value for value in part.tolist())) <= limit


@settings(deadline=None)
@given(parts(4, FINITE), NORMS)
def test_what_is_short_stays_and_what_is_long_keeps_its_direction(
    given: tuple[Floats, ...], norm: float
) -> None:
    whole = in_full(*given)
    sizes = np.linalg.norm(whole, axis=1)
    limit = norm * (1 - KEPT_BACK)
    scale = np.array([min(1.0, limit / size) if size else 1.0 for size in sizes])
    found = clipped_sum(blocks_of(*given), 4, 15, norm)
    assert np.abs(found.total - scale @ whole).max() <= 1e-12 * norm
    assert found.within == np.count_nonzero(sizes <= norm)


@settings(deadline=None)
@given(parts(5, ANY), NORMS, st.booleans())
def test_records_that_are_not_numbers_count_as_zero(
    given: tuple[Floats, ...], norm: float, per_layer: bool
) -> None:
    layers = 2 if per_layer else None
    # float32 cannot overflow in float64: infinite is what was infinite.
    good = np.isfinite(in_full(*given)).all(axis=1)
    found = clipped_sum(blocks_of(*given), 5, 15, norm, layers).total
    kept = clipped_sum(blocks_of(*(one[good] for one in given)), int(good.sum()), 15, norm, layers)
    assert np.abs(found - kept.total).max() <= 1e-12 * norm


def test_gradients_of_zero_stay_zero() -> None:
    zeros = [np.zeros((3, width), np.float32) for width in (3, 2, 4)]
    for layers in (None, 2):
        found = clipped_sum(blocks_of(*zeros), 3, 15, 1.0, layers)
        assert found.total.tolist() == [0.0] * 15
        assert found.within == 3


def test_overflow_in_float64_counts_as_not_a_number() -> None:
    rows = torch.tensor([[1e200, 0.0], [3.0, 4.0]], dtype=torch.float64)
    found = clipped_sum([Rows(rows, slice(0, 2), 0)], 2, 2, 10.0)
    assert found.total.tolist() == [3.0, 4.0]


def test_the_caller_s_gradients_are_not_changed() -> None:
    rows = torch.tensor([[math.nan, 0.0], [3.0, 4.0]], dtype=torch.float64)
    block = Rows(rows, slice(0, 2), 0)
    assert clipped_sum([block], 2, 2, 1.0).total == pytest.approx([0.6, 0.8], rel=1e-4)
    assert torch.isnan(rows[0, 0])
