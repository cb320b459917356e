"""From PennyLane's measurements to a plan's."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from qfl.quantum.lower import UnsupportedError
from qfl.quantum.plan import (
    Angle,
    Expectations,
    Measurement,
    PauliTerm,
    Probabilities,
    StateVector,
)

_EXACT = 1e-10


def measurement_of(
    measurements: list[Any], places: dict[Any, int], phase: tuple[Angle, ...]
) -> Measurement:
    """What a circuit's measurements are in a plan.

    Args:
        measurements: PennyLane's, in order.
        places: Number of each wire.
        phase: Global phase, for a measurement of the state.

    Raises:
        UnsupportedError: No engine of ours measures this.
    """
    kinds = {type(measurement).__name__ for measurement in measurements}
    if kinds == {"ExpectationMP"}:
        return Expectations(tuple(_terms(entry.obs, places) for entry in measurements))
    if kinds == {"ProbabilityMP"} and len(measurements) == 1 and measurements[0].obs is None:
        wires = measurements[0].wires
        return Probabilities(tuple(places[wire] for wire in wires) or tuple(places.values()))
    if kinds == {"StateMP"} and len(measurements) == 1:
        return StateVector(phase)
    raise UnsupportedError(f"measurement {', '.join(sorted(kinds))}")


def _terms(observable: Any, places: dict[Any, int]) -> tuple[PauliTerm, ...]:
    sentence = observable.pauli_rep
    if sentence is None:
        raise UnsupportedError(f"observable {observable.name}")
    terms = []
    for word, coefficient in sentence.items():
        if isinstance(coefficient, Tensor) and coefficient.requires_grad:
            raise UnsupportedError("trainable coefficients of an observable")
        value = complex(coefficient)
        if abs(value.imag) > _EXACT:
            raise UnsupportedError("an observable that is not Hermitian")
        letters = ["I"] * len(places)
        for wire, letter in word.items():
            letters[places[wire]] = letter
        terms.append(PauliTerm(value.real, "".join(letters)))
    return tuple(terms)
