"""From PennyLane's operators to a plan's: rotations, permutations with phases, fixed unitaries.

Parametrised gates are taken as they are where the plan knows them, and decomposed by PennyLane's
own rules where it does not. Fixed gates are looked at through their matrix: one with a single
entry in every row is a permutation with phases, however many wires it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from qfl.quantum.plan import Angle, Monomial, MultiRZ, Operation, Rotation, Unitary

_ROTATIONS = {"RX": 0, "RY": 1, "RZ": 2}
_NATIVE = {*_ROTATIONS, "PhaseShift", "U1", "Rot", "MultiRZ", "IsingZZ"}
_NOTHING = {"Identity", "Barrier", "WireCut", "Snapshot", "GlobalPhase"}
_WIDEST_FIXED_GATE = 12


class UnsupportedError(Exception):
    """No engine of ours runs this; the message says what."""


def expand(operation: Any) -> Iterator[Any]:
    """Split an operator by PennyLane's rules until a plan knows every piece.

    Raises:
        UnsupportedError: It has no decomposition.
    """
    if operation.name in _NATIVE or operation.name in _NOTHING or not operation.data:
        if operation.name not in _NOTHING and not _is_fixed(operation):
            yield from _decomposed(operation)
        else:
            yield operation
    elif operation.name == "QubitUnitary" and len(operation.wires) <= 2:
        yield operation
    else:
        yield from _decomposed(operation)


def _is_fixed(operation: Any) -> bool:
    return operation.name in _NATIVE or (
        operation.has_matrix and len(operation.wires) <= _WIDEST_FIXED_GATE
    )


def _decomposed(operation: Any) -> Iterator[Any]:
    if not operation.has_decomposition:
        raise UnsupportedError(f"gate {operation.name}")
    for piece in operation.decomposition():
        yield from expand(piece)


def lower(
    operation: Any, place: Callable[[Any], int], n_wires: int, angles: Callable[[int], list[Angle]]
) -> Iterator[Operation]:
    """A plan's operations for one expanded operator.

    Args:
        operation: From :func:`expand`.
        place: Number of a wire.
        n_wires: Wires of the plan.
        angles: Where the operator's parameter of this number comes from; an angle that is a sum of
            several becomes as many rotations about the same axis.
    """
    wires = tuple(place(wire) for wire in operation.wires)
    name = operation.name
    if name in _NOTHING:
        return
    if name in _ROTATIONS:
        for angle in angles(0):
            yield Rotation(wires[0], _ROTATIONS[name], angle)
    elif name in ("PhaseShift", "U1"):
        for angle in angles(0):
            yield Rotation(wires[0], 2, angle)
    elif name == "Rot":
        for number, axis in enumerate((2, 1, 2)):
            for angle in angles(number):
                yield Rotation(wires[0], axis, angle)
    elif name in ("MultiRZ", "IsingZZ"):
        for angle in angles(0):
            yield MultiRZ(wires, angle)
    else:
        yield _fixed(operation, wires, n_wires)


def _fixed(operation: Any, wires: tuple[int, ...], n_wires: int) -> Operation:
    import pennylane as qml

    matrix = np.asarray(qml.matrix(operation, wire_order=operation.wires), dtype=np.complex128)
    if matrix.ndim != 2:
        raise UnsupportedError(f"gate {operation.name} with one matrix per sample")
    found = _as_monomial(matrix, wires, n_wires)
    if found is not None and len(wires) > 1:
        return found
    if len(wires) <= 2:
        return Unitary(wires, matrix)
    raise UnsupportedError(f"gate {operation.name} on {len(wires)} wires")


def _as_monomial(matrix: Any, wires: tuple[int, ...], n_wires: int) -> Monomial | None:
    entries = np.abs(matrix) > 1e-12
    if not ((entries.sum(axis=0) == 1).all() and (entries.sum(axis=1) == 1).all()):
        return None
    column = entries.argmax(axis=1)
    value = matrix[np.arange(len(matrix)), column]
    basis = np.arange(1 << n_wires)
    shifts = [n_wires - 1 - wire for wire in wires]
    row = np.zeros_like(basis)
    for shift in shifts:
        row = (row << 1) | ((basis >> shift) & 1)
    source = basis.copy()
    for position, shift in enumerate(shifts):
        bit = (column[row] >> (len(wires) - 1 - position)) & 1
        source = (source & ~(1 << shift)) | (bit << shift)
    phases = value[row]
    return Monomial(source, None if np.allclose(phases, 1) else phases)
