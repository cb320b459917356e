from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qfl.conf.schema import DatasetConfig, PartitionConfig
from qfl.data import Dataset, load_dataset, partition
from qfl.errors import ConfigError, DataError, MissingDependencyError

ROWS = [(i / 4, 10 - i, "yes" if i % 3 else "no") for i in range(12)]


def _csv(path: Path, rows: Sequence[tuple[object, ...]] = ROWS, header: str = "a,b,label") -> Path:
    lines = [header, *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _load(path: Path, target: str | None = "label", **values: object) -> Dataset:
    kind = values.pop("name", path.suffix.lstrip(".") or "csv")
    config = DatasetConfig(name=str(kind), path=str(path), target=target, **values)  # type: ignore[arg-type]
    return load_dataset(config, 0)


def _rows(dataset: Dataset) -> list[tuple[float, ...]]:
    x = np.concatenate([dataset.train.x, dataset.test.x])
    y = np.concatenate([dataset.train.y, dataset.test.y])
    return sorted((*map(float, row), float(label)) for row, label in zip(x, y, strict=True))


EXPECTED = sorted((i / 4, 10.0 - i, float(bool(i % 3))) for i in range(12))


def _write(path: Path) -> Path:
    columns = {name: [row[j] for row in ROWS] for j, name in enumerate(("a", "b", "label"))}
    if path.suffix == ".csv":
        return _csv(path)
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
    else:
        x = np.array([row[:2] for row in ROWS])
        np.savez(path, measured=x, label=np.array(columns["label"]))
    return path


@pytest.mark.parametrize("suffix", ["csv", "parquet", "npz"])
def test_every_format_gives_the_same_examples(tmp_path: Path, suffix: str) -> None:
    dataset = _load(_write(tmp_path / f"data.{suffix}"), test_fraction=0.25)
    assert _rows(dataset) == EXPECTED
    assert dataset.classes == ("no", "yes")
    assert (len(dataset.train), len(dataset.test)) == (9, 3)
    assert np.bincount(dataset.test.y).tolist() == [1, 2]
    assert dataset.train.x.dtype == np.float32
    assert dataset.train.y.dtype == np.int64
    assert dataset.files is None
    assert dataset.public_range is None


@pytest.mark.parametrize("suffix", ["csv", "parquet", "npz"])
def test_a_folder_has_one_client_per_file(tmp_path: Path, suffix: str) -> None:
    for name in ("b", "a", "c"):
        _write(tmp_path / f"{name}.{suffix}")
    (tmp_path / "README.md").write_text("not data")
    dataset = _load(tmp_path, name=suffix, test_fraction=0.25)
    assert dataset.files is not None
    assert [len(indices) for indices in dataset.files] == [9, 9, 9]
    assert np.concatenate(dataset.files).tolist() == list(range(27))
    assert len(dataset.test) == 9
    parts = partition(PartitionConfig(name="files"), dataset, 3, 0)
    assert [part.tolist() for part in parts] == [f.tolist() for f in dataset.files]


def test_files_are_sorted_by_name_and_tested_in_the_same_fraction(tmp_path: Path) -> None:
    _csv(tmp_path / "2.csv", [(2, i, i % 2) for i in range(20)])
    _csv(tmp_path / "1.csv", [(1, i, i % 2) for i in range(10)])
    dataset = _load(tmp_path, test_fraction=0.2)
    assert dataset.files is not None
    assert [len(indices) for indices in dataset.files] == [8, 16]
    assert set(dataset.train.take(dataset.files[0]).x[:, 0]) == {1.0}
    assert np.bincount(dataset.test.x[:, 0].astype(int)).tolist() == [0, 2, 4]


def test_a_file_of_one_row_is_all_training(tmp_path: Path) -> None:
    _csv(tmp_path / "1.csv", [(1, 1, "x")])
    _csv(tmp_path / "2.csv", [(2, i, "xy"[i % 2]) for i in range(10)])
    dataset = _load(tmp_path)
    assert dataset.files is not None
    assert [len(indices) for indices in dataset.files] == [1, 8]


def test_only_files_of_one_row_leave_no_test_set(tmp_path: Path) -> None:
    _csv(tmp_path / "1.csv", [(1, 1, "x")])
    _csv(tmp_path / "2.csv", [(1, 1, "y")])
    with pytest.raises(DataError, match="2 files with one row each leave nothing for a test"):
        _load(tmp_path)


def test_classes_are_counted_over_all_files(tmp_path: Path) -> None:
    _csv(tmp_path / "1.csv", [(1, i, "dog") for i in range(4)])
    _csv(tmp_path / "2.csv", [(2, i, "cat") for i in range(4)])
    dataset = _load(tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert set(dataset.train.y[dataset.train.x[:, 0] == 1]) == {1}


def test_whole_numbers_sort_as_numbers(tmp_path: Path) -> None:
    dataset = _load(_csv(tmp_path / "d.csv", [(i, i, (10, 9, -1)[i % 3]) for i in range(12)]))
    assert dataset.classes == ("-1", "9", "10")


def test_regression(tmp_path: Path) -> None:
    path = _csv(tmp_path / "d.csv", [(i, 2 * i, i / 8) for i in range(10)])
    dataset = _load(path, task="regression")
    assert dataset.train.y.dtype == np.float32
    assert dataset.classes == ()
    assert _rows(dataset) == [(i, 2.0 * i, i / 8) for i in range(10)]


def test_what_spreadsheets_write_is_read(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    text = "\ufeffa, b ,label\r\n" + "".join(f'"{i}", {i} ,"x, {i % 2}"\r\n' for i in range(6))
    path.write_bytes((text + "\r\n").encode())
    dataset = _load(path)
    assert dataset.classes == ("x, 0", "x, 1")
    assert sorted(np.concatenate([dataset.train.x, dataset.test.x])[:, 0]) == list(range(6))


def test_npz_with_arrays_named_x_and_y(tmp_path: Path) -> None:
    x, y = np.arange(20.0).reshape(10, 2), np.arange(10) % 2
    np.savez(tmp_path / "d.npz", x=x, y=y, extra=np.zeros((10, 3)))
    dataset = _load(tmp_path / "d.npz", target="y")
    assert dataset.train.features == 2
    assert dataset.classes == ("0", "1")


def test_npz_targets_of_bytes_are_text(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", f=np.zeros((4, 1)), label=np.array([b"u", b"v"] * 2))
    assert _load(tmp_path / "d.npz").classes == ("u", "v")


def test_a_parquet_folder_name_adds_no_column(tmp_path: Path) -> None:
    folder = tmp_path / "site=3"
    folder.mkdir()
    assert _load(_write(folder / "d.parquet")).train.features == 2


def test_same_seed_same_examples(tmp_path: Path) -> None:
    path = _write(tmp_path / "d.csv")
    assert np.array_equal(_load(path).test.x, _load(path).test.x)


# What is refused.


def _refuses(path: Path, message: str, **values: object) -> None:
    with pytest.raises(DataError, match=message):
        _load(path, **values)  # type: ignore[arg-type]


def test_a_missing_file(tmp_path: Path) -> None:
    _refuses(tmp_path / "no.csv", r"no.csv does not exist: check dataset.path")


@pytest.mark.parametrize("suffix", ["csv", "parquet", "npz"])
def test_an_empty_file(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"d.{suffix}").touch()
    _refuses(tmp_path / f"d.{suffix}", rf"d.{suffix} is empty")


def test_a_folder_without_files(tmp_path: Path) -> None:
    _refuses(tmp_path, r"holds no \.parquet files", name="parquet")


def test_a_header_alone(tmp_path: Path) -> None:
    _refuses(_csv(tmp_path / "d.csv", []), "a header and no rows")
    pq.write_table(pa.table({"a": pa.array([], pa.float64()), "label": []}), tmp_path / "d.parquet")
    _refuses(tmp_path / "d.parquet", "a header and no rows")


def test_a_missing_target_column(tmp_path: Path) -> None:
    path = _write(tmp_path / "d.csv")
    message = r"no column 'lable' \(dataset.target\); did you mean 'label'\? It has: a, b, label"
    _refuses(path, message, target="lable")


def test_cells_separated_by_semicolons(tmp_path: Path) -> None:
    path = _csv(tmp_path / "d.csv", [("1;2;x",)], header="a;b;label")
    _refuses(path, "must be separated by commas")


def test_no_features(tmp_path: Path) -> None:
    path = _csv(tmp_path / "d.csv", [("x",), ("y",)], header="label")
    _refuses(path, "no column beside the target 'label'")


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ("tall", "found 'tall' where a number belongs"),
        ("", "the cell is empty"),
        ("NaN", "the cell is NaN"),
        ("inf", "found inf, which is beyond the range of float32"),
        ("1e40", "found 1e40, which is beyond the range of float32"),
    ],
)
def test_a_cell_that_is_no_number(tmp_path: Path, cell: str, found: str) -> None:
    path = _csv(tmp_path / "d.csv", [(1, 2, "x"), (3, 4, "y"), (5, cell, "y")])
    _refuses(path, rf"d\.csv, data row 3, column 'b': {found}")


@pytest.mark.parametrize("cell", ["", "nan"])
def test_a_missing_target(tmp_path: Path, cell: str) -> None:
    path = _csv(tmp_path / "d.csv", [(1, 2, "x"), (3, 4, cell)])
    _refuses(path, r"d\.csv, data row 2, column 'label': the target is (empty|nan)")


def test_ragged_rows(tmp_path: Path) -> None:
    path = _csv(tmp_path / "d.csv", [(1, 2, "x"), (3, 4, "y", 5)])
    _refuses(path, "data row 2: 4 cells, and the header names 3 columns")
    _refuses(_csv(path, [(1, "x")]), "data row 1: 2 cells")


def test_columns_without_or_with_the_same_name(tmp_path: Path) -> None:
    path = _csv(tmp_path / "d.csv", header=",b,label")
    _refuses(path, r"column 1 \(no name\) looks like a count of the rows")
    _refuses(_csv(path, header="a,a,label"), "two columns are named 'a'")


def test_a_row_index_saved_by_pandas(tmp_path: Path) -> None:
    table = pa.table({"a": [1.0], "label": ["x"], "__index_level_0__": [7]})
    pq.write_table(table, tmp_path / "d.parquet")
    _refuses(tmp_path / "d.parquet", r"column 3 \(__index_level_0__\) looks like a count")


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_bytes(b"a,label\n1,\xff\xfe\n")
    _refuses(tmp_path / "d.csv", "is not a CSV file in UTF-8")


def test_a_broken_quote(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text('a,label\n1,"x\n')
    _refuses(tmp_path / "d.csv", "is not a CSV file")


def test_a_regression_target_of_text(tmp_path: Path) -> None:
    path = _csv(tmp_path / "d.csv", [(1, 2, 0.5), (3, 4, "high")])
    message = r"data row 2, column 'label': the target is 'high', and regression needs numbers"
    _refuses(path, message, task="regression")


def test_a_regression_target_of_infinity(tmp_path: Path) -> None:
    path = _csv(tmp_path / "d.csv", [(1, 2, "inf"), (3, 4, 1)])
    _refuses(path, "data row 1, column 'label': the target is inf", task="regression")


def test_a_classification_target_of_fractions(tmp_path: Path) -> None:
    path = _csv(tmp_path / "d.csv", [(1, 2, 1), (3, 4, 0.5)])
    _refuses(path, r"data row 2, .*found 0.5, .*set dataset.task=regression")


def test_a_classification_target_of_infinity(tmp_path: Path) -> None:
    path = _csv(tmp_path / "d.csv", [(1, 2, 1), (3, 4, "-inf")])
    _refuses(path, "data row 2, column 'label': -inf is not a class")


def test_one_class(tmp_path: Path) -> None:
    path = _csv(tmp_path / "d.csv", [(1, 2, "x"), (3, 4, "x")])
    _refuses(path, r"target 'label' has 1 class \(x\): classification needs at least 2")


def test_files_with_different_columns(tmp_path: Path) -> None:
    _csv(tmp_path / "1.csv")
    _csv(tmp_path / "2.csv", header="a,c,label")
    _refuses(tmp_path, r"1\.csv and .*2\.csv have different columns: a, b and a, c")


@pytest.mark.parametrize("missing", ["path", "target"])
def test_a_setting_that_is_not_set(tmp_path: Path, missing: str) -> None:
    config = DatasetConfig(name="csv", path=str(tmp_path), target="label")
    setattr(config, missing, None)
    with pytest.raises(ConfigError, match=rf"dataset.{missing} is not set"):
        load_dataset(config, 0)


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(tmp_path / "d.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependencyError, match=r"pip install qfl\[parquet\]"):
        _load(path)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([1.0, None, 3.0], "data row 2, column 'a': the cell is empty"),
        ([1.0, float("nan"), 3.0], "data row 2, column 'a': the cell is nan"),
        (["1", "two", "3"], "data row 2, column 'a': found 'two' where a number belongs"),
        ([[1, 2], [3, 4], [5, 6]], r"data row 1, column 'a': found \[1, 2\] where a number"),
    ],
)
def test_parquet_cells_that_are_no_numbers(
    tmp_path: Path, values: list[object], found: str
) -> None:
    pq.write_table(pa.table({"a": values, "label": ["x", "y", "x"]}), tmp_path / "d.parquet")
    _refuses(tmp_path / "d.parquet", found)


def test_a_target_of_lists(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1, 2], "label": [[1], [2]]}), tmp_path / "d.parquet")
    _refuses(tmp_path / "d.parquet", r"data row 1, column 'label': the target is \[1\]")


@pytest.mark.parametrize("suffix", ["parquet", "npz"])
def test_a_file_of_another_format(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"d.{suffix}"
    path.write_text("a,label\n1,x\n")
    _refuses(path, "is not a(n NPZ| readable Parquet) file")


def test_npz_of_objects(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", f=np.zeros((2, 1)), label=np.array(["x", None], dtype=object))
    _refuses(tmp_path / "d.npz", "array 'label' cannot be read.*Python objects are refused")


def test_a_single_array_is_no_npz(tmp_path: Path) -> None:
    with (tmp_path / "d.npz").open("wb") as file:
        np.save(file, np.zeros((2, 2)))
    _refuses(tmp_path / "d.npz", "holds a single array")


def test_npz_without_the_target(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", f=np.zeros((2, 1)), labels=np.arange(2))
    _refuses(tmp_path / "d.npz", "no array 'label'.*did you mean 'labels'")


def test_npz_without_one_array_of_features(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", f=np.zeros((2, 1)), g=np.zeros((2, 3)), label=np.arange(2))
    _refuses(tmp_path / "d.npz", r"exactly one 2-D array.*f \(2, 1\), g \(2, 3\)")
    np.savez(tmp_path / "d.npz", f=np.zeros(2), label=np.arange(2))
    _refuses(tmp_path / "d.npz", r"exactly one 2-D array.*f \(2,\)")


def test_npz_of_different_lengths(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", f=np.zeros((3, 1)), label=np.arange(2))
    _refuses(tmp_path / "d.npz", r"shape \(2,\) and features 'f' have shape \(3, 1\)")


def test_npz_features_of_text_and_complex_targets(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", f=np.array([["u"], ["v"]]), label=np.arange(2))
    _refuses(tmp_path / "d.npz", "array 'f' is of type <U1: features must be real numbers")
    np.savez(tmp_path / "d.npz", f=np.zeros((2, 1)), label=np.array([1j, 2j]))
    _refuses(tmp_path / "d.npz", "array 'label' is of type complex128")


def test_npz_features_of_nan(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", f=np.array([[1, 2], [3, np.nan]]), label=np.arange(2))
    _refuses(tmp_path / "d.npz", r"data row 2, column 'f\[:, 1\]': the cell is nan")


def test_npz_without_rows(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", f=np.zeros((0, 2)), label=np.zeros(0))
    _refuses(tmp_path / "d.npz", "no rows")
