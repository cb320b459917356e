"""Correction of noise: zero-noise extrapolation, and readout errors measured and inverted.

Zero-noise extrapolation (Temme, Bravyi, Gambetta 2017) runs a circuit with its noise scaled by 1,
3 and 5 and extrapolates to 0 by the parabola through the three (Richardson). Noise is scaled by
global unitary folding (Giurgica-Tiron et al. 2020): the circuit, then its inverse and itself again,
with barriers between, so that no compiler cancels them. Odd scales are exact whichever gates are
noisy; folding a part of the circuit for a scale of 2 is not.

Readout correction runs two more circuits, with all wires at 0 and at 1, counts how often each wire
is read wrongly, and inverts these tables wire by wire (Bravyi et al. 2021, the tensor-product
model). It amplifies the noise of shots by the inverse of 1 - p(1|0) - p(0|1) per wire. The gates
that set the wires to 1 have noise of their own, which counts as readout error, unless the two
circuits are extrapolated to zero noise as well: ``both`` does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pennylane as qml
from numpy.typing import NDArray

from qfl.errors import ConfigError

Tapes = tuple[Sequence[Any], Callable[[Sequence[Any]], Any]]
Matrix = NDArray[np.float64]

SCALES = (1, 3, 5)
_SIGNS = np.array([[1.0, -1.0]])


def richardson_weights(scales: Sequence[float]) -> list[float]:
    """Weights of values at these noise scales whose sum is the polynomial through them at 0.

    Example:
        >>> richardson_weights([1, 3, 5])
        [1.875, -1.25, 0.375]
    """
    return [
        float(np.prod([other / (other - scale) for other in scales if other != scale]))
        for scale in scales
    ]


class Barrier(qml.Barrier):  # type: ignore[misc]
    """What Qiskit's compiler does not cancel across; its plugin wants the width as a parameter."""

    @property
    def parameters(self) -> list[Any]:
        """Number of wires."""
        return [len(self.wires)]

    def decomposition(self) -> list[Any]:
        """Nothing, for devices that have none."""
        return []


def folded(gates: Sequence[Any], scale: int, wires: Sequence[int]) -> list[Any]:
    """The same unitary from ``scale`` times as many gates; ``scale`` is odd."""
    barrier = Barrier(wires=wires)
    inverse = [qml.adjoint(gate, lazy=False) for gate in reversed(gates)]
    return [*gates, *[barrier, *inverse, barrier, *gates] * ((scale - 1) // 2)]


def _extrapolate(tape: Any, wires: Sequence[int]) -> Tapes:
    gates = [gate for gate in tape.operations if not isinstance(gate, qml.Barrier)]
    if not gates:
        return (tape,), _only
    circuits = [tape.copy(operations=folded(gates, scale, wires)) for scale in SCALES]
    weights = richardson_weights(SCALES)

    def combine(results: Sequence[Any]) -> Any:
        if len(tape.measurements) == 1:
            return _weighted(results, weights)
        return tuple(_weighted(parts, weights) for parts in zip(*results, strict=True))

    return circuits, combine


def _only(results: Sequence[Any]) -> Any:
    return results[0]


def _weighted(values: Sequence[Any], weights: Sequence[float]) -> Any:
    return sum(weight * value for weight, value in zip(weights, values, strict=True))


def _correct_readout(tape: Any, wires: Sequence[int]) -> Tapes:
    read = [_wires_read(measurement, wires) for measurement in tape.measurements]
    known = list(dict.fromkeys(wire for part in read for wire in part))
    single = [qml.probs(wires=wire) for wire in known]
    zeros = tape.copy(operations=[], measurements=single)
    ones = tape.copy(operations=[qml.PauliX(wire) for wire in known], measurements=single)
    counted = tape.copy(measurements=[qml.probs(wires=part) for part in read])

    def correct(results: Sequence[Any]) -> Any:
        main, at_zero, at_one = (
            (result,) if len(circuit.measurements) == 1 else result
            for result, circuit in zip(results, (counted, zeros, ones), strict=True)
        )
        inverse = {
            wire: _inverse(wire, _number(low[1]), _number(high[0]))
            for wire, low, high in zip(known, at_zero, at_one, strict=True)
        }
        values = tuple(
            _corrected(measurement, part, value, inverse)
            for measurement, part, value in zip(tape.measurements, read, main, strict=True)
        )
        return values[0] if len(values) == 1 else values

    return (counted, zeros, ones), correct


def _wires_read(measurement: Any, wires: Sequence[int]) -> list[int]:
    if measurement.obs is None:
        return list(measurement.wires) or list(wires)
    (word,) = measurement.obs.pauli_rep  # identities in a product are not read
    return list(word)


def _number(value: Any) -> float:
    return float(qml.math.detach(value))


def _inverse(wire: int, one_at_zero: float, zero_at_one: float) -> Matrix:
    """Inverse of the table p(read | is)."""
    kept = 1 - one_at_zero - zero_at_one
    if kept <= 0:
        raise ConfigError(
            f"quantum.mitigation=readout cannot correct wire {wire}: it reads 1 at 0 with "
            f"probability {one_at_zero:.3f} and 0 at 1 with {zero_at_one:.3f}, which tells nothing "
            "of its state; use quantum.mitigation=none"
        )
    table = [[1 - zero_at_one, -zero_at_one], [-one_at_zero, 1 - one_at_zero]]
    return np.array(table) / kept


def _corrected(measurement: Any, wires: list[int], value: Any, inverse: dict[int, Matrix]) -> Any:
    """Probabilities, or the expectation of a product of Z, from what was counted."""
    table: Matrix = np.ones((1, 1))
    for wire in wires:
        one = inverse[wire] if measurement.obs is None else _SIGNS @ inverse[wire]
        table = np.kron(table, one).astype(np.float64)
    like = qml.math.cast_like(qml.math.convert_like(table.T, value), value)
    found = qml.math.dot(value, like)
    return found if measurement.obs is None else found[..., 0]


extrapolate_to_zero_noise = qml.transform(_extrapolate)
"""Zero-noise extrapolation of everything that a circuit measures."""

correct_readout = qml.transform(_correct_readout)
"""Readout correction of a circuit that is measured in the basis of Z."""
