"""What a run was and how it ended, in sentences and in the headline's few numbers."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Any

from qfl.federation.report.reading import Run, Series
from qfl.federation.report.units import (
    bytes_text,
    epsilon_text,
    metric_text,
    number_text,
    seconds_text,
)

UNRECORDED = "not recorded"
STATES = ("finished", "converged", "budget_spent", "interrupted", "failed")


def status(run: Run) -> str:
    """How the run ended, one word."""
    return str(run.summary.get("status") or "finished")


def moment(run: Run) -> str:
    """When the run started, from its folder's name; else when its summary was written."""
    found = re.fullmatch(r"(\d{4}-\d\d-\d\d)_(\d\d)-(\d\d)-(\d\d)", run.folder.resolve().name)
    if found:
        return f"started {found[1]} {found[2]}:{found[3]}"
    written = (run.folder / "summary.json").stat().st_mtime
    return f"recorded {datetime.fromtimestamp(written, UTC):%Y-%m-%d %H:%M} UTC"


def headline_entries(run: Run) -> list[tuple[str, str, str]]:
    """Name, value and detail of the numbers that a reader looks for first."""
    summary, aggregation = run.summary, run.summary["aggregation"]
    scheme, trust = _name(aggregation.get("scheme")), _name(aggregation.get("trust"))
    scheme_detail = {"plain": "no encryption", "masking": "pairwise masks, no key"}
    planned, clients = run.config.get("rounds"), summary.get("clients")
    done = summary.get("rounds")
    upload, total = aggregation.get("upload_bytes_per_client"), summary["seconds"].get("total")
    per_round = summary["seconds"].get("per_round")
    down = aggregation.get("download_bytes_per_client")
    return [
        _result(run),
        (
            "Rounds",
            UNRECORDED if done is None else number_text(done),
            f"of {planned} planned" if isinstance(planned, int) and planned != done else "",
        ),
        ("Clients", UNRECORDED if clients is None else number_text(clients), _contributed(run)),
        (
            "Aggregation",
            scheme or UNRECORDED,
            scheme_detail.get(scheme, f"trust: {trust}" if trust else ""),
        ),
        (
            "Upload per client and round",
            UNRECORDED if upload is None else bytes_text(upload),
            "" if down is None else f"download {bytes_text(down)}",
        ),
        (
            "Wall time",
            UNRECORDED if total is None else seconds_text(total),
            "" if per_round is None else f"{seconds_text(per_round)} per round",
        ),
        ("Privacy", *_privacy(summary["privacy"])),
        (
            "Model",
            str(summary["model"].get("name") or UNRECORDED),
            _parameters(summary["model"]),
        ),
    ]


def _result(run: Run) -> tuple[str, str, str]:
    """The number that the run is judged by."""
    if run.blind and run.metric == "accuracy":
        loss = f"loss {_metric(run, 'eval_loss')}"
        return "Accuracy, clients' own data", _metric(run, "eval_accuracy"), loss
    if run.blind:
        return "Loss, clients' own data", _metric(run, "eval_loss"), ""
    name = "Held-out accuracy" if run.metric == "accuracy" else "Held-out RMSE"
    return name, _metric(run, run.metric), f"loss {_metric(run, 'loss')}"


def story(run: Run) -> list[str]:
    """A short account of the run: what was trained, how updates were summed, how it ended."""
    return [text for text in (_training(run), _aggregation(run), _ending(run)) if text]


def _training(run: Run) -> str:
    summary = run.summary
    name = summary["model"].get("name")
    model = f"the model {name}" if name else "a model"
    parameters = _parameters(summary["model"])
    clients, rounds = summary.get("clients"), summary.get("rounds")
    text = f"{_count(clients, 'client')} trained {model}"
    text += f" ({parameters})" if parameters else ""
    text += f" together for {_count(rounds, 'round')}"
    dataset = config_part(run.config, "dataset").get("name")
    text += f" on the data set {dataset}" if dataset else ""
    partition = config_part(run.config, "partition")
    if partition.get("name"):
        text += f", split by the partitioner {partition['name']}"
        if partition["name"] in ("dirichlet", "quantity") and "alpha" in partition:
            text += f" (alpha {partition['alpha']})"
    seed = summary.get("seed")
    text += f", with seed {seed}" if seed is not None else ""
    return text[0].upper() + text[1:] + "."


def _aggregation(run: Run) -> str:
    aggregation = run.summary["aggregation"]
    scheme, assumption = _name(aggregation.get("scheme")), aggregation.get("assumption")
    sentences = []
    if scheme == "plain":
        sentences.append("Updates were summed without encryption: the server could read each one.")
    elif scheme:
        how = "pairwise masks" if scheme == "masking" else f"encryption ({scheme})"
        opener = aggregation.get("opened_by")
        by = f"; only the sum was opened, by {_with_article(str(opener))}" if opener else ""
        sentences.append(f"Updates were summed under {how}{by}.")
        sentences.append(_kept(run))
        sentences.append(_partly(run))
    if assumption:
        sentences.append(f"What is assumed: {str(assumption).rstrip('.')}.")
    error = aggregation.get("max_abs_error")
    if error is not None and scheme != "plain" and not run.blind:
        sentences.append(
            f"Rounding moved no coordinate of an opened mean by more than {number_text(error)}."
        )
    return " ".join(filter(None, sentences))


def _with_article(opener: str) -> str:
    """The opener as part of a sentence; several that open together start with their number."""
    return opener if opener[:1].isdigit() else f"the {opener}"


def _kept(run: Run) -> str:
    if not run.blind:
        return ""
    return "The model stayed with the clients: the server passed on what it could not read."


def _partly(run: Run) -> str:
    clear = run.summary["aggregation"].get("parameters_in_clear")
    total = run.summary["model"].get("parameters")
    if not clear or not total:
        return ""
    return (
        f"Protected were {number_text(total - clear)} of {_count(total, 'parameter')}; the other "
        f"{number_text(clear)} travelled in the clear, and the server could read them of each "
        "client."
    )


def _ending(run: Run) -> str:
    reason = run.summary.get("reason")
    how = {
        "finished": "",
        "converged": "The run stopped early, because it had converged",
        "budget_spent": f"The run ended {_before(run)}, because budgets do not pay for it",
        "interrupted": "The run was interrupted before its last round; "
        "all numbers are those of the rounds completed",
        "failed": "The run failed; all numbers are those of the rounds completed",
    }.get(status(run), f"The run ended with the status {status(run)}")
    if how and reason:
        how += f": {str(reason).rstrip('.')}"
    return f"{how}." if how else ""


def _before(run: Run) -> str:
    done = run.summary.get("rounds")
    return "early" if done is None else f"before round {number_text(done + 1)}"


def _contributed(run: Run) -> str:
    counts = [int(v) for i, v in run.main("clients").items() if i > 0 and math.isfinite(v)]
    failures = sum(v for v in run.main("failures").values() if math.isfinite(v))
    parts = []
    if counts:
        low, high = min(counts), max(counts)
        parts.append(f"{low if low == high else f'{low} to {high}'} in each round")
    if failures:
        parts.append(_count(failures, "failure"))
    return ", ".join(parts)


def _privacy(privacy: dict[str, Any]) -> tuple[str, str]:
    epsilon, delta, mechanism = (privacy.get(key) for key in ("epsilon", "delta", "mechanism"))
    if epsilon is None:
        if mechanism not in (None, "none"):
            return "no guarantee recorded", f"mechanism {mechanism}"
        return "none", "no differential privacy"
    value = f"ε = {epsilon_text(epsilon)}"
    if privacy.get("budget") is not None:
        value += f" of {number_text(privacy['budget'])}"
    detail = [f"δ = {number_text(delta)}"] if delta is not None else []
    detail += [str(privacy[key]) for key in ("mechanism", "accountant") if privacy.get(key)]
    return value, ", ".join(detail)


def _metric(run: Run, name: str) -> str:
    value = run.summary["metrics"].get(name)
    series: Series = run.main(name)
    if value is None and series:
        value = series[max(series)]
    return UNRECORDED if value is None else metric_text(name, value)


def _parameters(model: dict[str, Any]) -> str:
    number = model.get("parameters")
    return "" if number is None else _count(number, "parameter")


def _count(number: float | None, thing: str) -> str:
    if number is None:
        return f"an unrecorded number of {thing}s"
    return f"{number_text(number)} {thing}{'' if number == 1 else 's'}"


def _name(value: Any) -> str:
    return str(value).replace("_", " ") if value else ""


def config_part(config: dict[str, Any], key: str) -> dict[str, Any]:
    """A section of the configuration; empty where it is not one."""
    value = config.get(key)
    return value if isinstance(value, dict) else {}
