"""Checking an audit trail line by line: what holds, and the first line that does not."""

from __future__ import annotations

import json
from typing import Any

from qfl.crypto.signatures import verify
from qfl.errors import ConfigError, CryptoError
from qfl.identity.audit_line import (
    ALGORITHM,
    CHAIN_FIELDS,
    COUNTERSIGNED,
    FORMAT,
    RECORD_CONTEXT,
    STARTED,
    canonical,
    digest_of,
    fingerprint,
    from_text,
    header_digest,
    signed_part,
)
from qfl.identity.audit_verdict import Flaw, Segment, Verdict, Witness
from qfl.identity.countersigning import check, read_countersigned


def examine(data: bytes, head: str | None = None) -> Verdict:
    """Check a trail.

    Args:
        data: All of its file.
        head: Digest of a record that is known to have been written; the trail may have grown since.

    Example:
        >>> examine(b"").flaw.reason
        'the trail is empty: it was cut off, or nothing was ever written'
    """
    reader, flaw = _Reader(), None
    *lines, rest = data.split(b"\n")
    for number, line in enumerate(lines, 1):
        try:
            reader.take(line)
        except _BadLineError as bad:
            flaw = Flaw(number, str(bad), bad.kind)
            break
    known = reader.digests.index(head) + 1 if head in reader.digests else None
    if flaw is None:
        flaw = _end(len(lines), rest, head, known)
    return Verdict(
        run=reader.run,
        records=len(reader.digests),
        segments=tuple(reader.segments),
        head=reader.digests[-1] if reader.digests else "",
        witnesses=tuple(reader.witnesses),
        flaw=flaw,
        known=known,
    )


def _end(lines: int, rest: bytes, head: str | None, known: int | None) -> Flaw | None:
    if rest:
        return Flaw(lines + 1, "it is torn, as by a crash: its end is missing", "torn")
    if not lines:
        said = "the trail is empty: it was cut off, or nothing was ever written"
        return Flaw(1, said, "cut")
    if head is not None and known is None:
        said = (
            "no record has the digest that was given: lines at the end were cut off, or the trail "
            "was written anew"
        )
        return Flaw(lines + 1, said, "cut")
    return None


class _BadLineError(Exception):
    def __init__(self, reason: str, kind: str = "damaged") -> None:
        super().__init__(reason)
        self.kind = kind


class _Reader:
    """Follows a trail."""

    def __init__(self) -> None:
        self.run = ""
        self.digests: list[str] = []
        self.segments: list[Segment] = []
        self.witnesses: list[Witness] = []
        self._public = b""

    def take(self, line: bytes) -> None:
        """Check the next line.

        Raises:
            _BadLineError: It does not hold.
        """
        record = _parsed(line)
        if not self.digests and not {"previous", "signature"} & record.keys():
            raise _BadLineError("it is neither chained nor signed", "plain")
        if missing := [field for field in CHAIN_FIELDS if field not in record]:
            raise _BadLineError(f"it has no '{missing[0]}': it was changed or put in")
        if not _as_written(record, line):
            raise _BadLineError("it is not written as records are: it was changed")
        starts = record.get("event") == STARTED
        if not starts and not self.digests:
            raise _BadLineError(f"the trail does not begin with {STARTED}: its first line is gone")
        public = _public_key(record) if starts else self._public
        _check_signature(record, public)
        self._check_place(record)
        if starts:
            self._start(record, public)
        if record.get("event") == COUNTERSIGNED:
            self._witness(record)
        self.digests.append(digest_of(line))

    def _check_place(self, record: dict[str, Any]) -> None:
        number, expected = record["n"], len(self.digests) + 1
        if type(number) is not int or number < expected:
            raise _BadLineError(f"it is numbered {number!r:.20}: it was put in, repeated or moved")
        if number > expected:
            raise _BadLineError(
                f"it is numbered {number!r:.20}: lines before it were dropped, or it was moved"
            )
        follows = self.digests[-1] if self.digests else header_digest(record)
        if record["previous"] != follows:
            raise _BadLineError(
                "it does not follow on what stands before it: one of the two was exchanged"
            )

    def _start(self, record: dict[str, Any], public: bytes) -> None:
        run, time = record["run"], record.get("time")
        # They are shown to people, on terminals too.
        if not all(isinstance(text, str) and text.isprintable() for text in (run, time)):
            raise _BadLineError("its run or time is no printable text: it was put in")
        if run != (self.run or run):
            raise _BadLineError("it begins a segment of another run: it was put in")
        if record.get("segment") != len(self.segments) + 1:
            raise _BadLineError("it begins a segment out of turn: it was put in")
        self.run, self._public = run, public
        self.segments.append(Segment(record["n"], fingerprint(public), str(time)))

    def _witness(self, record: dict[str, Any]) -> None:
        try:
            head, signatures = read_countersigned(self.run, record)
        except (AttributeError, KeyError, TypeError, ValueError):
            raise _BadLineError("it holds no countersignatures that can be read") from None
        if not 0 < head.n <= len(self.digests) or self.digests[head.n - 1] != head.digest:
            raise _BadLineError("its countersignatures are of no head of this trail")
        for signed in signatures:
            try:
                check(head, signed)
            except (ConfigError, CryptoError):
                raise _BadLineError(
                    f"the countersignature of {signed.name!r} does not hold"
                ) from None
            self.witnesses.append(Witness(signed.name, signed.key, head.n))


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        raise _BadLineError("it is not JSON: it was changed or put in") from None
    if not isinstance(record, dict):
        raise _BadLineError("it is no JSON object: it was changed or put in")
    return record


def _as_written(record: dict[str, Any], line: bytes) -> bool:
    try:
        return canonical(record) == line
    except (ValueError, RecursionError):  # such as a number that became infinite
        return False


def _public_key(record: dict[str, Any]) -> bytes:
    """The key that a segment brings along; that it made the segment is checked by its signature."""
    if record.get("format") != FORMAT:
        raise _BadLineError(f"it has format {record.get('format')!r}; this version reads {FORMAT}")
    if record.get("algorithm") != ALGORITHM:
        raise _BadLineError(
            f"it is signed by {record.get('algorithm')!r}; {FORMAT} allows {ALGORITHM} alone"
        )
    try:
        header_digest(record)
        return from_text(record.get("public_key"))
    except (ValueError, KeyError):
        raise _BadLineError("it brings no public key: it was changed") from None


def _check_signature(record: dict[str, Any], public: bytes) -> None:
    try:
        signature = from_text(record["signature"])
        verify(ALGORITHM, public, signed_part(record), signature, RECORD_CONTEXT)
    except (ValueError, CryptoError):
        raise _BadLineError(
            "its signature does not hold: it was changed, or is of another segment"
        ) from None
