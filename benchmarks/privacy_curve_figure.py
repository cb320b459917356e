"""One figure: held-out accuracy over epsilon, infinity set apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# Colours of Okabe and Ito, which colour-blind readers can tell apart; markers differ too.
LOOKS = {
    "qnn": ("#0072B2", "o", "quantum model (qnn)"),
    "mlp": ("#D55E00", "s", "its classical twin (mlp)"),
}
APART = 26.0
CHANCE = 0.1
# Models side by side, so that their bars do not cover each other.
SHIFT = 1.025


def draw(accuracies: Mapping[str, Mapping[str, Sequence[float]]], path: Path) -> None:
    """Draw a line for each model.

    Args:
        accuracies: By model and budget, one for each seed; budgets are numbers, ``infinity`` and
            ``none``.
        path: Where the picture goes; its ending says in which format.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    finite: list[str] = []
    for model, shift in zip(accuracies, (1 / SHIFT, SHIFT), strict=True):
        finite = [budget for budget in accuracies[model] if budget not in ("infinity", "none")]
        _line(axes, model, accuracies[model], finite, shift)
    seeds = len(next(iter(accuracies.values()))["infinity"])
    axes.axhline(CHANCE, color="#777777", lw=1, ls=":")
    axes.text(1 / 1.1, CHANCE + 0.012, "chance: 10 classes", color="#555555", fontsize=9)
    axes.set_xscale("log", base=2)
    axes.set_xlim(0.85, APART * 1.35)
    axes.set_xticks([*map(float, finite), APART], [*finite, "∞\nno noise"])
    axes.minorticks_off()
    # The axis is cut between the last epsilon and infinity.
    cut = (float(finite[-1]) * APART) ** 0.5
    below = axes.get_xaxis_transform()
    axes.plot([cut / 1.02, cut * 1.02], [0, 0], "w", lw=3, transform=below, clip_on=False, zorder=4)
    for place in (cut / 1.02, cut * 1.02):
        axes.plot(
            [place / 1.012, place * 1.012],
            [-0.015, 0.015],
            color="black",
            lw=1,
            transform=below,
            clip_on=False,
            zorder=5,
        )
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.set_xlabel(
        "epsilon that a client spends on each of its records, delta = 1e-5", fontsize=11
    )
    axes.set_ylabel("held-out accuracy (share of digits)", fontsize=11)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1, 0.14),
        frameon=False,
        fontsize=10,
        title=f"mean of {seeds} seeds; bars: lowest to highest",
        title_fontsize=9,
        alignment="left",
    )
    axes.set_title("Digits, ten clients, DP-SGD under encryption", fontsize=12)
    figure.savefig(path, dpi=110, facecolor="white")


def _line(
    axes: Any, model: str, found: Mapping[str, Sequence[float]], finite: list[str], shift: float
) -> None:
    colour, marker, label = LOOKS[model]
    places = [*(float(budget) * shift for budget in finite), APART * shift]
    values = np.array([found[budget] for budget in [*finite, "infinity"]])
    means = values.mean(1)
    axes.errorbar(
        places,
        means,
        yerr=[means - values.min(1), values.max(1) - means],
        color=colour,
        marker=marker,
        ls="none",
        ms=7,
        capsize=4,
        lw=1.6,
        zorder=3,
    )
    axes.plot(places[:-1], means[:-1], color=colour, marker=marker, lw=2.2, ms=7, label=label)
    axes.plot(places[-2:], means[-2:], color=colour, lw=1.4, ls=(0, (2, 2)))
    free = float(np.mean(found["none"]))
    axes.axhline(
        free, color=colour, lw=1, ls=(0, (6, 3)), label=f"not private at all: {100 * free:.1f} %"
    )
