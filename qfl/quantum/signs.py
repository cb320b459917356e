"""Sums over basis states with signs of words of Z, and their transpose, in torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from qfl.quantum.affine import Kind

# Up to here signs of all basis states are kept in a table; beyond, of halves of their bits.
TABLE_WIRES = 14


def bits_of(wires: Sequence[int], n_wires: int) -> int:
    """The bits of a basis state's index that belong to wires."""
    return sum(1 << (n_wires - 1 - wire) for wire in wires)


class Signs:
    """A matrix (rows, 2**n_wires): each row a sum of words of Z, read along the diagonal.

    Above :data:`TABLE_WIRES` wires it is never written out: the sign of a word is that of its
    upper bits times that of its lower ones.

    Args:
        kind: Of what is summed.
        rows: For each row its words, as the bits of their wires, with coefficients.
        n_wires: Wires.
        source: Columns are taken as they stand before the permutation
            ``new[k] = old[source[k]]``; up to :data:`TABLE_WIRES` wires.

    Example:
        >>> kind = Kind(torch.device("cpu"), torch.float32)
        >>> signs = Signs(kind, [{0b10: 1.0}, {0b11: 2.0}], 2)
        >>> signs.spread(torch.eye(2)[None])[0].T.tolist()
        [[1.0, 1.0, -1.0, -1.0], [2.0, -2.0, -2.0, 2.0]]
    """

    def __init__(
        self,
        kind: Kind,
        rows: Sequence[Mapping[int, float]],
        n_wires: int,
        source: np.ndarray | None = None,
    ) -> None:
        low = n_wires // 2 if n_wires > TABLE_WIRES else 0
        mask = (1 << low) - 1
        uppers = sorted({word >> low for row in rows for word in row})
        lowers = sorted({word & mask for row in rows for word in row})
        choice = np.zeros((len(rows), len(uppers), len(lowers)))
        for number, row in enumerate(rows):
            for word, coefficient in row.items():
                choice[number, uppers.index(word >> low), lowers.index(word & mask)] += coefficient
        upper = _signs(uppers, n_wires - low)
        self._sizes = len(uppers), len(lowers), 1 << low
        if low:
            self._table = kind.tensor(upper[None])
            self._lower = kind.tensor(_signs(lowers, low)[None])
            self._choice = kind.tensor(choice.reshape(1, len(rows), -1))
        else:
            table = choice.sum(2) @ upper
            self._table = kind.tensor(
                (table if source is None else table[:, np.argsort(source)])[None]
            )

    def read(self, columns: Tensor) -> Tensor:
        """(copies, 2**n_wires, m), real, to (copies, rows, m)."""
        uppers, lowers, low = self._sizes
        if low == 1:
            return _times(self._table, columns)
        copies, _, m = columns.shape
        found = _times(self._table, columns.reshape(copies, -1, low * m))
        found = _times(self._lower, found.reshape(copies * uppers, low, m))
        return _times(self._choice, found.reshape(copies, uppers * lowers, m))

    def spread(self, rows: Tensor) -> Tensor:
        """The transpose: (copies, rows, m) to (copies, 2**n_wires, m)."""
        uppers, lowers, low = self._sizes
        if low == 1:
            return _times(self._table.mT, rows)
        copies, _, m = rows.shape
        found = _times(self._choice.mT, rows).reshape(copies * uppers, lowers, m)
        found = _times(self._lower.mT, found).reshape(copies, uppers, low * m)
        return _times(self._table.mT, found).reshape(copies, -1, m)


def _times(matrix: Tensor, columns: Tensor) -> Tensor:
    if len(columns) > 1:
        matrix = matrix.expand(len(columns), -1, -1)
    return torch.bmm(matrix, columns)


def _signs(words: Sequence[int], bits: int) -> np.ndarray:
    basis = np.arange(1 << bits)
    odd = [np.bitwise_count(basis & word) & 1 for word in words]
    return 1.0 - 2.0 * np.array(odd, dtype=np.float64).reshape(len(words), 1 << bits)
