"""Figures of what was learnt over the rounds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from qfl.federation.report.drawing import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    Figure,
    Line,
    canvas,
    draw,
    has_values,
    legend,
    level,
    plain_text,
    style,
    to_svg,
    whole_rounds,
)
from qfl.federation.report.reading import Run
from qfl.federation.report.units import metric_text, number_text

NAMES = {
    "accuracy": "accuracy",
    "loss": "loss",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
    "train_loss": "training loss",
    "eval_accuracy": "accuracy on the clients' own data",
    "eval_loss": "loss on the clients' own data",
    "epsilon": "epsilon",
    "clients": "clients",
    "failures": "failures",
    "bytes_up": "bytes up",
    "bytes_down": "bytes down",
    "bytes_key_holder": "bytes to open",
    "seconds": "time",
    "seconds_train": "time to train",
    "seconds_open": "time to open",
    "seconds_evaluate": "time of federated evaluation",
    "seconds_held_out": "time of held-out evaluation",
    "max_abs_error": "largest error",
}
"""What the metrics of a round are called, in the order in which tables show them."""

UNITS = {
    "accuracy": "%",
    "eval_accuracy": "%",
    "rmse": "units of the target",
    "mae": "units of the target",
}


def learning_curve(run: Run, metric: str) -> Figure | None:
    """A metric over the rounds: the run, its baselines, the pooled model as a level."""
    scale = 100.0 if metric in ("accuracy", "eval_accuracy") else 1.0
    lines = list(filter(has_values, _curves(run, metric)))
    if not lines:
        return None
    figure = canvas()
    axes = figure.add_subplot()
    style(axes, "round", _axis_label(metric))
    for line in lines:
        draw(axes, line, scale)
    said = [f"{line.label} ends at {metric_text(metric, _last(line.values))}" for line in lines]
    pooled = run.summary["baseline"].get("pooled", {}).get(metric)
    if pooled is not None and math.isfinite(pooled):
        level(axes, scale * pooled, f"pooled\n{metric_text(metric, pooled)}")
        said.append(f"the pooled model reaches {metric_text(metric, pooled)}")
    whole_rounds(axes)
    legend(figure, axes)
    first = min(min(line.values) for line in lines)
    last = max(max(line.values) for line in lines)
    name = _full_name(metric)
    return Figure(
        title=name[0].upper() + name[1:],
        alt=f"Line chart of {name} over rounds {first} to {last}: {'; '.join(said)}.",
        svg=to_svg(figure),
        caption=_distance(run, metric),
    )


def coincide(run: Run, metrics: Sequence[str]) -> bool:
    """Whether the run and its plain baseline agree in all values that both have."""
    main, plain = run.series.get("main", {}), run.series.get("plain", {})
    both = [metric for metric in metrics if main.get(metric) and plain.get(metric)]
    return bool(both) and all(main[metric] == plain[metric] for metric in both)


def _distance(run: Run, metric: str) -> str:
    """In words, how far the run and its plain baseline lie apart."""
    main, plain = run.main(metric), run.series.get("plain", {}).get(metric, {})
    both = sorted(main.keys() & plain.keys())
    gaps = [abs(main[i] - plain[i]) for i in both]
    if not gaps or not all(map(math.isfinite, gaps)):
        return ""
    at = both[gaps.index(max(gaps))]
    if max(gaps) == 0:
        where = "" if main.keys() == plain.keys() else " in the rounds that both completed"
        return f"This run and the run {run.left_out} coincide exactly{where}."
    if metric == "accuracy":
        gap = f"{number_text(100 * max(gaps))} percentage points"
    else:
        gap = number_text(max(gaps))
    return f"This run and the run {run.left_out} differ by at most {gap} (round {at})."


def _curves(run: Run, metric: str) -> list[Line]:
    scheme = run.summary["aggregation"].get("scheme") or "aggregation not recorded"
    model = run.summary["model"].get("name") or "model"
    twin = run.summary["baseline"].get("twin", {}).get("name") or "classical model"
    label = plain_text(f"this run ({model}, {scheme})", 34)
    lines = [Line(label, run.main(metric), BLUE, "-", "o", width=2.4, size=4.5)]
    # Drawn later and with holes in it, so that both show where they coincide.
    plain = run.series.get("plain", {}).get(metric, {})
    lines.append(
        Line(plain_text(run.left_out, 34), plain, ORANGE, "--", "s", hollow=True, size=7.5)
    )
    values = run.series.get("twin", {}).get(metric, {})
    lines.append(Line(plain_text(f"twin ({twin})", 34), values, GREEN, "-.", "^"))
    if metric == "loss":
        lines.append(Line("training loss", run.main("train_loss"), PURPLE, ":", "x", width=1.3))
    return lines


def _last(values: Mapping[int, float]) -> float:
    return values[max(values)]


def _full_name(metric: str) -> str:
    name = NAMES.get(metric, metric)
    return name if metric.startswith(("train_", "eval_")) else f"held-out {name}"


def _axis_label(metric: str) -> str:
    if metric.endswith("loss"):
        return "loss (mean over examples)"
    unit = UNITS.get(metric)
    return f"{_full_name(metric)} ({unit})" if unit else _full_name(metric)
