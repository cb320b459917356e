"""Ledgers that were changed or broken, and places where there can be none."""

from __future__ import annotations

import errno
import os
import sqlite3
import tempfile
from collections import deque
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from qfl.errors import PrivacyError
from qfl.privacy.charge import Charge
from qfl.privacy.ledger import Budget, Entry, Ledger

LIMITLESS = Budget(epsilon=None, delta=1e-5)
COUNT = 6


def entry(round: int) -> Entry:
    return Entry(f"{round % 2}" * 64, "3", "demo", round, 0, Charge("gaussian", 1.0 + round))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    for round in range(1, COUNT + 1):
        ledger.spend(entry(round), LIMITLESS)
    return ledger.path


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize(
    ("statement", "number"),
    [
        ("UPDATE entries SET round = 9 WHERE n = 3", 3),
        ("UPDATE entries SET charge = replace(charge, '4.0', '9.0') WHERE n = 3", 3),
        ("UPDATE entries SET dataset = replace(dataset, '1', '2') WHERE n = 1", 1),
        ("UPDATE entries SET client = '4' WHERE n = 6", 6),
        ("UPDATE entries SET run = 'other' WHERE n = 6", 6),
        ("UPDATE entries SET attempt = 1 WHERE n = 5", 5),
        ("UPDATE entries SET time = '' WHERE n = 5", 5),
        ("UPDATE entries SET charge = x'ff00' WHERE n = 2", 2),
        ("UPDATE entries SET client = cast(x'ff' AS TEXT) WHERE n = 2", 2),
        ("UPDATE entries SET round = '2.5' WHERE n = 2", 2),
        ("UPDATE entries SET digest = replace(digest, 'a', 'b') WHERE n = 4", 4),
        ("DELETE FROM entries WHERE n = 3", 3),
        ("DELETE FROM entries WHERE n = 1", 1),
        ("UPDATE entries SET n = -1 WHERE n = 6", 1),
        ("UPDATE entries SET n = 8 WHERE n = 6", 6),
        ("INSERT INTO entries SELECT 7, time, dataset, client, run, round, attempt, charge, digest "
         "FROM entries WHERE n = 6", 7),
    ],
)  # fmt: skip
def test_a_changed_row_is_found(path: Path, statement: str, number: int) -> None:
    running = Ledger(path)
    change(path, statement)
    with pytest.raises(PrivacyError, match=f"is damaged at entry {number} .*pays for nothing"):
        Ledger(path)
    with pytest.raises(PrivacyError, match=f"is damaged at entry {number} "):
        running.entries()


def test_rows_that_changed_places_are_found(path: Path) -> None:
    change(
        path,
        "UPDATE entries SET n = -1 WHERE n = 2",
        "UPDATE entries SET n = 2 WHERE n = 3",
        "UPDATE entries SET n = 3 WHERE n = -1",
    )
    with pytest.raises(PrivacyError, match="is damaged at entry 2 "):
        Ledger(path)


def test_a_row_closed_up_after_a_drop_is_found(path: Path) -> None:
    change(path, "DELETE FROM entries WHERE n = 3", "UPDATE entries SET n = n - 1 WHERE n > 3")
    with pytest.raises(PrivacyError, match="is damaged at entry 3 "):
        Ledger(path)


def test_last_rows_that_went_are_seen_by_who_has_read_them_and_in_the_count(path: Path) -> None:
    running = Ledger(path)
    kept = running.place
    change(path, "DELETE FROM entries WHERE n > 4")
    with pytest.raises(PrivacyError, match=r"is damaged at entry 6 .*no longer the entry"):
        running.spend(entry(7), LIMITLESS)
    opened = Ledger(path)
    assert opened.place.digest != kept.digest
    assert (kept.count, opened.place.count) == (6, 4)


def test_a_running_ledger_finds_a_bad_row_that_was_added(path: Path) -> None:
    running = Ledger(path)
    change(path, "INSERT INTO entries VALUES (7, '', 'aa', '3', 'demo', 1, 0, '{}', 'aa')")
    with pytest.raises(PrivacyError, match="is damaged at entry 7 "):
        running.spend(entry(7), LIMITLESS)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("CREATE TRIGGER no AFTER INSERT ON entries BEGIN DELETE FROM entries; END",
         "its tables are not those of a ledger"),
        ("ALTER TABLE entries ADD COLUMN more TEXT", "its tables are not those of a ledger"),
        ("DROP TABLE entries", "its tables are not those of a ledger"),
        ("PRAGMA user_version = 2", "has format 2 and this qfl reads format 1"),
        ("PRAGMA application_id = 7", "is no ledger: it is empty or another program's database"),
    ],
)  # fmt: skip
def test_other_tables_and_formats_are_refused(path: Path, statement: str, words: str) -> None:
    change(path, statement)
    with pytest.raises(PrivacyError, match=words):
        Ledger(path)


def test_any_changed_byte_is_found_or_changes_nothing(path: Path) -> None:
    """Every byte of the header and of the row's page; what SQLite does not use may change."""
    whole = path.read_bytes()
    expected, found = Ledger(path).entries(), 0
    used = [i for i, byte in enumerate(whole) if byte or i % 4096 < 128]
    for place in used[:: max(1, len(used) // 400)]:
        path.write_bytes(bytes([*whole[:place], whole[place] ^ 0x11, *whole[place + 1 :]]))
        try:
            entries = Ledger(path).entries()
        except PrivacyError:
            found += 1
        else:
            assert entries == expected, f"byte {place}"
    assert found > 300


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty or another program's database; name another file, or restore"),
        (b"not a database, but long enough to be taken for one" * 40, "it is no SQLite file"),
    ],
)
def test_what_is_no_ledger_is_refused_and_left_alone(
    tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(content)
    with pytest.raises(PrivacyError, match=words):
        Ledger(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("length", [1, 99, 4096, 5000, 8191])
def test_a_truncated_file_is_refused(path: Path, length: int) -> None:
    assert path.stat().st_size == 8192
    os.truncate(path, length)
    with pytest.raises(PrivacyError, match=r"is no ledger|is damaged"):
        Ledger(path)


def test_a_folder_is_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(PrivacyError, match="is a folder: name a file in it"):
        Ledger(tmp_path)


def test_the_folder_must_exist(tmp_path: Path) -> None:
    with pytest.raises(PrivacyError, match="No such file or directory; choose a folder that"):
        Ledger(tmp_path / "none" / "ledger.sqlite")


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(**_: object) -> tuple[int, str]:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "mkstemp", refused)
    with pytest.raises(PrivacyError, match="Read-only file system; choose a folder"):
        Ledger(tmp_path / "ledger.sqlite")
    assert list(tmp_path.iterdir()) == []


def test_a_ledger_that_went_is_not_made_anew(path: Path) -> None:
    ledger = Ledger(path)
    path.unlink()
    with pytest.raises(PrivacyError, match=r"cannot use ledger .*check that it exists"):
        ledger.spend(entry(7), LIMITLESS)
    assert not path.exists()


@pytest.mark.parametrize(
    ("pragma", "words"),
    [("query_only=ON", "readonly database; make it and its folder writable"),
     ("max_page_count=2", "is full; free some space")],
)  # fmt: skip
def test_errors_of_the_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch, pragma: str, words: str
) -> None:
    real: Callable[..., sqlite3.Connection] = sqlite3.connect

    def connect(*arguments: object, **options: object) -> sqlite3.Connection:
        connection = real(*arguments, **options)
        connection.execute(f"PRAGMA {pragma}")
        return connection

    ledger = Ledger(path)
    monkeypatch.setattr(sqlite3, "connect", connect)
    with pytest.raises(PrivacyError, match=words):
        deque((ledger.spend(entry(round), LIMITLESS) for round in range(100)), maxlen=0)
    monkeypatch.undo()
    assert len(ledger.entries()) == ledger.count == Ledger(path).count >= COUNT
