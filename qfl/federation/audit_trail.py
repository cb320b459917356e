"""The file ``audit.jsonl`` of a run folder: records that are chained and signed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qfl.errors import SignatureError, StorageError
from qfl.federation.files import append_bytes, drop_torn_line
from qfl.identity.audit import AuditChain
from qfl.identity.countersigning import Head


class AuditTrail:
    """Appends records; one process at a time, which holds the run folder.

    Args:
        path: The file, made with the first record.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._chain: AuditChain | None = None
        self._size = 0

    def check(self) -> AuditChain:
        """A chain that goes on after what is there; an unfinished last line is dropped.

        Raises:
            SignatureError: What is there does not verify.
            StorageError: It cannot be read.
        """
        drop_torn_line(self.path)
        try:
            return AuditChain(self._read())
        except SignatureError as error:
            raise SignatureError(
                f"{self.path}: {error}. Nothing is appended to it: move it out of the folder and "
                "keep it; the run then begins another trail"
            ) from None

    def append(self, event: str, details: dict[str, Any]) -> None:
        """Put something on record.

        Raises:
            CryptoError: It cannot be a record, or the trail does not verify.
            StorageError: It cannot be written.
        """
        # Ctrl-C may have come between writing and taking a line. Then what is in the file is
        # checked, and a new segment follows on it.
        if self._chain is None or self._size != self._size_now():
            chain = self.check()
            size = self._size_now() + self._write(chain, chain.start())
            self._chain, self._size = chain, size
        self._size += self._write(self._chain, self._chain.line(event, details))

    def head(self) -> Head:
        """The head, for others to sign.

        Raises:
            StorageError: This process has put nothing on record yet.
        """
        if self._chain is None:
            raise StorageError(f"{self.path}: nothing was put on record that could be signed")
        return self._chain.checkpoint()

    def _write(self, chain: AuditChain, line: bytes) -> int:
        append_bytes(self.path, line)
        chain.take(line)
        return len(line)

    def _size_now(self) -> int:
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def _read(self) -> bytes:
        return read_trail(self.path) if self.path.exists() else b""


def read_trail(path: Path) -> bytes:
    """The whole file.

    Raises:
        StorageError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from None
