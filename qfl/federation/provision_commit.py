"""Several files changed as one: all of them or none, whatever crashes in between.

What will change is written whole to a folder beside, and brought to the disk. One rename decides:
before it nothing has changed, after it whoever comes next finishes what is left.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from qfl.errors import StorageError
from qfl.identity.private_file import sync_folder

CHANGE = ".change"
_STAGED = ".staged-"
_LOCK = ".lock"
# Written last, so that until then it is seen that a kit is between two states.
_LAST = "manifest.cbor"


@contextlib.contextmanager
def locked(kits: Path) -> Iterator[None]:
    """Keep others from changing a folder of kits; first finish what a crash left undone.

    Raises:
        StorageError: It cannot be used.
    """
    try:
        handle = os.open(kits / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageError(f"cannot use {kits}: {error.strerror or error}") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with _told(kits):
            for leftover in kits.glob(f"{_STAGED}*"):
                shutil.rmtree(leftover)
            _finish(kits)
        yield
    finally:
        os.close(handle)


def commit(kits: Path, changes: Mapping[str, bytes]) -> None:
    """Write files, all or none; the caller holds the lock.

    Args:
        kits: The folder.
        changes: New bytes by path in it.

    Raises:
        StorageError: They cannot be written; before the rename nothing has changed.
    """
    with _told(kits):
        staged = Path(tempfile.mkdtemp(prefix=_STAGED, dir=kits))
        try:
            write_tree(staged, changes)
            os.rename(staged, kits / CHANGE)
        except BaseException:
            shutil.rmtree(staged, ignore_errors=True)
            raise
        sync_folder(kits)
        _finish(kits)


def create(folder: Path, files: Mapping[str, bytes]) -> None:
    """Make a new folder with files, whole or not at all.

    Raises:
        StorageError: Something is there already, or it cannot be written.
    """
    check_absent(folder)
    with _told(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            write_tree(staged, files)
            os.rename(staged, folder)
        except BaseException:
            shutil.rmtree(staged, ignore_errors=True)
            raise
        sync_folder(folder.parent)


def check_absent(path: Path) -> None:
    """Make sure that nothing is there but perhaps an empty folder.

    Raises:
        StorageError: Something is.
    """
    empty = path.is_dir() and not path.is_symlink() and not any(path.iterdir())
    if os.path.lexists(path) and not empty:
        raise StorageError(
            f"{path} is there already and was left alone: choose another name, or move it away"
        )


def write_tree(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files of mode 0600 into a folder, those in it of mode 0700, and onto the disk."""
    folders = {folder}
    for path, data in files.items():
        target = folder / path
        for parent in reversed(target.relative_to(folder).parents):
            (folder / parent).mkdir(mode=0o700, exist_ok=True)
            folders.add(folder / parent)
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    for one in folders:
        sync_folder(one)


def _finish(kits: Path) -> None:
    """Move what was decided to its place; done again from anywhere, it ends the same."""
    change = kits / CHANGE
    if not change.is_dir():
        return
    for entry in sorted(change.iterdir()):
        target = kits / entry.name
        if not (entry.is_dir() and target.is_dir()):
            os.replace(entry, target)
            continue
        files = [path for path in entry.rglob("*") if path.is_file()]
        for path in sorted(files, key=lambda path: (path.name == _LAST, path)):
            place = target / path.relative_to(entry)
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.replace(path, place)
            sync_folder(place.parent)
    sync_folder(kits)
    shutil.rmtree(change)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot write to {path}: {error.strerror or error}") from None
