"""The user's own data: one file, or a folder with one file per client."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qfl.conf.schema import DatasetConfig
from qfl.data.examples import Dataset, Examples, Targets
from qfl.data.split import hold_out
from qfl.data.tables import LARGEST, Table, read_table
from qfl.errors import ConfigError, DataError


def load_files(config: DatasetConfig, seed: int) -> Dataset:
    """Read CSV, Parquet or NPZ files, by ``config.name``.

    Of a folder, every file with that suffix is one client's, sorted by name. The test set is
    taken from each file in the same fraction. Classes are text or whole numbers; their indices
    follow their sorted order over all files.

    Raises:
        ConfigError: ``dataset.path`` or ``dataset.target`` is not set.
        DataError: The data cannot be read as asked; names the file, row and column.
        MissingDependencyError: Parquet files, and pyarrow is not installed.
    """
    if config.path is None or config.target is None:
        key = "path" if config.path is None else "target"
        raise ConfigError(
            f"dataset.{key} is not set and dataset={config.name} needs it: add dataset.{key}=…"
        )
    path = Path(config.path).expanduser()
    paths = _client_files(path, config.name) if path.is_dir() else [path]
    tables = [read_table(each, config.name, config.target) for each in paths]
    _check_same_columns(tables)
    targets: Sequence[Targets]
    classes: tuple[str, ...] = ()
    if config.task == "classification":
        targets, classes = _class_indices(tables, config.target)
    else:
        targets = [_values(table, config.target) for table in tables]
    parts = [Examples(table.x, y) for table, y in zip(tables, targets, strict=True)]
    train, test = _hold_out_each(parts, config.test_fraction, seed)
    sizes = [len(part) for part in train]
    files = np.split(np.arange(sum(sizes), dtype=np.intp), np.cumsum(sizes)[:-1])
    return Dataset(
        name=config.name,
        task=config.task,
        train=_joined(train),
        test=_joined(test),
        classes=classes,
        files=tuple(files) if path.is_dir() else None,
    )


def _client_files(folder: Path, kind: str) -> list[Path]:
    found = sorted(
        each
        for each in folder.iterdir()
        if each.suffix.lower() == f".{kind}" and not each.name.startswith(".")
    )
    if not found:
        raise DataError(
            f"{folder} holds no .{kind} files: put one file per client there, or check "
            f"dataset.path and dataset={kind}"
        )
    return found


def _check_same_columns(tables: list[Table]) -> None:
    first = tables[0]
    for table in tables[1:]:
        if table.columns != first.columns:
            raise DataError(
                f"{first.path} and {table.path} have different columns: "
                f"{', '.join(first.columns)} and {', '.join(table.columns)}; all files need the "
                "same ones in the same order"
            )


def _class_indices(
    tables: list[Table], target: str
) -> tuple[list[NDArray[np.int64]], tuple[str, ...]]:
    numbers = [[_number(cell) for cell in table.target] for table in tables]
    labels: list[list[int]] | list[list[str]]
    if any(value is None for column in numbers for value in column):
        labels = [[str(cell) for cell in table.target] for table in tables]
    else:
        labels = [
            [_whole(table, row, value, target) for row, value in enumerate(column)]
            for table, column in zip(tables, numbers, strict=True)
        ]
    names = sorted({label for column in labels for label in column})
    if len(names) < 2:
        raise DataError(
            f"{tables[0].path}: target '{target}' has {len(names)} class ({names[0]}): "
            "classification needs at least 2"
        )
    index = {name: i for i, name in enumerate(names)}
    columns = [np.array([index[label] for label in column], np.int64) for column in labels]
    return columns, tuple(str(name) for name in names)


def _whole(table: Table, row: int, value: float | int | None, target: str) -> int:
    if value is None or value != value or value in (float("inf"), float("-inf")):
        raise DataError(f"{table.place(row)}, column '{target}': {value} is not a class")
    if value != int(value):
        raise DataError(
            f"{table.place(row)}, column '{target}': found {value}, and classes are text or "
            "whole numbers: set dataset.task=regression to predict a number"
        )
    return int(value)


def _values(table: Table, target: str) -> NDArray[np.float32]:
    values = np.empty(len(table.target), np.float32)
    for row, cell in enumerate(table.target):
        value = _number(cell)
        if value is None:
            raise DataError(
                f"{table.place(row)}, column '{target}': the target is {cell!r}, and regression "
                "needs numbers: set dataset.task=classification to predict a class"
            )
        if not abs(value) <= LARGEST:
            raise DataError(
                f"{table.place(row)}, column '{target}': the target is {cell}, beyond the range "
                "of float32: correct or rescale it"
            )
        values[row] = value
    return values


def _number(cell: Any) -> float | int | None:
    """The cell as a number; None where it is not one. Whole numbers stay exact."""
    if isinstance(cell, int):
        return int(cell)
    for kind in (int, float) if isinstance(cell, str) else (float,):
        try:
            return kind(cell)
        except (TypeError, ValueError):
            pass
    return None


def _hold_out_each(
    parts: list[Examples], test_fraction: float, seed: int
) -> tuple[list[Examples], list[Examples]]:
    train, test = [], []
    for number, part in enumerate(parts):
        if len(parts) > 1 and len(part) < 2:
            train.append(part)
            continue
        kept, held_out = hold_out(part, test_fraction, seed, part=number)
        train.append(part.take(kept))
        test.append(part.take(held_out))
    if not test:
        raise DataError(
            f"{len(parts)} files with one row each leave nothing for a test set: add rows"
        )
    return train, test


def _joined(parts: list[Examples]) -> Examples:
    y: Targets = np.concatenate([part.y for part in parts])
    return Examples(np.concatenate([part.x for part in parts]), y)
