"""The envelope: what was packed comes back; anything else is refused."""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, replace
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from qfl.crypto import Header, expect, pack, unpack
from qfl.errors import PayloadError

HEADER = Header("ckks", "0123456789abcdef", "run-7", 3, "train", 658)
words = st.text(max_size=40)
counts = st.integers(0, 2**53)
headers = st.builds(Header, words, words, words, counts, words, counts, counts)


def raw(header: bytes, body: bytes = b"") -> bytes:
    return b"qfl1" + struct.pack("<I", len(header)) + header + body


def with_fields(**changes: Any) -> bytes:
    values = json.loads(pack(HEADER, b"")[8:])
    values.update(changes)
    return raw(json.dumps(values, sort_keys=True).encode())


@given(header=headers, body=st.binary(max_size=300))
def test_what_was_packed_comes_back(header: Header, body: bytes) -> None:
    assert unpack(pack(header, body)) == (header, body)


def test_every_changed_byte_is_refused() -> None:
    payload = pack(HEADER, bytes(range(40)))
    accepted = []
    for place in range(len(payload)):
        for value in range(256):
            if value == payload[place]:
                continue
            try:
                unpack(payload[:place] + bytes([value]) + payload[place + 1 :])
            except PayloadError:
                continue
            accepted.append((place, value))
    assert accepted == []


def test_every_truncation_is_refused() -> None:
    payload = pack(HEADER, b"some body")
    for size in range(len(payload)):
        with pytest.raises(PayloadError):
            unpack(payload[:size])


@given(extra=st.binary(min_size=1, max_size=20))
def test_appended_bytes_are_refused(extra: bytes) -> None:
    with pytest.raises(PayloadError, match="damaged: its digest does not match"):
        unpack(pack(HEADER, b"body") + extra)


@given(data=st.binary(max_size=400))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    for payload in (data, b"qfl1" + data, raw(data)):
        with pytest.raises(PayloadError):
            unpack(payload)


@pytest.mark.parametrize("data", [b"", b"qfl", b"qfl1", b"qfl1\0\0\0", b"PK\x03\x04 and more"])
def test_what_is_no_payload_is_named(data: bytes) -> None:
    with pytest.raises(PayloadError, match=r"not a qfl payload: it starts with .* protect mod\?"):
        unpack(data)


@pytest.mark.parametrize("size", [4097, 2**31, 2**32 - 1])
def test_a_header_too_large_is_refused_unread(size: int) -> None:
    with pytest.raises(PayloadError, match=rf"payload of 5008 bytes claims a header of {size}"):
        unpack(b"qfl1" + struct.pack("<I", size) + b" " * 5000)


def test_a_header_longer_than_the_payload_is_refused() -> None:
    with pytest.raises(PayloadError, match="payload of 10 bytes claims a header of 3 bytes"):
        unpack(b"qfl1" + struct.pack("<I", 3) + b"{}")


def test_a_header_that_nobody_would_read_is_not_packed() -> None:
    with pytest.raises(PayloadError, match=r"payload header has \d+ bytes; at most 4096"):
        pack(replace(HEADER, run="x" * 4096), b"")


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"null",
        b"7",
        b'"text"',
        b"[]",
        b"{}",
        b"{",
        b"\xff\xfe",
        b"\x00" * 8,
        b'{"digest": "x"}',
        b"[" * 4000,
        b'{"digest":' * 400,
        b'{"digest": "", "scheme": ' + b"9" * 4000 + b"}",
        json.dumps({**asdict(HEADER), "digest": "x", "unknown": 1}).encode(),
        json.dumps({**asdict(HEADER)}).encode(),
    ],
)
def test_headers_of_wrong_form_are_refused(header: bytes) -> None:
    with pytest.raises(PayloadError, match="header cannot be read"):
        unpack(raw(header))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"round": "3"}, "round='3', expected int"),
        ({"round": True}, "round=True, expected int"),
        ({"round": 3.0}, "round=3.0, expected int"),
        ({"length": None}, "length=None, expected int"),
        ({"scheme": 5}, "scheme=5, expected str"),
        ({"run": ["a"]}, r"run=\['a'\], expected str"),
        ({"step": {}}, r"step=\{\}, expected str"),
        ({"round": -1}, "a number round below 0 or above"),
        ({"length": -1}, "a number length below 0 or above"),
        ({"contributions": -2}, "a number contributions below 0 or above"),
        ({"digest": 5}, "damaged"),
        ({"digest": None}, "damaged"),
        ({"digest": "\ud800"}, "damaged"),
        ({"digest": ""}, "damaged"),
        ({"round": 4}, "damaged"),
    ],
)
def test_fields_of_wrong_type_or_value_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(PayloadError, match=words):
        unpack(with_fields(**changes))


def test_the_same_header_written_in_another_way_is_refused() -> None:
    values = json.loads(pack(HEADER, b"")[8:])
    assert unpack(raw(json.dumps(values, sort_keys=True).encode())) == (HEADER, b"")
    for text in (
        json.dumps(values, sort_keys=True, separators=(",", ":")),
        json.dumps(dict(reversed(values.items()))),
        json.dumps(values, sort_keys=True) + " ",
        json.dumps(values, sort_keys=True).replace('"round": 3', '"round": 9, "round": 3'),
    ):
        with pytest.raises(PayloadError, match="damaged"):
            unpack(raw(text.encode()))


def test_expect_accepts_what_belongs_here() -> None:
    expect(HEADER, HEADER)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scheme", "plain"),
        ("key_id", "ffff"),
        ("run", "run-8"),
        ("round", 4),
        ("step", "evaluate"),
        ("length", 659),
        ("contributions", 2),
    ],
)
def test_expect_names_the_field_and_both_sides(field: str, value: Any) -> None:
    ours = getattr(HEADER, field)
    with pytest.raises(PayloadError) as refusal:
        expect(replace(HEADER, **{field: value}), HEADER)
    assert f"it has {field}={value!r}, this step expects {field}={ours!r}" in str(refusal.value)


def test_expect_names_the_first_of_several_differences() -> None:
    with pytest.raises(PayloadError, match="it has run='other', this step expects run='run-7'"):
        expect(replace(HEADER, run="other", round=9, length=1), HEADER)
