"""Malformed bytes, whoever sends them: refused by an error of ours, or harmful to nobody else.

A receiver of :mod:`receivers` and its siblings says what it did with a message after checking what
must hold then: a contribution that is taken spoils no sum but by its own share, or the opening is
refused. Here they get messages by the ten thousand, in a process of their own, and then those by
which a particular line of code could fall.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from bombard import SCHEMES, everybody, sent
from hypothesis import given, settings
from malformed_arrays import npy, read_array
from mutations import LARGE
from receivers import ROUND, RUN, SUMS, OneRun

from qfl.crypto import Committee, Header, MemberKeys, Plain, Roster, open_box, pack, unpack
from qfl.crypto.agreement import Request, Statement
from qfl.crypto.masking_state import ClientState
from qfl.crypto.masking_wire import frame, unpack_advertisements
from qfl.errors import CryptoError

BOMBARD = Path(__file__).parent / "bombard.py"
SLOWEST_SECONDS, MOST_BYTES = 5.0, 2**26


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited as Linux does")
@pytest.mark.parametrize("scheme", SCHEMES)
def test_ten_thousand_malformed_messages_harm_nobody(scheme: str) -> None:
    arguments = [sys.executable, str(BOMBARD), scheme, "10000", "7"]
    ran = subprocess.run(arguments, capture_output=True, text=True, timeout=200)
    assert ran.returncode == 0, ran.stderr[-3000:]
    found = json.loads(ran.stdout)
    assert not found["failures"], "\n".join(f"{k}: {v}" for k, v in found["failures"].items())
    assert sum(sum(counts.values()) for counts in found["became"].values()) == 10_000
    assert all(counts.get("refused") for counts in found["became"].values())
    assert found["slowest"][0] < SLOWEST_SECONDS, found["slowest"]
    assert found["grown_bytes"] < MOST_BYTES


edits = st.lists(
    st.tuples(
        st.sampled_from(("put", "insert", "remove")),
        st.floats(0, 1),
        st.binary(min_size=1, max_size=9),
    ),
    min_size=1,
    max_size=5,
)


def edited(data: bytes, changes: list[tuple[str, float, bytes]]) -> bytes:
    for way, place, piece in changes:
        at = int(place * len(data))
        kept = at + (0 if way == "insert" else len(piece))
        data = data[:at] + (b"" if way == "remove" else piece) + data[kept:]
    return data


receivers = lru_cache(everybody)


@pytest.mark.parametrize("scheme", SCHEMES)
@settings(max_examples=200, deadline=None)
@given(number=st.integers(0, 999), changes=edits, noise=st.binary(max_size=80))
def test_any_edit_of_any_message_harms_nobody(
    scheme: str, number: int, changes: list[tuple[str, float, bytes]], noise: bytes
) -> None:
    receiver = receivers(scheme)[number % len(receivers(scheme))]
    good, _ = receiver.samples
    for message in (edited(good, changes), noise, good[:8] + noise):
        sent(receiver, message)


KEYS = MemberKeys()
SIZES = [*LARGE[4:], 10**300]


@lru_cache
def run_of(scheme: str, trust: str) -> OneRun:
    return OneRun(scheme, trust)


def asked_for(scheme: str, trust: str, length: int) -> Any:
    """A key holder is asked to open a sum of so many values in 64 bytes."""
    run = run_of(scheme, trust)
    header = Header(scheme, run.keys.key_id, RUN, ROUND, "train", length, 3)
    return run.holder().open(pack(header, bytes(64)))


CLAIMS: dict[str, Callable[[int], Any]] = {
    "a header": lambda n: unpack(b"qfl1" + struct.pack("<I", min(n, 2**32 - 1)) + b"{}"),
    "a ckks sum": lambda n: asked_for("ckks", "shared", n),
    "a packed sum": lambda n: asked_for("packed", "key_holder", n),
    "a plain sum": lambda n: Plain(SUMS).open(bytes(64), n, b""),
    "a masked sum": lambda n: run_of("hybrid", "shared").scheme.finish(
        np.zeros(2048, np.int64), bytes(64), n
    ),
    "keys of a sum": lambda n: run_of("hybrid", "shared").scheme.open(
        struct.pack("<4sIH", b"qhr1", n % 2**32, 9), 5, b"qhk1" + bytes(32)
    ),
    "a roster": lambda n: Roster.from_bytes(b"qflr" + struct.pack("<I", n % 2**32 or 99_999)),
    "a committee": lambda n: Committee.from_bytes(
        b"qflc" + struct.pack("<I", n % 2**32) + b"qflr" + struct.pack("<I", 99_999)
    ),
    "a box": lambda n: open_box(b"qflg" + struct.pack("<I", n % 2**32 or 7), KEYS, b""),
    "a statement": lambda n: Statement.from_bytes(
        struct.pack("<4s32sIH", b"qfls", bytes(32), n % 2**32 or 7, n % 2**16)
    ),
    "a request": lambda n: Request.from_bytes(
        struct.pack("<4sIHI", b"qflq", n % 2**32 or 7, n % 2**16, n % 2**32), 3
    ),
    "advertisements": lambda n: unpack_advertisements(
        frame("advertisements", struct.pack("<III", n % 2**32 or 7, 2, 2))
    ),
    "a kept state": lambda n: ClientState.from_bytes(
        frame("state", struct.pack("<I", n % 2**32 or 7))
    ),
    "an array": lambda n: read_array(npy(f"({n},)")),
    "an array of texts": lambda n: read_array(npy("(2,)", f"<U{min(n, 2**29 - 1)}")),
}


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"2^{size.bit_length() - 1}")
@pytest.mark.parametrize("what", CLAIMS)
def test_a_size_that_is_claimed_is_not_allocated(what: str, size: int) -> None:
    with pytest.raises(CryptoError):  # what is made once for each set of parameters is made here
        CLAIMS[what](size)
    tracemalloc.start()
    try:
        with pytest.raises(CryptoError):
            CLAIMS[what](size)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
