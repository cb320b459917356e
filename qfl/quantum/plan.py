"""A circuit as data: what engines execute.

A plan is what remains of a PennyLane circuit once it has been looked at: a list of simple
operations on numbered wires, and a measurement. Wire 0 is the most significant bit of a basis
state's index, as in PennyLane. Global phases are dropped unless the state itself is measured.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Complex = NDArray[np.complex128]


@dataclass(frozen=True)
class Angle:
    """Where an angle comes from: ``scale * source[index] + offset``, in radians.

    Attributes:
        source: ``input`` (a column of the batch, one angle per sample), ``weight`` (an entry of
            the flat vector of trainable numbers, shared by all samples) or ``constant``.
        index: Column or entry; unused for constants.
        scale: Factor.
        offset: Added after scaling; the whole value for constants.
    """

    source: str
    index: int = 0
    scale: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True)
class Rotation:
    """``exp(-i angle/2 * sigma)`` on one wire; axis 0, 1, 2 is X, Y, Z."""

    wire: int
    axis: int
    angle: Angle


@dataclass(frozen=True)
class Unitary:
    """A fixed unitary on one or two wires; matrix (2, 2) or (4, 4), first wire most significant."""

    wires: tuple[int, ...]
    matrix: Complex = field(repr=False)


@dataclass(frozen=True)
class Monomial:
    """A permutation of basis states with phases: ``new[k] = phases[k] * old[source[k]]``.

    CNOT, CZ, SWAP, Toffoli, controlled Z and any run of them; ``phases`` is None where all are 1.
    Both tables are those of the wires named, 2**len(wires) long, first wire most significant.
    """

    wires: tuple[int, ...]
    source: NDArray[np.int64] = field(repr=False)
    phases: Complex | None = field(default=None, repr=False)

    def expanded(self, n_wires: int) -> tuple[NDArray[np.int64], Complex | None]:
        """Source and phases of all 2**n_wires basis states."""
        basis = np.arange(1 << n_wires)
        shifts = [n_wires - 1 - wire for wire in self.wires]
        row = np.zeros_like(basis)
        for shift in shifts:
            row = (row << 1) | ((basis >> shift) & 1)
        column, source = self.source[row], basis
        for position, shift in enumerate(reversed(shifts)):
            source = (source & ~(1 << shift)) | (((column >> position) & 1) << shift)
        return source, None if self.phases is None else self.phases[row]


@dataclass(frozen=True)
class MultiRZ:
    """``exp(-i angle/2 * Z⊗…⊗Z)`` on the wires given."""

    wires: tuple[int, ...]
    angle: Angle


Operation = Rotation | Unitary | Monomial | MultiRZ


@dataclass(frozen=True)
class PauliTerm:
    """``coefficient`` times a Pauli word; ``word[w]`` is I, X, Y or Z on wire w."""

    coefficient: float
    word: str


@dataclass(frozen=True)
class Expectations:
    """One real output per observable, each a sum of Pauli terms."""

    observables: tuple[tuple[PauliTerm, ...], ...]


@dataclass(frozen=True)
class Probabilities:
    """Probabilities of the basis states of ``wires``, in their order; 2**len(wires) outputs."""

    wires: tuple[int, ...]


@dataclass(frozen=True)
class StateVector:
    """The state itself: 2 * 2**n_wires outputs, all real parts, then all imaginary parts.

    Attributes:
        phase: Engines give the state up to a global phase; ``exp(i * sum of these angles)`` times
            theirs is the circuit's own.
    """

    phase: tuple[Angle, ...] = ()


Measurement = Expectations | Probabilities | StateVector


@dataclass(frozen=True)
class Plan:
    """Operations in order, then a measurement.

    Attributes:
        n_wires: Wires, numbered from 0.
        operations: In the order of application.
        measurement: What is read out.
        n_inputs: Columns of the batch that angles refer to.
        n_weights: Entries of the flat vector that angles refer to.
        amplitudes: Whether the initial state is given in place of |0…0>: in 2 * 2**n_wires more
            columns of the batch, all real parts, then all imaginary parts, of norm 1.
    """

    n_wires: int
    operations: tuple[Operation, ...]
    measurement: Measurement
    n_inputs: int
    n_weights: int
    amplitudes: bool = False

    @property
    def columns(self) -> int:
        """Width of the batch that an engine takes."""
        return self.n_inputs + (2 << self.n_wires) * self.amplitudes

    @property
    def outputs(self) -> int:
        """Numbers per sample."""
        if isinstance(self.measurement, Expectations):
            return len(self.measurement.observables)
        if isinstance(self.measurement, Probabilities):
            return 1 << len(self.measurement.wires)
        return 2 << self.n_wires
