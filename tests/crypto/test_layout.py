"""Named arrays and one flat vector, back and forth."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays

from qfl.crypto import Layout
from qfl.errors import PayloadError

MODEL = {
    "weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "steps": np.array(7),
    "bias": np.array([0.5, -0.5]),
}

float_arrays = st.one_of(
    *(
        arrays(kind, array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
        for kind in (np.float32, np.float64)
    )
)
whole_arrays = arrays(np.int64, array_shapes(max_dims=2, max_side=3))


@given(
    model=st.dictionaries(st.text(max_size=8), st.one_of(float_arrays, whole_arrays), max_size=5)
)
def test_flatten_and_unflatten_are_inverse(model: dict[str, np.ndarray]) -> None:
    layout = Layout.of(model)
    vector = layout.flatten(model)
    floats = [array for array in model.values() if array.dtype.kind == "f"]
    assert vector.dtype == np.float64
    assert vector.shape == (layout.length,) == (sum(array.size for array in floats),)
    back = layout.unflatten(vector, model)
    assert list(back) == list(model)
    for name, array in model.items():
        assert back[name].dtype == array.dtype
        np.testing.assert_array_equal(back[name], array)


def test_the_order_is_the_layouts_not_the_senders() -> None:
    layout = Layout.of(MODEL)
    shuffled = {name: MODEL[name] for name in ("bias", "steps", "weight")}
    assert layout.flatten(shuffled).tolist() == [0, 1, 2, 3, 4, 5, 0.5, -0.5]


def test_arrays_that_are_not_floating_point_come_from_elsewhere() -> None:
    others = {**MODEL, "steps": np.array(99)}
    assert Layout.of(MODEL).unflatten(np.zeros(8), others)["steps"] == 99


def test_other_shapes_missing_and_further_arrays_are_refused() -> None:
    layout = Layout.of(MODEL)
    with pytest.raises(PayloadError, match=r"'weight' has shape \(3, 2\); expected \(2, 3\)"):
        layout.flatten({**MODEL, "weight": np.zeros((3, 2))})
    with pytest.raises(PayloadError, match=r"'bias' has shape nothing; expected \(2,\)"):
        layout.flatten({name: MODEL[name] for name in ("weight", "steps")})
    with pytest.raises(PayloadError, match="unexpected arrays: extra, more"):
        layout.flatten({**MODEL, "more": np.zeros(1), "extra": np.zeros(1)})


@pytest.mark.parametrize("size", [0, 7, 9])
def test_a_vector_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(PayloadError, match=rf"a vector of shape \({size},\); expected \(8,\)"):
        Layout.of(MODEL).unflatten(np.zeros(size), MODEL)


def test_a_missing_array_that_is_not_aggregated_is_named() -> None:
    with pytest.raises(PayloadError, match="array 'steps' is missing"):
        Layout.of(MODEL).unflatten(np.zeros(8), {})


def test_a_model_without_floating_point_arrays_is_an_empty_vector() -> None:
    layout = Layout.of({"steps": np.array(7)})
    assert layout.length == 0
    assert layout.flatten({"steps": np.array(7)}).shape == (0,)
