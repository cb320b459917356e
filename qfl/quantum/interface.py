"""Between features and qubits: what goes into a circuit, and what its counts mean.

Plain functions on NumPy arrays, for data on the way to a device and for counts that come back from
one. Models encode inside their circuits and squash by themselves; here nothing is squashed:
what is out of range is refused. Wire 0 is the first character of a bitstring and the most
significant bit of a basis state's index, as in PennyLane.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qfl.errors import DataError

Floats = NDArray[np.float64]

_SUM_TOLERANCE = 1e-6


def features_to_angles(
    features: ArrayLike,
    low: float,
    high: float,
    *,
    first: float = -math.pi / 2,
    last: float = math.pi / 2,
) -> Floats:
    """Map a known range of features to a range of angles, linearly.

    Args:
        features: (..., features), each within ``low`` and ``high``.
        low: Smallest value that a feature can have; becomes ``first``.
        high: Largest value; becomes ``last``.
        first: Radians. With the default half turn, no two features share an expectation.
        last: Radians.

    Raises:
        DataError: A feature is not finite or out of range, or the range is empty.

    Example:
        >>> features_to_angles([0.0, 8.0, 16.0], 0.0, 16.0).round(2).tolist()
        [-1.57, 0.0, 1.57]
    """
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise DataError(f"the range {low} to {high} is empty or not finite: low must be below high")
    values = _finite(features, "features")
    _refuse_outside(values, low, high, "features", "scale or clip the data, or widen the range")
    return first + (values - low) / (high - low) * (last - first)


def features_to_amplitudes(features: ArrayLike, n_qubits: int) -> Floats:
    """Normalise rows and fill them up with zeros to the amplitudes of a state.

    Args:
        features: (..., features), up to 2**n_qubits of them.
        n_qubits: Qubits of the state.

    Returns:
        (..., 2**n_qubits), each row of length 1.

    Raises:
        DataError: There are too many features, one is not finite, or a row is zero.

    Example:
        >>> features_to_amplitudes([3.0, 0.0, 4.0], n_qubits=2).tolist()
        [0.6, 0.0, 0.8, 0.0]
    """
    values = _finite(features, "features")
    width, room = values.shape[-1] if values.ndim else 0, 1 << n_qubits
    if not 1 <= width <= room:
        raise DataError(
            f"{width} features do not fit the amplitudes of {n_qubits} qubits, which hold 1 to "
            f"{room}: use {max(1, (width - 1).bit_length())} or more qubits, or fewer features"
        )
    # Scaled first: squares of very small or very large numbers leave the range of float64.
    largest = np.abs(values).max(axis=-1, keepdims=True)
    if not largest.all():
        row = np.argwhere(largest[..., 0] == 0)[0].tolist()
        raise DataError(
            f"row {row[0] if len(row) == 1 else row or 0} is zero and has no direction, so that "
            "no state encodes it: drop such rows, or add a constant feature"
        )
    scaled = values / largest
    amplitudes = np.zeros((*values.shape[:-1], room))
    amplitudes[..., :width] = scaled / np.linalg.norm(scaled, axis=-1, keepdims=True)
    return amplitudes


def counts_to_probabilities(counts: Mapping[str, int], n_qubits: int) -> Floats:
    """Relative frequencies of the basis states.

    Args:
        counts: How often each bitstring came, as devices report it; those that never came may be
            left out.
        n_qubits: Length of a bitstring.

    Returns:
        (2**n_qubits,), summing to 1.

    Raises:
        DataError: A key is no bitstring of this length, a count is no whole number or negative,
            or there was no shot at all.

    Example:
        >>> counts_to_probabilities({"00": 30, "11": 10}, n_qubits=2).tolist()
        [0.75, 0.0, 0.0, 0.25]
    """
    found = np.zeros(1 << n_qubits)
    for bits, count in counts.items():
        if not isinstance(bits, str) or len(bits) != n_qubits or set(bits) - {"0", "1"}:
            raise DataError(f"counts have the key {bits!r}: must be {n_qubits} characters 0 or 1")
        if not _is_count(count):
            raise DataError(f"the count of {bits} is {count!r}: must be a whole number >= 0")
        found[int(bits, 2)] += int(count)
    shots = float(found.sum())
    if not shots:
        raise DataError("counts hold no shot: a probability needs at least one")
    return found / shots


def probabilities_to_features(probabilities: ArrayLike) -> Floats:
    """<Z> of every wire, from the probabilities of the basis states.

    Args:
        probabilities: (..., 2**n_qubits), each row summing to 1.

    Returns:
        (..., n_qubits), within -1 and 1: 1 where a wire always reads 0.

    Raises:
        DataError: The length is no power of two, or a row is no distribution.

    Example:
        >>> probabilities_to_features([0.75, 0.0, 0.0, 0.25]).tolist()
        [0.5, 0.5]
    """
    values = _finite(probabilities, "probabilities")
    length = values.shape[-1] if values.ndim else 0
    if length < 2 or length & (length - 1):
        raise DataError(
            f"{length} probabilities belong to no number of qubits: must be 2, 4, 8, …, one for "
            "every basis state"
        )
    _refuse_outside(
        values, -_SUM_TOLERANCE, 1 + _SUM_TOLERANCE, "probabilities", "each must be within 0 and 1"
    )
    sums = values.sum(axis=-1)
    if np.abs(sums - 1).max(initial=0.0) > _SUM_TOLERANCE:
        worst = sums.flat[np.abs(sums - 1).argmax()]
        raise DataError(f"probabilities sum to {worst:.6g}: divide counts by the number of shots")
    n_qubits = length.bit_length() - 1
    states = np.arange(length)[:, None]
    bits = states >> np.arange(n_qubits - 1, -1, -1) & 1
    signs: Floats = values @ (1.0 - 2.0 * bits)
    return np.clip(signs, -1.0, 1.0)


def _finite(values: ArrayLike, what: str) -> Floats:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{what} must be an array of numbers, all rows of one length") from None
    if not np.isfinite(array).all():
        raise DataError(f"{what} hold a value that is not finite: fill in or drop such rows")
    return array


def _refuse_outside(values: Floats, low: float, high: float, what: str, advice: str) -> None:
    outside = values[(values < low) | (values > high)]
    if len(outside):
        raise DataError(
            f"{what} hold {outside[0]:.6g}, outside of {low:.6g} to {high:.6g}: {advice}"
        )


def _is_count(count: Any) -> bool:
    return isinstance(count, int | np.integer) and not isinstance(count, bool) and int(count) >= 0
