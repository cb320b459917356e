"""What a person sees while a run goes on: a row per round and, on a terminal, a moving line."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.text import Text

from qfl.strategies import ClientReplied, Event, RoundFinished, SetupFinished

_SHOWN = {"classification": "accuracy", "regression": "rmse"}
_WIDTHS = (7, 8, 8, 9, 10, 10, 8, 8)
_PROBLEMS_SHOWN = 3


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
        title: What is running.
        detailed: Whether to show every round; otherwise one line that moves.
        private: Whether to show what was spent of the clients' privacy.
    """

    def __init__(
        self,
        task: str,
        rounds: int,
        console: Console,
        title: str,
        *,
        detailed: bool = True,
        private: bool = False,
    ) -> None:
        self._metric = _SHOWN[task]
        self._names: tuple[str, ...] = (
            "round",
            "clients",
            "loss",
            self._metric,
            "up",
            "down",
            "seconds",
        )
        if private:
            self._names = (*self._names, "epsilon")
        self._rounds, self._console, self._title = rounds, console, title
        self._detailed = detailed
        self._live: Live | None = None
        self._problems = 0

    def __enter__(self) -> RoundsDisplay:
        if self._detailed:
            self._print(Text(self._title, style="bold"))
        if self._console.is_terminal:
            self._live = Live(
                self._moving("starting"),
                console=self._console,
                refresh_per_second=8,
                transient=True,
            )
            self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.__exit__(kind, error, traceback)

    def tell(self, event: Event) -> None:
        """Show an event."""
        if isinstance(event, SetupFinished):
            self._tell_setup(event)
        elif isinstance(event, ClientReplied):
            where = f"round {event.round}/{self._rounds}"
            self._show(f"{where}, {event.replied}/{event.asked} clients replied")
            if event.error:
                self._tell_problem(event)
        elif isinstance(event, RoundFinished):
            self._tell_round(event)
            self._show(f"round {min(event.round + 1, self._rounds)}/{self._rounds}")

    def _tell_setup(self, event: SetupFinished) -> None:
        if not self._detailed:
            return
        examples = event.examples or "an unknown number of"
        self._print(
            Text(
                f"{event.clients} clients, {examples} examples, {event.parameters} parameters; "
                f"scheme {event.scheme}, sums opened by {event.opened_by}"
            )
        )
        if event.proven:
            said = f"{event.proven} participants proved who they are; all messages are signed and"
            self._print(Text(f"Identities: {said} sealed."))
        self._print(Text(f"Assumption: {event.assumption}."))
        for note in event.notes:
            self._print(Text(f"Note: {note}."))
        self._print_row(self._names, "bold")

    def _tell_problem(self, event: ClientReplied) -> None:
        self._problems += 1
        if self._problems <= _PROBLEMS_SHOWN:
            where = f"node {event.node} left out of round {event.round}: "
            self._print(Text(where, style="yellow").append(event.error or "", style="default"))

    def _tell_round(self, event: RoundFinished) -> None:
        if self._problems > _PROBLEMS_SHOWN:
            more = self._problems - _PROBLEMS_SHOWN
            self._print(Text(f"{more} more clients left out of round {event.round}"))
        self._problems = 0
        row: tuple[str, ...] = (
            f"{event.round}/{event.rounds}",
            str(event.clients),
            _number(_held_out_or_own(event, "loss")),
            _number(_held_out_or_own(event, self._metric)),
            human_bytes(event.bytes_up),
            human_bytes(event.bytes_down),
            f"{event.seconds:.2f}",
        )
        if "epsilon" in self._names:
            row = (*row, _number(event.metrics.get("epsilon")))
        if self._detailed:
            self._print_row(row)

    def _show(self, state: str) -> None:
        if self._live:
            self._live.update(self._moving(state))

    def _moving(self, state: str) -> Text:
        return Text(f"{self._title}: {state}", style="dim")

    def _print_row(self, row: tuple[str, ...], style: str = "") -> None:
        cells = zip(row, _WIDTHS[: len(row)], strict=True)
        self._print(Text(" ".join(f"{cell:>{width}}" for cell, width in cells), style=style))

    def _print(self, text: Text) -> None:
        self._console.print(text, highlight=False, soft_wrap=not self._console.is_terminal)


def _held_out_or_own(event: RoundFinished, metric: str) -> float | None:
    """On held-out data; where the server sees no model, what clients measured on their own."""
    return event.metrics.get(metric, event.metrics.get(f"eval_{metric}"))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
