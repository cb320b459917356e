"""When a run stops early."""

from __future__ import annotations

import math

import pytest

from qfl.strategies import ConvergenceMonitor


def stops_at(monitor: ConvergenceMonitor, losses: list[float]) -> int | None:
    """The number of losses after which the monitor stops first."""
    for seen in range(len(losses) + 1):
        if monitor.stops_after(losses[:seen]):
            return seen
    return None


@pytest.mark.parametrize(
    ("patience", "losses", "expected"),
    [
        (0, [1.0] * 50, None),
        (1, [1.0, 1.0], 2),
        (3, [1.0, 1.0, 1.0], None),
        (3, [1.0, 1.0, 1.0, 1.0], 4),
        (2, [1.0, 0.9, 0.95, 0.8, 0.85, 0.85], 6),
        (2, [3.0, 2.0, 1.0, 0.5, 0.25], None),
        (2, [], None),
    ],
)
def test_it_stops_after_patience_rounds_without_a_new_best(
    patience: int, losses: list[float], expected: int | None
) -> None:
    assert stops_at(ConvergenceMonitor(patience, min_delta=0.01), losses) == expected


def test_a_fall_smaller_than_min_delta_is_no_improvement() -> None:
    slow = [1.0 - 0.009 * i for i in range(4)]
    # 1.0 is the best until a loss is below 0.99; the third is 0.982.
    assert stops_at(ConvergenceMonitor(2, min_delta=0.01), slow) is None
    assert stops_at(ConvergenceMonitor(2, min_delta=0.02), slow) == 3


def test_losses_that_are_no_numbers_never_count_as_improvement() -> None:
    assert stops_at(ConvergenceMonitor(2), [1.0, math.nan, math.nan]) == 3
    assert stops_at(ConvergenceMonitor(2), [math.nan, math.inf, 1.0]) == 2
