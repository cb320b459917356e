"""Figures of the clients: what each holds, and how well the final model does there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qfl.federation.report.drawing import (
    BLUE,
    GREEN,
    HALF,
    INK,
    SKY,
    WIDE,
    Figure,
    canvas,
    plain_text,
    style,
    to_svg,
)
from qfl.federation.report.evaluation import Client
from qfl.federation.report.outcomes import share_map
from qfl.federation.report.units import metric_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIDE_BY_SIDE = 16
"""Up to so many clients, two figures stand beside each other; more share one wide figure."""


def client_figures(
    clients: tuple[Client, ...], classes: tuple[str, ...], metric: str
) -> list[Figure]:
    """What the clients hold and how the model does there.

    Args:
        clients: At least one.
        classes: Class names; empty for regression.
        metric: ``accuracy`` or ``rmse``.
    """
    held = "Labels" if classes else "Targets"
    score = "accuracy" if metric == "accuracy" else "RMSE"
    with_score = any(client.score is not None for client in clients)
    with_targets = bool(classes) or any(client.target for client in clients)
    beside = len(clients) <= SIDE_BY_SIDE
    rows = (0.3 if beside else 0.22) * len(classes) + 0.9 if classes else 2.0
    if beside:
        figures = []
        if with_targets:
            figure = canvas(HALF, max(3.6, rows))
            _draw_held(figure.add_subplot(), clients, classes, beside)
            _number(figure.axes[0], clients)
            title = f"{held} per client"
            figures.append(Figure(title, _alt_held(clients, classes), to_svg(figure)))
        figure = canvas(HALF, max(3.6, rows))
        panels = figure.subplots(1 + with_score, 1, sharex=True, squeeze=False)[:, 0]
        _draw_sizes(panels[-1], clients)
        if with_score:
            _draw_scores(panels[0], clients, metric)
        _number(panels[-1], clients)
        title = f"{score} and examples per client" if with_score else "examples per client"
        title = title[0].upper() + title[1:]
        figures.append(Figure(title, _alt_scores(clients, metric), to_svg(figure)))
        return figures
    heights = [rows] * with_targets + [1.6] * with_score + [1.6]
    figure = canvas(WIDE, sum(heights) + 0.6)
    panels = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[
        :, 0
    ]
    if with_targets:
        _draw_held(panels[0], clients, classes, beside)
    if with_score:
        _draw_scores(panels[-2], clients, metric)
    _draw_sizes(panels[-1], clients)
    _number(panels[-1], clients)
    title = f"{held}, {score} and examples per client"
    if not with_score:
        title = f"{held} and examples per client"
    alt = f"{_alt_held(clients, classes)} {_alt_scores(clients, metric)}"
    return [Figure(title, alt, to_svg(figure), wide=True)]


def _draw_held(
    axes: Axes, clients: tuple[Client, ...], classes: tuple[str, ...], beside: bool
) -> None:
    if not classes:
        style(axes, "", "target:\nmean ± std")
        shown = [(i, client.target) for i, client in enumerate(clients) if client.target]
        axes.errorbar(
            [i + 0.5 for i, _ in shown],
            [target[0] for _, target in shown],
            yerr=[target[1] for _, target in shown],
            linestyle="none",
            marker="o",
            markersize=4,
            color=GREEN,
            ecolor=GREEN,
            elinewidth=1.2,
            capsize=2,
        )
        return
    style(axes, "", "class")
    counts = [[client.labels[k] for client in clients] for k in range(len(classes))]
    totals = [max(1, sum(client.labels)) for client in clients]
    shares = [[n / total for n, total in zip(row, totals, strict=True)] for row in counts]
    width = 72 * (HALF - 1.2 if beside else WIDE - 1.8) / len(clients)
    digits = max(len(str(count)) for row in counts for count in row)
    fontsize = min(8.5, width / (0.68 * max(2, digits)))
    mesh = share_map(axes, counts, shares, fontsize if fontsize >= 5.5 else None)
    ticks = [k + 0.5 for k in range(len(classes))]
    axes.set_yticks(ticks, [plain_text(name, 14) for name in classes])
    scale = axes.figure.colorbar(mesh, ax=axes, pad=0.01, aspect=25)
    scale.set_ticks([0, 0.5, 1], labels=["0 %", "50 %", "100 %"])
    scale.ax.tick_params(labelsize=8, length=0)
    scale.set_label("share of the client's examples", fontsize=8)
    scale.outline.set_visible(False)


def _draw_scores(axes: Axes, clients: tuple[Client, ...], metric: str) -> None:
    accuracy = metric == "accuracy"
    style(axes, "", "accuracy (%)" if accuracy else "RMSE")
    shown = [(i + 0.5, c.score) for i, c in enumerate(clients) if c.score is not None]
    scale = 100 if accuracy else 1
    places, scores = [i for i, _ in shown], [scale * score for _, score in shown]
    axes.vlines(places, 0, scores, color=BLUE, linewidth=1.2, alpha=0.5)
    axes.plot(places, scores, linestyle="none", marker="o", markersize=5, color=BLUE, clip_on=False)
    axes.set_ylim(0, 105 if accuracy else None)


def _draw_sizes(axes: Axes, clients: tuple[Client, ...]) -> None:
    style(axes, "", "examples")
    places = [i + 0.5 for i in range(len(clients))]
    axes.bar(places, [client.examples for client in clients], color=SKY, width=0.7)


def _number(axes: Axes, clients: tuple[Client, ...]) -> None:
    every = max(1, -(-len(clients) // 25))
    chosen = range(0, len(clients), every)
    axes.set_xticks([i + 0.5 for i in chosen], [str(clients[i].client) for i in chosen])
    axes.set_xlabel("client", fontsize=9, color=INK)
    axes.set_xlim(0, len(clients))


def _alt_held(clients: tuple[Client, ...], classes: tuple[str, ...]) -> str:
    if classes:
        return f"Heat map of examples of {len(classes)} classes at {len(clients)} clients."
    return f"Mean and standard deviation of the target at {len(clients)} clients."


def _alt_scores(clients: tuple[Client, ...], metric: str) -> str:
    sizes = [client.examples for client in clients]
    said = f"Clients hold {min(sizes)} to {max(sizes)} examples"
    scores = [client.score for client in clients if client.score is not None]
    if scores:
        low, high = (metric_text(metric, value) for value in (min(scores), max(scores)))
        said += (
            f" and reach {'an accuracy' if metric == 'accuracy' else 'an RMSE'} of {low} to {high}"
        )
    return said + "."
