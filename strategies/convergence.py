"""Stop a run whose held-out loss no longer falls."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class ConvergenceMonitor:
    """Patience over rounds.

    Attributes:
        patience: Rounds without improvement before stopping; 0 never stops.
        min_delta: Smallest fall of the loss that counts as improvement.

    Example:
        >>> monitor = ConvergenceMonitor(patience=2, min_delta=0.01)
        >>> monitor.stops_after([1.0, 0.5, 0.499])
        False
        >>> monitor.stops_after([1.0, 0.5, 0.499, 0.498])
        True
    """

    patience: int = 0
    min_delta: float = 1e-4

    def stops_after(self, losses: list[float]) -> bool:
        """Whether to stop, given the losses of all rounds so far."""
        if self.patience == 0:
            return False
        best, stale = math.inf, 0
        for loss in losses:
            if loss < best - self.min_delta:
                best, stale = loss, 0
            else:
                stale += 1
        return stale >= self.patience
