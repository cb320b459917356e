"""Figures over the rounds: learning curves, bytes and seconds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qfl.federation.report.drawing import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    Figure,
    canvas,
    legend,
    plain_text,
    style,
    to_svg,
    whole_rounds,
)
from qfl.federation.report.reading import Run, Series
from qfl.federation.report.units import (
    BINARY_UNITS,
    binary_power,
    bytes_text,
    metric_text,
    number_text,
    seconds_text,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMES = {
    "accuracy": "accuracy",
    "loss": "loss",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
    "train_loss": "training loss",
    "clients": "clients",
    "failures": "failures",
    "bytes_up": "bytes up",
    "bytes_down": "bytes down",
    "bytes_key_holder": "bytes key holder",
    "seconds": "time",
    "max_abs_error": "largest error",
}
"""What the metrics of a round are called, in the order in which tables show them."""

UNITS = {"accuracy": "%", "rmse": "units of the target", "mae": "units of the target"}


@dataclass(frozen=True)
class Line:
    """One line of a figure, distinguishable by colour, dashes and marker."""

    label: str
    values: Series
    colour: str
    dashes: str
    marker: str
    hollow: bool = False
    size: float = 4.0
    width: float = 1.6


def _has_values(line: Line) -> bool:
    """Whether there is anything to draw."""
    return bool(line.values)


def learning_curve(run: Run, metric: str) -> Figure | None:
    """A held-out metric over the rounds: the run, its baselines, the pooled model as a level."""
    scale = 100.0 if metric == "accuracy" else 1.0
    lines = list(filter(_has_values, _curves(run, metric)))
    if not lines:
        return None
    figure = canvas()
    axes = figure.add_subplot()
    style(axes, "round", _axis_label(metric))
    for line in lines:
        _draw(axes, line, scale)
    said = [f"{line.label} ends at {metric_text(metric, _last(line.values))}" for line in lines]
    pooled = run.summary["baseline"].get("pooled", {}).get(metric)
    if pooled is not None and math.isfinite(pooled):
        axes.axhline(scale * pooled, color=BLACK, linestyle=":", linewidth=1.3)
        axes.annotate(
            f"pooled\n{metric_text(metric, pooled)}",
            xy=(1.0, scale * pooled),
            xycoords=axes.get_yaxis_transform(),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=BLACK,
            annotation_clip=False,
        )
        said.append(f"the pooled model reaches {metric_text(metric, pooled)}")
    whole_rounds(axes)
    legend(figure, axes)
    rounds = max(max(line.values) for line in lines)
    name = NAMES.get(metric, metric)
    return Figure(
        title=f"Held-out {name}",
        alt=f"Line chart of held-out {name} over rounds 0 to {rounds}: {'; '.join(said)}.",
        svg=to_svg(figure),
        caption=_distance(run, metric),
    )


def coincide(run: Run, metrics: Sequence[str]) -> bool:
    """Whether the run and the one without encryption agree in all values that both have."""
    main, plain = run.series.get("main", {}), run.series.get("plain", {})
    both = [metric for metric in metrics if main.get(metric) and plain.get(metric)]
    return bool(both) and all(main[metric] == plain[metric] for metric in both)


def _distance(run: Run, metric: str) -> str:
    """In words, how far the run and the one without encryption lie apart."""
    main, plain = run.main(metric), run.series.get("plain", {}).get(metric, {})
    both = sorted(main.keys() & plain.keys())
    gaps = [abs(main[i] - plain[i]) for i in both]
    if not gaps or not all(map(math.isfinite, gaps)):
        return ""
    at = both[gaps.index(max(gaps))]
    if max(gaps) == 0:
        where = "" if main.keys() == plain.keys() else " in the rounds that both completed"
        return f"This run and the run without encryption coincide exactly{where}."
    if metric == "accuracy":
        gap = f"{number_text(100 * max(gaps))} percentage points"
    else:
        gap = number_text(max(gaps))
    return f"This run and the run without encryption differ by at most {gap} (round {at})."


def traffic(run: Run) -> Figure | None:
    """Bytes over the rounds, both ways, summed over the clients."""
    names = ("bytes_up", "bytes_down", "bytes_key_holder")
    up, down, holder = (_trained(run.main(name)) for name in names)
    if not up and not down:
        return None
    largest = max([*up.values(), *down.values(), *holder.values()])
    power = binary_power(largest)
    figure = canvas(height=2.9)
    axes = figure.add_subplot()
    style(axes, "round", f"sum over all clients ({BINARY_UNITS[power]})")
    lines = (
        Line("up: clients to server", up, BLUE, "-", "o"),
        Line("down: server to clients", down, ORANGE, "--", "s", hollow=True, size=6),
        Line(
            "to and from the key holder", holder if any(holder.values()) else {}, GREEN, "-.", "^"
        ),
    )
    for line in filter(_has_values, lines):
        _draw(axes, line, 1 / 1024**power)
    axes.set_ylim(bottom=0, top=None if largest else 1)
    axes.margins(y=0.1)
    whole_rounds(axes)
    legend(figure, axes)
    said = "; ".join(
        f"{line.label} {bytes_text(sum(line.values.values()) / len(line.values))} on average"
        for line in filter(_has_values, lines)
    )
    return Figure(
        title="Bytes per round",
        alt=f"Line chart of bytes per round over all clients: {said}.",
        svg=to_svg(figure),
        caption=f"All rounds, without setup and key holder: {bytes_text(sum(up.values()))} up, "
        f"{bytes_text(sum(down.values()))} down.",
    )


def timing(run: Run) -> Figure | None:
    """Seconds over the rounds."""
    parts = (Line("whole round", _trained(run.main("seconds")), BLUE, "-", "o"),)
    lines = list(filter(_has_values, parts))
    if not lines:
        return None
    largest = max(max(line.values.values()) for line in lines)
    scale, unit = (1000.0, "ms") if 0 < largest < 1 else (1.0, "s")
    figure = canvas(height=2.9)
    axes = figure.add_subplot()
    style(axes, "round", f"time ({unit})")
    for line in lines:
        _draw(axes, line, scale)
    axes.set_ylim(bottom=0, top=None if largest else 1)
    whole_rounds(axes)
    legend(figure, axes)
    said = [
        f"{line.label} {seconds_text(sum(line.values.values()) / len(line.values))} on average"
        for line in lines
    ]
    return Figure(
        title="Time per round",
        alt=f"Line chart of seconds per round: {'; '.join(said)}.",
        svg=to_svg(figure),
        caption=f"On average: {'; '.join(said).replace(' on average', '')}.",
    )


def _curves(run: Run, metric: str) -> list[Line]:
    scheme = run.summary["aggregation"].get("scheme") or "aggregation not recorded"
    model = run.summary["model"].get("name") or "model"
    twin = run.summary["baseline"].get("twin", {}).get("name") or "classical model"
    label = plain_text(f"this run ({model}, {scheme})", 34)
    lines = [Line(label, run.main(metric), BLUE, "-", "o", width=2.4, size=4.5)]
    # Drawn later and with holes in it, so that both show where they coincide.
    plain = run.series.get("plain", {}).get(metric, {})
    lines.append(Line("without encryption", plain, ORANGE, "--", "s", hollow=True, size=7.5))
    values = run.series.get("twin", {}).get(metric, {})
    lines.append(Line(plain_text(f"twin ({twin})", 34), values, GREEN, "-.", "^"))
    if metric == "loss":
        lines.append(Line("training loss", run.main("train_loss"), PURPLE, ":", "x", width=1.3))
    return lines


def _draw(axes: Axes, line: Line, scale: float) -> None:
    rounds = sorted(line.values)
    every = max(1, len(rounds) // 20)
    axes.plot(
        rounds,
        [scale * line.values[i] for i in rounds],
        color=line.colour,
        linestyle=line.dashes,
        linewidth=line.width,
        marker=line.marker,
        markersize=line.size,
        markerfacecolor="none" if line.hollow else line.colour,
        markeredgecolor=line.colour,
        markevery=every,
        label=line.label,
    )


def _trained(values: Series) -> Series:
    """Without round 0, in which nobody trains, and without what is not finite."""
    return {i: value for i, value in values.items() if i > 0 and math.isfinite(value)}


def _last(values: Series) -> float:
    return values[max(values)]


def _axis_label(metric: str) -> str:
    if metric == "loss":
        return "loss (mean over examples)"
    name, unit = NAMES.get(metric, metric), UNITS.get(metric)
    return f"held-out {name} ({unit})" if unit else f"held-out {name}"
