"""Protecting a chosen share of the parameters, after FedML-HE (Jin et al. 2023).

What is not chosen travels in the clear and is summed by the server: cheaper, and open to gradient
inversion as far as it goes. Which coordinates are chosen is known to everybody.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from qfl.crypto import IntVector, Layout, Plain, Step
from qfl.errors import ConfigError, unknown_name

CHOICES = ("all", "layers", "sensitivity")
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Selective:
    """Which parameters are protected.

    Attributes:
        by: ``all``; ``layers``, those whose names match a pattern; or ``sensitivity``, those whose
            gradients depend most on the labels, as the clients' summed measurements say.
        share: ``sensitivity``: share of the coordinates.
        layers: ``layers``: patterns of array names, such as ``circuit.*``.

    Raises:
        ConfigError: A name is unknown or a share not within (0, 1].
    """

    by: str = "all"
    share: float = 0.1
    layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.by not in CHOICES:
            raise ConfigError(unknown_name("choice of parameters", self.by, CHOICES))
        if not 0 < self.share <= 1:
            raise ConfigError(f"share={self.share} is not allowed: must be > 0 and <= 1")

    def mask(self, layout: Layout, sensitivity: Callable[[], NDArray[np.float64]]) -> Mask | None:
        """One entry for each coordinate, true where it is protected; None for all.

        Args:
            layout: The model's.
            sensitivity: Gives the clients' summed sensitivities, if asked.

        Raises:
            ConfigError: Nothing would be protected.
        """
        if self.by == "all":
            return None
        if self.by == "layers":
            mask = layout.where(lambda name: any(fnmatchcase(name, p) for p in self.layers))
            if not mask.any():
                names = ", ".join(name for name, _, _ in layout.entries)
                raise ConfigError(
                    f"layers={list(self.layers)} matches no array of the model, so nothing would "
                    f"be protected; it has {names}"
                )
            return mask
        found = sensitivity()
        count = max(1, round(self.share * found.size))
        mask = np.zeros(found.size, dtype=bool)
        # Stable, so that equal sensitivities are chosen in the same order everywhere.
        mask[np.argsort(-found, kind="stable")[:count]] = True
        return mask


class ClearPart:
    """The sum of what travels in the clear in one step."""

    def __init__(self, step: Step, mask: Mask) -> None:
        self.mask = mask
        self.header = step.clear_header(int((~mask).sum()))
        self._plain = Plain(step.sums)
        self._total = np.zeros(self.header.length, dtype=np.int64)

    def read(self, body: bytes) -> IntVector:
        """One client's part.

        Raises:
            PayloadError: It is malformed.
        """
        part = self._plain.accumulator(self.header.length, b"")
        part.add(body)
        return self._plain.open(part.result(), self.header.length, b"")

    def add(self, values: IntVector) -> None:
        """Add what :meth:`read` gave."""
        self._total += values

    def merge(self, opened: IntVector) -> IntVector:
        """The whole vector: protected and clear coordinates, then weight and metrics."""
        protected = int(self.mask.sum())
        update = np.empty(self.mask.size, dtype=np.int64)
        update[self.mask], update[~self.mask] = opened[:protected], self._total
        return np.concatenate([update, opened[protected:]])
