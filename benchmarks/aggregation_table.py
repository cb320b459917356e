"""Tables, for the terminal and for the page: each a head and rows of text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aggregation_floor import Speeds, least_ms
from aggregation_measure import Measured
from aggregation_ours import BY_NAME
from aggregation_round import Figures
from aggregation_rows import FLOAT32, PEER, Judged, values
from aggregation_scaling import Scale


@dataclass(frozen=True)
class Table:
    """A title, a head and rows."""

    title: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def markdown(self) -> str:
        """As Markdown, title above."""
        lines = [self.head, ("---",) * len(self.head), *self.rows]
        body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return f"### {self.title}\n\n{body}\n"

    def show(self) -> None:
        """On the terminal."""
        from rich.console import Console
        from rich.table import Table as Drawn

        drawn = Drawn(title=self.title, title_justify="left", title_style="bold")
        places = range(len(self.head))
        for place, name in enumerate(self.head):
            drawn.add_column(name, justify="left" if place == 0 else "right", no_wrap=True)
        for row in self.rows:
            drawn.add_row(*row)
        # A table cut off says nothing; where the terminal is narrow its lines wrap.
        width = sum(max(len(row[place]) for row in [self.head, *self.rows]) for place in places)
        console = Console()
        console.width = max(console.width, width + 3 * len(places) + 1)
        console.print(drawn)


def case_table(measured: Measured) -> Table:
    """Every contender; in brackets, how many times better than the peer."""
    case, peer = measured.case, measured.figures.get(PEER)
    beside = values(peer, case.length) if peer else {}
    rows = []
    for name, found in measured.figures.items():
        cells = {
            metric: number(value)
            if name == PEER or metric not in beside
            else f"{number(value)} ({number(beside[metric][1] / value)}x)"
            for metric, (_, value) in values(found, case.length).items()
        }
        rows.append(
            (
                name,
                *(cells[metric] for metric in ("protect", "server", "open", "bytes up")),
                f"{found.up_bytes / case.length / FLOAT32:.4g}",
                cells["bytes down"],
                f"{found.error:.2g}",
                f"{found.rms_error:.2g}",
                str(measured.turns[name]),
            )
        )
    head = ("", "protect, ms", "server, ms", "open, ms", "up, B", "x float32", "down, B")
    return Table(f"{measured.case} (B: bytes a parameter)", (*head, "error", "rms", "turns"), rows)


def settings_table(measured: Measured) -> Table:
    """Parameters of every contender."""
    rows = [(name, words) for name, words in measured.settings.items()]
    return Table(f"Parameters: {measured.case}", ("", "parameters"), rows)


def target_table(judged: Iterable[Judged]) -> Table:
    """What has a target."""
    rows = [
        (
            row.case,
            row.metric,
            number(row.ours),
            row.peer,
            number(row.peer_value),
            number(row.ratio),
            row.target,
            "reached" if met else "MISSED",
        )
        for row, met in judged
        if met is not None
    ]
    head = ("case", "metric", "ours", "beside", "", "times better", "target", "")
    return Table("Targets", head, rows)


def memory_table(results: Sequence[Measured]) -> Table:
    """Most bytes that each role held beyond what it began with."""
    rows = [
        (
            str(measured.case),
            name,
            *(f"{found[role] / 1e6:.1f}" for role in ("protect", "server", "open")),
        )
        for measured in results
        for name, found in measured.memory.items()
    ]
    return Table("Peak memory, MB", ("case", "", "client", "server", "opener"), rows)


def floor_table(results: Sequence[Measured], speed: Speeds) -> Table:
    """How far each scheme is from the least that its method moves, transforms and draws."""
    rows = []
    for measured in results:
        for name, found in measured.figures.items():
            if name not in BY_NAME:
                continue
            least = least_ms(BY_NAME[name], measured.case, found, speed)
            rows.append((str(measured.case), name, *_over(found, least)))
    head = ("case", "", "protect: floor, ms", "over it", "server: floor, ms", "over it")
    return Table("Distance to the floor", (*head, "open: floor, ms", "over it"), rows)


def envelope_table(results: Sequence[Measured]) -> Table:
    """The digest around a contribution, which is in no other figure."""
    rows = [
        (str(measured.case), name, number(more["envelope_ms"]))
        for measured in results
        for name, more in measured.more.items()
        if "envelope_ms" in more
    ]
    head = ("case", "", "ms for one contribution")
    return Table("Header and digest: made by a client, checked by the server", head, rows)


def scaling_table(scales: Sequence[Scale]) -> Table:
    """Server time and memory by number of clients."""
    rows = [
        (
            found.name,
            str(found.case.clients),
            number(found.server_ms),
            number(found.client_ms),
            f"{found.memory / 1e6:.1f}",
        )
        for found in sorted(scales, key=lambda each: (each.name, each.case.clients))
    ]
    title = f"The server by number of clients, {scales[0].case.length:,} parameters"
    head = ("", "clients", "server, ms", "ms a client", "peak memory, MB")
    return Table(title, head, rows)


def number(value: float | None) -> str:
    """Three digits that count; a dash where there is nothing."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _over(found: Figures, least: dict[str, float]) -> tuple[str, ...]:
    taken = {"protect": found.protect_ms, "server": found.server_ms, "open": found.open_ms}
    return tuple(
        text
        for role, value in taken.items()
        for text in (number(least[role]), f"{number(value / least[role])}x")
    )
