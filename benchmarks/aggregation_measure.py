"""Takes turns among contenders: rounds, one contender after the other, medians."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from aggregation_round import Case, Figures, middle
from aggregation_workers import LeftOutError, Worker

# Rounds that take so many seconds of processor time are measured less often.
FEWER = ((60.0, 1), (20.0, 3))


@dataclass
class Measured:
    """One case, by contender.

    Attributes:
        case: What was summed.
        figures: Medians of all turns.
        turns: How many.
        settings: Parameters, in words.
        more: What else contenders measure.
        memory: Most bytes held, by role.
        left_out: Who is missing, and why.
    """

    case: Case
    figures: dict[str, Figures] = field(default_factory=dict)
    turns: dict[str, int] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    more: dict[str, dict[str, float]] = field(default_factory=dict)
    memory: dict[str, dict[str, int]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """How often and how long.

    Attributes:
        turns: Turns of each contender.
        seconds: Of one turn, if a round takes less.
        limit: Seconds that a round may take.
        memory: Whether to measure memory as well.
    """

    turns: int
    seconds: float
    limit: float
    memory: bool


def measure(
    case: Case,
    contenders: Sequence[tuple[str, Worker]],
    plan: Plan,
    pace: dict[str, float] | None = None,
) -> Measured:
    """Medians of processor time, for every contender that takes part.

    Args:
        case: What is summed.
        contenders: Names, and where they run.
        plan: How often and how long.
        pace: Seconds that a contender took for a parameter of a client in earlier cases; who would
            take too long now is left out. Changed in place.
    """
    found, pace = Measured(case), {} if pace is None else pace
    work = case.length * case.clients
    ready: list[tuple[str, Worker]] = []
    for name, worker in contenders:
        try:
            if (expected := pace.get(name, 0) * work) > plan.limit:
                raise LeftOutError(f"a round would take about {expected:,.0f} s")
            found.settings[name] = worker.prepare(name, case, plan.limit)
            ready.append((name, worker))
        except LeftOutError as reason:
            found.left_out[name] = str(reason)
    rounds: dict[str, list[Figures]] = {name: [] for name, _ in ready}
    seconds: dict[str, float] = {}
    for _ in range(plan.turns):
        for name, worker in ready:
            if name in found.left_out or len(rounds[name]) >= _enough(seconds.get(name), plan):
                continue
            try:
                figures, more = worker.turn(name, case, plan.seconds, plan.limit)
            except LeftOutError as reason:
                found.left_out[name] = str(reason)
                continue
            seconds[name] = _whole(figures, case)
            rounds[name].append(figures)
            found.more[name] = more
    for name, worker in ready:
        if not rounds[name] or name in found.left_out:
            continue
        found.figures[name], found.turns[name] = middle(rounds[name]), len(rounds[name])
        pace[name] = _whole(found.figures[name], case) / work
        if plan.memory:
            try:
                found.memory[name] = worker.memory(name, case, plan.limit)
            except LeftOutError as reason:
                found.left_out[name] = f"memory: {reason}"
    for worker in {id(worker): worker for _, worker in ready}.values():
        worker.forget()
    return found


def _enough(seconds: float | None, plan: Plan) -> int:
    if seconds is None:
        return plan.turns
    fewer = (count for least, count in FEWER if seconds > least)
    return min(plan.turns, next(fewer, plan.turns))


def _whole(figures: Figures, case: Case) -> float:
    """Seconds of a round."""
    return (figures.server_ms + figures.open_ms + case.clients * figures.protect_ms) / 1e3
