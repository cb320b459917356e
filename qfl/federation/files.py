"""Files that are either whole or absent."""

from __future__ import annotations

import contextlib
import json
import math
import os
import uuid
from pathlib import Path
from typing import Any

from qfl.errors import StorageError


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write to a temporary file beside ``path``, then rename.

    Raises:
        StorageError: The disk is full or the folder not writable; ``path`` is as it was before.
    """
    raw = data.encode() if isinstance(data, str) else data
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if not isinstance(error, OSError):
            raise
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}; free some space or choose another "
            "folder with hydra.run.dir=…"
        ) from None


def write_json(path: Path, data: Any) -> None:
    """Indented JSON, atomically; NaN and infinity, which JSON has not, become null."""
    write_atomic(path, json.dumps(_finite(data), indent=2, allow_nan=False) + "\n")


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def append_line(path: Path, data: dict[str, Any]) -> None:
    """Append one JSON object as a line; see :func:`append_bytes`."""
    append_bytes(path, json.dumps(data).encode() + b"\n")


def append_bytes(path: Path, line: bytes) -> None:
    """Append a line that ends in a line break.

    Raises:
        StorageError: The disk is full or the file not writable; a part of a line is taken back.
    """
    try:
        # Unbuffered: closing a buffer writes what is left in it, after the part was taken back.
        with path.open("ab", buffering=0) as file:
            before, rest = file.tell(), line
            try:
                while rest:
                    rest = rest[file.write(rest) :]
            except OSError:
                with contextlib.suppress(OSError):
                    os.truncate(path, before)
                raise
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from None


def drop_torn_line(path: Path) -> None:
    """Remove an unfinished last line, left by a crash, so that lines can be appended again."""
    with contextlib.suppress(FileNotFoundError):
        raw = path.read_bytes()
        whole = raw[: raw.rfind(b"\n") + 1]
        if whole != raw:
            write_atomic(path, whole)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """JSON objects, one a line; a torn last line, left by a crash, is dropped.

    Raises:
        StorageError: The file cannot be read, or another line is malformed.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"cannot read {path}: {error}") from None
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(json.loads(line))
        except ValueError:
            if number < len(lines):
                raise StorageError(f"{path}, line {number}: not JSON") from None
    return found
