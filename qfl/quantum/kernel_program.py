"""A program as the arrays that the CPU kernel reads."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qfl.quantum.plan import Angle, Probabilities, StateVector
from qfl.quantum.program import Angles, Program

SINGLE_Z, Z_WORDS, PROBABILITIES, PAULI_WORDS, STATE = range(5)

# In the order of the kernel's own description of them.
_NUMBERS = (
    *("wires", "inputs", "weights", "outputs"),
    *("angles", "sample_angles", "layers", "measurement", "amplitudes", "reserved"),
)
_ARRAYS = (
    *("angle_start", "angle_slot", "angle_offset", "term_source", "term_scale"),
    *("chain_start", "factor_axis", "factor_angle"),
    *("layer_permutation", "layer_constant", "layer_table"),
    *("phase_start", "phase_mask", "phase_angle", "phase_before"),
    *("turn_start", "turn_wire", "turn_angle"),
    *("dense_start", "dense_wires", "dense_matrix"),
    *("permutation_source", "permutation_inverse", "constant"),
    *("read_source", "read_inverse", "outcome"),
    *("word_start", "word_x", "word_z", "word_y", "word_coefficient"),
)
_DOUBLES = {"angle_offset", "term_scale", "dense_matrix", "constant", "word_coefficient"}


class KernelProgram(ctypes.Structure):
    """``Program`` of the kernel: numbers, then pointers to arrays."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in _NUMBERS),
        *((name, ctypes.c_void_p) for name in _ARRAYS),
    ]


def pack(program: Program) -> tuple[KernelProgram, list[NDArray[Any]]]:
    """The kernel's description of a program, and the arrays that it points to."""
    plan, tables = program.plan, _Tables()
    for column in program.columns:
        tables.start("chain_start", "factor_axis")
        for axis, angles in column:
            tables.add(factor_axis=axis, factor_angle=tables.angle(angles))
    tables.start("chain_start", "factor_axis")
    _pack_layers(program, tables)
    measurement = _pack_measurement(program, tables)
    tables.start("angle_start", "term_source")

    numbers = {
        "wires": plan.n_wires,
        "inputs": plan.columns,
        "weights": plan.n_weights,
        "outputs": plan.outputs,
        "angles": len(tables.lists["angle_slot"]),
        "sample_angles": tables.slots,
        "layers": len(program.layers),
        "measurement": measurement,
        "amplitudes": plan.n_inputs if plan.amplitudes else -1,
    }
    packed = KernelProgram(**numbers)
    arrays = []
    for name, values in tables.lists.items():
        array = np.ascontiguousarray(values, np.float64 if name in _DOUBLES else np.int32)
        arrays.append(array)
        setattr(packed, name, array.ctypes.data if array.size else None)
    return packed, arrays


class _Tables:
    """Collects the kernel's arrays; whoever holds ``packed`` must outlive the calls."""

    def __init__(self) -> None:
        self.lists: dict[str, Any] = {name: [] for name in _ARRAYS}
        self.slots = 0  # angles that differ between samples
        self.permutations: dict[bytes, int] = {}
        self.constants: dict[bytes, int] = {}

    def start(self, *names: str) -> None:
        """Note where the next run begins."""
        for start, array in zip(names[::2], names[1::2], strict=True):
            self.lists[start].append(len(self.lists[array]))

    def add(self, **values: Any) -> None:
        for name, value in values.items():
            self.lists[name].append(value)

    def angle(self, angles: Angles) -> int:
        """A sum of angles, by the number that the kernel knows it by."""
        number = len(self.lists["angle_slot"])
        self.lists["angle_start"].append(len(self.lists["term_source"]))
        offset = 0.0
        sampled = any(a.source == "input" for a in angles)
        for a in angles:
            offset += a.offset
            if a.source != "constant":
                self.add(term_source=_source(a), term_scale=a.scale)
        self.add(angle_offset=offset, angle_slot=self.slots if sampled else -1)
        self.slots += sampled
        return number

    def permutation(self, source: NDArray[np.int64] | None) -> int:
        if source is None:
            return -1
        known = self.permutations.setdefault(source.tobytes(), len(self.permutations))
        if known == len(self.lists["permutation_source"]):
            self.add(permutation_source=source, permutation_inverse=np.argsort(source))
        return known

    def constant(self, phases: NDArray[np.complex128] | None) -> int:
        if phases is None:
            return -1
        known = self.constants.setdefault(phases.tobytes(), len(self.constants))
        if known == len(self.lists["constant"]):
            self.add(constant=np.concatenate([phases.real, phases.imag]))
        return known


def _source(angle: Angle) -> int:
    return angle.index if angle.source == "weight" else -1 - angle.index


def _pack_layers(program: Program, tables: _Tables) -> None:
    starts = (
        *("phase_start", "phase_mask", "turn_start", "turn_wire"),
        *("dense_start", "dense_matrix"),
    )
    with_table = 0
    for layer in program.layers:
        tables.start(*starts)
        shared = layer.constant is not None
        for before, words in ((1, layer.before), (0, layer.after)):
            for mask, angles in words.items():
                number = tables.angle(angles)
                tables.add(phase_mask=mask, phase_angle=number, phase_before=before)
                shared |= tables.lists["angle_slot"][number] < 0
        tables.add(
            layer_permutation=tables.permutation(layer.source),
            layer_constant=tables.constant(layer.constant),
            layer_table=with_table if shared else -1,
        )
        with_table += shared
        for wire, angles in sorted(layer.turns.items()):
            tables.add(turn_wire=wire, turn_angle=tables.angle(angles))
        for gate in layer.dense:
            matrix = gate.matrix.ravel()
            tables.add(
                dense_wires=gate.wires, dense_matrix=np.concatenate([matrix.real, matrix.imag])
            )
    tables.start(*starts)


def _pack_measurement(program: Program, tables: _Tables) -> int:
    plan, measured = program.plan, program.plan.measurement
    if isinstance(measured, StateVector):
        return STATE
    source = program.read_source
    size = 1 << plan.n_wires
    inverse = None if source is None else np.argsort(source)
    if isinstance(measured, Probabilities):
        # Which output a basis state belongs to, seen from before the trailing permutation.
        index = np.arange(size) if inverse is None else inverse
        bits = [(index >> (plan.n_wires - 1 - w)) & 1 for w in measured.wires]
        tables.lists["outcome"] = sum(bit << i for i, bit in enumerate(reversed(bits)))
        return PROBABILITIES
    if source is not None and inverse is not None:
        tables.lists["read_source"], tables.lists["read_inverse"] = source, inverse
    for terms in measured.observables:
        tables.start("word_start", "word_x")
        for term in terms:
            tables.add(
                word_x=_mask(term.word, "XY"),
                word_z=_mask(term.word, "YZ"),
                word_y=term.word.count("Y"),
                word_coefficient=term.coefficient,
            )
    tables.start("word_start", "word_x")
    if any(tables.lists["word_x"]):
        return PAULI_WORDS
    single = all(
        len(terms) == 1 and terms[0].word.count("Z") == 1 for terms in measured.observables
    )
    return SINGLE_Z if single else Z_WORDS


def _mask(word: str, letters: str) -> int:
    return sum(1 << i for i, letter in enumerate(reversed(word)) if letter in letters)
