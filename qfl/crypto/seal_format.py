"""The bytes of SEAL objects and of the protobuf messages that TenSEAL puts around them.

Only for bytes that this process wrote itself: nothing here defends against malformed ones.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

Coefficients = NDArray[np.uint64]


def split_object(seal: bytes, coefficients: int) -> tuple[bytes, Coefficients]:
    """Take apart an object that SEAL wrote.

    Args:
        seal: A serialised ciphertext or public key, compressed or not.
        coefficients: Number of 64-bit coefficients at its end.

    Returns:
        SEAL's bytes before the coefficients, marked as not compressed, and the coefficients.
        Both joined are again an object that SEAL reads.
    """
    mode, body = seal[5], seal[16:]
    if mode == 1:
        body = zlib.decompress(body)
    elif mode == 2:
        import zstandard

        body = zstandard.ZstdDecompressor().decompressobj().decompress(body)
    head = body[: -8 * coefficients]
    size = struct.pack("<Q", 16 + len(body))
    values = np.frombuffer(body, dtype="<u8", offset=len(head)).astype(np.uint64, copy=False)
    return seal[:5] + b"\0" + seal[6:8] + size + head, values


def fields_of(message: bytes) -> dict[int, Any]:
    r"""Fields of a protobuf message by number; of a repeated one the last.

    Example:
        >>> fields_of(field(1, b"abc") + b"\x10" + number(300))
        {1: b'abc', 2: 300}
    """
    found: dict[int, Any] = {}
    position = 0

    def next_number() -> int:
        nonlocal position
        value = shift = 0
        while True:
            octet = message[position]
            position += 1
            value |= (octet & 127) << shift
            shift += 7
            if octet < 128:
                return value

    while position < len(message):
        key = next_number()
        if key & 7 == 0:
            found[key >> 3] = next_number()
            continue
        size = 8 if key & 7 == 1 else next_number()
        found[key >> 3] = message[position : position + size]
        position += size
    return found


def number(value: int) -> bytes:
    """A whole number as protobuf writes it: seven bits in an octet."""
    octets = bytearray()
    while value > 127:
        octets.append(value & 127 | 128)
        value >>= 7
    return bytes([*octets, value])


def field(place: int, content: bytes) -> bytes:
    """A protobuf field of bytes."""
    return bytes([place << 3 | 2]) + number(len(content)) + content
