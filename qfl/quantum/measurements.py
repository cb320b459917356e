"""From PennyLane's measurements to a plan's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qfl.quantum.lower import UnsupportedError
from qfl.quantum.plan import (
    Angle,
    Expectations,
    Measurement,
    PauliTerm,
    Probabilities,
    StateVector,
)

# Pauli words, each as the letters of its wires, and their coefficients.
Words = list[tuple[Mapping[Any, str], float]]
_EXACT = 1e-10


def measurement_of(
    measurements: list[Any],
    places: dict[Any, int],
    phase: tuple[Angle, ...],
    words: Callable[[Any], Words],
) -> Measurement:
    """What a circuit's measurements are in a plan.

    Args:
        measurements: PennyLane's, in order.
        places: Number of each wire.
        phase: Global phase, for a measurement of the state.
        words: What an expectation value is the sum of.

    Raises:
        UnsupportedError: No engine of ours measures this.
    """
    kinds = {type(measurement).__name__ for measurement in measurements}
    if kinds == {"ExpectationMP"}:
        return Expectations(
            tuple(
                tuple(_term(letters, value, places) for letters, value in words(entry))
                for entry in measurements
            )
        )
    if kinds == {"ProbabilityMP"} and len(measurements) == 1 and measurements[0].obs is None:
        wires = measurements[0].wires
        return Probabilities(tuple(places[wire] for wire in wires) or tuple(places.values()))
    if kinds == {"StateMP"} and len(measurements) == 1:
        return StateVector(phase)
    raise UnsupportedError(f"measurement {', '.join(sorted(kinds))}")


def pauli_words(observable: Any, is_trained: Callable[[Any], bool]) -> Words:
    """The Pauli words of an observable.

    Args:
        observable: PennyLane's.
        is_trained: Whether a gradient is asked for by a coefficient.

    Raises:
        UnsupportedError: It is no sum of Pauli words, or its coefficients are trained or not real.
    """
    sentence = observable.pauli_rep
    if sentence is None:
        raise UnsupportedError(f"observable {observable.name}")
    found: Words = []
    for word, coefficient in sentence.items():
        if is_trained(coefficient):
            raise UnsupportedError("trainable coefficients of an observable")
        value = complex(coefficient)
        if abs(value.imag) > _EXACT:
            raise UnsupportedError("an observable that is not Hermitian")
        found.append((word, value.real))
    return found


def _term(letters: Mapping[Any, str], coefficient: float, places: dict[Any, int]) -> PauliTerm:
    word = ["I"] * len(places)
    for wire, letter in letters.items():
        word[places[wire]] = letter
    return PauliTerm(coefficient, "".join(word))
