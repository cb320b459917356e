"""Tapes as runners: built once for every structure, found again by it.

A tape is a circuit with its numbers. Its structure is the rest: gates, wires, measurements, and
which parameters have one number per sample. Tapes of one structure share a plan.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Any, cast

import numpy as np

from qfl.quantum.compiled import Compiled
from qfl.quantum.engines import choose_engine
from qfl.quantum.expansion import ANGLES, BY_VALUE, Expansion, expansion, parameter_shapes
from qfl.quantum.lower import GlobalPhase, UnsupportedError, is_state
from qfl.quantum.measurements import Words, measurement_of
from qfl.quantum.memory import check_capture
from qfl.quantum.plan import Angle, Operation, Plan
from qfl.quantum.runner import Runner
from qfl.quantum.structure import (
    FIXED,
    RewriteError,
    Wires,
    is_batched,
    operation_key,
    sentence,
    structure,
)

# Runners that are kept, and basis states of all of them together: their tables are of that size.
_MOST_RUNNERS = 256
_MOST_STATES = 1 << 22


class _Cache:
    """What was used last stays: so many entries, of so much size together."""

    def __init__(self, entries: int, size: int) -> None:
        self._limits = (entries, size)
        self._size = 0
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Any:
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                return None
            self._kept.move_to_end(key)
            return found[0]

    def put(self, key: Hashable, value: Any, size: int = 1) -> None:
        with self._lock:
            self._size += size - self._kept.pop(key, (None, 0))[1]
            self._kept[key] = (value, size)
            entries, most = self._limits
            while len(self._kept) > 1 and (len(self._kept) > entries or self._size > most):
                self._size -= self._kept.popitem(last=False)[1][1]


_RUNNERS = _Cache(_MOST_RUNNERS, _MOST_STATES)
_EXPANSIONS = _Cache(4096, 4096)
_LATEST = threading.local()
_MUST_REWRITE = "must rewrite"
_NOT_LINEAR = "not linear"


def runner(tape: Any, wires: Wires | None) -> Runner:
    """What runs a tape.

    Args:
        tape: A ``QuantumScript``.
        wires: Labels of the device's wires; None where it takes any.

    Raises:
        RewriteError: The tape has to be rewritten first.
        ConfigError: It needs more memory than there is, or a matrix is not unitary.
    """
    # Preprocessing and execution ask about the same tape, one after the other.
    latest = getattr(_LATEST, "found", None)
    if latest is not None and latest[0]() is tape and latest[1] is wires:
        return cast(Runner, latest[2])
    found = _find(tape, wires)
    _LATEST.found = (weakref.ref(tape), wires, found)
    return found


def _find(tape: Any, wires: Wires | None) -> Runner:
    try:
        key = structure(tape, wires)
        known = _RUNNERS.get(key)
    except TypeError:
        # Something about a gate cannot be hashed: built at every execution.
        known, key = None, None
    if known is _MUST_REWRITE:
        raise RewriteError
    if known is not None:
        return cast(Runner, known)
    try:
        made = _build(tape, wires)
    except (RewriteError, UnsupportedError):
        if key is not None:
            _RUNNERS.put(key, _MUST_REWRITE)
        raise RewriteError from None
    if key is not None:
        _RUNNERS.put(key, made, 1 << made.plan.n_wires)
    return made


def known_expansion(operation: Any) -> Expansion | None:
    """:func:`~qfl.quantum.expansion.expansion`, remembered for every structure."""
    try:
        key = operation_key(operation)
        found = _EXPANSIONS.get(key)
    except TypeError:
        return expansion(operation)
    if found is None:
        found = expansion(operation)
        _EXPANSIONS.put(key, _NOT_LINEAR if found is None else found)
    return None if found is _NOT_LINEAR else found


def runs_whole(operation: Any) -> bool:
    """Whether an operation needs no rewriting.

    Raises:
        UnsupportedError: No engine runs it, nor anything that it decomposes into.
    """
    if operation.name in ANGLES or operation.name in FIXED:
        return True
    try:
        return known_expansion(operation) is not None
    except RewriteError:
        return False


def needs_one_by_one(operation: Any) -> bool:
    """Whether a batch of it is a batch of gates that differ in more than angles."""
    return operation.name in BY_VALUE and operation.batch_size is not None


def _build(tape: Any, wires: Wires | None) -> Runner:
    operations = list(tape.operations)
    if any(needs_one_by_one(operation) for operation in operations):
        raise RewriteError
    prepared = operations[0] if operations and is_state(operations[0]) else None
    if prepared is not None and prepared.is_sparse:
        raise RewriteError
    gates = operations[prepared is not None :]
    expansions = [None if is_state(gate) else known_expansion(gate) for gate in gates]
    order = _on_device(tape, [found.wires for found in expansions if found is not None], wires)
    if None in expansions or order is None:
        raise RewriteError
    check_capture(len(order))
    places = {wire: number for number, wire in enumerate(order)}
    sources = _Sources()
    if prepared is not None:
        sources.skip(prepared)
    lowered: list[Operation] = []
    phase: list[Angle] = []
    for gate, found in zip(gates, expansions, strict=True):
        assert found is not None
        entries = sources.of(gate)
        for piece in found.on([places[wire] for wire in found.wires], entries):
            if isinstance(piece, GlobalPhase):
                phase.append(piece.angle)
            else:
                lowered.append(piece)
    plan = Plan(
        n_wires=len(order),
        operations=tuple(lowered),
        measurement=measurement_of(tape.measurements, places, tuple(phase), _words),
        n_inputs=sources.columns,
        n_weights=sources.entries,
        amplitudes=prepared is not None,
    )
    compiled = Compiled(plan, choose_engine(plan, "auto")[0], None)
    wires_prepared = [] if prepared is None else [places[wire] for wire in prepared.wires]
    return Runner(compiled, sources.batched, sources.shared, wires_prepared)


class _Sources:
    """Numbers the parameters of a tape, and says what their entries are in its plan."""

    def __init__(self) -> None:
        self.seen = self.columns = self.entries = 0
        self.batched: list[int] = []
        self.shared: list[int] = []

    def skip(self, operation: Any) -> None:
        self.seen += len(operation.data)

    def of(self, operation: Any) -> list[Angle]:
        if operation.name in BY_VALUE:
            self.skip(operation)
            return []
        found = []
        for value, shape in zip(operation.data, parameter_shapes(operation), strict=True):
            size = int(np.prod(shape))
            if is_batched(value, shape):
                self.batched.append(self.seen)
                found += [Angle("input", self.columns + entry) for entry in range(size)]
                self.columns += size
            else:
                self.shared.append(self.seen)
                found += [Angle("weight", self.entries + entry) for entry in range(size)]
                self.entries += size
            self.seen += 1
        return found


def _on_device(tape: Any, expanded: list[Wires], wires: Wires | None) -> list[Any] | None:
    """Wires of the plan in order; None where one is not on the device."""
    used = wire_order(tape, expanded)
    if wires is not None:
        if not set(used) <= set(wires):
            return None
        everything = any(
            type(entry).__name__ != "ExpectationMP" and not entry.wires
            for entry in tape.measurements
        )
        used = [wire for wire in wires if everything or wire in used]
    for entry in tape.measurements:
        if type(entry).__name__ == "StateMP" and entry.wires:
            used = list(dict.fromkeys([*entry.wires, *used]))
    return used or [0]


def wire_order(tape: Any, expanded: Sequence[Wires]) -> list[Any]:
    """Wires of a tape in the order that PennyLane gives them on a device without its own.

    Args:
        tape: A ``QuantumScript``.
        expanded: Wires that its gates act on when they are expanded.
    """
    acted = list(dict.fromkeys(wire for entry in tape.operations for wire in entry.wires))
    measured = dict.fromkeys(wire for entry in tape.measurements for wire in entry.wires)
    rest = [wire for wire in measured if wire not in acted]
    if set(acted) == set(range(len(acted))) and set(rest) == set(
        range(len(acted), len(acted) + len(rest))
    ):
        acted, rest = sorted(acted), sorted(rest)
    return list(dict.fromkeys([*acted, *rest, *(wire for found in expanded for wire in found)]))


def _words(entry: Any) -> Words:
    if entry.obs is not None:
        return sentence(entry.obs)
    # A function of measured bits is a sum over words of Z's.
    values, wires = np.asarray(entry.eigvals(), dtype=np.float64), list(entry.wires)
    basis = np.arange(len(values))
    found: Words = []
    for word in range(len(values)):
        signs = 1 - 2.0 * (np.bitwise_count(basis & word) % 2)
        chosen = [wire for place, wire in enumerate(reversed(wires)) if word >> place & 1]
        found.append((dict.fromkeys(chosen, "Z"), float(values @ signs) / len(values)))
    return found
