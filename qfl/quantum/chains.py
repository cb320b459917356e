"""Runs of one-wire gates multiplied into one matrix each, all at once, in torch.

A rotation by t about axis k is the unit quaternion (cos t/2, sin t/2 e_k); a fixed gate is one up
to its phase. Products of quaternions take fewer operations than products of complex matrices, and
all chains of a plan take part in each of them.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from qfl.quantum.plan import Angle, Rotation, Unitary

Chain = list[Rotation | Unitary]


def complex_type(real: torch.dtype) -> torch.dtype:
    """The complex type whose parts are of type ``real``."""
    return torch.complex128 if real == torch.float64 else torch.complex64


def constant(value: object, device: torch.device, kind: torch.dtype) -> Tensor:
    """A tensor to keep: an ordinary one, even if the first call comes in inference mode."""
    with torch.inference_mode(False):
        return torch.as_tensor(value).to(device, kind)


def follows_inputs(chain: Chain) -> bool:
    """Whether a chain differs from sample to sample."""
    return any(isinstance(gate, Rotation) and gate.angle.source == "input" for gate in chain)


class Chains:
    """Chains multiplied all at once, as quaternions.

    They are padded to one length with identities, so that a product of all of them takes as many
    steps as the longest has gates.

    Attributes:
        place: Position of each chain, by its key, in what :meth:`matrices` returns.
    """

    def __init__(self, chains: dict[tuple[int, int], Chain]) -> None:
        self.place = {key: number for number, key in enumerate(chains)}
        length = max(map(len, chains.values()), default=0)
        shape = (length, len(chains))
        self._scale, self._offset = np.zeros(shape), np.zeros(shape)
        self._axis = np.zeros((*shape, 4))
        self._fixed = np.zeros((*shape, 4))
        self._angles: list[tuple[int, int, Angle]] = []
        for column, chain in enumerate(chains.values()):
            for row, gate in enumerate(chain):
                if isinstance(gate, Unitary):
                    self._fixed[row, column] = _quaternion(gate.matrix)
                    continue
                self._axis[row, column, gate.axis + 1] = 1.0
                self._scale[row, column] = gate.angle.scale / 2
                self._offset[row, column] = gate.angle.offset / 2
                self._angles.append((row, column, gate.angle))
        self._cache: dict[tuple[torch.device, torch.dtype], tuple[Tensor, ...]] = {}

    def matrices(self, first: Tensor, like: Tensor, weights: Tensor | None = None) -> Tensor:
        """(batch, chains, 2, 2) complex.

        Args:
            first: (batch, n): inputs, or with batch 1 the weights where there are no inputs.
            like: Gives device and precision.
            weights: (n_weights,) where ``first`` holds inputs.
        """
        batch = len(first)
        if not self.place:
            return like.new_zeros((batch, 0, 2, 2), dtype=complex_type(like.dtype))
        constants = self._tensors(like, first.shape[1], weights)
        index, scale, offset, axis, fixed, still, table, readout = constants
        pool = [first]
        if weights is not None:
            pool.append(weights.expand(batch, -1))
        pool.append(first.new_zeros(batch, 1))
        half = torch.cat(pool, dim=1)[:, index] * scale + offset
        # (batch, length, chains, 4); identities where a chain has ended.
        parts = torch.cos(half)[..., None] * still + torch.sin(half)[..., None] * axis + fixed
        product = parts[:, 0]
        if half.shape[1] > 1:
            left = (parts[:, 1:] @ table).reshape(*parts[:, 1:].shape, 4)
            for row in left.unbind(1):
                product = (row @ product[..., None])[..., 0]
        real, imaginary = (product @ readout).chunk(2, dim=-1)
        return torch.complex(real.contiguous(), imaginary.contiguous()).reshape(batch, -1, 2, 2)

    def _tensors(self, like: Tensor, width: int, weights: Tensor | None) -> tuple[Tensor, ...]:
        key = (like.device, like.dtype)
        if key not in self._cache:
            total = width + (0 if weights is None else weights.numel())
            index = np.full(self._scale.shape, total)
            for row, column, angle in self._angles:
                if angle.source == "input":
                    index[row, column] = angle.index
                elif angle.source == "weight":
                    index[row, column] = angle.index + (0 if weights is None else width)
            still = np.zeros_like(self._fixed)
            still[..., 0] = ~self._fixed.any(axis=2)
            made = (
                *(index, self._scale, self._offset, self._axis, self._fixed, still),
                *(_LEFT, _READOUT),
            )
            kinds = [torch.int64 if part is index else like.dtype for part in made]
            self._cache[key] = tuple(
                constant(part, like.device, kind) for part, kind in zip(made, kinds, strict=True)
            )
        return self._cache[key]


# Quaternion q to the matrix of "multiply by q from the left", row by row.
_LEFT = np.zeros((4, 16))
for _part, _signs in enumerate(
    (
        ((0, 1), (5, 1), (10, 1), (15, 1)),
        ((1, -1), (4, 1), (11, -1), (14, 1)),
        ((2, -1), (7, 1), (8, 1), (13, -1)),
        ((3, -1), (6, -1), (9, 1), (12, 1)),
    )
):
    for _entry, _sign in _signs:
        _LEFT[_part, _entry] = _sign

# Quaternion (w, x, y, z) to [[w - iz, -y - ix], [y - ix, w + iz]]: real parts, then imaginary ones.
_READOUT = np.array(
    [
        [1, 0, 0, 1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, -1, -1, 0],
        [0, -1, 1, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, -1, 0, 0, 1],
    ],
    dtype=np.float64,
)


def _quaternion(matrix: np.ndarray) -> np.ndarray:
    """A 2x2 unitary without its global phase."""
    special = matrix / np.sqrt(np.linalg.det(matrix) + 0j)
    return np.array(
        [special[0, 0].real, -special[0, 1].imag, -special[0, 1].real, -special[0, 0].imag]
    )
