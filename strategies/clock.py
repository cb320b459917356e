"""Where the time of a round goes."""

from __future__ import annotations

import time


class Clock:
    """Seconds since it was made, and of each phase.

    Attributes:
        phases: Seconds by phase.
    """

    def __init__(self) -> None:
        self._started = self._last = time.perf_counter()
        self.phases: dict[str, float] = {}

    @property
    def seconds(self) -> float:
        """Since the clock was made."""
        return time.perf_counter() - self._started

    def lap(self, phase: str, within: float = 0.0) -> None:
        """End a phase.

        Args:
            phase: Its name.
            within: Seconds of it that belong to opening.
        """
        now = time.perf_counter()
        self.phases[phase] = now - self._last - within
        self.phases["open"] = self.phases.get("open", 0.0) + within
        self._last = now
