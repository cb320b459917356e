"""From an opened sum to the next global model; done by whoever learns the sum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qfl.crypto import Arrays, IntVector, Layout, SumRange, from_grid, from_limbs
from qfl.errors import FederationError, PayloadError
from qfl.privacy import ClientLevel
from qfl.server_optimizer import OptimizerState, ServerOptimizer


@dataclass(frozen=True)
class Means:
    """Weighted means that travel with an update.

    Attributes:
        weight: Sum of the weights.
        metrics: Mean of each metric.
    """

    weight: float
    metrics: list[float]


def means_of(values: IntVector, sums: SumRange, contributions: int, what: str) -> Means:
    """Means from a summed weight and the summed limbs behind it.

    Raises:
        FederationError: The weights add up to nothing.
    """
    weight = float(from_grid(values[:1], sums)[0])
    if weight <= 0:
        raise FederationError(
            f"{what}: the weights of {contributions} replies add up to 0; do the clients hold any "
            "examples?"
        )
    return Means(weight, (from_limbs(values[1:], sums) / weight).tolist())


@dataclass(frozen=True)
class SummedUpdate:
    """An opened sum of updates.

    Attributes:
        mean: Weighted mean of the updates, in real units.
        weight: Sum of the weights.
        rest: The integers behind the update: the count of unclipped updates where there is one,
            the weight, the metrics.
    """

    mean: NDArray[np.float64]
    weight: float
    rest: IntVector

    @staticmethod
    def of(
        values: IntVector, length: int, sums: SumRange, level: ClientLevel | None
    ) -> SummedUpdate:
        """Take a sum apart.

        Args:
            values: The integers of the sum.
            length: Coordinates of the update.
            sums: Grid.
            level: How each update was encoded, where each client is protected.

        Raises:
            PayloadError: It holds no weight.
        """
        size, before = (level.padded, level.width - level.padded) if level else (length, 0)
        rest = values[size:]
        if rest.size <= before:
            raise PayloadError(f"a sum of {values.size} values is no update of {length} parameters")
        weight = float(from_grid(rest[before : before + 1], sums)[0])
        if level is None:
            update = from_grid(values[:size], sums)
        else:
            update, _ = level.decode(values[: level.width], 0)
        return SummedUpdate(update / weight if weight > 0 else update, weight, rest)


@dataclass(frozen=True)
class GlobalModel:
    """The model and the server optimizer's state.

    Attributes:
        arrays: Parameters.
        optimizer: State of the server optimizer.
    """

    arrays: Arrays
    optimizer: OptimizerState

    @staticmethod
    def start(arrays: Arrays, rule: ServerOptimizer) -> GlobalModel:
        """Before the first round."""
        return GlobalModel(arrays, rule.init(Layout.of(arrays).length))

    def step(self, summed: SummedUpdate, rule: ServerOptimizer) -> tuple[GlobalModel, float]:
        """The next model.

        Args:
            summed: The opened sum.
            rule: Server optimizer.

        Returns:
            The model, and the largest magnitude of a coordinate of the mean.
        """
        layout = Layout.of(self.arrays)
        state, flat = rule.apply(self.optimizer, summed.mean, layout.flatten(self.arrays))
        largest = float(np.abs(summed.mean).max(initial=0.0))
        return GlobalModel(layout.unflatten(flat, self.arrays), state), largest


def rounding_error(contributions: int, step: float, weight: float, largest: float) -> float:
    """Largest distance of the opened mean from that of unrounded updates.

    Each update and each weight is off by at most one step under stochastic rounding and by half of
    that to the nearest.

    Args:
        contributions: Updates in the sum.
        step: How far one rounding can be off, in real units.
        weight: Sum of the weights.
        largest: Largest magnitude of a coordinate of the mean.
    """
    off = contributions * step
    return off * (1 + largest) / (weight - off) if weight > off else float("inf")
