"""What the torch engine does to states, forward and backward.

States have shape (copies, pair, 2**n_wires, batch). The batch comes last, so that permutations
move whole rows and matrix products are few and large. ``pair`` is 1 on the way forward; on the way
back it holds the state ψ and λ, half the gradient by the state, which are undone together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from qfl.quantum.affine import Kind
from qfl.quantum.plan import Complex, Unitary

# Many products with few columns are slow one by one: below this they become one with a larger
# matrix.
_NARROW = 8


@dataclass(frozen=True)
class Given:
    """What one call works on.

    Attributes:
        inputs: (1 or copies, batch, columns).
        weights: (copies, n_weights).
        shared: Matrices of groups of wires that are the same for all samples, (copies, d, d) each.
        batched: One-wire matrices of the other groups, (copies, batch, wires, 2, 2) each.
    """

    inputs: Tensor
    weights: Tensor
    shared: Sequence[Tensor]
    batched: Sequence[Tensor]


class Step(Protocol):
    """One thing done to a state."""

    def apply(self, state: Tensor, given: Given) -> Tensor:
        """The state after this step."""

    def undo(self, states: Tensor, given: Given) -> Tensor:
        """States before this step."""


class SharedTurn:
    """A matrix on neighbouring wires, the same for all samples.

    Args:
        place: Where the matrix stands in ``given.shared``.
        size: Rows of the matrix.
        right: 2 to the number of wires behind these.
    """

    def __init__(self, place: int, size: int, right: int) -> None:
        self._place, self._size, self._right = place, size, right

    def apply(self, state: Tensor, given: Given) -> Tensor:
        """The state after this step."""
        return _multiply(self._matrix(given), state, self._right)

    def undo(self, states: Tensor, given: Given) -> Tensor:
        """States before this step."""
        return _multiply(torch.conj_physical(self._matrix(given)).mT, states, self._right)

    def pull(self, pair: Tensor) -> Tensor:
        """Σ λ ψ† over samples and other wires, (copies, d, d), from ψ and λ behind this step."""
        copies, _, states, batch = pair.shape
        d, width = self._size, self._right * batch
        psi, lam = pair.unbind(1)
        left = states // (d * self._right)
        if left > 1 and width < d:
            psi, lam = (
                part.reshape(copies, left, d, width).transpose(1, 2).reshape(copies, d, -1)
                for part in (psi, lam)
            )
            left = 1
        if left == 1:
            return _outer_sum(lam.reshape(copies, d, -1), psi.reshape(copies, d, -1))
        psi, lam = (part.reshape(copies * left, d, width) for part in (psi, lam))
        return _outer_sum(lam, psi).reshape(copies, left, d, d).sum(1)

    def _matrix(self, given: Given) -> Tensor:
        return _corner(given.shared[self._place], self._size)


class BatchedTurn:
    """A matrix on neighbouring wires that differs from sample to sample; see :class:`SharedTurn`.

    It is multiplied out of one-wire matrices at each use: kept, it could be larger than a state.
    """

    def __init__(self, place: int, size: int, right: int) -> None:
        self._place, self._size, self._right = place, size, right

    def apply(self, state: Tensor, given: Given) -> Tensor:
        """The state after this step."""
        return self._multiply(self._matrix(given), state)

    def undo(self, states: Tensor, given: Given) -> Tensor:
        """States before this step."""
        return self._multiply(self._matrix(given).mH, states)

    def pull(self, pair: Tensor) -> Tensor:
        """Σ λ ψ† over other wires, (copies, batch, d, d), from ψ and λ behind this step."""
        psi, lam = (self._rows(pair.narrow(1, half, 1)) for half in (0, 1))
        return torch.matmul(lam, psi.mH)

    def _matrix(self, given: Given) -> Tensor:
        parts = given.batched[self._place]
        found = kron(parts.reshape(-1, *parts.shape[2:]))
        return _corner(found.reshape(*parts.shape[:2], *found.shape[1:]), self._size)

    def _rows(self, states: Tensor) -> Tensor:
        """(copies, batch, d, everything else)."""
        copies, pair, _, batch = states.shape
        parts = states.reshape(copies, pair, -1, self._size, self._right, batch)
        return parts.permute(0, 5, 3, 1, 2, 4).reshape(copies, batch, self._size, -1)

    def _multiply(self, matrix: Tensor, states: Tensor) -> Tensor:
        copies, pair, _, batch = states.shape
        d = self._size
        turned = torch.matmul(matrix, self._rows(states))
        parts = turned.reshape(copies, batch, d, pair, -1, self._right)
        return parts.permute(0, 3, 4, 2, 5, 1).reshape(states.shape)


class FixedTurn:
    """A fixed matrix on neighbouring wires."""

    def __init__(self, kind: Kind, matrix: Complex, right: int) -> None:
        self._right = right
        self._matrix = kind.tensor(matrix[None])

    def apply(self, state: Tensor, given: Given) -> Tensor:
        """The state after this step."""
        return _multiply(self._matrix.expand(len(state), -1, -1), state, self._right)

    def undo(self, states: Tensor, given: Given) -> Tensor:
        """States before this step."""
        return _multiply(self._matrix.mH.expand(len(states), -1, -1), states, self._right)


class Dense:
    """A fixed unitary on two wires, wherever they are."""

    def __init__(self, kind: Kind, n_wires: int, gate: Unitary) -> None:
        self._n_wires = n_wires
        self._axes = [wire - n_wires - 1 for wire in gate.wires]
        self._matrix = kind.tensor(gate.matrix)

    def apply(self, state: Tensor, given: Given) -> Tensor:
        """The state after this step."""
        return self._multiply(state, self._matrix)

    def undo(self, states: Tensor, given: Given) -> Tensor:
        """States before this step."""
        return self._multiply(states, self._matrix.mH)

    def _multiply(self, states: Tensor, matrix: Tensor) -> Tensor:
        grid = states.reshape(*states.shape[:2], *[2] * self._n_wires, states.shape[-1])
        moved = grid.movedim(self._axes, (0, 1))
        turned = torch.matmul(matrix, moved.reshape(4, -1)).reshape(moved.shape)
        return turned.movedim((0, 1), self._axes).reshape(states.shape)


def kron(parts: Tensor) -> Tensor:
    """The Kronecker product over m of (X, m, r, c): (X, r**m, c**m)."""
    count, m, r, c = parts.shape
    if m == 1:
        return parts[:, 0]
    if m % 2:
        return _kron(parts[:, 0], kron(parts[:, 1:]))
    left = parts.reshape(-1, 2, r, 1, c, 1).select(1, 0)
    pairs = left * parts.reshape(-1, 2, 1, r, 1, c).select(1, 1)
    return kron(pairs.reshape(count, m // 2, r * r, c * c))


def _corner(matrix: Tensor, size: int) -> Tensor:
    """The group's own part: wires that pad a group stand in front, as identities."""
    return matrix if matrix.shape[-1] == size else matrix[..., :size, :size]


def _kron(left: Tensor, right: Tensor) -> Tensor:
    (count, a, b), (_, c, d) = left.shape, right.shape
    joined = left.reshape(count, a, 1, b, 1) * right.reshape(count, 1, c, 1, d)
    return joined.reshape(count, a * c, b * d)


def _multiply(matrix: Tensor, states: Tensor, right: int) -> Tensor:
    """A matrix (copies, d, d) on the wires in front of the last log2(right)."""
    (copies, pair, length, batch), d = states.shape, matrix.shape[-1]
    width = right * batch
    count = pair * length // (d * right)
    if count == 1:
        turned = torch.bmm(matrix, states.reshape(copies, d, width))
    elif width < _NARROW:
        if width > 1:
            one = torch.eye(width, dtype=matrix.dtype, device=matrix.device)
            matrix = _kron(matrix, one.expand(copies, width, width))
        turned = torch.bmm(states.reshape(copies, count, d * width), matrix.mT)
    else:
        if copies > 1:
            matrix = matrix[:, None].expand(copies, count, d, d).reshape(-1, d, d)
        turned = torch.bmm(matrix.expand(copies * count, d, d), states.reshape(-1, d, width))
    return turned.reshape(states.shape)


def _outer_sum(left: Tensor, right: Tensor) -> Tensor:
    """Σ of left right† over columns, (…, d, d)."""
    # Lazy conjugates are free on a GPU, and slower than a copy on a CPU.
    return torch.bmm(left, right.mH if right.is_cuda else torch.conj_physical(right).mT)
