"""What all figures of a report share: sizes, colours, axes, and the way into the page.

Figures are made with matplotlib's objects alone, never with pyplot or changed rcParams, so that
several reports can be written at the same time. Colours are those of Okabe and Ito, which
colour-blind readers can tell apart; every line has a marker and dashes of its own besides.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

BLACK, BLUE, ORANGE, GREEN = "#000000", "#0072B2", "#D55E00", "#009E73"
PURPLE, SKY = "#CC79A7", "#56B4E9"
INK, FAINT = "#333333", "#DDDDDD"

HALF, WIDE = 4.8, 9.8
"""Widths in inches: two figures side by side, or one over the whole page."""


@dataclass(frozen=True)
class Figure:
    """A figure ready for the page.

    Attributes:
        title: Its heading.
        alt: What it shows, in words, for readers who cannot see it.
        svg: The image, as the text of a ``data:`` address.
        wide: Whether it needs the whole width of the page.
        caption: What to look at; may be empty.
    """

    title: str
    alt: str
    svg: str
    wide: bool = False
    caption: str = ""


@dataclass(frozen=True)
class Line:
    """One line of a figure, distinguishable by colour, dashes and marker."""

    label: str
    values: Mapping[int, float]
    colour: str
    dashes: str
    marker: str
    hollow: bool = False
    size: float = 4.0
    width: float = 1.6


def has_values(line: Line) -> bool:
    """Whether there is anything to draw."""
    return bool(line.values)


def draw(axes: Axes, line: Line, scale: float) -> None:
    """Draw a line over the rounds, its values multiplied by ``scale``."""
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


def level(axes: Axes, height: float, text: str) -> None:
    """A dotted line across the axes, with a text of few letters beside it."""
    axes.axhline(height, color=BLACK, linestyle=":", linewidth=1.3)
    axes.annotate(
        text,
        xy=(1.0, height),
        xycoords=axes.get_yaxis_transform(),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
        color=BLACK,
        annotation_clip=False,
    )


def trained(values: Mapping[int, float]) -> dict[int, float]:
    """Without round 0, in which nobody trains, and without what is not finite."""
    return {i: value for i, value in values.items() if i > 0 and math.isfinite(value)}


def canvas(width: float = HALF, height: float = 3.3) -> Canvas:
    """An empty figure of a size in inches that lays itself out."""
    from matplotlib.figure import Figure as Canvas

    return Canvas(figsize=(width, height), layout="constrained", facecolor="white")


def style(axes: Axes, x: str, y: str) -> None:
    """Label the axes and quieten their frame."""
    axes.set_xlabel(plain_text(x), fontsize=9, color=INK)
    axes.set_ylabel(plain_text(y), fontsize=9, color=INK)
    axes.tick_params(labelsize=8.5, colors=INK, length=3, width=0.6)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#888888")
        axes.spines[side].set_linewidth(0.6)
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)


def whole_rounds(axes: Axes) -> None:
    """Put ticks at whole numbers on the horizontal axis."""
    from matplotlib.ticker import MaxNLocator

    axes.margins(x=0.03)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))


def legend(figure: Canvas, axes: Axes) -> None:
    """A legend above the axes, where it can cover no line."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(
            handles,
            labels,
            loc="outside upper left",
            ncols=2,
            fontsize=8.5,
            frameon=False,
            handlelength=3.2,
            columnspacing=1.4,
            borderpad=0.1,
            labelcolor=INK,
        )


def plain_text(text: str, longest: int = 60) -> str:
    """Text for a figure: on one line, never taken for a formula, shortened in the middle.

    Names that belong together often differ at their ends.

    >>> plain_text("class number 17", 10)
    'class…r 17'
    """
    line = "".join(mark if mark.isprintable() else " " for mark in text)
    if len(line) > longest:
        end = (longest - 1) // 2
        line = f"{line[: longest - 1 - end]}…{line[-end:]}"
    return line.replace("$", r"\$")


def to_svg(figure: Canvas) -> str:
    """The figure as a ``data:`` address; letters are drawn, so that no font is needed."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.BytesIO()
    metadata: dict[str, Any] = {"Date": None, "Creator": None}
    FigureCanvasSVG(figure).print_figure(buffer, format="svg", dpi=200, metadata=metadata)
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
