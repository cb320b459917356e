"""What a person sees while a run goes on: a live table, or plain lines without a terminal."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from qfl.strategies import ClientReplied, Event, RoundFinished, SetupFinished

_SHOWN = {"classification": "accuracy", "regression": "rmse"}


def human_bytes(count: float) -> str:
    """Bytes with a unit that fits.

    >>> human_bytes(24670)
    '24.1 KiB'
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


class RoundsDisplay:
    """Rounds as they finish; use as a context manager.

    Args:
        task: Decides which metric is shown.
        rounds: Rounds in all.
        console: Where to write.
        title: Above the table.
        detailed: Whether to show every round; otherwise one line that moves.
    """

    def __init__(
        self, task: str, rounds: int, console: Console, title: str, *, detailed: bool = True
    ) -> None:
        self._metric = _SHOWN[task]
        self._rounds, self._console, self._detailed = rounds, console, detailed
        self._table = Table(title=title, title_justify="left", box=None, pad_edge=False)
        for name in ("round", "clients", "loss", self._metric, "up", "down", "seconds"):
            self._table.add_column(name, justify="right")
        self._status = Text(f"{title}: starting", style="dim")
        self._title = title
        self._live: Live | None = None

    def __enter__(self) -> RoundsDisplay:
        if self._console.is_terminal:
            self._live = Live(self._render(), console=self._console, refresh_per_second=8)
            self._live.__enter__()
        elif self._detailed:
            self._console.print(self._title)
            self._console.print(
                f"{'round':>7} {'clients':>8} {'loss':>8} {self._metric:>9} "
                f"{'up':>10} {'down':>10} {'seconds':>8}"
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live:
            self._status = Text("")
            self._live.update(self._render(), refresh=True)
            self._live.__exit__(kind, error, traceback)

    def tell(self, event: Event) -> None:
        """Show an event."""
        if isinstance(event, SetupFinished) and self._detailed:
            self._print(
                f"{event.clients} clients, {event.examples or 'uncounted'} examples, "
                f"{event.parameters} parameters. Scheme {event.scheme}, sums opened by "
                f"{event.opened_by}.\nAssumption: {event.assumption}."
            )
            for note in event.notes:
                self._print(f"Note: {note}.")
        elif isinstance(event, ClientReplied):
            self._status = Text(
                f"{self._title}: round {event.round}/{self._rounds}, "
                f"{event.replied}/{event.asked} clients replied",
                style="dim",
            )
            if event.error:
                self._print(
                    f"[yellow]node {event.node} left out of round {event.round}:[/] ", event.error
                )
        elif isinstance(event, RoundFinished):
            self._finish_round(event)
        if self._live:
            self._live.update(self._render())

    def _finish_round(self, event: RoundFinished) -> None:
        row = (
            f"{event.round}/{event.rounds}",
            str(event.clients),
            _number(event.metrics.get("loss")),
            _number(event.metrics.get(self._metric)),
            human_bytes(event.bytes_up),
            human_bytes(event.bytes_down),
            f"{event.seconds:.2f}",
        )
        self._table.add_row(*row)
        if not self._live and self._detailed:
            widths = (7, 8, 8, 9, 10, 10, 8)
            line = " ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))
            self._console.print(line, markup=False, highlight=False)

    def _render(self) -> Any:
        if not self._detailed:
            return self._status
        from rich.console import Group

        return Group(self._table, self._status) if self._status.plain else self._table

    def _print(self, text: str, plain: str = "") -> None:
        message = Text.from_markup(text) if plain else Text(text)
        self._console.print(message.append(plain), highlight=False)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
