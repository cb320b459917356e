"""How the server grows with the number of clients: its time and the most memory that it holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aggregation_round import Case
from aggregation_workers import LeftOutError, Worker
from common import Row

CLIENTS = (10, 30, 100)
# The most that 100 clients may take, for each or in all, of what 10 take.
GROWTH = 1.25
SECONDS = 5.0  # rounds for so long; medians


@dataclass(frozen=True)
class Scale:
    """One scheme at one number of clients.

    Attributes:
        name: Of the scheme.
        case: What was summed.
        server_ms: All contributions added.
        memory: Most bytes that the server held, the contribution at hand among them.
    """

    name: str
    case: Case
    server_ms: float
    memory: int

    @property
    def client_ms(self) -> float:
        """Of one client."""
        return self.server_ms / self.case.clients


def scale(
    names: Sequence[str], worker: Worker, length: int, limit: float, notes: list[str]
) -> list[Scale]:
    """Measure every scheme at every number of clients; who fails is named in ``notes``."""
    found = []
    for clients in CLIENTS:
        case = Case(length, clients)
        for name in names:
            try:
                worker.prepare(name, case, limit)
                figures, _ = worker.turn(name, case, SECONDS, limit)
                memory = worker.memory(name, case, limit)["server"]
            except LeftOutError as reason:
                notes.append(f"{name} at {case} is left out: {reason}")
                continue
            found.append(Scale(name, case, figures.server_ms, memory))
        worker.forget()
    return found


def growth(scales: Sequence[Scale]) -> list[tuple[Row, bool | None]]:
    """Whether the server's time for each client, and its memory, stay as they are."""
    few, _, many = CLIENTS
    found = {(each.name, each.case.clients): each for each in scales}
    judged: list[tuple[Row, bool | None]] = []
    for name in dict.fromkeys(each.name for each in scales):
        least, most = found.get((name, few)), found.get((name, many))
        if least is None or most is None:
            continue
        for metric, unit, before, after in (
            ("server, for each client", "ms", least.client_ms, most.client_ms),
            ("memory, server", "MB", least.memory / 1e6, most.memory / 1e6),
        ):
            target = f"at most {GROWTH:g}x that of {few}; is {after / before:.2f}x"
            row = Row(f"{most.case}: {name}", metric, unit, after, f"{few} clients", before, target)
            judged.append((row, after <= GROWTH * before))
    return judged
