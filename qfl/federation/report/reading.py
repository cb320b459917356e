"""Read a run folder, and refuse what is not one.

Everything that the page leans on is checked here, so that the rest can take it as given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qfl.errors import StorageError
from qfl.federation.audit_trail import read_trail
from qfl.federation.report.evaluation import Evaluation, parse_evaluation
from qfl.federation.report.files import (
    is_number,
    kind_of,
    parse_yaml,
    read_json,
    read_json_lines,
    read_text,
)
from qfl.identity.audit_check import examine
from qfl.identity.audit_verdict import Verdict

REQUIRED = ("config.yaml", "metrics.jsonl", "summary.json")
TASKS = ("classification", "regression")

Series = dict[int, float]
"""Values of one metric by round."""


@dataclass(frozen=True)
class Run:
    """The records of one run.

    Attributes:
        folder: Where they lie.
        task: ``classification`` or ``regression``.
        config: The resolved configuration, and ``config_text`` as it is in the file.
        series: Values by run (``main``, ``plain``, ``twin``), metric and round.
        summary: ``summary.json``; its sections are objects, its numbers numbers or None.
        evaluation: None where the run ended before it.
        audit: The events in order, as written.
        verdict: Whether they are as they were written; None where there are none.
        notes: What was wrong with the files and could be worked around, in sentences.
    """

    folder: Path
    task: str
    config: dict[str, Any]
    config_text: str
    series: dict[str, dict[str, Series]]
    summary: dict[str, Any]
    evaluation: Evaluation | None
    audit: tuple[dict[str, Any], ...]
    verdict: Verdict | None
    notes: tuple[str, ...]

    @property
    def metric(self) -> str:
        """The metric that the task is judged by."""
        return "accuracy" if self.task == "classification" else "rmse"

    @property
    def blind(self) -> bool:
        """Whether the model stayed with the clients, so that nobody could evaluate it here."""
        return bool(self.summary["aggregation"].get("release") == "clients")

    @property
    def private(self) -> bool:
        """Whether there was to be differential privacy."""
        return (self.summary["privacy"].get("mechanism") or "none") != "none"

    @property
    def left_out(self) -> str:
        """What the plain baseline does without: ``without encryption or privacy``."""
        title = self.summary["baseline"].get("plain", {}).get("title") or "without encryption"
        return str(title).removeprefix("the same ")

    def main(self, metric: str) -> Series:
        """A metric of the run itself by round; empty when not recorded."""
        return self.series.get("main", {}).get(metric, {})


def read_run(folder: Path) -> Run:
    """Read and check the records of a run.

    Args:
        folder: The run's folder.

    Raises:
        StorageError: The folder does not exist or is not a run's, or one of its files cannot be
            read; the message names the file, and the line where there is one.
    """
    if not folder.is_dir():
        raise StorageError(f"{folder} is not a folder: give the folder of a run")
    missing = [name for name in REQUIRED if not (folder / name).is_file()]
    if missing:
        raise StorageError(
            f"{folder} is not a run folder: {', '.join(missing)} missing; a run folder holds "
            f"{', '.join(REQUIRED)}"
        )
    notes: list[str] = []
    config_text = read_text(folder / "config.yaml")
    config = parse_yaml(folder / "config.yaml", config_text)
    summary = _check_summary(read_json(folder / "summary.json"))
    series: dict[str, dict[str, Series]] = {}
    for line, record in read_json_lines(folder / "metrics.jsonl", notes):
        _add_metric(series, record, f"metrics.jsonl, line {line}")
    dataset = config.get("dataset")
    task = summary.get("task") or (dataset.get("task") if isinstance(dataset, dict) else None)
    if task not in TASKS:
        raise StorageError(f"summary.json: task is {task!r}; must be one of {', '.join(TASKS)}")
    evaluation = None
    if (folder / "evaluation.json").is_file():
        evaluation = parse_evaluation(read_json(folder / "evaluation.json"), task)
    audit: list[dict[str, Any]] = []
    verdict = None
    if (folder / "audit.jsonl").is_file():
        for line, record in read_json_lines(folder / "audit.jsonl", notes):
            if not {"time", "event"} <= record.keys():
                raise StorageError(f"audit.jsonl, line {line}: 'time' or 'event' is missing")
            audit.append(record)
        verdict = examine(read_trail(folder / "audit.jsonl"))
        if verdict.flaw and verdict.flaw.kind == "damaged":
            notes.append(
                f"The audit trail was changed: line {verdict.flaw.line} of audit.jsonl does not "
                f"hold: {verdict.flaw.reason}."
            )
    return Run(
        folder=folder,
        task=task,
        config=config,
        config_text=config_text,
        series=series,
        summary=summary,
        evaluation=evaluation,
        audit=tuple(audit),
        verdict=verdict,
        notes=tuple(notes),
    )


def _add_metric(
    series: dict[str, dict[str, Series]], record: Mapping[str, Any], where: str
) -> None:
    run, step, metric, value = (record.get(key) for key in ("run", "round", "metric", "value"))
    for key, given in (("run", run), ("metric", metric)):
        if not isinstance(given, str):
            raise StorageError(f"{where}: '{key}' must be text, not {kind_of(given)}")
    if not isinstance(step, int) or isinstance(step, bool) or step < 0:
        raise StorageError(f"{where}: 'round' is {step!r}; must be a whole number >= 0")
    if value is None or not is_number(value):
        raise StorageError(f"{where}: 'value' must be a number, not {kind_of(value)}")
    # A resumed run repeats rounds; the later line is the one that the run went on from.
    series.setdefault(str(run), {}).setdefault(str(metric), {})[step] = float(value)


_NUMBERS: dict[str, tuple[str, ...]] = {
    "model": ("parameters",),
    "privacy": (
        "epsilon",
        "delta",
        "budget",
        "noise_multiplier",
        "sample_rate",
        "clipping_norm",
        "honest_clients",
        "entries",
    ),
    "aggregation": (
        "upload_bytes_per_client",
        "download_bytes_per_client",
        "parameters_in_clear",
        "max_abs_error",
    ),
    "seconds": ("total", "per_round"),
}
_SECTIONS = ("metrics", "baseline", *_NUMBERS, "versions")


def _check_summary(summary: dict[str, Any]) -> dict[str, Any]:
    for key in ("seed", "rounds", "clients"):
        _check_number(summary, key, key)
    for section in _SECTIONS:
        if not isinstance(summary.setdefault(section, {}), dict):
            raise StorageError(
                f"summary.json: '{section}' must be an object, not {kind_of(summary[section])}"
            )
        for key in _NUMBERS.get(section, ()):
            _check_number(summary[section], key, f"{section}.{key}")
    for key in summary["metrics"]:
        _check_number(summary["metrics"], key, f"metrics.{key}")
    for name, baseline in summary["baseline"].items():
        if not isinstance(baseline, dict):
            raise StorageError(
                f"summary.json: 'baseline.{name}' must be an object, not {kind_of(baseline)}"
            )
        for key in baseline.keys() - {"name", "title"}:
            _check_number(baseline, key, f"baseline.{name}.{key}")
    _check_list(summary, "notes", "notes")
    _check_privacy(summary["privacy"])
    return summary


def _check_privacy(privacy: dict[str, Any]) -> None:
    for key in ("epsilon_by_data_set", "left_the_clients", "not_achieved"):
        _check_list(privacy, key, f"privacy.{key}")
    for i, value in enumerate(privacy["epsilon_by_data_set"]):
        if value is not None and not is_number(value):
            raise StorageError(
                f"summary.json: 'privacy.epsilon_by_data_set' must hold numbers; value {i} is "
                f"{kind_of(value)}"
            )
    for i, row in enumerate(privacy["left_the_clients"]):
        if not isinstance(row, dict):
            raise StorageError(
                f"summary.json: 'privacy.left_the_clients' must hold objects; row {i} is "
                f"{kind_of(row)}"
            )


def _check_list(section: dict[str, Any], key: str, where: str) -> None:
    """Refuse what is no list; one that is missing is empty."""
    if not isinstance(section.setdefault(key, []), list):
        raise StorageError(f"summary.json: '{where}' must be a list, not {kind_of(section[key])}")


def _check_number(section: Mapping[str, Any], key: str, where: str) -> None:
    value = section.get(key)
    if value is not None and not is_number(value):
        raise StorageError(f"summary.json: '{where}' must be a number, not {kind_of(value)}")
