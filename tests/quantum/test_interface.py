"""Features to angles and amplitudes, counts to probabilities to features, and every refusal."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qfl.errors import DataError
from qfl.quantum import (
    counts_to_probabilities,
    features_to_amplitudes,
    features_to_angles,
    probabilities_to_features,
)

SMALL = st.integers(1, 5)


@given(
    low=st.floats(-1e3, 1e3),
    width=st.floats(1e-3, 1e3),
    shares=arrays(np.float64, (2, 3), elements=st.floats(0, 1)),
)
def test_angles_follow_features_linearly_within_half_a_turn(
    low: float, width: float, shares: Any
) -> None:
    high = low + width
    features = np.clip(low + shares * width, low, high)
    angles = features_to_angles(features, low, high)
    assert angles.shape == features.shape
    assert (np.abs(angles) <= math.pi / 2 + 1e-12).all()
    expected = np.interp(features, [low, high], [-1, 1])
    np.testing.assert_allclose(angles * 2 / math.pi, expected, atol=1e-9)


def test_angles_of_another_range() -> None:
    assert features_to_angles([0, 5, 10], 0, 10, first=0, last=math.pi).tolist() == [
        0,
        math.pi / 2,
        math.pi,
    ]


@given(n_qubits=SMALL, data=st.data())
def test_amplitudes_have_length_one_and_the_direction_of_the_features(
    n_qubits: int, data: Any
) -> None:
    width = data.draw(st.integers(1, 2**n_qubits))
    scale = 10.0 ** data.draw(st.integers(-300, 300))
    rows = data.draw(arrays(np.float64, (3, width), elements=st.floats(-1, 1, width=16)))
    rows[:, 0] += np.where(rows[:, 0] < 0, -1, 1)
    amplitudes = features_to_amplitudes(rows * scale, n_qubits)
    assert amplitudes.shape == (3, 2**n_qubits)
    np.testing.assert_allclose((amplitudes**2).sum(axis=1), 1)
    np.testing.assert_allclose(
        amplitudes[:, :width] * np.linalg.norm(rows, axis=1, keepdims=True), rows, atol=1e-12
    )
    assert not amplitudes[:, width:].any()


def test_amplitudes_are_those_that_the_circuit_encodes() -> None:
    import torch

    from qfl.quantum import QuantumLayer, build_circuit

    features = np.array([[0.3, -1.2, 2.0], [1.0, 1.0, 1.0]])
    probabilities = features_to_amplitudes(features, n_qubits=2) ** 2
    circuit = build_circuit(n_qubits=2, n_layers=1, encoding="amplitude")
    layer = QuantumLayer(circuit.qnode, circuit.weight_shapes, init=torch.nn.init.zeros_).double()
    with torch.no_grad():
        read = layer(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(read, probabilities_to_features(probabilities), atol=1e-12)


@given(n_qubits=SMALL, data=st.data())
def test_counts_become_the_share_of_each_basis_state(n_qubits: int, data: Any) -> None:
    states = st.integers(0, 2**n_qubits - 1)
    counts = data.draw(st.dictionaries(states, st.integers(0, 10**6), min_size=1))
    shots = sum(counts.values())
    named = {f"{state:0{n_qubits}b}": count for state, count in counts.items()}
    if not shots:
        with pytest.raises(DataError, match="counts hold no shot"):
            counts_to_probabilities(named, n_qubits)
        return
    found = counts_to_probabilities(named, n_qubits)
    expected = [counts.get(state, 0) / shots for state in range(2**n_qubits)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@given(n_qubits=SMALL, data=st.data())
def test_features_are_the_mean_sign_of_every_wire(n_qubits: int, data: Any) -> None:
    bits = st.text("01", min_size=n_qubits, max_size=n_qubits)
    shots = data.draw(st.lists(bits, min_size=1, max_size=20))
    counts = {state: shots.count(state) for state in shots}
    found = probabilities_to_features(counts_to_probabilities(counts, n_qubits))
    for wire in range(n_qubits):
        signs = [1 if state[wire] == "0" else -1 for state in shots]
        assert found[wire] == pytest.approx(np.mean(signs), abs=1e-9)


def test_features_keep_leading_shapes() -> None:
    assert probabilities_to_features(np.full((2, 3, 8), 1 / 8)).tolist() == [[[0.0] * 3] * 3] * 2


Call = Callable[[], Any]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: features_to_angles([0.0, 17.0], 0, 16), "features hold 17, outside of 0 to 16"),
        (lambda: features_to_angles([-0.1], 0, 16), "features hold -0.1, outside.*scale or clip"),
        (lambda: features_to_angles([math.nan], 0, 1), "features hold a value that is not finite"),
        (lambda: features_to_angles([1.0], 1, 1), "range 1 to 1 is empty.*low must be below high"),
        (lambda: features_to_angles([1.0], 0, math.inf), "range 0 to inf is empty or not finite"),
        (lambda: features_to_angles(["a"], 0, 1), "features must be an array of numbers"),
        (lambda: features_to_angles([[1, 0], [1]], 0, 1), "all rows of one length"),
        (lambda: features_to_amplitudes([1] * 5, 2), "5 features do not fit.*use 3 or more qubits"),
        (lambda: features_to_amplitudes([], 2), "0 features do not fit"),
        (lambda: features_to_amplitudes(1.0, 2), "0 features do not fit"),
        (lambda: features_to_amplitudes([0.0, 0.0], 1), "row 0 is zero and has no direction"),
        (lambda: features_to_amplitudes([[1.0], [0.0]], 1), "row 1 is zero.*constant feature"),
        (lambda: features_to_amplitudes([math.inf], 1), "not finite"),
        (lambda: counts_to_probabilities({"012": 1}, 3), "key '012': must be 3 characters 0 or 1"),
        (lambda: counts_to_probabilities({"01": 1}, 3), "key '01': must be 3 characters"),
        (lambda: counts_to_probabilities({3: 1}, 2), "key 3: must be"),  # type: ignore[dict-item]
        (lambda: counts_to_probabilities({"01": -1}, 2), "count of 01 is -1: must be a whole"),
        (lambda: counts_to_probabilities({"01": 0.5}, 2), "count of 01 is 0.5"),  # type: ignore[dict-item]
        (lambda: counts_to_probabilities({"01": True}, 2), "count of 01 is True"),
        (lambda: counts_to_probabilities({}, 2), "no shot: a probability needs at least one"),
        (lambda: probabilities_to_features([0.5, 0.25, 0.25]), "3 probabilities belong to no"),
        (lambda: probabilities_to_features([1.0]), "1 probabilities belong to no number of qubits"),
        (lambda: probabilities_to_features([0.5, 0.4]), "sum to 0.9: divide counts by the number"),
        (lambda: probabilities_to_features([1.5, -0.5]), "probabilities hold 1.5, outside of"),
        (lambda: probabilities_to_features([math.nan, 1]), "probabilities hold a value that is"),
    ],
)
def test_bad_input_is_refused(call: Call, words: str) -> None:
    with pytest.raises(DataError, match=words):
        call()
