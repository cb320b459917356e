"""The sections of the page on what was learnt: curves, baselines, predictions, clients."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from qfl.federation.report import markup
from qfl.federation.report.curves import NAMES, coincide, learning_curve
from qfl.federation.report.evaluation import Evaluation
from qfl.federation.report.outcomes import against_truth, confusion_matrix, errors, over_time
from qfl.federation.report.per_client import client_figures
from qfl.federation.report.reading import Run
from qfl.federation.report.units import bytes_text, metric_text, number_text, seconds_text


def learning(run: Run) -> str:
    """The curves over the rounds, and all values as a table."""
    metrics = _metrics(run)
    shown = [learning_curve(run, metric) for metric in metrics]
    if not any(shown):
        return markup.section("Learning", markup.paragraph("No round was completed."))
    said = "Round 0 is the model before training." if 0 in run.main(metrics[0]) else ""
    if run.blind:
        said = (
            "The model stayed with the clients, so these values are their own, on their training "
            "data, summed under the scheme."
        )
    elif coincide(run, metrics):
        said += f" In every round this run and the run {run.left_out} coincide exactly: "
        said += "the squares and dashes of the one lie on the points and line of the other."
        shown = [None if figure is None else replace(figure, caption="") for figure in shown]
    return markup.section(
        "Learning",
        markup.paragraph(said.strip()) if said else "",
        markup.figures(shown),
        _rounds(run),
    )


def _metrics(run: Run) -> list[str]:
    """What is drawn over the rounds."""
    if run.blind:
        return [f"eval_{'accuracy' if run.metric == 'accuracy' else 'loss'}", "train_loss"]
    return ["accuracy", "loss"] if run.metric == "accuracy" else ["rmse", "loss", "mae", "r2"]


def _rounds(run: Run) -> str:
    series = dict(run.series.get("main", {}))
    if run.blind:
        series.pop("max_abs_error", None)  # only those who learn the mean could know it
    order = list(NAMES)
    metrics = sorted(series, key=lambda name: ([*order, name].index(name), name))
    rounds = sorted({i for values in series.values() for i in values})
    rows = [[str(i), *(_cell(metric, series[metric].get(i)) for metric in metrics)] for i in rounds]
    header = ["round", *(NAMES.get(metric, metric.replace("_", " ")) for metric in metrics)]
    return markup.folded("All rounds as a table", markup.table(header, rows, range(len(header))))


def _cell(metric: str, value: float | None) -> str:
    if value is None:
        return "–"
    if metric.startswith("bytes_"):
        return bytes_text(value)
    if metric.startswith("seconds"):
        return seconds_text(value)
    return metric_text(metric, value)


def baselines(run: Run) -> str:
    """The run beside what it is compared with."""
    baseline = run.summary["baseline"]
    if not baseline:
        return markup.section(
            "Baselines",
            markup.paragraph("This run was made without baselines, so there is no comparison."),
        )
    own = {**run.summary["model"], **run.summary["metrics"]}
    model = run.summary["model"].get("name") or "–"
    titles = {
        "plain": "without encryption",
        "twin": "classical twin",
        "pooled": "pooled data",
    }
    entries: list[tuple[str, str, dict[str, Any]]] = [("this run", str(model), own)]
    for key in sorted(baseline, key=lambda key: ([*titles, key].index(key), key)):
        values = baseline[key]
        default = model if key == "plain" else "–"
        title = str(values.get("title") or titles.get(key, key))
        entries.append((title, str(values.get("name") or default), values))
    if "plain" in baseline:
        baseline["plain"].setdefault("parameters", own.get("parameters"))
    order = ["accuracy", "rmse", "mae", "r2", "loss"]
    metrics = [m for m in order if any(values.get(m) is not None for _, _, values in entries)]
    header = ["", "model", "parameters", *(NAMES[m] for m in metrics)]
    with_gap = run.metric in metrics and own.get(run.metric) is not None
    unit = "points" if run.metric == "accuracy" else NAMES[run.metric]
    header += [f"difference ({unit})"] if with_gap else []
    rows = []
    for title, name, values in entries:
        row = [title, name, _cell("parameters", values.get("parameters"))]
        row += [_cell(metric, values.get(metric)) for metric in metrics]
        if with_gap:
            row.append(_gap(run.metric, values.get(run.metric), own[run.metric], values is own))
        rows.append(row)
    left_out = f"{run.left_out[:1].upper()}{run.left_out[1:]}"
    private = (" and no noise", " and under the same privacy", ", without privacy")
    plain, twin, pooled = private if run.private else ("", "", "")
    meanings = {
        "plain": f"{left_out}: the same federation with plain sums{plain}.",
        "twin": f"Classical twin: a classical model in the same federation{twin}.",
        "pooled": f"Pooled data: a model trained on all clients' data in one place{pooled}.",
    }
    meaning = "All values are those on the held-out examples; differences are to this run. "
    if run.blind:
        meaning = (
            "All values are those on the held-out examples; this run has none, because its model "
            "stayed with the clients. "
        )
    meaning += " ".join(text for key, text in meanings.items() if key in baseline)
    return markup.section(
        "Baselines", markup.paragraph(meaning), markup.table(header, rows, range(2, len(header)))
    )


def _gap(metric: str, value: float | None, own: float, itself: bool) -> str:
    if value is None or itself:
        return "–"
    gap = 100 * (value - own) if metric == "accuracy" else value - own
    if gap == 0:
        return "0"
    return (f"{gap:+.1f}" if metric == "accuracy" else f"{gap:+.3g}").replace("-", "\N{MINUS SIGN}")


def outcome(run: Run) -> str:
    """The final model on the held-out examples."""
    title = "Held-out predictions"
    if run.evaluation is None and run.blind:
        return markup.section(
            title,
            markup.paragraph(
                "The model stayed with the clients, so nobody evaluated it on the held-out "
                "examples."
            ),
        )
    if run.evaluation is None:
        return markup.section(
            title, markup.paragraph("The run ended before its final evaluation was written.")
        )
    if run.evaluation.classes:
        return _classes(title, run.evaluation)
    shown = []
    if run.evaluation.truth:
        shown = [make(run.evaluation) for make in (over_time, against_truth, errors)]
    return markup.section(
        title, markup.figures(shown) or markup.paragraph("There were no held-out examples.")
    )


def _classes(title: str, evaluation: Evaluation) -> str:
    matrix = evaluation.confusion
    rows = []
    for k, name in enumerate(evaluation.classes):
        examples, named = sum(matrix[k]), sum(row[k] for row in matrix)
        shares = (f"{100 * matrix[k][k] / of:.1f} %" if of else "–" for of in (examples, named))
        rows.append([name, f"{examples:,}", *shares])
    each = markup.table(["class", "examples", "recall", "precision"], rows, range(1, 4))
    figure = confusion_matrix(evaluation)
    if figure.wide:
        return markup.section(
            title, markup.figures([figure]), markup.folded("All classes as a table", each)
        )
    return markup.section(title, markup.figures([figure], beside=f"<h3>By class</h3>{each}"))


def clients(run: Run) -> str:
    """What each client holds, and how the final model does there; empty where unknown."""
    if run.evaluation is None:
        return ""
    clients = run.evaluation.clients
    if clients is None:
        return markup.section(
            "Clients",
            markup.paragraph("A real federation does not reveal per-client data."),
        )
    if not clients:
        return ""
    classes = run.evaluation.classes
    name = NAMES[run.metric]
    header = ["client", "examples", name, *classes]
    header += [] if classes else ["target mean", "target std"]
    rows = [
        [
            str(client.client),
            f"{client.examples:,}",
            _cell(run.metric, client.score),
            *map(str, client.labels),
            *(map(number_text, client.target or ()) if not classes else ()),
        ]
        for client in clients
    ]
    return markup.section(
        "Clients",
        markup.paragraph("A simulation knows what each client holds; a real server does not."),
        markup.figures(client_figures(clients, classes, run.metric)),
        markup.folded("All clients as a table", markup.table(header, rows, range(len(header)))),
    )
