"""The section of the page on what a round costs: bytes and seconds, by phase."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING

from qfl.federation.report import markup
from qfl.federation.report.drawing import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    SKY,
    Figure,
    Line,
    canvas,
    draw,
    has_values,
    legend,
    style,
    to_svg,
    trained,
    whole_rounds,
)
from qfl.federation.report.reading import Run
from qfl.federation.report.units import BINARY_UNITS, binary_power, bytes_text, seconds_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

UNEVEN = 3.0
"""A first round of so many times the longest other one is cut off, so that the others show."""


@dataclass(frozen=True)
class Phase:
    """One part of a round.

    Attributes:
        key: Its name in ``metrics.jsonl``, after ``seconds_``.
        name: What it is called, in the order in which a round goes through them.
        colour: Its colour, and ``hatch`` its pattern, for readers who see no colours.
        seconds: Seconds by round.
    """

    key: str
    name: str
    colour: str
    hatch: str
    seconds: Mapping[int, float]


def cost(run: Run) -> str:
    """What a round costs, as figures and as a table."""
    rows = _rows(run)
    return markup.section(
        "Cost of a round",
        markup.figures([traffic(run), timing(run)]),
        markup.table(
            ["phase", "time, mean", "time, median", "bytes up", "bytes down"], rows, range(1, 5)
        )
        if rows
        else "",
        markup.paragraph(_meaning(run)) if rows else "",
    )


def phases(run: Run) -> list[Phase]:
    """The phases that took any time, in the order of a round."""
    known = (
        ("train", "train, protect, upload", BLUE, ""),
        ("open", "open the sums", ORANGE, "////"),
        ("evaluate", "evaluate at the clients", GREEN, "...."),
        ("held_out", "evaluate on held-out data", SKY, "xxxx"),
    )
    found = [Phase(*about, trained(run.main(f"seconds_{about[0]}"))) for about in known]
    return [phase for phase in found if any(phase.seconds.values())]


def traffic(run: Run) -> Figure | None:
    """Bytes over the rounds, both ways, summed over the clients."""
    names = ("bytes_up", "bytes_down", "bytes_key_holder")
    up, down, holder = (trained(run.main(name)) for name in names)
    if not up and not down:
        return None
    largest = max([*up.values(), *down.values(), *holder.values()])
    power = binary_power(largest)
    figure = canvas(height=2.9)
    axes = figure.add_subplot()
    style(axes, "round", f"sum over all clients ({BINARY_UNITS[power]})")
    opener = _opener(run)
    besides = "key holder" if opener == "the key holder" else "opening"
    lines = (
        Line("up: clients to server", up, BLUE, "-", "o"),
        Line("down: server to clients", down, ORANGE, "--", "s", hollow=True, size=6),
        Line(f"to and from {opener}", holder if any(holder.values()) else {}, GREEN, "-.", "^"),
    )
    for line in filter(has_values, lines):
        draw(axes, line, 1 / 1024**power)
    axes.set_ylim(bottom=0, top=None if largest else 1)
    axes.margins(y=0.1)
    whole_rounds(axes)
    legend(figure, axes)
    said = "; ".join(
        f"{line.label} {bytes_text(sum(line.values.values()) / len(line.values))} on average"
        for line in filter(has_values, lines)
    )
    return Figure(
        title="Bytes per round",
        alt=f"Line chart of bytes per round over all clients: {said}.",
        svg=to_svg(figure),
        caption=f"All rounds, without setup and {besides}: "
        f"{bytes_text(sum(up.values()))} up, {bytes_text(sum(down.values()))} down.",
    )


def timing(run: Run) -> Figure | None:
    """Seconds over the rounds, one phase on top of the other where phases are on record."""
    whole, parts = trained(run.main("seconds")), phases(run)
    if not whole:
        return None
    start, others = min(whole), [seconds for i, seconds in whole.items() if i > min(whole)]
    cut = bool(parts and others) and whole[start] > UNEVEN * max(others) > 0
    top = max(others) if cut else max(whole.values())
    scale, unit = (1000.0, "ms") if 0 < top < 1 else (1.0, "s")
    figure = canvas(height=2.9)
    axes = figure.add_subplot()
    style(axes, "round", f"time ({unit})")
    if parts:
        _stack(axes, parts, range(start, max(whole) + 1), scale)
    else:
        draw(axes, Line("whole round", whole, BLUE, "-", "o"), scale)
    if cut:
        axes.annotate(
            f"{seconds_text(whole[start])} \N{UPWARDS ARROW}",
            xy=(start + 0.7, 0.97),
            xycoords=axes.get_xaxis_transform(),
            va="top",
            fontsize=8,
            color=BLACK,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
        )
    axes.set_ylim(bottom=0, top=1.15 * scale * top if top else 1)
    whole_rounds(axes)
    legend(figure, axes)
    said = f"On average: whole round {seconds_text(fmean(whole.values()))}."
    if cut:
        said += f" Round {start} took {seconds_text(whole[start])} and is cut off at the top."
    said_of = [f"{phase.name} {seconds_text(fmean(phase.seconds.values()))}" for phase in parts]
    kind = "Stacked chart" if parts else "Line chart"
    return Figure(
        title="Time per round",
        alt=f"{kind} of the time of each round. {said} {'; '.join(said_of)}".strip(),
        svg=to_svg(figure),
        caption=said,
    )


def _stack(axes: Axes, parts: Sequence[Phase], rounds: range, scale: float) -> None:
    edges = [rounds.start - 0.5, *(i + 0.5 for i in rounds)]
    under = [0.0] * len(rounds)
    for phase in parts:
        seconds = [scale * phase.seconds.get(i, 0.0) for i in rounds]
        over = [below + more for below, more in zip(under, seconds, strict=True)]
        axes.stairs(
            over,
            edges,
            baseline=under,
            fill=True,
            facecolor=phase.colour,
            edgecolor="white",
            hatch=phase.hatch,
            linewidth=0,
            label=phase.name,
        )
        under = over


def _rows(run: Run) -> list[list[str]]:
    whole, parts = trained(run.main("seconds")), phases(run)
    if not parts:
        return []
    up, down = (_mean_bytes(run, key) for key in ("bytes_up", "bytes_down"))
    holder = _mean_bytes(run, "bytes_key_holder")
    bytes_of = {"train": (up, down), "open": (f"{holder} ↕" if holder else "", "")}
    rows = [
        [phase.name, *_times(phase.seconds), *bytes_of.get(phase.key, ("", ""))] for phase in parts
    ]
    return [*rows, ["whole round", *_times(whole), up, down]]


def _times(seconds: Mapping[int, float]) -> list[str]:
    values = seconds.values()
    return [seconds_text(fmean(values)), seconds_text(median(values))] if values else ["", ""]


def _mean_bytes(run: Run, key: str) -> str:
    values = trained(run.main(key)).values()
    return bytes_text(fmean(values)) if any(values) else ""


def _meaning(run: Run) -> str:
    said = "Bytes are means over the rounds, summed over all clients"
    if any(phase.key == "evaluate" for phase in phases(run)):
        said += "; what clients send and get to evaluate is counted with training"
    if _mean_bytes(run, "bytes_key_holder"):
        said += f". ↕: to and from {_opener(run)}, both ways in one number; not in the last row"
    return f"{said}."


def _opener(run: Run) -> str:
    trust = run.summary["aggregation"].get("trust")
    return "the key holder" if trust in (None, "key_holder") else "whoever opens"
