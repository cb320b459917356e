"""The structure of a tape: everything about it but its numbers.

Gates, wires, settings and measurements, and which parameters have one number per sample. Where a
number makes another gate, as the entries of a matrix do, it belongs to the structure.
"""

from __future__ import annotations

from collections.abc import Hashable
from itertools import product
from typing import Any

import numpy as np

from qfl.quantum.expansion import ANGLES, BY_VALUE, parameter_shapes
from qfl.quantum.lower import UnsupportedError
from qfl.quantum.measurements import Words, pauli_words

Wires = tuple[Any, ...]

# Their name and wires say everything.
FIXED = frozenset(
    {
        *("Hadamard", "PauliX", "PauliY", "PauliZ", "S", "T", "SX", "Identity"),
        *("CNOT", "CZ", "CY", "CH", "SWAP", "ISWAP", "Toffoli", "CSWAP", "CCZ"),
    }
)
# Measurements amid a circuit and what follows them; none is like another.
_AMID = frozenset({"MidMeasureMP", "MidMeasure", "Conditional", "PauliMeasure"})
# Dimensions of parameters that are angles.
_PER_SAMPLE_OR_NOT = frozenset(
    dimensions for count in (1, 3) for dimensions in product((0, 1), repeat=count)
)
_PAULIS = frozenset({"PauliX", "PauliY", "PauliZ"})


class RewriteError(Exception):
    """A tape does not run as it is; PennyLane's transforms have to change it first."""


def structure(tape: Any, wires: Wires | None) -> Hashable:
    """Everything about a tape but the numbers in it.

    Raises:
        RewriteError: A measurement has to be rewritten before it has a structure.
    """
    operations = tuple([operation_key(operation) for operation in tape.operations])
    return operations, tuple([_measured(entry) for entry in tape.measurements]), wires


def operation_key(operation: Any) -> Hashable:
    """The structure of one operation.

    Raises:
        RewriteError: It has none.
    """
    name = operation.name
    if name in ANGLES:
        dimensions = tuple([getattr(value, "ndim", 0) for value in operation.data])
        if dimensions not in _PER_SAMPLE_OR_NOT:
            # PennyLane's own refusal of a parameter of too many dimensions.
            _ = operation.batch_size
        return name, operation.wires.labels, dimensions
    if name in FIXED:
        return name, operation.wires.labels
    if type(operation).__name__ in _AMID:
        raise RewriteError
    try:
        shapes = parameter_shapes(operation)
    except AttributeError:
        # Products and sums of operators have no parameters of their own.
        raise RewriteError from None
    batched = tuple(map(is_batched, operation.data, shapes))
    values: Hashable = None
    if name in BY_VALUE:
        values = tuple(_bytes(value) for value in operation.data)
    return name, _nested(operation), tuple(shapes), batched, values


def _nested(operation: Any) -> Hashable:
    from pennylane.operation import Operator

    leaves, settings = operation._flatten()
    inside = []
    for leaf in leaves:
        if isinstance(leaf, Operator):
            inside.append(_nested(leaf))
        elif not any(leaf is value for value in operation.data):
            # Numbers that are no parameters, as the bitstrings of a table.
            inside.append((np.shape(leaf), np.asarray(leaf).tobytes()))
    return type(operation), operation.wires.labels, settings, tuple(inside)


def _bytes(value: Any) -> bytes:
    from pennylane import math

    if math.requires_grad(value):
        raise RewriteError
    return np.asarray(math.unwrap([value])[0], dtype=np.complex128).tobytes()


def is_batched(value: Any, shape: tuple[int, ...]) -> bool:
    """Whether a parameter of this shape has one entry for each sample."""
    return np.ndim(value) > len(shape)


def _measured(entry: Any) -> Hashable:
    kind, observable = type(entry).__name__, entry.obs
    if kind == "ExpectationMP":
        if observable is None:
            return "eigenvalues", entry.wires.labels, tuple(map(float, entry.eigvals()))
        if observable.name in _PAULIS:
            return observable.name, observable.wires.labels
        return tuple(sentence(observable))
    if kind in ("ProbabilityMP", "StateMP") and observable is None:
        return kind, entry.wires.labels
    raise RewriteError


def sentence(observable: Any) -> Words:
    """Pauli words of an observable, and their coefficients.

    Raises:
        RewriteError: It is no sum of Pauli words, or its coefficients are trained or not real.
    """
    try:
        return pauli_words(observable, _is_trainable)
    except UnsupportedError:
        raise RewriteError from None


def _is_trainable(value: Any) -> bool:
    if isinstance(value, int | float):
        return False
    from pennylane import math

    return bool(math.requires_grad(value))
