"""Streams: chunks as their definition has them, and memory that does not grow."""

from __future__ import annotations

import hashlib
import io
import struct
import tracemalloc
from pathlib import Path

import hypothesis.strategies as st
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings

from qfl.identity.envelope import Expected, Place
from qfl.identity.identity import Identity
from qfl.identity.opening import read_envelope
from qfl.identity.refusal import Refusal, RefusedError
from qfl.identity.registry import Registry
from qfl.identity.replay import ReplayGuard
from qfl.identity.sending import write_envelope
from qfl.identity.streaming import (
    CHUNK,
    LONGEST,
    open_chunks,
    plain_chunks,
    read_exactly,
    seal_chunks,
    sealed_length,
)

KEY = bytes(range(32))
NOW = 1_800_000_000
NODE, SERVER = Identity.create(["client"], now=NOW), Identity.create(["server"], now=NOW)
PLACE = Place("run", 1, "train")


def content(size: int) -> bytes:
    return hashlib.shake_256(b"content").digest(size)


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 7])
def test_chunks_are_aes_gcm_under_numbered_nonces(size: int) -> None:
    plain = content(size)
    pieces = [plain[at : at + CHUNK] for at in range(0, size, CHUNK)] or [b""]
    expected = [
        AESGCM(KEY).encrypt(
            bytes(7) + struct.pack(">I", at) + bytes([at == len(pieces) - 1]), piece, None
        )
        for at, piece in enumerate(pieces)
    ]
    assert list(seal_chunks(KEY, io.BytesIO(plain), size)) == expected
    assert sum(map(len, expected)) == sealed_length(size)
    assert b"".join(open_chunks(KEY, io.BytesIO(b"".join(expected)), size)) == plain
    assert b"".join(plain_chunks(io.BytesIO(plain), size)) == plain


class Dripping(io.RawIOBase):
    """A source that gives less than it is asked for, as sockets do."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self._data, self._sizes, self._at = data, sizes, 0

    def read(self, size: int = -1) -> bytes:
        drop = self._sizes[self._at % len(self._sizes)]
        self._at += 1
        part, self._data = self._data[: min(size, drop)], self._data[min(size, drop) :]
        return part


@settings(max_examples=30)
@given(st.binary(max_size=400), st.lists(st.integers(1, 50), min_size=1, max_size=5))
def test_short_reads_change_nothing(data: bytes, sizes: list[int]) -> None:
    assert read_exactly(Dripping(data, sizes), len(data)) == data  # type: ignore[arg-type]
    with pytest.raises(RefusedError, match="ends 1 bytes early"):
        read_exactly(Dripping(data, sizes), len(data) + 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("length", [-1, LONGEST + 1])
def test_lengths_that_nobody_sends_are_refused(length: int) -> None:
    for chunks in (open_chunks(KEY, io.BytesIO(), length), plain_chunks(io.BytesIO(), length)):
        with pytest.raises(RefusedError) as caught:
            list(chunks)
        assert caught.value.reason is Refusal.DAMAGED


class Nowhere(io.RawIOBase):
    """Takes everything and keeps a digest."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()

    def write(self, data: object) -> int:
        self.digest.update(data)  # type: ignore[arg-type]
        return len(data)  # type: ignore[arg-type]


@pytest.mark.parametrize("sealed", [True, False])
def test_memory_is_that_of_a_chunk(tmp_path: Path, sealed: bool) -> None:
    size = 8 << 20
    plain, message = tmp_path / "plain", tmp_path / "message"
    plain.write_bytes(content(size))
    registry = Registry({NODE.did: ["client"]})
    registry.admit([NODE.description])
    target = Nowhere()
    tracemalloc.start()
    try:
        with plain.open("rb") as source, message.open("wb") as out:
            written = write_envelope(source, out, NODE, PLACE, [SERVER.description], sealed=sealed)
        with message.open("rb") as source:
            read = read_envelope(
                source,
                target,  # type: ignore[arg-type]
                Expected(PLACE, sealed=sealed),
                registry,
                NOW,
                identity=SERVER,
                guard=ReplayGuard(),
            )
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert written == read
    assert target.digest.digest() == read.digest == hashlib.sha256(content(size)).digest()
    assert peak < 1 << 20


def test_a_message_that_was_opened_before_is_refused_before_its_content_is_read() -> None:
    registry, guard, message = Registry({NODE.did: ["client"]}), ReplayGuard(), io.BytesIO()
    registry.admit([NODE.description])
    write_envelope(io.BytesIO(b"update"), message, NODE, PLACE, [SERVER.description])

    def read(target: io.BytesIO) -> None:
        message.seek(0)
        read_envelope(message, target, Expected(PLACE), registry, NOW, identity=SERVER, guard=guard)

    first, second = io.BytesIO(), io.BytesIO()
    read(first)
    with pytest.raises(RefusedError) as caught:
        read(second)
    assert caught.value.reason is Refusal.REPLAYED
    assert (first.getvalue(), second.getvalue()) == (b"update", b"")


def test_a_payload_is_read_from_where_the_source_stands() -> None:
    source, out = io.BytesIO(b"skip update"), io.BytesIO()
    source.seek(5)
    head = write_envelope(source, out, NODE, PLACE, [], sealed=False)
    assert head.length == 6
    assert out.getvalue().endswith(b"update")
    assert not out.getvalue().endswith(b" update")


def test_a_source_that_shrinks_while_it_is_read_is_noticed() -> None:
    class Shrinking(io.BytesIO):
        def seek(self, at: int, whence: int = 0) -> int:
            self.truncate(3)
            return super().seek(at, whence)

    with pytest.raises(RefusedError, match="ends 3 bytes early"):
        write_envelope(Shrinking(b"update"), io.BytesIO(), NODE, PLACE, [SERVER.description])
