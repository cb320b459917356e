"""Arrays in numpy's format with heads as a test likes."""

from __future__ import annotations

import struct
from typing import Any

from flwr.app import Array, ArrayRecord

from qfl.records import arrays_of


def npy(shape: str, descr: str = "<i8", data: bytes = b"") -> bytes:
    """A file of numpy's: shape and type as they are written in its head."""
    head = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"
    head += " " * (-(len(head) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(head)) + head.encode() + data


def read_array(data: bytes) -> Any:
    """As nodes and server read an array of a message."""
    return arrays_of(ArrayRecord({"data": Array("int64", (3,), "numpy.ndarray", data)}))
