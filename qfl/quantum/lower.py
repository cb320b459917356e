"""From PennyLane's operators to a plan's: rotations, permutations with phases, fixed unitaries.

Parametrised gates are taken as they are where the plan knows them, and decomposed by PennyLane's
own rules where it does not. Fixed gates are looked at through their matrix: one with a single
entry in every row is a permutation with phases, however many wires it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import Any

import numpy as np

from qfl.errors import ConfigError
from qfl.quantum.plan import Angle, Monomial, MultiRZ, Operation, Rotation, Unitary

_ROTATIONS = {"RX": 0, "RY": 1, "RZ": 2}
_NATIVE = {*_ROTATIONS, "PhaseShift", "U1", "Rot", "MultiRZ", "IsingZZ", "GlobalPhase"}
_NOTHING = {"Identity", "Barrier", "WireCut", "Snapshot"}
_CONTROLLED = {*_ROTATIONS, "PhaseShift", "U1", "Rot"}
_WIDEST_FIXED_GATE = 12
_MOST_CONTROLS = 6


class UnsupportedError(Exception):
    """No engine of ours runs this; the message says what."""


@dataclass(frozen=True)
class GlobalPhase:
    """``exp(i angle)``, which only a measurement of the state itself sees."""

    angle: Angle


def expand(operation: Any) -> Iterator[Any]:
    """Split an operator until a plan knows every piece.

    Raises:
        UnsupportedError: It has no decomposition.
    """
    if operation.name in _NATIVE or is_state(operation) or _is_simple(operation):
        yield operation
    elif _base(operation) in _CONTROLLED and len(operation.control_wires) <= _MOST_CONTROLS:
        yield from _controlled(operation)
    elif operation.name == "Exp" and operation.base.name == "Identity":
        yield _global_phase(operation)
    elif operation.has_decomposition:
        for piece in operation.decomposition():
            yield from expand(piece)
    else:
        raise UnsupportedError(f"gate {operation.name}")


def is_state(operation: Any) -> bool:
    """Whether an operator prepares a state given by its amplitudes."""
    return operation.name in ("StatePrep", "AmplitudeEmbedding")


def _is_simple(operation: Any) -> bool:
    """Whether a fixed gate acts on two wires at most, or permutes basis states."""
    if operation.name in _NOTHING:
        return True
    if operation.data and operation.name != "QubitUnitary":
        return False
    if not operation.has_matrix or len(operation.wires) > _WIDEST_FIXED_GATE:
        return False
    return len(operation.wires) <= 2 or _as_monomial(operation.matrix(), ()) is not None


def fixed_matrix(operation: Any) -> bytes:
    """What a fixed gate does, to be compared; nothing for gates with parameters."""
    if operation.name in (_NATIVE | _NOTHING) or is_state(operation):
        return b""
    matrix = operation.matrix()
    if getattr(matrix, "requires_grad", False):
        raise UnsupportedError(f"gate {operation.name} with a matrix that follows the data")
    return bytes(np.asarray(matrix, dtype=np.complex128).tobytes())


def _base(operation: Any) -> str:
    if not hasattr(operation, "control_values") or not hasattr(operation, "base"):
        return ""
    return str(operation.base.name)


def _controlled(operation: Any) -> Iterator[Any]:
    """A controlled rotation as commuting words of Z's between fixed gates on its target.

    ``|1><1|`` is ``(1 - Z) / 2``: the exponent of a controlled RZ is a sum over subsets of the
    controls.
    """
    import pennylane as qml

    base, target = operation.base, operation.base.wires[0]
    if base.name == "Rot":
        for kind, angle in zip((qml.RZ, qml.RY, qml.RZ), base.data, strict=True):
            piece = qml.ctrl(
                kind(angle, wires=target), operation.control_wires, operation.control_values
            )
            yield from _controlled(piece)
        return
    turn = {"RX": [qml.Hadamard(target)], "RY": [qml.SX(target)]}.get(base.name, [])
    yield from turn
    signs = [-1 if value else 1 for value in operation.control_values]
    controls = list(zip(operation.control_wires, signs, strict=True))
    shift = base.name in ("PhaseShift", "U1")
    if shift:
        # exp(i angle |1><1|) is a word of the target's Z as much as of a control's.
        controls.append((target, -1))
    fraction = (-2 if shift else 1) / (1 << len(controls))
    for chosen in product((False, True), repeat=len(controls)):
        used = [pair for pair, taken in zip(controls, chosen, strict=True) if taken]
        wires = [wire for wire, _ in used] + ([] if shift else [target])
        angle = base.data[0] * (fraction * prod(sign for _, sign in used))
        yield qml.MultiRZ(angle, wires=wires) if wires else qml.GlobalPhase(angle / 2)
    yield from (qml.adjoint(gate) for gate in turn)


def _global_phase(operation: Any) -> Any:
    import pennylane as qml

    return qml.GlobalPhase(-qml.math.imag(operation.coeff))


def lower(
    operation: Any, place: Callable[[Any], int], angles: Callable[[int], list[Angle]]
) -> Iterator[Operation | GlobalPhase]:
    """A plan's operations for one expanded operator.

    Args:
        operation: From :func:`expand`.
        place: Number of a wire.
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
            yield GlobalPhase(_times(angle, 0.5))
    elif name == "GlobalPhase":
        for angle in angles(0):
            yield GlobalPhase(_times(angle, -1.0))
    elif name == "Rot":
        for number, axis in enumerate((2, 1, 2)):
            for angle in angles(number):
                yield Rotation(wires[0], axis, angle)
    elif name in ("MultiRZ", "IsingZZ"):
        for angle in angles(0):
            yield MultiRZ(wires, angle)
    else:
        yield from _fixed(operation, wires)


def _times(angle: Angle, factor: float) -> Angle:
    return replace(angle, scale=angle.scale * factor, offset=angle.offset * factor)


def _fixed(operation: Any, wires: tuple[int, ...]) -> Iterator[Operation | GlobalPhase]:
    import pennylane as qml

    matrix = np.asarray(qml.matrix(operation, wire_order=operation.wires), dtype=np.complex128)
    if matrix.ndim != 2:
        raise UnsupportedError(f"gate {operation.name} with one matrix per sample")
    if not np.allclose(matrix @ matrix.conj().T, np.eye(len(matrix)), atol=1e-6):
        raise ConfigError(f"the matrix of {operation.name} on wires {wires} is not unitary")
    if len(wires) == 1:
        root = np.sqrt(np.linalg.det(matrix))
        yield Unitary(wires, matrix / root)
        yield GlobalPhase(Angle("constant", offset=float(np.angle(root))))
        return
    found = _as_monomial(matrix, wires)
    if found is not None:
        yield found
    elif len(wires) == 2:
        yield Unitary(wires, matrix)
    else:
        raise UnsupportedError(f"gate {operation.name} on {len(wires)} wires")


def _as_monomial(matrix: Any, wires: tuple[int, ...]) -> Monomial | None:
    entries = np.abs(matrix) > 1e-12
    if not ((entries.sum(axis=0) == 1).all() and (entries.sum(axis=1) == 1).all()):
        return None
    source = entries.argmax(axis=1)
    phases = matrix[np.arange(len(matrix)), source]
    return Monomial(wires, source, None if np.allclose(phases, 1, rtol=0, atol=1e-12) else phases)
