"""The file of a ledger: SQLite, each row chained to the one before it by SHA-256.

SQLite's rollback journal and not its write-ahead log: then the one file is the whole ledger
whenever nobody writes, and a copy of it lacks nothing. ``synchronous=EXTRA`` has an entry on the
disk, and its journal gone from the folder, before the commit returns.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from operator import index
from pathlib import Path
from typing import Any
from urllib.parse import quote

from qfl.errors import PrivacyError
from qfl.privacy.charge import Charge
from qfl.privacy.ledger_entry import Entry

FORMAT = 1
START = "0" * 64
"""What stands before the first entry's digest."""

_MARK = 0x71666C31  # "qfl1", where SQLite files name the program that they belong to
_WAIT = 120.0  # seconds for the turn of this process
_TABLE = (
    "CREATE TABLE entries (n INTEGER PRIMARY KEY, time TEXT NOT NULL, dataset TEXT NOT NULL, "
    "client TEXT NOT NULL, run TEXT NOT NULL, round INTEGER NOT NULL, attempt INTEGER NOT NULL, "
    "charge TEXT NOT NULL, digest TEXT NOT NULL)"
)
_READ = "SELECT n, time, dataset, client, run, round, attempt, charge, digest FROM entries"
_KINDS: dict[str, Callable[[Any], Any]] = {
    "mechanism": str,
    "noise_multiplier": float,
    "sample_rate": float,
    "steps": index,
    "delta": float,
    "sensitivity": float,
    "shares": index,
    "dimension": index,
}


@dataclass(frozen=True)
class Place:
    """How far a chain has been followed: number of entries, digest of the last."""

    count: int = 0
    digest: str = START


def create(path: Path) -> None:
    """Make an empty ledger, readable by its owner alone, unless one is there.

    It appears whole: another process finds either no file or a ledger.

    Raises:
        PrivacyError: The folder does not exist or cannot be written.
    """
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        try:
            with contextlib.closing(sqlite3.connect(name, isolation_level=None)) as connection:
                connection.execute("PRAGMA synchronous=EXTRA")
                connection.execute("BEGIN")
                connection.execute(f"PRAGMA application_id={_MARK}")
                connection.execute(f"PRAGMA user_version={FORMAT}")
                connection.execute(_TABLE)
                connection.execute("COMMIT")
            # Unlike a rename this fails where another process was first.
            with contextlib.suppress(FileExistsError):
                os.link(name, path)
        finally:
            os.unlink(name)
    except OSError as error:
        raise PrivacyError(
            f"cannot make a ledger in {path.parent}: {error.strerror}; choose a folder that exists "
            "and can be written"
        ) from None
    except sqlite3.Error as error:
        raise _refusal(path, error) from None


@contextlib.contextmanager
def connected(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection for one task; what is not committed when it ends is undone.

    Keeping none open costs 0.2 ms a time and lets ledgers cross threads, forks and pickles.

    Raises:
        PrivacyError: There is no file, it is no ledger, or SQLite cannot read or write it.
    """
    if path.is_dir():
        raise PrivacyError(f"ledger {path} is a folder: name a file in it")
    address = f"file:{quote(str(path))}?mode=rw"
    try:
        with contextlib.closing(
            sqlite3.connect(address, uri=True, isolation_level=None, timeout=_WAIT)
        ) as connection:
            # A damaged text is to be found by its digest, not by the decoder.
            connection.text_factory = _text
            connection.execute("PRAGMA journal_mode=DELETE")
            connection.execute("PRAGMA synchronous=EXTRA")
            _refuse_other_formats(path, connection)
            yield connection
    except sqlite3.Error as error:
        raise _refusal(path, error) from None
    except UnicodeDecodeError:  # what SQLite says of a broken table holds the bytes that broke it
        raise damaged(path, None, "its tables are not those of a ledger") from None


def follow(
    path: Path, connection: sqlite3.Connection, place: Place
) -> Iterator[tuple[Entry, Place]]:
    """Entries after a place, each checked before it is given out.

    Raises:
        PrivacyError: An entry was changed, dropped, put in or moved.
    """
    # The entry at the place itself is read again: it may have gone since, or the file with it.
    first = place.count or -(2**63)
    rows = connection.execute(f"{_READ} WHERE n >= ? ORDER BY n", (first,))
    if place.count:
        row = rows.fetchone()
        if row is None or (row[0], row[-1]) != (place.count, place.digest):
            raise damaged(path, place.count, "it is no longer the entry that was read before")
    for *values, digest in rows:
        number = place.count + 1
        if values[0] != number or digest != digest_of(place.digest, values):
            raise damaged(path, number, "its digest does not follow from the entry before")
        place = Place(number, digest)
        yield _entry(path, values), place


def inspect(path: Path, connection: sqlite3.Connection) -> None:
    """Have SQLite check the pages of the file.

    Raises:
        PrivacyError: They do not hold together.
    """
    (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if said != "ok":
        raise damaged(path, None, " ".join(str(said).split()))


def append(connection: sqlite3.Connection, place: Place, entry: Entry, charge: str) -> Place:
    """Add an entry after the last one, inside the caller's transaction."""
    values = [place.count + 1, entry.time, entry.dataset, entry.client, entry.run,
              index(entry.round), index(entry.attempt), charge]  # fmt: skip
    digest = digest_of(place.digest, values)
    connection.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", [*values, digest])
    return Place(place.count + 1, digest)


def digest_of(previous: str, values: Sequence[object]) -> str:
    """SHA-256 over the digest before and an entry's columns, as JSON."""
    # What is no text or number has no place in a ledger; its repr cannot match.
    text = json.dumps([previous, *values], separators=(",", ":"), default=repr)
    return hashlib.sha256(text.encode()).hexdigest()


def charge_text(charge: Charge) -> str:
    """A charge as JSON, the same for equal charges.

    >>> charge_text(Charge("gaussian", 1))[:45]
    '{"mechanism":"gaussian","noise_multiplier":1.'
    """
    # A field that is not listed is a new format; it must not be left out unnoticed.
    values = {
        field.name: _KINDS[field.name](getattr(charge, field.name)) for field in fields(charge)
    }
    return json.dumps(values, separators=(",", ":"))


@lru_cache(maxsize=4096)
def charge_from(text: str) -> Charge:
    """The charge that was written."""
    return Charge(**json.loads(text))


def damaged(path: Path, number: int | None, reason: str) -> PrivacyError:
    """What to say of a ledger that does not hold together."""
    where = "" if number is None else f" at entry {number}"
    return PrivacyError(
        f"ledger {path} is damaged{where} ({reason}): restore it from a backup; a ledger that "
        "cannot be trusted pays for nothing"
    )


def _entry(path: Path, values: list[Any]) -> Entry:
    number, time, dataset, client, run, round, attempt, charge = values
    try:
        return Entry(dataset, client, run, round, attempt, charge_from(charge), time)
    except (PrivacyError, TypeError, ValueError) as error:
        raise damaged(path, number, f"it cannot be read: {error}") from None


def _text(raw: bytes) -> str:
    return raw.decode(errors="surrogateescape")


def _refuse_other_formats(path: Path, connection: sqlite3.Connection) -> None:
    (mark,) = connection.execute("PRAGMA application_id").fetchone()
    if mark != _MARK:
        raise PrivacyError(
            f"{path} is no ledger: it is empty or another program's database; name another file, "
            "or restore the ledger from a backup"
        )
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version != FORMAT:
        raise PrivacyError(
            f"ledger {path} has format {version} and this qfl reads format {FORMAT}: use the "
            "version of qfl that wrote it"
        )
    # A trigger or a view could rewrite what is read and written.
    tables = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
    if tables != [("table", "entries", _TABLE)]:
        raise damaged(path, None, "its tables are not those of a ledger")


def _refusal(path: Path, error: sqlite3.Error) -> PrivacyError:
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith("SQLITE_NOTADB"):
        return PrivacyError(
            f"{path} is no ledger: it is no SQLite file; name another file, or restore the ledger "
            "from a backup"
        )
    if name.startswith("SQLITE_CORRUPT"):
        return damaged(path, None, str(error))
    remedy = {
        "SQLITE_CANTOPEN": "check that it exists, and that it and its folder can be written",
        "SQLITE_READONLY": "make it and its folder writable",
        "SQLITE_FULL": "free some space",
        "SQLITE_BUSY": "another process holds it; try again when that one has ended",
        "SQLITE_IOERR": "check the disk",
    }
    for code, text in remedy.items():
        if name.startswith(code):
            return PrivacyError(f"cannot use ledger {path}: {error}; {text}")
    return PrivacyError(f"cannot use ledger {path}: {error}")
