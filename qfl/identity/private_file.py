"""Files that only their owner reads, and that are whole or absent."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path

from qfl.errors import StorageError
from qfl.identity.refusal import Refusal, RefusedError


def write_private(path: Path, data: bytes, *, replace: bool) -> None:
    """Write a file of mode 0600, whole or not at all.

    Args:
        path: Where; its folder must exist.
        data: What.
        replace: Whether a file that is there may be replaced.

    Raises:
        StorageError: A file is there and may not be replaced, or it cannot be written; what was
            there stays as it was.
    """
    try:
        # Made by mkstemp, it has mode 0600 from its first moment.
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(name, path)
        else:
            # Unlike a rename this fails where a file is there.
            os.link(name, path)
        sync_folder(path.parent)
    except FileExistsError:
        raise StorageError(
            f"{path} is there already and was left alone; choose another name, or ask for it to be "
            "replaced"
        ) from None
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def read_private(path: Path, at_most: int) -> bytes:
    """Read a file that nobody but its owner may read.

    Args:
        path: Where.
        at_most: Most bytes that it may have.

    Raises:
        StorageError: It cannot be read, or is no plain file.
        RefusedError: Others may read or write it, or it is too large.
    """
    try:
        # Without O_NONBLOCK, opening a pipe that nobody writes to would wait for ever.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(handle, "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise StorageError(f"{path} is no plain file")
            # Windows has no such modes.
            if os.name == "posix" and found.st_mode & 0o077:
                raise RefusedError(
                    Refusal.MODE,
                    f"{path} has mode {stat.S_IMODE(found.st_mode):04o}, so others may read or "
                    f"change it; run: chmod 600 {path}",
                )
            data = file.read(at_most + 1)
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from None
    if len(data) > at_most:
        raise RefusedError(Refusal.DAMAGED, f"{path} has more than {at_most} bytes")
    return data


def sync_folder(folder: Path) -> None:
    """Have a folder's entries on disk, where the system can."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
