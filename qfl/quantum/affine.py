"""Linear functions of inputs and weights, many at once, and gradients back through them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qfl.quantum.plan import Angle


def complex_type(real: torch.dtype) -> torch.dtype:
    """The complex type whose parts are of type ``real``."""
    return torch.complex128 if real == torch.float64 else torch.complex64


@dataclass(frozen=True)
class Kind:
    """Device and precision that constants are made for.

    Attributes:
        device: Device.
        real: float32 or float64.
    """

    device: torch.device
    real: torch.dtype

    def tensor(self, array: np.ndarray) -> Tensor:
        """An array as a tensor of this kind; integers stay integers."""
        types = {"i": torch.int64, "f": self.real, "c": complex_type(self.real)}
        # An ordinary tensor, even if the first call comes in inference mode.
        with torch.inference_mode(False):
            return torch.as_tensor(array).to(self.device, types[array.dtype.kind])


class Affine:
    """``scale * source[index] + offset`` of many angles.

    Args:
        kind: Of inputs and weights.
        angles: At least one.

    Attributes:
        per_sample: Whether any of them follows the inputs.

    Example:
        >>> kind = Kind(torch.device("cpu"), torch.float32)
        >>> angles = Affine(kind, [Angle("input", 1, 2.0), Angle("weight", 0, offset=0.5)])
        >>> angles(torch.tensor([[[0.0, 1.0], [0.0, 3.0]]]), torch.tensor([[10.0]])).tolist()
        [[[2.0, 10.5], [6.0, 10.5]]]
    """

    def __init__(self, kind: Kind, angles: Sequence[Angle]) -> None:
        self.per_sample = any(angle.source == "input" for angle in angles)
        self._by_weights = any(angle.source == "weight" for angle in angles)
        self._offset = kind.tensor(np.array([[[angle.offset for angle in angles]]], dtype=float))
        self._entry, self._by_entry = _terms(kind, "weight", angles)
        self._column, self._by_column = _terms(kind, "input", angles)

    def __call__(self, inputs: Tensor, weights: Tensor) -> Tensor:
        """Values of all angles.

        Args:
            inputs: (1 or copies, batch, columns).
            weights: (copies, n_weights).

        Returns:
            (copies, batch, angles); where no angle follows the inputs, with a batch of 1.
        """
        copies = len(weights)
        values = self._offset
        if self._by_weights:
            chosen = weights.index_select(1, self._entry)
            values = torch.addcmul(values, chosen.reshape(copies, 1, -1), self._by_entry)
        elif copies > 1:
            values = values.expand(copies, 1, -1)
        if self.per_sample:
            runs, batch, columns = inputs.shape
            chosen = inputs.reshape(-1, columns).index_select(1, self._column)
            values = torch.addcmul(values, chosen.reshape(runs, batch, -1), self._by_column)
        return values


def _terms(kind: Kind, source: str, angles: Sequence[Angle]) -> tuple[Tensor, Tensor]:
    index = [angle.index if angle.source == source else 0 for angle in angles]
    scale = [angle.scale if angle.source == source else 0.0 for angle in angles]
    return kind.tensor(np.array(index)), kind.tensor(np.array(scale))


class Collect:
    """For each of ``count`` numbers the sum of ``scale * flat[place]`` over all its uses.

    Args:
        kind: Of what is summed.
        count: Numbers.
        uses: (number, place, scale).

    Example:
        >>> kind = Kind(torch.device("cpu"), torch.float32)
        >>> Collect(kind, 2, [(0, 2, 1.0), (0, 0, 10.0)])(torch.tensor([[1.0, 2.0, 3.0]])).tolist()
        [[13.0, 0.0]]
    """

    def __init__(self, kind: Kind, count: int, uses: Iterable[tuple[int, int, float]]) -> None:
        rows: list[list[tuple[int, float]]] = [[] for _ in range(count)]
        for number, place, scale in uses:
            rows[number].append((place, scale))
        most = max([1, *map(len, rows)])
        filled = [pair for row in rows for pair in row + [(0, 0.0)] * (most - len(row))]
        self._shape = (count, most)
        self._place = kind.tensor(np.array([place for place, _ in filled], dtype=int))
        self._scale = kind.tensor(np.array([scale for _, scale in filled], dtype=float))

    def __call__(self, flat: Tensor) -> Tensor:
        """(…, places) to (…, count)."""
        found = flat.reshape(-1, flat.shape[-1]).index_select(1, self._place) * self._scale
        if self._shape[1] != 1:
            found = found.reshape(-1, *self._shape).sum(-1)
        return found.reshape(*flat.shape[:-1], self._shape[0])
