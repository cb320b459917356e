"""Tables from CSV, Parquet and NPZ files: numeric features and one target column.

Whatever is not a clean table is refused with the file, the row and the column.
"""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qfl.errors import DataError, MissingDependencyError

LARGEST = float(np.finfo(np.float32).max)

Column = Sequence[Any] | NDArray[Any]


@dataclass(frozen=True, eq=False)
class Table:
    """One file's features and its target cells, as they were found.

    Attributes:
        path: Where the table was read.
        columns: Names of the features, in the order of ``x``.
        x: Features, finite float32, (rows, features).
        target: One cell per row; none is missing.
    """

    path: Path
    columns: tuple[str, ...]
    x: NDArray[np.float32]
    target: list[Any]

    def place(self, row: int) -> str:
        """Where a row is found, in words: counted from 1, without a CSV file's header."""
        return _place(self.path, row)


def read_table(path: Path, kind: str, target: str) -> Table:
    """Read one file.

    Args:
        path: The file.
        kind: ``csv``, ``parquet`` or ``npz``.
        target: Name of the target column, or of the target array.

    Raises:
        DataError: The file is missing, empty or broken, has no such target, or holds text,
            NaN, infinity or an empty cell where a number belongs.
        MissingDependencyError: A Parquet file, and pyarrow is not installed.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist: check dataset.path")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty: it must hold a table of examples")
    names, columns = _READERS[kind](path, target)
    if kind != "npz":
        _check_names(path, names, target)
    features = [i for i, name in enumerate(names) if name != target]
    if not features:
        raise DataError(f"{path} has no column beside the target '{target}': add features")
    found = columns[names.index(target)]
    cells = found.tolist() if isinstance(found, np.ndarray) else list(found)
    if not cells:
        raise DataError(f"{path} has a header and no rows: it must hold at least one example")
    x = np.stack([_numbers(path, names[i], columns[i]) for i in features], axis=1)
    for row, cell in enumerate(cells):
        if _missing(cell) or isinstance(cell, (list, dict, bytes)):
            raise DataError(
                f"{_place(path, row)}, column '{target}': the target is {_shown(cell)}: "
                "give every row a class or a number, or remove the row"
            )
    return Table(path, tuple(names[i] for i in features), x, cells)


def _read_csv(path: Path, target: str) -> tuple[list[str], list[Column]]:
    rows: list[list[str]] = []
    try:
        # utf-8-sig: spreadsheets put a byte-order mark before the first column's name.
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            for cells in reader:
                if len(cells) not in (0, len(header)):
                    raise DataError(
                        f"{_place(path, len(rows))}: {len(cells)} cells, and the header names "
                        f"{len(header)} columns: every row needs one cell per column"
                    )
                if cells:
                    rows.append([cell.strip() for cell in cells])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV file in UTF-8 ({error}): save it as one") from error
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(header)
    return header, list(columns)


def _read_parquet(path: Path, target: str) -> tuple[list[str], list[Column]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingDependencyError(
            f"{path} is a Parquet file and pyarrow is not installed: pip install qfl[parquet]"
        ) from error
    try:
        # Not read_table, which takes folder names such as "site=3" for further columns.
        table = pyarrow.parquet.ParquetFile(path).read()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable Parquet file ({error})") from error
    numeric = (pyarrow.types.is_floating, pyarrow.types.is_integer)
    columns = [
        column.to_numpy()
        if column.null_count == 0 and any(is_kind(column.type) for is_kind in numeric)
        else column.to_pylist()
        for column in table.columns
    ]
    return list(table.column_names), columns


def _read_npz(path: Path, target: str) -> tuple[list[str], list[Column]]:
    arrays = _load_arrays(path)
    _check_target(path, list(arrays), target, "array")
    others = {name: array for name, array in arrays.items() if name != target}
    tables = [name for name, array in others.items() if array.ndim == 2]
    chosen = "x" if target == "y" and "x" in tables else (tables[0] if len(tables) == 1 else None)
    if chosen is None:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in others.items()) or "none"
        raise DataError(
            f"{path} must hold exactly one 2-D array of features beside the target '{target}', "
            f"or arrays named x and y; the other arrays are: {shapes}"
        )
    x, y = others[chosen], arrays[target]
    if y.ndim != 1 or len(y) != len(x):
        raise DataError(
            f"{path}: target array '{target}' has shape {y.shape} and features '{chosen}' have "
            f"shape {x.shape}: the target needs shape ({len(x)},)"
        )
    for name, array, kinds in ((chosen, x, "biuf"), (target, y, "biufUS")):
        if array.dtype.kind not in kinds:
            raise DataError(
                f"{path}: array '{name}' is of type {array.dtype}: features must be real "
                "numbers, and targets numbers or text"
            )
    if y.dtype.kind == "S":
        y = np.char.decode(y, "utf-8")
    names = [f"{chosen}[:, {j}]" for j in range(x.shape[1])]
    return [*names, target], [*x.T, y.tolist()]


def _load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    arrays = {}
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise DataError(
                f"{path} holds a single array: save features and target with numpy.savez"
            )
        with loaded as archive:
            for name in archive.files:
                try:
                    arrays[name] = archive[name]
                except ValueError as error:
                    raise DataError(
                        f"{path}: array '{name}' cannot be read ({error}): arrays of Python "
                        "objects are refused, save numbers or text of a fixed width"
                    ) from error
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not an NPZ file ({error}): save it with numpy.savez") from error
    return arrays


_READERS: dict[str, Callable[[Path, str], tuple[list[str], list[Column]]]] = {
    "csv": _read_csv,
    "parquet": _read_parquet,
    "npz": _read_npz,
}


def _check_names(path: Path, names: list[str], target: str) -> None:
    _check_target(path, names, target, "column")
    for i, name in enumerate(names):
        if not name or name.startswith("__index_level_"):
            raise DataError(
                f"{path}: column {i + 1} ({name or 'no name'}) looks like a count of the rows, "
                "which is no feature: remove it (pandas: index=False), or give it a name"
            )
        if name in names[:i]:
            raise DataError(f"{path}: two columns are named '{name}': rename one of them")


def _check_target(path: Path, names: list[str], target: str, what: str) -> None:
    if target in names:
        return
    close = get_close_matches(target, names, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else "."
    if len(names) == 1 and (";" in names[0] or "\t" in names[0]):
        hint = "; the cells must be separated by commas."
    raise DataError(
        f"{path} has no {what} '{target}' (dataset.target){hint} It has: "
        f"{', '.join(names) or 'none'}"
    )


def _numbers(path: Path, name: str, cells: Column) -> NDArray[np.float32]:
    try:
        values = np.asarray(cells, dtype=np.float64)
        with np.errstate(over="ignore"):
            numbers = values.astype(np.float32)
        if numbers.ndim == 1 and np.isfinite(numbers).all():
            return numbers
    except (TypeError, ValueError, OverflowError):
        pass
    row, problem = next(
        (row, problem) for row, cell in enumerate(cells) if (problem := _not_a_number(cell))
    )
    raise DataError(f"{_place(path, row)}, column '{name}': {problem}")


def _not_a_number(cell: Any) -> str | None:
    if _missing(cell):
        return f"the cell is {_shown(cell)}: fill it in or remove the row"
    try:
        value = float(cell)
    except (TypeError, ValueError):
        return f"found {cell!r} where a number belongs: encode it as numbers or remove the column"
    except OverflowError:
        value = float("inf")
    if abs(value) > LARGEST:
        return f"found {cell}, which is beyond the range of float32: correct or rescale it"
    return None


def _missing(cell: Any) -> bool:
    if isinstance(cell, str):
        return cell.strip().lower() in ("", "nan")
    return cell is None or cell != cell


def _shown(cell: Any) -> str:
    return "empty" if cell is None or cell == "" else f"{cell}"


def _place(path: Path, row: int) -> str:
    return f"{path}, data row {row + 1}"
