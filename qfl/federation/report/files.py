"""Text, JSON and YAML files, read with errors that name the file and the line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qfl.errors import StorageError


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror or error}") from error


def read_text(path: Path) -> str:
    """The text of a UTF-8 file."""
    data = _bytes(path)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise StorageError(f"{path.name}, line {line}: not UTF-8 text") from error


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file."""
    try:
        data = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise StorageError(
            f"{path.name}, line {error.lineno}: not valid JSON ({error.msg})"
        ) from error
    if not isinstance(data, dict):
        raise StorageError(f"{path.name}, line 1: must be a JSON object, not {kind_of(data)}")
    return data


def parse_yaml(path: Path, text: str) -> dict[str, Any]:
    """The mapping in a YAML text that was read from ``path``."""
    import yaml  # type: ignore[import-untyped, unused-ignore]

    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else text[: getattr(error, "position", 0)].count("\n") + 1
        what = getattr(error, "problem", None) or "a value that YAML does not allow"
        raise StorageError(f"{path.name}, line {line}: not valid YAML ({what})") from error
    if not isinstance(data, dict):
        raise StorageError(f"{path.name}, line 1: must be a mapping, not {kind_of(data)}")
    return data


def read_json_lines(path: Path, notes: list[str]) -> list[tuple[int, dict[str, Any]]]:
    """The objects of a file with their line numbers.

    A crash can tear the last line; that one is left out, with a note.
    """
    lines = [item for item in enumerate(_bytes(path).split(b"\n"), start=1) if item[1].strip()]
    records = []
    for line, data in lines:
        try:
            record = json.loads(data.decode("utf-8"))
        except ValueError as error:
            if line == lines[-1][0]:
                notes.append(
                    f"The last line of {path.name} (line {line}) is torn, as after a crash; "
                    "it was left out."
                )
                break
            raise StorageError(f"{path.name}, line {line}: not valid JSON ({error})") from error
        if not isinstance(record, dict):
            raise StorageError(
                f"{path.name}, line {line}: must be a JSON object, not {kind_of(record)}"
            )
        records.append((line, record))
    return records


def is_number(value: Any) -> bool:
    """Whether a parsed value is a number that a float can hold; booleans are not."""
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) < 2**1000
    return isinstance(value, float)


def kind_of(value: Any) -> str:
    """What a parsed value is, in words."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false"}
    return "empty" if value is None else names.get(type(value), repr(value))
