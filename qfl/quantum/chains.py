"""Runs of one-wire gates multiplied into one matrix each, all at once, in torch.

Every real and imaginary part of a rotation's matrix is a sine of ``scale * parameter + offset``
(a cosine is one, and so is a constant). So the matrices of all gates come from one gather, one
multiplication with addition and one sine; products are taken in pairs, so that a chain of eight
gates takes three steps.

Gradients go another way. ``t`` holds, for each chain, Im<λ|σ|ψ> behind its last gate, σ = X, Y, Z:
the gradients by the angles of rotations about the axes there. Seen from in front of a gate the
axes are turned, by a real 3x3 matrix whose entries are sines as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from qfl.quantum.affine import Affine, Kind
from qfl.quantum.plan import Angle, Complex, Rotation, Unitary

Chain = list[Rotation | Unitary]

PAULI = np.array([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])


def sources(chain: Chain) -> set[str]:
    """What the angles of a chain come from."""
    return {gate.angle.source for gate in chain if isinstance(gate, Rotation)}


def product(chain: Chain) -> Complex:
    """The matrix of a chain without inputs and weights."""
    found: Complex = np.eye(2, dtype=np.complex128)
    for gate in chain:
        if isinstance(gate, Rotation):
            half = gate.angle.offset / 2
            matrix = math.cos(half) * np.eye(2) - 1j * math.sin(half) * PAULI[gate.axis]
        else:
            matrix = gate.matrix
        found = matrix @ found
    return found


class Chains:
    """The matrices of many chains, and gradients by their angles.

    Chains are padded with identities in front, to one length.

    Args:
        kind: Of inputs and weights.
        chains: Gates in the order of application; a chain may be empty.

    Attributes:
        places: Numbers that :meth:`pull` returns for a sample.
        per_sample: Whether any chain follows the inputs.
    """

    def __init__(self, kind: Kind, chains: Sequence[Chain]) -> None:
        longest = max([1, *map(len, chains)])
        self.places = longest * 3 * len(chains)
        self.per_sample = any("input" in sources(chain) for chain in chains)
        self._chains, self._longest = chains, longest
        self._length = 1 << (longest - 1).bit_length()
        entries: list[Angle] = []
        turns: list[Angle] = []
        for chain in chains:
            padded = [None] * (self._length - len(chain)) + chain
            for gate in padded:
                entries += _matrix(gate)
            for gate in padded[self._length - longest + 1 :]:
                turns += _turn(gate)
        self._entries, self._turns = Affine(kind, entries), Affine(kind, turns)

    def matrices(self, inputs: Tensor, weights: Tensor) -> Tensor:
        """(copies * (batch or 1) * chains, 2, 2), complex; arguments as in :class:`Affine`."""
        angles = self._entries(inputs, weights)
        found = torch.view_as_complex(torch.sin(angles).reshape(-1, 2, 2, 2))
        length = self._length
        while length > 1:
            first, second = found.reshape(-1, 2, 2, 2).unbind(1)
            found = torch.bmm(second, first)
            length //= 2
        return found

    def pull(self, t: Tensor, inputs: Tensor, weights: Tensor) -> Tensor:
        """Im<λ|σ|ψ> behind each chain to what it is behind each gate.

        Args:
            t: (copies, batch or 1, …), with 3 numbers for each chain.
            inputs: As in :class:`Affine`.
            weights: As in :class:`Affine`.

        Returns:
            (copies, batch or 1, places).
        """
        copies, batch = t.shape[:2]
        if self._longest == 1:
            return t.reshape(copies, batch, -1)
        turns = torch.sin(self._turns(inputs, weights))
        grid = t.reshape(copies, batch, -1, 3)
        # Turns that are the same for all samples meet all samples at once.
        together = turns.shape[1] < batch
        grid = grid.transpose(1, 2) if together else grid
        turns = turns.reshape(-1, self._longest - 1, 3, 3)
        rows = [grid.reshape(len(turns), -1, 3)]
        for turn in reversed(turns.unbind(1)):
            rows.append(torch.bmm(rows[-1], turn))
        found = torch.stack(rows, dim=2).reshape(*grid.shape[:3], -1)
        return (found.transpose(1, 2) if together else found).reshape(copies, batch, -1)

    def uses(self) -> Iterator[tuple[Angle, int]]:
        """Each angle with its place in what :meth:`pull` returns."""
        for number, chain in enumerate(self._chains):
            for back, gate in enumerate(reversed(chain)):
                if isinstance(gate, Rotation):
                    yield gate.angle, (number * self._longest + back) * 3 + gate.axis


def _matrix(gate: Rotation | Unitary | None) -> list[Angle]:
    """Angles whose sines are [[w - iz, -y - ix], [y - ix, w + iz]], real and imaginary parts."""
    if isinstance(gate, Rotation):
        half = _scaled(gate.angle, 0.5)
        w, xyz = _cosine(half), [_sine_of(0.0)] * 3
        xyz[gate.axis] = half
    else:
        parts = (1.0, 0.0, 0.0, 0.0) if gate is None else _quaternion(gate.matrix)
        w, *xyz = map(_sine_of, parts)
    less_x, less_y, less_z = (_scaled(angle, -1.0) for angle in xyz)
    return [w, less_z, less_y, less_x, xyz[1], less_x, w, xyz[2]]


def _turn(gate: Rotation | Unitary | None) -> list[Angle]:
    """Angles whose sines are R, row by row, where U σ_a U† is the sum of R[b, a] σ_b."""
    if isinstance(gate, Rotation):
        angle, k = gate.angle, gate.axis
        i, j = (k + 1) % 3, (k + 2) % 3
        found = [_sine_of(0.0)] * 9
        found[4 * k] = _sine_of(1.0)
        found[4 * i] = found[4 * j] = _cosine(angle)
        found[3 * j + i], found[3 * i + j] = angle, _scaled(angle, -1.0)
        return found
    matrix = np.eye(2) if gate is None else gate.matrix
    turned = np.einsum("ij,ajk,lk->ail", matrix, PAULI, matrix.conj())
    return [_sine_of(entry) for entry in (np.einsum("bij,aji->ba", PAULI, turned).real / 2).flat]


def _scaled(angle: Angle, factor: float) -> Angle:
    return Angle(angle.source, angle.index, angle.scale * factor, angle.offset * factor)


def _cosine(angle: Angle) -> Angle:
    return Angle(angle.source, angle.index, angle.scale, angle.offset + math.pi / 2)


def _sine_of(value: float) -> Angle:
    return Angle("constant", offset=math.asin(max(-1.0, min(1.0, value))))


def _quaternion(matrix: Complex) -> tuple[float, float, float, float]:
    """A 2x2 unitary without its global phase."""
    first, second = (matrix / np.sqrt(np.linalg.det(matrix) + 0j))[0]
    return first.real, -second.imag, -second.real, -first.imag
