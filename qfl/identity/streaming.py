"""Long content in chunks that can be neither reordered, dropped, repeated nor cut off.

STREAM (Hoang, Reyhanitabar, Rogaway, Vizár: Online Authenticated-Encryption and its Nonce-Reuse
Misuse-Resistance, CRYPTO 2015) over AES-256-GCM: the nonce of a chunk is seven zero bytes, the
chunk's number (4 bytes, big endian) and whether it is the last (1 byte). Zeros suffice because a
key serves one message only: keys of two messages, or of two places, have nothing in common.

Memory is that of one chunk, whatever the content's length.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from qfl.identity.refusal import Refusal, RefusedError

CHUNK = 1 << 16
TAG_BYTES = 16
LONGEST = 1 << 32
"""Most bytes of one content; far below the 2^32 chunks that nonces could number."""


def sealed_length(length: int) -> int:
    """Bytes of sealed content of so many bytes.

    Example:
        >>> sealed_length(0), sealed_length(CHUNK), sealed_length(CHUNK + 1) - CHUNK
        (16, 65552, 33)
    """
    return length + TAG_BYTES * max(1, -(-length // CHUNK))


def room_for(size: int) -> io.BytesIO:
    """A buffer of so many zeros, to be written from its start and cut where writing ends.

    One that grows as it is written moves what it holds again and again, which for a payload of
    1 MB takes longer than its encryption.

    Example:
        >>> room = room_for(8)
        >>> room.write(b"update"), room.truncate(), room.getvalue()
        (6, 6, b'update')
    """
    room = io.BytesIO()
    room.seek(max(0, size - 1))
    room.write(bytes(1))
    room.seek(0)
    return room


def seal_chunks(key: bytes, source: BinaryIO, length: int) -> Iterator[bytes]:
    """Content as sealed chunks.

    Args:
        key: 32 bytes that serve this content only.
        source: Where the content is read.
        length: How much is read; at most :data:`LONGEST`.

    Raises:
        RefusedError: The source ends early.

    Example:
        >>> import io
        >>> sealed = b"".join(seal_chunks(bytes(32), io.BytesIO(b"update"), 6))
        >>> list(open_chunks(bytes(32), io.BytesIO(sealed), 6))
        [b'update']
    """
    cipher = AESGCM(key)
    for nonce, size in _places(length):
        yield cipher.encrypt(nonce, read_exactly(source, size), None)


def open_chunks(key: bytes, source: BinaryIO, length: int) -> Iterator[bytes]:
    """The inverse of :func:`seal_chunks`.

    Each chunk is whole and in its place; whether all of them came is known once the last was read.

    Args:
        key: As it was sealed with.
        source: Where sealed chunks are read.
        length: Of the content; another one than was sealed is refused.

    Raises:
        RefusedError: The chunks are damaged, in another order, of another message, or cut off.
    """
    cipher = AESGCM(key)
    for nonce, size in _places(length):
        chunk = read_exactly(source, size + TAG_BYTES)
        try:
            yield cipher.decrypt(nonce, chunk, None)
        except InvalidTag:
            raise RefusedError(
                Refusal.DAMAGED,
                "sealed content is damaged, in another order, cut off, or of another message",
            ) from None


def plain_chunks(source: BinaryIO, length: int) -> Iterator[bytes]:
    """Content that is not sealed, in the same chunks.

    Raises:
        RefusedError: The source ends early.
    """
    for _, size in _places(length):
        yield read_exactly(source, size)


def read_exactly(source: BinaryIO, size: int) -> bytes:
    """So many bytes.

    Raises:
        RefusedError: The source ends early.
    """
    parts: list[bytes] = []
    missing = size
    while missing:
        part = source.read(missing)
        if not part:
            raise RefusedError(
                Refusal.DAMAGED, f"a message ends {missing} bytes early; it was cut off"
            )
        parts.append(part)
        missing -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _places(length: int) -> Iterator[tuple[bytes, int]]:
    if not 0 <= length <= LONGEST:
        raise RefusedError(
            Refusal.DAMAGED, f"content of {length} bytes is claimed; at most {LONGEST} are read"
        )
    last = max(0, -(-length // CHUNK) - 1)
    for number in range(last + 1):
        size = min(CHUNK, length - number * CHUNK)
        yield struct.pack(">7xIB", number, number == last), size
