"""``evaluation.json``: the final model on held-out examples and, in a simulation, the clients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from qfl.errors import StorageError
from qfl.federation.report.files import is_number, kind_of


@dataclass(frozen=True)
class Client:
    """What a simulation knows of one client.

    Attributes:
        client: Its number.
        examples: Training examples that it holds.
        labels: Examples per class (classification), else empty.
        target: Mean and standard deviation of the target (regression), else None.
        score: Its accuracy (0 to 1) or RMSE (units of the target); None when not recorded.
    """

    client: int
    examples: int
    labels: tuple[int, ...]
    target: tuple[float, float] | None
    score: float | None


@dataclass(frozen=True)
class Evaluation:
    """The final model on the held-out examples.

    Attributes:
        classes: Class names (classification), else empty.
        confusion: Counts, rows truth, columns predicted; empty for regression.
        truth: Held-out targets in order (regression), else empty.
        prediction: The model's values for them; as long as ``truth``.
        clients: One entry per client; None when the run does not reveal clients.
    """

    classes: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    truth: tuple[float, ...]
    prediction: tuple[float, ...]
    clients: tuple[Client, ...] | None


def parse_evaluation(data: Mapping[str, Any], task: str) -> Evaluation:
    """Check and convert the content of ``evaluation.json``."""
    if data.get("task") != task:
        raise StorageError(
            f"evaluation.json: task is {data.get('task')!r}, but the run's is {task!r}: the files "
            "belong to different runs"
        )
    classes: tuple[str, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    truth: tuple[float, ...] = ()
    prediction: tuple[float, ...] = ()
    if task == "classification":
        classes = tuple(str(name) for name in _list(data, "classes", lambda name: True))
        rows = _list(data, "confusion_matrix", lambda row: isinstance(row, list))
        confusion = tuple(tuple(row) for row in rows)
        if len(rows) != len(classes) or any(
            len(row) != len(classes) or not all(map(_is_count, row)) for row in rows
        ):
            raise StorageError(
                f"evaluation.json: 'confusion_matrix' must be {len(classes)} rows of "
                f"{len(classes)} counts, one for each of the classes"
            )
    else:
        truth = tuple(float(value) for value in _list(data, "truth", is_number))
        prediction = tuple(float(value) for value in _list(data, "prediction", is_number))
        if len(truth) != len(prediction):
            raise StorageError(
                f"evaluation.json: 'truth' has {len(truth)} values and 'prediction' "
                f"{len(prediction)}; must be equally many"
            )
    clients = None
    if data.get("clients") is not None:
        rows = _list(data, "clients", lambda row: isinstance(row, dict))
        clients = tuple(_client(row, i, task, len(classes)) for i, row in enumerate(rows))
    return Evaluation(classes, confusion, truth, prediction, clients)


def _client(row: Mapping[str, Any], position: int, task: str, classes: int) -> Client:
    where = f"evaluation.json: clients[{position}]"
    for key in ("client", "examples"):
        if not _is_count(row.get(key)):
            raise StorageError(f"{where}.{key} is {row.get(key)!r}; must be a whole number >= 0")
    labels: tuple[int, ...] = ()
    target = None
    score = row.get("accuracy" if task == "classification" else "rmse")
    if score is not None and not is_number(score):
        raise StorageError(f"{where}: its score must be a number, not {kind_of(score)}")
    if task == "classification":
        counts = row.get("labels")
        if (
            not isinstance(counts, list)
            or len(counts) != classes
            or not all(map(_is_count, counts))
        ):
            raise StorageError(f"{where}.labels must be {classes} counts, one per class")
        labels = tuple(counts)
    elif is_number(row.get("target_mean")) and is_number(row.get("target_std")):
        target = (float(row["target_mean"]), float(row["target_std"]))
    return Client(
        client=row["client"],
        examples=row["examples"],
        labels=labels,
        target=target,
        score=None if score is None else float(score),
    )


def _list(data: Mapping[str, Any], key: str, allowed: Callable[[Any], bool]) -> list[Any]:
    value = data.get(key)
    if not isinstance(value, list) or not all(allowed(item) for item in value):
        raise StorageError(f"evaluation.json: '{key}' is missing, or holds what does not belong")
    return value


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53
