"""Waiting for replies: at once while they come, ever more seldom while they do not."""

from __future__ import annotations

import time

_SHORTEST_S, _LONGEST_S = 0.0005, 0.2


class Pause:
    """What lies between two looks for replies.

    Example:
        >>> pause = Pause()
        >>> for found in (True, False, False):
        ...     pause.after(found)
        >>> round(pause.seconds, 6)
        0.001125
    """

    def __init__(self) -> None:
        self.seconds = _SHORTEST_S

    def after(self, found: bool) -> None:
        """Wait, unless something was found."""
        if found:
            self.seconds = _SHORTEST_S
        else:
            time.sleep(self.seconds)
            self.seconds = min(self.seconds * 1.5, _LONGEST_S)
