"""Named arrays as one flat vector, in one fixed order on both sides.

Floating-point arrays are aggregated. Others (a batch normalisation's counter, say) keep the
global model's value: they are no quantity that a mean makes sense of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qfl.errors import PayloadError

Arrays = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Layout:
    """Names, shapes and types of a model's arrays, in order.

    Example:
        >>> model = {"weight": np.ones((2, 2), np.float32), "steps": np.array(7)}
        >>> layout = Layout.of(model)
        >>> layout.length
        4
        >>> layout.unflatten(np.array([0.0, 1.0, 2.0, 3.0]), model)["weight"].tolist()
        [[0.0, 1.0], [2.0, 3.0]]
    """

    entries: tuple[tuple[str, tuple[int, ...], str], ...]

    @staticmethod
    def of(arrays: Mapping[str, NDArray[np.generic]]) -> Layout:
        """The layout of a model."""
        return Layout(
            tuple((name, tuple(array.shape), array.dtype.str) for name, array in arrays.items())
        )

    @property
    def length(self) -> int:
        """Number of coordinates that are aggregated."""
        return sum(int(np.prod(shape)) for _, shape, kind in self.entries if _is_float(kind))

    def where(self, chosen: Callable[[str], bool]) -> NDArray[np.bool_]:
        """One entry for each aggregated coordinate: whether its array's name is chosen."""
        parts = [
            np.full(int(np.prod(shape)), chosen(name))
            for name, shape, kind in self.entries
            if _is_float(kind)
        ]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=bool)

    def flatten(self, arrays: Mapping[str, NDArray[np.generic]]) -> NDArray[np.float64]:
        """All floating-point coordinates as one float64 vector.

        Raises:
            PayloadError: Names or shapes differ from this layout.
        """
        for name, shape, _ in self.entries:
            if name not in arrays or tuple(arrays[name].shape) != shape:
                found = tuple(arrays[name].shape) if name in arrays else "nothing"
                raise PayloadError(f"array '{name}' has shape {found}; expected {shape}")
        if extra := set(arrays) - {name for name, _, _ in self.entries}:
            raise PayloadError(f"unexpected arrays: {', '.join(sorted(extra))}")
        parts = [
            np.asarray(arrays[name], dtype=np.float64).ravel()
            for name, _, kind in self.entries
            if _is_float(kind)
        ]
        return np.concatenate(parts) if parts else np.zeros(0)

    def unflatten(
        self, vector: NDArray[np.float64], others: Mapping[str, NDArray[np.generic]]
    ) -> Arrays:
        """Arrays of a flat vector; those that are not floating-point come from ``others``.

        Raises:
            PayloadError: The vector's length or the names in ``others`` differ from this layout.
        """
        if vector.shape != (self.length,):
            raise PayloadError(f"a vector of shape {vector.shape}; expected ({self.length},)")
        arrays: Arrays = {}
        start = 0
        for name, shape, kind in self.entries:
            if not _is_float(kind):
                if name not in others:
                    raise PayloadError(f"array '{name}' is missing: it is not aggregated")
                arrays[name] = others[name]
                continue
            size = int(np.prod(shape))
            arrays[name] = vector[start : start + size].reshape(shape).astype(kind)
            start += size
        return arrays


def _is_float(kind: str) -> bool:
    return np.issubdtype(np.dtype(kind), np.floating)
