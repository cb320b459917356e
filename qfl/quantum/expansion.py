"""An operator on its own as operations of a plan, its angles linear in its own parameters.

A circuit's templates are kept whole: a layer of fifty gates is one tensor of parameters. How the
angles of its gates follow from these is found once, with probes in place of the parameters: the
gradient suggests a linear function, other probes and the given parameters confirm it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qfl.quantum.lower import GlobalPhase, UnsupportedError, expand, is_state, lower
from qfl.quantum.plan import Angle, MultiRZ, Operation, Rotation

# Their parameters are angles, one number each; their name and wires say everything else.
ANGLES = frozenset(
    {"RX", "RY", "RZ", "PhaseShift", "U1", "Rot", "MultiRZ", "IsingZZ", "GlobalPhase"}
)
# Their parameters are no angles: other numbers make another operation.
BY_VALUE = frozenset({"QubitUnitary", "BasisState", "BasisEmbedding"})
# Probes lie between 0 and each of these: branches on a sign are noticed.
_SCALES = (1.0, -3.0, 8.0)
_EXACT = 1e-12


@dataclass(frozen=True)
class Expansion:
    """What an operator comes to.

    Attributes:
        wires: Labels; operations name wires by their place here.
        operations: In the order of application. An angle of a ``weight`` follows the entry of that
            number in the operator's parameters, laid out flat one after the other.
    """

    wires: tuple[Any, ...]
    operations: tuple[Operation | GlobalPhase, ...]

    def on(self, places: Sequence[int], sources: Sequence[Angle]) -> list[Operation | GlobalPhase]:
        """The same operations in a circuit.

        Args:
            places: Number of each wire in the circuit.
            sources: What each entry of the parameters is in the circuit.
        """
        return [_moved(operation, places, sources) for operation in self.operations]


def _moved(
    operation: Operation | GlobalPhase, places: Sequence[int], sources: Sequence[Angle]
) -> Operation | GlobalPhase:
    moved: Any = operation
    if isinstance(moved, Rotation):
        moved = replace(moved, wire=places[moved.wire])
    elif not isinstance(moved, GlobalPhase):
        moved = replace(moved, wires=tuple(places[wire] for wire in moved.wires))
    if isinstance(moved, Rotation | MultiRZ | GlobalPhase) and moved.angle.source == "weight":
        source = sources[moved.angle.index]
        angle = replace(moved.angle, source=source.source, index=source.index)
        moved = replace(moved, angle=angle)
    found: Operation | GlobalPhase = moved
    return found


class _NotLinearError(Exception):
    """An angle is no linear function of the operator's parameters."""


def expansion(operator: Any) -> Expansion | None:
    """Operations of a plan for a PennyLane operator.

    Args:
        operator: Without mid-circuit measurements; not a state preparation.

    Returns:
        None where an angle is no linear function of the operator's parameters, or its gates depend
        on them: it has to be decomposed with the numbers that it has.

    Raises:
        UnsupportedError: It has neither a matrix nor a decomposition.
        ConfigError: A matrix is not unitary.
    """
    from pennylane.queuing import QueuingManager

    with QueuingManager.stop_recording():
        if operator.name in ANGLES:
            return _lowered(operator, [operator], None)
        if not operator.data or operator.name in BY_VALUE:
            pieces = list(expand(operator))
            return None if any(map(is_state, pieces)) else _lowered(operator, pieces, None)
        try:
            probed = _Probed(operator)
        except Exception:
            # What an operator makes of random numbers is its own affair, errors included.
            return None
        if not probed.alike:
            return None
        try:
            found = _lowered(operator, probed.pieces[0], probed)
        except _NotLinearError:
            return None
        # A parameter that no angle follows decides upon gates, or was left behind when the probes
        # were put in its place.
        return found if probed.followed == set(range(len(probed.probes[0]))) else None


def _lowered(operator: Any, pieces: list[Any], probed: _Probed | None) -> Expansion:
    wires = list(operator.wires)

    def place(wire: Any) -> int:
        if wire not in wires:
            wires.append(wire)
        return wires.index(wire)

    operations: list[Operation | GlobalPhase] = []
    for position, piece in enumerate(pieces):

        def angles(parameter: int, position: int = position, piece: Any = piece) -> list[Angle]:
            if probed is not None:
                return probed.angles(position, parameter)
            if operator.name in ANGLES:
                return [Angle("weight", parameter)]
            return [Angle("constant", offset=float(piece.data[parameter]))]

        operations.extend(lower(piece, place, angles))
    return Expansion(tuple(wires), tuple(operations))


class _Probed:
    """An operator's pieces for several probes and for its own parameters."""

    def __init__(self, operator: Any) -> None:
        shapes = parameter_shapes(operator)
        own = _own_values(operator, shapes)
        source = torch.Generator().manual_seed(0)
        probes = [
            torch.rand(len(own), generator=source, dtype=torch.float64) * scale for scale in _SCALES
        ]
        if bool(torch.isfinite(own).all()):
            probes.append(own)
        self.probes = [probe.requires_grad_() for probe in probes]
        self.pieces = [_pieces(operator, shapes, probe) for probe in self.probes]
        # Entries of the parameters that an angle was found to follow.
        self.followed: set[int] = set()

    @property
    def alike(self) -> bool:
        """Whether all probes give the same gates."""
        first, *others = [
            [(piece.name, tuple(piece.wires), len(piece.data)) for piece in pieces]
            for pieces in self.pieces
        ]
        return all(other == first for other in others) and not any(
            is_state(piece) or (piece.data and piece.name not in ANGLES) for piece in self.pieces[0]
        )

    def angles(self, position: int, parameter: int) -> list[Angle]:
        """Terms whose sum is a parameter of a piece.

        Raises:
            _NotLinearError: There are none.
        """
        values = [
            torch.as_tensor(pieces[position].data[parameter], dtype=torch.float64)
            for pieces in self.pieces
        ]
        if values[0].ndim:
            # A batch that PennyLane does not call one, as of layers' weights.
            raise _NotLinearError
        slopes = torch.zeros_like(self.probes[0])
        if values[0].requires_grad:
            (slopes,) = torch.autograd.grad(
                values[0], self.probes[0], retain_graph=True, materialize_grads=True
            )
        rests = [
            float(value.detach() - slopes @ probe.detach())
            for value, probe in zip(values, self.probes, strict=True)
        ]
        size = 1 + max(abs(float(value.detach())) for value in values)
        if not max(rests) - min(rests) <= _EXACT * size:
            raise _NotLinearError
        entries = torch.nonzero(slopes.abs() > _EXACT).flatten().tolist()
        self.followed.update(entries)
        terms = [Angle("weight", entry, float(slopes[entry])) for entry in entries]
        if abs(rests[0]) > _EXACT or not terms:
            terms.append(Angle("constant", offset=rests[0]))
        return terms


def parameter_shapes(operator: Any) -> list[tuple[int, ...]]:
    """Shapes of an operator's parameters, without the batch."""
    shapes = []
    for value, expected in zip(operator.data, operator.ndim_params, strict=True):
        shape = tuple(np.shape(value))
        if len(shape) - expected not in (0, 1):
            # PennyLane's own refusal of a parameter of other dimensions.
            _ = operator.batch_size
        shapes.append(shape[len(shape) - expected :])
    return shapes


def _own_values(operator: Any, shapes: list[tuple[int, ...]]) -> Tensor:
    """Its parameters laid out flat, of the first sample where there is a batch."""
    from pennylane import math

    flat = []
    for value, shape in zip(operator.data, shapes, strict=True):
        found = np.asarray(math.unwrap([value])[0])
        if np.iscomplexobj(found):
            raise UnsupportedError("complex numbers for angles")
        flat.append((found if found.ndim == len(shape) else found[0]).reshape(-1))
    return torch.from_numpy(np.concatenate(flat).astype(np.float64))


def _pieces(operator: Any, shapes: list[tuple[int, ...]], values: Tensor) -> list[Any]:
    from pennylane.ops.functions import bind_new_parameters

    sizes = [int(np.prod(shape)) for shape in shapes]
    parts = [
        part.reshape(shape) for part, shape in zip(torch.split(values, sizes), shapes, strict=True)
    ]
    return list(expand(bind_new_parameters(operator, parts)))
