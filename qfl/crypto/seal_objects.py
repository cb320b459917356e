"""SEAL's objects as bytes: SEAL saves and loads through paths only, and always compresses.

What is loaded is a head that this process wrote itself, followed by coefficients of exact number
and range: nothing here lets SEAL parse framing that came from outside. SEAL 4.3 ends the process
on a crafted compressed object, which no ``except`` can stop.
"""

from __future__ import annotations

import contextlib
import os
import struct
import tempfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from qfl.crypto.rlwe_bits import Coefficients
from qfl.errors import PayloadError

if TYPE_CHECKING:
    from zstandard import ZstdDecompressor

_HEADER = 16
SEED_BYTES = 64
# A header, and the octet that names the generator.
_BEFORE_SEED = _HEADER + 1


class SealFile:
    """A file that exists in memory only, where the system has such; else a temporary one.

    Example:
        >>> with SealFile() as file:
        ...     file.write(b"ab", b"cd")
        ...     file.read()
        b'abcd'
    """

    def __init__(self) -> None:
        self._temporary = ""
        self._zstd: ZstdDecompressor | None = None
        if _in_memory():
            descriptor = os.memfd_create("qfl")
            self.path = f"/proc/self/fd/{descriptor}"
        else:
            descriptor, self.path = tempfile.mkstemp(prefix="qfl-")
            self._temporary = self.path
        self._file = open(descriptor, "r+b", buffering=0)  # noqa: SIM115  (closed by close)

    def __enter__(self) -> SealFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove it; a temporary file is overwritten first."""
        if self._temporary:
            # Keys pass through: their bytes must not be left on a disk.
            size = os.fstat(self._file.fileno()).st_size
            self._file.seek(0)
            self._file.write(bytes(size))
        self._file.close()
        if self._temporary:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._temporary)

    def write(self, *parts: bytes | memoryview, start: int = 0) -> None:
        """Put parts one after the other, from the octet ``start`` on."""
        self._file.seek(start)
        for part in parts:
            self._file.write(part)

    def read(self) -> bytes:
        """Everything."""
        self._file.seek(0)
        return self._file.read()

    def save(self, thing: Any) -> bytes:
        """What SEAL writes of an object, uncompressed and without its first header."""
        thing.save(self.path)
        saved = self.read()
        mode, body = saved[5], saved[_HEADER:]
        if mode == 1:
            return zlib.decompress(body)
        if mode == 2:
            if self._zstd is None:
                import zstandard

                self._zstd = zstandard.ZstdDecompressor()
            return self._zstd.decompress(body, max_output_size=_MOST_BYTES)
        return body


_MOST_BYTES = 2**20  # of any object here, uncompressed


@lru_cache(maxsize=1)
def _in_memory() -> bool:
    return hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd")


@dataclass(frozen=True)
class Template:
    """SEAL's bytes around the coefficients of one kind of object.

    Attributes:
        head: Everything before the coefficients, marked as not compressed.
        inner: Octets of the head that are not its first header.
        count: Number of coefficients.
        tail: What stands between the coefficients and a seed; empty where there is none.
    """

    head: bytes
    inner: int
    count: int
    tail: bytes = b""

    @staticmethod
    def of(thing: Any, count: int, seeded: bool = False) -> Template:
        """From an object of this process with ``count`` coefficients."""
        with SealFile() as file:
            body = file.save(thing)
            version = file.read()[:5]
        end = len(body) - (_BEFORE_SEED + SEED_BYTES if seeded else 0)
        inner = end - 8 * count
        head = version + b"\0\0\0" + struct.pack("<Q", _HEADER + len(body)) + body[:inner]
        tail = body[end : end + _BEFORE_SEED] if seeded else b""
        return Template(head, inner, count, tail)

    def load(
        self, thing: Any, context: Any, file: SealFile, values: Coefficients, seed: bytes = b""
    ) -> None:
        """Fill an object: ``values`` are all its coefficients, in C order, each of them checked."""
        octets = np.ascontiguousarray(values, dtype="<u8")
        if octets.size != self.count:
            raise PayloadError(f"{octets.size} coefficients were given; SEAL reads {self.count}")
        file.write(self.head, octets.data.cast("B"), self.tail, seed)
        thing.load(context, file.path)

    def values(self, body: bytes) -> Coefficients:
        """The coefficients of an object that :meth:`SealFile.save` wrote."""
        found = np.frombuffer(body, dtype="<u8", count=self.count, offset=self.inner)
        return found.astype(np.uint64, copy=False)

    @property
    def seed_place(self) -> int:
        """Where the seed begins in the file, counted from its start."""
        return len(self.head) + 8 * self.count + len(self.tail)
