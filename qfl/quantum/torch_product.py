"""Where a circuit begins in the torch engine: a product of vectors, and its gradients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from qfl.quantum.affine import Kind
from qfl.quantum.chains import PAULI


class Product:
    """The product of one vector for each group of wires.

    Args:
        sizes: Length of each vector.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self._sizes = tuple(sizes)

    def state(self, vectors: Tensor, batch: int) -> Tensor:
        """The state of vectors (copies, batch or 1, groups, longest)."""
        made = _outer(self._parts(vectors))[:, None]
        return made if made.shape[3] == batch else made.expand(-1, -1, -1, batch).contiguous()

    def pull(self, lam: Tensor, vectors: Tensor) -> Tensor:
        """λ v† of each group, (copies, batch or 1, groups, longest, longest)."""
        lam = lam[:, 0]
        if vectors.shape[1] == 1:
            lam = lam.sum(2, keepdim=True)
        parts = [
            _padded(part, vectors.shape[3], 1) for part in _contracted(lam, self._parts(vectors))
        ]
        rows = torch.stack(parts, dim=3) if len(parts) > 1 else parts[0].unsqueeze(3)
        return rows.permute(0, 2, 3, 1).unsqueeze(4) * torch.conj_physical(vectors).unsqueeze(3)

    def _parts(self, vectors: Tensor) -> list[Tensor]:
        """One (copies, d, batch or 1) for each group."""
        parts = vectors.permute(2, 0, 3, 1).contiguous().unbind(0)
        return [_first(part, size) for part, size in zip(parts, self._sizes, strict=True)]


class PauliTable:
    """Reads Im<λ|σ|ψ> of each of some wires, σ = X, Y, Z, off Σ λ ψ† over the others."""

    def __init__(self, kind: Kind, wires: int) -> None:
        columns = []
        for wire in range(wires):
            for sigma in PAULI:
                left, right = np.eye(1 << wire), np.eye(1 << (wires - wire - 1))
                word = np.kron(np.kron(left, sigma), right)
                columns.append(np.stack([word.imag, -word.real], axis=-1).ravel())
        self._size = 1 << wires
        self._table = kind.tensor(np.stack(columns, axis=1))

    def __call__(self, products: Tensor) -> Tensor:
        """(…, d, d), complex, to (…, 3 * wires)."""
        parts = torch.view_as_real(self.padded(products))
        flat = parts.reshape(-1, len(self._table))
        return torch.mm(flat, self._table).reshape(*products.shape[:-2], -1)

    def padded(self, products: Tensor) -> Tensor:
        """Those of a smaller group as those of one with wires in front."""
        return _padded(_padded(products, self._size, -1), self._size, -2)


def _padded(part: Tensor, size: int, axis: int) -> Tensor:
    """Zeros behind what is there along an axis."""
    if part.shape[axis] == size:
        return part
    shape = list(part.shape)
    shape[axis] = size - part.shape[axis]
    return torch.cat((part, part.new_zeros(shape)), dim=axis)


def _first(part: Tensor, size: int) -> Tensor:
    return part if part.shape[1] == size else part[:, :size]


def _outer(parts: Sequence[Tensor]) -> Tensor:
    """Product of vectors (copies, d, batch), balanced so that large tensors are few."""
    if len(parts) == 1:
        return parts[0]
    half = len(parts) // 2
    left, right = _outer(parts[:half]), _outer(parts[half:])
    return (left[:, :, None] * right[:, None]).flatten(1, 2)


def _contracted(lam: Tensor, parts: Sequence[Tensor]) -> list[Tensor]:
    """For each vector, <the others|λ>."""
    if len(parts) == 1:
        return [lam]
    half = len(parts) // 2
    left, right = (torch.conj_physical(_outer(side)) for side in (parts[:half], parts[half:]))
    grid = lam.reshape(len(lam), left.shape[1], right.shape[1], -1)
    return [
        *_contracted((grid * right[:, None]).sum(2), parts[:half]),
        *_contracted((grid * left[:, :, None]).sum(1), parts[half:]),
    ]
