"""Whatever is done to a trail, it is found, and the first line that is not as it was is named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qfl.identity.audit import AuditChain
from qfl.identity.audit_check import examine
from qfl.identity.audit_verdict import Verdict

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner,
                                                                max_size=3),
    max_leaves=5,
)  # fmt: skip
NAMES = st.text(max_size=6).filter(
    lambda name: name not in {"time", "event", "n", "previous", "signature"}
)
# Names that only a segment's first record and countersignatures have are not for others.
EVENTS = st.tuples(
    st.text(max_size=12).filter(lambda text: text not in {"segment_started", "countersigned"}),
    st.dictionaries(NAMES, VALUES, max_size=3),
)
SEGMENTS = st.lists(st.lists(EVENTS, max_size=3), min_size=1, max_size=3)
SOME = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def trail_of(segments: list[list[tuple[str, dict[str, Any]]]]) -> list[bytes]:
    """Its lines, each with its line break."""
    lines: list[bytes] = []
    for events in segments:
        chain = AuditChain(b"".join(lines))
        lines.append(chain.start())
        chain.take(lines[-1])
        for event, details in events:
            lines.append(chain.line(event, details))
            chain.take(lines[-1])
    return lines


TRAILS = SEGMENTS.map(trail_of)


def named(data: bytes, head: str | None = None) -> int:
    """The line that is named; records before it are as many as hold."""
    verdict = examine(data, head)
    assert verdict.flaw is not None
    assert verdict.flaw.kind == "cut" or verdict.records == verdict.flaw.line - 1
    return verdict.flaw.line


def head_of(lines: list[bytes]) -> str:
    verdict: Verdict = examine(b"".join(lines))
    assert verdict.flaw is None
    return verdict.head


@SOME
@given(TRAILS)
def test_what_was_written_holds(lines: list[bytes]) -> None:
    verdict = examine(b"".join(lines))
    assert verdict.flaw is None
    assert verdict.records == len(lines)
    for line in lines:
        assert json.loads(line)["n"] <= len(lines)


@SOME
@given(TRAILS, st.data())
def test_a_byte_that_was_changed(lines: list[bytes], data: st.DataObject) -> None:
    whole = bytearray(b"".join(lines))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    line = b"".join(lines)[:at].count(b"\n") + 1
    assert named(bytes(whole)) == line


@SOME
@given(TRAILS, st.data())
def test_a_byte_that_was_put_in_or_taken_out(lines: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(lines)
    at = data.draw(st.integers(0, len(whole) - 1))
    line = whole[:at].count(b"\n") + 1
    more = data.draw(st.binary(min_size=1, max_size=1))
    if more != whole[at : at + 1]:  # else it is the same as one put in later
        assert named(whole[:at] + more + whole[at:]) == line
    if whole[at : at + 1] != whole[at + 1 : at + 2]:
        assert named(whole[:at] + whole[at + 1 :]) == line


@SOME
@given(TRAILS, st.data())
def test_a_line_that_was_dropped(lines: list[bytes], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(lines) - 1))
    # Of the last one only a head that was kept tells, unless nothing is left.
    head = head_of(lines) if at == len(lines) - 1 else None
    assert named(b"".join(lines[:at] + lines[at + 1 :]), head) == at + 1


@SOME
@given(TRAILS.filter(lambda lines: len(lines) > 1), st.data())
def test_two_lines_that_changed_places(lines: list[bytes], data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(lines) - 2))
    second = data.draw(st.integers(first + 1, len(lines) - 1))
    lines = [*lines]
    lines[first], lines[second] = lines[second], lines[first]
    assert named(b"".join(lines)) == first + 1


@SOME
@given(TRAILS, st.data())
def test_a_line_that_was_repeated_anywhere(lines: list[bytes], data: st.DataObject) -> None:
    which = data.draw(st.integers(0, len(lines) - 1))
    to = data.draw(st.integers(0, len(lines)))
    # In its own place it is itself; then its old place holds the repetition.
    expected = to + 2 if to == which else to + 1
    assert named(b"".join([*lines[:to], lines[which], *lines[to:]])) == expected


@SOME
@given(TRAILS, st.data())
def test_a_trail_that_was_cut_off(lines: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(lines)
    left = whole[: data.draw(st.integers(0, len(whole) - 1))]
    assert named(left, head_of(lines)) == left.count(b"\n") + 1
    torn = not left.endswith(b"\n") and left != b""
    verdict = examine(left)
    assert (verdict.flaw is not None and verdict.flaw.kind == "torn") == torn


@SOME
@given(TRAILS, st.binary(min_size=1, max_size=40))
def test_what_was_appended(lines: list[bytes], garbage: bytes) -> None:
    assert named(b"".join(lines) + garbage) == len(lines) + 1


@SOME
@given(TRAILS, TRAILS, st.data())
def test_a_line_of_another_trail(
    lines: list[bytes], others: list[bytes], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(lines)))
    other = data.draw(st.sampled_from(others))
    # Another trail's first line can begin a trail; then the next line is not of it.
    begins = at == 0 and json.loads(other)["n"] == 1
    assert named(b"".join([*lines[:at], other, *lines[at:]])) == (2 if begins else at + 1)
    replaced = b"".join([*lines[:at], other, *lines[at + 1 :]])
    if begins:
        assert named(replaced, head_of(lines)) == 2
    else:
        assert named(replaced) == at + 1


@SOME
@given(TRAILS, TRAILS, st.data())
def test_a_head_that_was_kept(lines: list[bytes], others: list[bytes], data: st.DataObject) -> None:
    seen = data.draw(st.integers(1, len(lines)))
    head, whole = head_of(lines[:seen]), b"".join(lines)
    verdict = examine(whole, head)
    assert (verdict.flaw, verdict.known) == (None, seen)
    anew = examine(b"".join(others), head)
    assert anew.flaw is not None
    assert (anew.flaw.kind, anew.flaw.line, anew.known) == ("cut", len(others) + 1, None)


@pytest.mark.parametrize(
    "deep", [b"[" * 100_000, b'{"n":' * 100_000, b'{"n":' + b"9" * 5000 + b"}"]
)
def test_lines_made_to_break_the_reader(deep: bytes) -> None:
    lines = trail_of([[]])
    assert named(lines[0] + deep + b"\n") == 2
