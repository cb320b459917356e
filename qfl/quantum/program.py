"""Rewrites a plan into the layers that the CPU kernel runs.

The kernel knows three things: a product of one-wire columns to start from, passes that permute
amplitudes and multiply them by phases, and rotations about Y (see ``native/kernel.cpp``). Here
operations are sorted into layers of these:

- Rotations of one wire that follow each other about one axis add up. Those that come first on a
  wire make its column. Later ones about X become Y between two constant Z:
  ``RX(t) = RZ(-pi/2) RY(t) RZ(pi/2)``; a fixed unitary becomes Z, Y, Z. Global phases are dropped.
- An operation goes into the earliest layer that its wires allow, so that operations on different
  wires share passes.
- Within a layer, diagonals and permutations merge into one permutation, with phases before and
  after it. A phase moves behind a later permutation where it stays a word of Z's (as CNOT, RZ,
  CNOT does).
- What only changes phases or order at the end is folded into a read-out that looks at
  probabilities alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from qfl.errors import ConfigError
from qfl.quantum.plan import (
    Angle,
    Complex,
    Expectations,
    Monomial,
    MultiRZ,
    Plan,
    Probabilities,
    Rotation,
    Unitary,
)

MAX_WIRES = 28
X, Y, Z = 0, 1, 2
Order = NDArray[np.int64]
Angles = tuple[Angle, ...]


@dataclass
class Layer:
    """A pass of phases and a permutation, rotations about Y, fixed two-wire unitaries.

    Attributes:
        source: ``new[k] = old[source[k]]``; None where the order stays.
        constant: Fixed phases, after the permutation.
        before: Phases before the permutation: angles by mask, a set bit for each wire's Z.
        after: Phases after it.
        turns: Angles about Y by wire.
        dense: Two-wire unitaries in order.
    """

    source: Order | None = None
    constant: Complex | None = None
    before: dict[int, Angles] = field(default_factory=dict)
    after: dict[int, Angles] = field(default_factory=dict)
    turns: dict[int, Angles] = field(default_factory=dict)
    dense: list[Unitary] = field(default_factory=list)


@dataclass(frozen=True)
class Program:
    """A plan in layers.

    Attributes:
        plan: Where it comes from.
        columns: Leading rotations of each wire, as (axis, angles).
        layers: In order.
        read_source: Permutation that the read-out looks through, or None.
    """

    plan: Plan
    columns: tuple[tuple[tuple[int, Angles], ...], ...]
    layers: tuple[Layer, ...]
    read_source: Order | None


def lower(plan: Plan) -> Program:
    """Sort a plan's operations into layers.

    Raises:
        ConfigError: The plan names a wire, input or weight that it does not have, a matrix is not
            unitary, or a permutation is none.
    """
    check(plan)
    builder = _Builder(plan.n_wires, columns=not plan.amplitudes)
    for operation in plan.operations:
        builder.add(operation)
    builder.flush(range(plan.n_wires))
    layers, read_source = builder.layers, None
    if layers and _reads_probabilities(plan) and not layers[-1].turns and not layers[-1].dense:
        read_source = layers.pop().source
    return Program(plan, tuple(tuple(c) for c in builder.columns), tuple(layers), read_source)


def _reads_probabilities(plan: Plan) -> bool:
    measured = plan.measurement
    return isinstance(measured, Probabilities) or (
        isinstance(measured, Expectations)
        and all(set(t.word) <= {"I", "Z"} for terms in measured.observables for t in terms)
    )


class _Builder:
    def __init__(self, n_wires: int, columns: bool) -> None:
        self.n_wires = n_wires
        self.columns: list[list[tuple[int, Angles]]] = [[] for _ in range(n_wires)]
        self.layers: list[Layer] = []
        # Rotations seen on a wire and not yet placed.
        self.chains: list[list[tuple[int, Angles]]] = [[] for _ in range(n_wires)]
        # Where the last operation of a wire stands: 3 * layer, + 0 for phases, + 1 for turns,
        # + 2 for dense gates; -1 where the wire has only its column.
        self.reached = [-1 if columns else 0] * n_wires
        self.indices = np.arange(1 << n_wires)
        self.known: dict[bytes, Order] = {}

    def add(self, operation: Rotation | Unitary | Monomial | MultiRZ) -> None:
        if isinstance(operation, Rotation):
            self.rotate(operation.wire, operation.axis, (operation.angle,))
        elif isinstance(operation, MultiRZ):
            wires = operation.wires
            if len(wires) == 1:
                self.rotate(wires[0], Z, (operation.angle,))
            else:
                self.flush(wires)
                self.add_phase(wires, (operation.angle,))
        elif isinstance(operation, Monomial):
            self.add_monomial(operation)
        elif len(operation.wires) == 1:
            for axis, angle in _euler(operation.matrix):
                self.rotate(operation.wires[0], axis, (_constant(angle),))
        else:
            self.flush(operation.wires)
            at = self.layer(max(self.reached[w] for w in operation.wires) // 3)
            self.layers[at].dense.append(operation)
            self.reach(operation.wires, 3 * at + 2)

    def rotate(self, wire: int, axis: int, angles: Angles) -> None:
        chain = self.chains[wire]
        if chain and chain[-1][0] == axis:
            angles = chain.pop()[1] + angles
        angles = _add_up(angles)
        if angles:
            chain.append((axis, angles))

    def flush(self, wires: Iterable[int]) -> None:
        """Place what is waiting on these wires."""
        for wire in wires:
            chain, self.chains[wire] = self.chains[wire], []
            if self.reached[wire] < 0:
                self.columns[wire] += chain
                continue
            for axis, angles in chain:
                if axis == X:
                    self.add_phase((wire,), (_constant(math.pi / 2),))
                if axis == Z:
                    self.add_phase((wire,), angles)
                else:
                    self.add_turn(wire, angles)
                if axis == X:
                    self.add_phase((wire,), (_constant(-math.pi / 2),))

    def layer(self, number: int) -> int:
        number = max(number, 0)
        while len(self.layers) <= number:
            self.layers.append(Layer())
        return number

    def reach(self, wires: Iterable[int], position: int) -> None:
        for wire in wires:
            self.reached[wire] = position

    def phases_at(self, wires: Iterable[int]) -> int:
        """The earliest layer whose phases come after all that these wires have seen."""
        return self.layer(max(-(-self.reached[wire] // 3) for wire in wires))

    def add_turn(self, wire: int, angles: Angles) -> None:
        reached = self.reached[wire]
        at = self.layer(reached // 3 + (reached % 3 == 2))
        turns = self.layers[at].turns
        turns[wire] = _add_up(turns.get(wire, ()) + angles)
        if not turns[wire]:
            del turns[wire]
        self.reach((wire,), 3 * at + 1)

    def add_phase(self, wires: tuple[int, ...], angles: Angles) -> None:
        at = self.phases_at(wires)
        _collect(self.layers[at].after, sum(1 << (self.n_wires - 1 - w) for w in wires), angles)
        self.reach(wires, 3 * at)

    def add_monomial(self, operation: Monomial) -> None:
        wires = _support(operation)
        if not wires:
            return
        self.flush(wires)
        at = self.phases_at(wires)
        if not self.merge(self.layers[at], operation):
            at = self.layer(at + 1)
            if not self.merge(self.layers[at], operation):
                # That layer holds phases of other wires, which stay words of Z's.
                raise AssertionError("a permutation moved a phase of wires that it leaves alone")
        self.reach(wires, 3 * at)

    def merge(self, layer: Layer, operation: Monomial) -> bool:
        """Put a permutation at the end of a layer's phases, where phases there allow it."""
        source, phases = operation.expanded(self.n_wires)
        if not np.array_equal(operation.source, np.arange(len(operation.source))):
            first = layer.source is None
            moved: dict[int, Angles] = {}
            before: dict[int, Angles] = {}
            for mask, angles in layer.after.items():
                if first and not _per_sample(angles):
                    before[mask] = angles
                    continue
                word = self.through(mask, operation)
                if word is None:
                    return False
                _collect(moved, word[0], angles if word[1] > 0 else _negated(angles))
            if first:
                layer.before = before
            layer.after = moved
            joined = source if layer.source is None else layer.source[source]
            # Layers alike share a table: one of them may take as much as the state.
            layer.source = self.known.setdefault(blake2b(joined.tobytes()).digest(), joined)
            if layer.constant is not None:
                layer.constant = layer.constant[source]
        if phases is not None:
            layer.constant = phases if layer.constant is None else layer.constant * phases
        if layer.source is not None and np.array_equal(layer.source, self.indices):
            layer.source = None
            for mask, angles in layer.before.items():
                _collect(layer.after, mask, angles)
            layer.before = {}
        return True

    def through(self, mask: int, operation: Monomial) -> tuple[int, int] | None:
        """A word of Z's seen from behind a permutation: its mask and sign, if it is a word."""
        bits = [1 << (self.n_wires - 1 - wire) for wire in reversed(operation.wires)]
        inside = sum(1 << place for place, bit in enumerate(bits) if mask & bit)
        signs = _parity(operation.source & inside)
        moved = sum(1 << place for place in range(len(bits)) if signs[1 << place] != signs[0])
        if not np.array_equal(_parity(np.arange(len(signs)) & moved) ^ signs[0], signs):
            return None
        outside = mask & ~sum(bits)
        seen = sum(bit for place, bit in enumerate(bits) if moved >> place & 1)
        return outside | seen, -1 if signs[0] else 1


def _support(operation: Monomial) -> tuple[int, ...]:
    """Wires that take part: all whose bit is changed, or changes anything."""
    source, phases = operation.source, operation.phases
    indices = np.arange(len(source))
    taking_part = []
    for place, wire in enumerate(operation.wires):
        bit = 1 << (len(operation.wires) - 1 - place)
        other = indices ^ bit
        alone = np.array_equal(source[other], source ^ bit) and np.array_equal(
            source & bit, indices & bit
        )
        if not alone or (phases is not None and not np.array_equal(phases[other], phases)):
            taking_part.append(wire)
    return tuple(taking_part)


def _parity(values: Order) -> NDArray[np.uint8]:
    return np.bitwise_count(values) & np.uint8(1)


def _constant(angle: float) -> Angle:
    return Angle("constant", offset=angle)


def _negated(angles: Angles) -> Angles:
    return tuple(replace(a, scale=-a.scale, offset=-a.offset) for a in angles)


def _per_sample(angles: Angles) -> bool:
    return any(a.source == "input" for a in angles)


def _add_up(angles: Angles) -> Angles:
    """One angle for each input and weight, and one constant; nothing where the sum is none."""
    scales: dict[tuple[str, int], float] = {}
    offset = 0.0
    for angle in angles:
        offset += angle.offset
        if angle.source != "constant":
            key = (angle.source, angle.index)
            scales[key] = scales.get(key, 0.0) + angle.scale
    total = [Angle(source, index, scale) for (source, index), scale in scales.items()]
    return (*total, _constant(offset)) if offset else tuple(total)


def _collect(words: dict[int, Angles], mask: int, angles: Angles) -> None:
    words[mask] = _add_up(words.get(mask, ()) + angles)
    if not words[mask]:
        del words[mask]


def _euler(matrix: Complex) -> tuple[tuple[int, float], ...]:
    """Rotations about Z, Y, Z that make a one-wire unitary, first applied first."""
    a, b = matrix[0, 0], matrix[1, 0]
    root = np.sqrt(a * matrix[1, 1] - b * matrix[0, 1] + 0j)
    a, b = a / root, b / root
    phase_a, phase_b = float(np.angle(a)), float(np.angle(b))
    turn = 2 * math.atan2(abs(b), abs(a))
    return (Z, -phase_a - phase_b), (Y, turn), (Z, phase_b - phase_a)


def check(plan: Plan) -> None:
    """Refuse a plan that would make an engine read what is not there.

    Raises:
        ConfigError: Says which operation is wrong, and how.
    """
    if not 1 <= plan.n_wires <= MAX_WIRES:
        raise ConfigError(f"a plan of {plan.n_wires} wires: 1 to {MAX_WIRES} are possible")
    for number, operation in enumerate(plan.operations):
        try:
            _check_operation(plan, operation)
        except ConfigError as error:
            raise ConfigError(f"operation {number} of the plan: {error}") from None
    measured = plan.measurement
    if isinstance(measured, Probabilities):
        _check_wires(plan, measured.wires)
    elif isinstance(measured, Expectations):
        for terms in measured.observables:
            for term in terms:
                if len(term.word) != plan.n_wires or not set(term.word) <= set("IXYZ"):
                    raise ConfigError(
                        f"the Pauli word '{term.word}' must have one of I, X, Y, Z for each of "
                        f"{plan.n_wires} wires"
                    )


def _check_operation(plan: Plan, operation: Rotation | Unitary | Monomial | MultiRZ) -> None:
    if isinstance(operation, Monomial):
        _check_wires(plan, operation.wires)
        size = 1 << len(operation.wires)
        if not np.array_equal(np.sort(operation.source), np.arange(size)):
            raise ConfigError(f"the source of a monomial must hold each of 0..{size - 1} once")
        phases = operation.phases
        if phases is not None and (phases.shape != (size,) or not np.allclose(abs(phases), 1)):
            raise ConfigError(f"the phases of a monomial must be {size} numbers of modulus 1")
        return
    wires = (operation.wire,) if isinstance(operation, Rotation) else operation.wires
    _check_wires(plan, wires)
    if isinstance(operation, Unitary):
        if len(wires) not in (1, 2):
            raise ConfigError(f"a fixed unitary acts on one or two wires, not {len(wires)}")
        matrix, size = operation.matrix, 1 << len(wires)
        if matrix.shape != (size, size) or not np.allclose(
            matrix @ matrix.conj().T, np.eye(size), atol=1e-6
        ):
            raise ConfigError(f"the matrix must be unitary, {size} by {size}")
        return
    if isinstance(operation, Rotation) and operation.axis not in (X, Y, Z):
        raise ConfigError(f"axis {operation.axis} is none of 0, 1, 2")
    angle = operation.angle
    limits = {"input": plan.n_inputs, "weight": plan.n_weights}
    if angle.source != "constant" and not 0 <= angle.index < limits.get(angle.source, 0):
        raise ConfigError(
            f"angle of {angle.source} {angle.index}: there are {plan.n_inputs} inputs and "
            f"{plan.n_weights} weights"
        )


def _check_wires(plan: Plan, wires: tuple[int, ...]) -> None:
    if not wires or len(set(wires)) < len(wires) or not all(0 <= w < plan.n_wires for w in wires):
        raise ConfigError(f"wires {wires}: different ones of 0..{plan.n_wires - 1} are needed")
