"""Examples and data sets: the two containers that everything else in this package works on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qfl.errors import DataError

Targets = NDArray[np.int64] | NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Examples:
    """Inputs and targets of the same length.

    Attributes:
        x: float32, (n, features), or (n, window, channels) for time series.
        y: int64 class indices or float32 values, (n,).

    Raises:
        DataError: ``x`` and ``y`` differ in length.

    Example:
        >>> import numpy as np
        >>> examples = Examples(np.zeros((3, 2), np.float32), np.array([0, 1, 1]))
        >>> len(examples), examples.take([0, 2]).y.tolist()
        (3, [0, 1])
    """

    x: NDArray[np.float32]
    y: Targets

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise DataError(
                f"x has {len(self.x)} examples and y has {len(self.y)}: give one target for "
                "each example"
            )

    def __len__(self) -> int:
        return len(self.y)

    @property
    def features(self) -> int:
        """Numbers in a row: features, or channels of a time series."""
        return int(self.x.shape[-1])

    def take(self, indices: NDArray[np.integer[Any]] | Sequence[int]) -> Examples:
        """The examples at ``indices``, in that order, as a copy."""
        chosen = np.asarray(indices, dtype=np.intp)
        return Examples(self.x[chosen], self.y[chosen])


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training and held-out examples, and what is publicly known about them.

    Attributes:
        name: Name in the registry of data sets.
        task: ``classification`` or ``regression``.
        train: Examples to partition among the clients.
        test: Held out before any partitioning.
        classes: Names of the classes, by class index; empty for regression.
        public_range: Range of every feature that is known to everybody without looking at the
            data; None where there is none.
        files: Indices into ``train``, one array per client file, where the data came as one
            file per client.
    """

    name: str
    task: str
    train: Examples
    test: Examples
    classes: tuple[str, ...] = ()
    public_range: tuple[float, float] | None = None
    files: tuple[NDArray[np.intp], ...] | None = None
