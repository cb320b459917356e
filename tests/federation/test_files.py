"""Files are whole or absent, whatever the disk does."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from qfl.errors import StorageError
from qfl.federation import files
from qfl.federation.files import append_line, drop_torn_line, read_lines, write_atomic, write_json


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """The kernel refuses to let a file grow past ``size``, after writing what fits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_bytes_and_text_are_written_and_folders_made(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a" / "b" / "text", "naïve\n")
    write_atomic(tmp_path / "raw", b"\x00\xff")
    assert (tmp_path / "a" / "b" / "text").read_bytes() == "naïve\n".encode()
    assert (tmp_path / "raw").read_bytes() == b"\x00\xff"


def test_an_old_file_is_replaced_and_nothing_else_left(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_atomic(file, "a long first content")
    write_atomic(file, "short")
    assert file.read_text() == "short"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_the_users_umask_decides_who_may_read(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_atomic(tmp_path / "file", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~mask


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_full_disk_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    file = tmp_path / "file"
    write_atomic(file, "old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, call, full)
    with pytest.raises(StorageError, match=r"cannot write .*file: No space left .*hydra.run.dir=…"):
        write_atomic(file, "new")
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_write_that_the_kernel_cuts_short_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_atomic(file, "old")
    with largest_file(1000), pytest.raises(StorageError, match="File too large"):
        write_atomic(file, b"x" * 5000)
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_an_interrupted_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    write_atomic(file, "old")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(file, "new")
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    write_atomic(tmp_path / "file", "x")
    with pytest.raises(StorageError, match="cannot write"):
        write_atomic(tmp_path / "file" / "below", "y")
    with pytest.raises(StorageError, match="cannot write"):
        append_line(tmp_path / "file" / "below", {})


def test_a_torn_append_is_taken_back(tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    append_line(file, {"n": 1})
    before = file.read_bytes()
    with largest_file(len(before) + 10), pytest.raises(StorageError, match="cannot write"):
        append_line(file, {"n": "x" * 100})
    assert file.read_bytes() == before
    append_line(file, {"n": 2})
    assert read_lines(file) == [{"n": 1}, {"n": 2}]


def test_a_torn_last_line_is_dropped_and_any_other_refused(tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    file.write_text('{"n": 1}\n{"n": 2}\n{"n"')
    assert read_lines(file) == [{"n": 1}, {"n": 2}]
    file.write_text('{"n": 1}\n{"n"\n{"n": 3}\n')
    with pytest.raises(StorageError, match=r"lines.jsonl, line 2: not JSON"):
        read_lines(file)


def test_lines_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot read"):
        read_lines(tmp_path / "none")
    (tmp_path / "raw").write_bytes(b"\xff\xfe\n")
    with pytest.raises(StorageError, match="cannot read"):
        read_lines(tmp_path / "raw")


def test_json_has_no_nan_so_it_becomes_null(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": math.nan, "b": [math.inf, 1.5, "nan"], "c": (-math.inf,)})
    assert json.loads((tmp_path / "a.json").read_text()) == {
        "a": None,
        "b": [None, 1.5, "nan"],
        "c": [None],
    }


def test_an_unfinished_last_line_can_be_dropped(tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    drop_torn_line(file)
    assert not file.exists()
    for content, kept in (
        (b'{"n": 1}\n{"n', b'{"n": 1}\n'),
        (b'{"n": 1}\n', b'{"n": 1}\n'),
        (b"{", b""),
    ):
        file.write_bytes(content)
        drop_torn_line(file)
        assert file.read_bytes() == kept
