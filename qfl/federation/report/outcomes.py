"""Figures of the final model: confusion matrix; predictions over time and against the truth."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from qfl.federation.report.drawing import (
    BLACK,
    BLUE,
    HALF,
    ORANGE,
    SKY,
    WIDE,
    Figure,
    canvas,
    legend,
    plain_text,
    style,
    to_svg,
)
from qfl.federation.report.evaluation import Evaluation
from qfl.federation.report.units import number_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh

LIGHT_TEXT_ABOVE = 0.55
MOST_POINTS = 600


def share_map(
    axes: Axes, counts: list[list[int]], shares: list[list[float]], fontsize: float | None
) -> QuadMesh:
    """Cells coloured by share (0 to 1), with their counts where a font size is given."""
    from matplotlib import colormaps

    mesh = axes.pcolormesh(
        shares,
        cmap=colormaps["Blues"],
        vmin=0,
        vmax=1,
        edgecolors="white",
        linewidth=0.8 if fontsize else 0.0,
        rasterized=fontsize is None,
    )
    axes.invert_yaxis()
    if fontsize:
        for i, row in enumerate(counts):
            for j, count in enumerate(row):
                axes.text(
                    j + 0.5,
                    i + 0.5,
                    str(count),
                    ha="center",
                    va="center",
                    fontsize=fontsize,
                    color="white" if shares[i][j] > LIGHT_TEXT_ABOVE else "#222222",
                    alpha=1.0 if count else 0.35,
                )
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.grid(False)
    return mesh


def confusion_matrix(evaluation: Evaluation) -> Figure:
    """Counts of the held-out examples by true and predicted class."""
    counts = [list(row) for row in evaluation.confusion]
    shares = [[count / max(1, sum(row)) for count in row] for row in counts]
    number = len(counts)
    wide = number > 12
    size = HALF if not wide else WIDE * 0.82
    figure = canvas(size if not wide else WIDE, min(size, 1.6 + 0.42 * number))
    axes = figure.add_subplot()
    style(axes, "predicted class", "true class")
    digits = max((len(str(count)) for row in counts for count in row), default=1)
    room = 72 * (size - 1.2) / max(1, number)
    share_map(axes, counts, shares, min(10.0, room / (0.68 * max(2, digits))))
    names = [plain_text(name, 14) for name in evaluation.classes]
    ticks = [i + 0.5 for i in range(number)]
    slanted = max((len(name) for name in names), default=0) * 6 > room
    axes.set_xticks(
        ticks, names, rotation=40 if slanted else 0, ha="right" if slanted else "center"
    )
    axes.set_yticks(ticks, names)
    right = sum(counts[i][i] for i in range(number))
    total = sum(map(sum, counts))
    mistakes = sorted(
        ((counts[i][j], i, j) for i in range(number) for j in range(number) if i != j),
        key=lambda item: -item[0],
    )
    caption = f"{right} of {total} held-out predictions are right."
    if mistakes and mistakes[0][0]:
        count, i, j = mistakes[0]
        classes = evaluation.classes
        caption += (
            f" Most frequent mistake: “{classes[i]}” taken for “{classes[j]}”, "
            f"{count} {'time' if count == 1 else 'times'}."
        )
    return Figure(
        title="Confusion matrix",
        alt=f"Confusion matrix of {number} classes, rows truth, columns predicted. {caption}",
        svg=to_svg(figure),
        wide=wide,
        caption=f"{caption} Numbers are counts; the darker, the larger the share of its row.",
    )


def over_time(evaluation: Evaluation) -> Figure:
    """Held-out targets and the model's values in their order; the end of a long series."""
    truth, prediction = evaluation.truth, evaluation.prediction
    start = max(0, len(truth) - MOST_POINTS)
    steps = range(start, len(truth))
    figure = canvas(WIDE, 3.3)
    axes = figure.add_subplot()
    style(axes, "held-out example, in order", "target (its own units)")
    axes.plot(steps, truth[start:], color=BLACK, linewidth=1.6, label="true")
    axes.plot(
        steps,
        prediction[start:],
        color=ORANGE,
        linestyle=(0, (4, 1.5)),
        linewidth=1.6,
        marker="o",
        markersize=3.5,
        markerfacecolor="none",
        markevery=max(1, len(steps) // 40),
        label="predicted",
    )
    axes.margins(x=0.01)
    legend(figure, axes)
    return Figure(
        title="Prediction over time",
        alt=f"Line chart of {len(steps)} held-out targets and the model's predictions in order.",
        svg=to_svg(figure),
        wide=True,
        caption=f"The last {len(steps)} of {len(truth)} held-out examples." if start else "",
    )


def errors(evaluation: Evaluation) -> Figure:
    """How often the model errs by how much."""
    pairs = zip(evaluation.truth, evaluation.prediction, strict=True)
    gaps = [gap for true, predicted in pairs if math.isfinite(gap := predicted - true)]
    figure = canvas(height=4.2)
    axes = figure.add_subplot()
    style(axes, "predicted minus true", "held-out examples")
    axes.hist(gaps, bins=min(30, max(5, round(math.sqrt(len(gaps))))), color=SKY, edgecolor="white")
    axes.axvline(0, color=BLACK, linestyle="--", linewidth=1)
    mean = sum(gaps) / max(1, len(gaps))
    caption = f"On average the model errs by {number_text(mean)} (0 is without bias)."
    return Figure(
        title="Errors",
        alt=f"Histogram of predicted minus true value. {caption}",
        svg=to_svg(figure),
        caption=caption,
    )


def against_truth(evaluation: Evaluation) -> Figure:
    """Predicted against true values, with the line on which a perfect model lies."""
    pairs = [
        (true, predicted)
        for true, predicted in zip(evaluation.truth, evaluation.prediction, strict=True)
        if math.isfinite(true) and math.isfinite(predicted)
    ]
    figure = canvas(height=4.2)
    axes = figure.add_subplot()
    style(axes, "true value", "predicted value")
    axes.plot(
        [true for true, _ in pairs],
        [predicted for _, predicted in pairs],
        linestyle="none",
        marker="o",
        markersize=4,
        markerfacecolor=BLUE,
        markeredgecolor="white",
        markeredgewidth=0.4,
        alpha=0.7,
        label="held-out example",
        rasterized=len(pairs) > MOST_POINTS,
    )
    if pairs:
        ends = [min(map(min, pairs)), max(map(max, pairs))]
        axes.plot(ends, ends, color=BLACK, linestyle="--", linewidth=1, label="perfect")
    axes.set_aspect("equal", adjustable="datalim")
    axes.grid(axis="both", color="#DDDDDD", linewidth=0.6)
    legend(figure, axes)
    left_out = len(evaluation.truth) - len(pairs)
    return Figure(
        title="Predicted against true",
        alt=f"Scatter plot of predicted against true values of {len(pairs)} held-out examples.",
        svg=to_svg(figure),
        caption=f"{left_out} values that are not finite are left out." if left_out else "",
    )
