"""``summary.json`` and ``evaluation.json``: what came out of a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from qfl.crypto import Arrays
from qfl.federation.experiment import Experiment
from qfl.federation.run_folder import RunFolder, versions
from qfl.strategies import SetupFinished

ACCOUNT = (
    "epsilon",
    "clients",
    "failures",
    "bytes_up",
    "bytes_down",
    "bytes_key_holder",
    "seconds",
)
TWIN_MARGIN = 0.05


def summarize(
    experiment: Experiment,
    folder: RunFolder,
    setup: SetupFinished | None,
    privacy: dict[str, Any],
    *,
    status: str,
    reason: str | None,
    baseline: dict[str, Any],
    seconds: float,
) -> dict[str, Any]:
    """Everything worth knowing of a run, as JSON-ready data."""
    config = experiment.config
    rounds = folder.rounds()
    trained = {number: values for number, values in rounds.items() if number > 0}
    last = rounds[max(rounds)] if rounds else {}
    phases = [k for k in last if k.startswith("seconds_")]
    metrics = {k: v for k, v in last.items() if k not in (*ACCOUNT, "max_abs_error", *phases)}
    return {
        "experiment": config.name,
        "status": status,
        "reason": reason,
        "seed": config.seed,
        "rounds": len(trained),
        "clients": config.clients,
        "task": experiment.task,
        "model": {"name": config.model.name, "parameters": experiment.parameters},
        "metrics": metrics,
        "baseline": baseline,
        "privacy": privacy,
        "aggregation": {
            "scheme": config.strategy.scheme,
            "trust": config.strategy.trust,
            "release": config.strategy.release,
            "assumption": setup.assumption if setup else "",
            "opened_by": setup.opened_by if setup else "",
            "upload_bytes_per_client": _per_client(trained, "bytes_up"),
            "download_bytes_per_client": _per_client(trained, "bytes_down"),
            "parameters_in_clear": setup.in_clear if setup else None,
            # Where only clients learn the mean, the server cannot tell how far it is off.
            "max_abs_error": None
            if config.strategy.release == "clients"
            else max((v["max_abs_error"] for v in trained.values()), default=0.0),
        },
        "seconds": {
            "total": round(seconds, 3),
            "per_round": round(_mean([v["seconds"] for v in trained.values()]), 4),
            **{
                phase.removeprefix("seconds_"): round(
                    _mean([v[phase] for v in trained.values() if phase in v]), 4
                )
                for phase in phases
            },
        },
        "versions": versions(),
        "notes": _notes(experiment, setup, metrics, baseline, folder.rounds("twin")),
    }


def _per_client(rounds: dict[int, dict[str, float]], key: str) -> int:
    return round(_mean([v[key] / (v["clients"] + v["failures"]) for v in rounds.values()]))


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else 0.0


def _notes(
    experiment: Experiment,
    setup: SetupFinished | None,
    metrics: dict[str, float],
    baseline: dict[str, Any],
    twin_rounds: dict[int, dict[str, float]],
) -> list[str]:
    notes = [note[0].upper() + note[1:] + "." for note in setup.notes] if setup else []
    if experiment.config.strategy.release == "clients":
        notes.append(
            "The server never sees the model: loss and accuracy are the clients' own, on their "
            "training data, and no model is saved here."
        )
    notes.extend(_likely_failure(experiment))
    if experiment.config.preprocess.fit == "local":
        notes.append(
            "Held-out metrics are means over clients, each with its own scaling of the test set."
        )
    twin = baseline.get("twin", {})
    if "rmse" in metrics and "rmse" in twin and metrics["rmse"] > (1 + TWIN_MARGIN) * twin["rmse"]:
        notes.append(
            f"The quantum model's error is {metrics['rmse'] / twin['rmse']:.1f} times that of its "
            f"classical twin ({twin['parameters']} parameters against {experiment.parameters}) "
            f"after the same rounds. {_fit(metrics, twin_rounds)}"
        )
    if "accuracy" in metrics and "accuracy" in twin:
        gap = twin["accuracy"] - metrics["accuracy"]
        if gap > TWIN_MARGIN:
            notes.append(
                f"The quantum model is {100 * gap:.1f} points of accuracy behind its classical "
                f"twin ({twin['parameters']} parameters against {experiment.parameters}) after "
                f"the same rounds. {_fit(metrics, twin_rounds)}"
            )
    return notes


def _likely_failure(experiment: Experiment) -> Iterator[str]:
    """Say where delta is so large that somebody would expect to be exposed."""
    asked = experiment.config.privacy
    units = {"dpsgd": ("records", sum(map(len, experiment.parts)))}
    name, count = units.get(asked.mechanism, ("clients", experiment.config.clients))
    if asked.mechanism != "none" and asked.delta * count > 1:
        yield (
            f"privacy.delta={asked.delta:g} is more than one in the {count} {name}: a mechanism "
            "that exposes one of them completely would satisfy it; set it well below "
            f"{1 / count:.1g}."
        )


def _fit(metrics: dict[str, float], twin_rounds: dict[int, dict[str, float]]) -> str:
    """Whether the gap stands in the training data already, as measured."""
    mine = metrics.get("train_loss")
    theirs = twin_rounds[max(twin_rounds)].get("train_loss") if twin_rounds else None
    if mine is None or theirs is None:
        return "Training losses were not recorded."
    losses = f"({mine:.3g} against {theirs:.3g} in the last round)"
    if mine > theirs:
        return f"It fits the training data less well too {losses}: it has learnt less so far."
    return f"It fits the training data as well {losses}: what it learnt carries over less."


def evaluation(experiment: Experiment, arrays: Arrays) -> dict[str, Any] | None:
    """Predictions on held-out data, and per client what only a simulation can know.

    Returns:
        None where the model diverged and predicts no numbers.
    """
    test = experiment.dataset.test
    _, predictions = experiment.evaluate(arrays, test)
    if not np.isfinite(predictions).all():
        return None
    if experiment.task == "classification":
        count = len(experiment.dataset.classes)
        confusion = np.zeros((count, count), dtype=np.int64)
        for row in predictions:
            np.add.at(confusion, (test.y.astype(np.intp), row), 1)
        found: dict[str, Any] = {
            "task": "classification",
            "classes": list(experiment.dataset.classes),
            "confusion_matrix": confusion.tolist(),
        }
    else:
        found = {
            "task": "regression",
            "truth": test.y.astype(float).tolist(),
            "prediction": predictions.mean(axis=0).astype(float).tolist(),
        }
    return {
        **found,
        "clients": [_client(experiment, arrays, i) for i in range(len(experiment.parts))],
    }


def _client(experiment: Experiment, arrays: Arrays, index: int) -> dict[str, Any]:
    part = experiment.parts[index]
    entry: dict[str, Any] = {"client": index, "examples": len(part)}
    metrics = experiment.evaluate(arrays, part)[0] if len(part) else {}
    if experiment.task == "classification":
        labels = np.bincount(part.y, minlength=len(experiment.dataset.classes))
        return {**entry, "labels": labels.tolist(), "accuracy": metrics.get("accuracy")}
    if not len(part):
        return {**entry, "target_mean": None, "target_std": None, "rmse": None}
    spread = {"target_mean": float(part.y.mean()), "target_std": float(part.y.std())}
    return {**entry, **spread, "rmse": metrics["rmse"]}


def print_comparison(summary: dict[str, Any], console: Console) -> None:
    """The result beside its baselines."""
    metric = "accuracy" if summary["task"] == "classification" else "rmse"
    table = Table(
        title=f"Held-out {metric} after {summary['rounds']} rounds",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    table.add_column("model")
    table.add_column("parameters", justify="right")
    table.add_column(metric, justify="right")
    model, baseline = summary["model"], summary["baseline"]
    # A model that the server does not see is evaluated by clients, on what they train on.
    own = "" if metric in summary["metrics"] else ", on the clients' training data"
    rows = [
        (
            f"{model['name']}, federated, {summary['aggregation']['scheme']}{own}",
            model,
            summary["metrics"],
        )
    ]
    if "plain" in baseline:
        rows.append((baseline["plain"]["title"], baseline["plain"], baseline["plain"]))
    if "twin" in baseline:
        twin = baseline["twin"]
        rows.append((f"classical twin ({twin['name']}), federated", twin, twin))
    if "pooled" in baseline:
        rows.append((f"{baseline['pooled']['name']}, pooled data", {}, baseline["pooled"]))
    for name, about, metrics in rows:
        value = metrics.get(metric, metrics.get(f"eval_{metric}"))
        if value is None:
            continue
        shown = f"{100 * value:.1f} %" if metric == "accuracy" else f"{value:.4g}"
        table.add_row(name, str(about.get("parameters", "")), shown)
    console.print(table)
    for note in summary["notes"]:
        console.print(f"Note: {note}", markup=False, highlight=False)
