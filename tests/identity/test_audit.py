"""A trail holds as it was written, and in no other form."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey

from qfl.crypto.signatures import SigningKey, generate_signing_key
from qfl.errors import CryptoError, SignatureError
from qfl.identity.audit import AuditChain
from qfl.identity.audit_check import examine
from qfl.identity.audit_line import canonical, header_digest, signed_part, to_text


def written(chain: AuditChain, *events: tuple[str, dict[str, Any]]) -> bytes:
    """A segment with these records."""
    lines = [chain.start()]
    chain.take(lines[0])
    for event, details in events:
        lines.append(chain.line(event, details))
        chain.take(lines[-1])
    return b"".join(lines)


THREE = (("run_started", {"seed": 7}), ("sum_opened", {"round": 1}), ("run_finished", {}))


def test_lines_are_what_the_format_says() -> None:
    """Worked out from the text of docs/audit.md with hashlib and cryptography alone."""
    lines = written(AuditChain(), *THREE).splitlines()
    records = [json.loads(line) for line in lines]
    first = records[0]
    header = {key: first[key] for key in ("format", "run", "algorithm", "public_key")}
    text = json.dumps(header, sort_keys=True, separators=(",", ":"))
    assert first["previous"] == hashlib.sha256(text.encode()).hexdigest()
    assert (first["event"], first["format"], first["segment"]) == (
        "segment_started", "qfl-audit-1", 1,
    )  # fmt: skip
    public = MLDSA65PublicKey.from_public_bytes(base64.b64decode(first["public_key"]))
    for number, (line, record) in enumerate(zip(lines, records, strict=True), 1):
        assert record["n"] == number
        if number > 1:
            assert record["previous"] == hashlib.sha256(lines[number - 2]).hexdigest()
        signature = base64.b64decode(record.pop("signature"))
        signed = json.dumps(record, sort_keys=True, separators=(",", ":")).encode()
        public.verify(signature, signed, b"qfl audit record 1")
        assert record["time"][4] == "-" and record["time"][-5] in "+-"
        assert len(line) < 8500
    assert [record["event"] for record in records[1:]] == [event for event, _ in THREE]
    assert records[1]["seed"] == 7


def test_a_trail_holds_and_says_how_far_it_goes() -> None:
    chain = AuditChain()
    data = written(chain, *THREE)
    verdict = examine(data)
    assert verdict.flaw is None and verdict.known is None
    assert verdict.records == 4
    assert verdict.head == hashlib.sha256(data.splitlines()[-1]).hexdigest()
    head = chain.checkpoint()
    assert (head.run, head.n, head.digest) == (verdict.run, 4, verdict.head)
    first = json.loads(data.splitlines()[0])
    (segment,) = verdict.segments
    key = hashlib.sha256(base64.b64decode(first["public_key"])).hexdigest()
    assert (segment.line, segment.key, segment.time) == (1, key, first["time"])


def test_another_process_goes_on_in_a_segment_of_its_own() -> None:
    data = written(AuditChain(), *THREE)
    data += written(AuditChain(data), ("run_resumed", {}))
    data += written(AuditChain(data))
    verdict = examine(data)
    assert verdict.flaw is None
    assert verdict.records == 7
    assert [segment.line for segment in verdict.segments] == [1, 5, 7]
    assert len({segment.key for segment in verdict.segments}) == 3
    assert {json.loads(line).get("run", verdict.run) for line in data.splitlines()} == {verdict.run}


def test_two_runs_have_names_and_keys_of_their_own() -> None:
    one, two = (examine(written(AuditChain())) for _ in range(2))
    assert one.run != two.run
    assert one.segments[0].key != two.segments[0].key


def test_a_line_that_was_not_taken_does_not_count() -> None:
    chain = AuditChain()
    data = written(chain)
    chain.line("never_written", {})
    line = chain.line("written", {})
    assert examine(data + line).flaw is None


def test_nothing_is_chained_to_what_was_changed() -> None:
    data = written(AuditChain(), *THREE).replace(b'"round":1', b'"round":2')
    with pytest.raises(SignatureError, match=r"does not verify at line 3: its signature does not"):
        AuditChain(data)
    with pytest.raises(SignatureError, match="at line 5: it is torn"):
        AuditChain(written(AuditChain(), *THREE) + b'{"event"')


@pytest.mark.parametrize("name", ["n", "previous", "signature", "time", "event"])
def test_fields_of_the_chain_are_not_to_be_given(name: str) -> None:
    chain = AuditChain()
    written(chain)
    with pytest.raises(CryptoError, match=f"'odd' has a field '{name}', which the chain fills in"):
        chain.line("odd", {name: 1})


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), b"raw", {1, 2}, 10**5000, object()],
    ids=["nan", "infinite", "bytes", "set", "huge", "object"],
)
def test_what_json_has_not_is_refused(value: object) -> None:
    chain = AuditChain()
    written(chain)
    with pytest.raises(CryptoError, match="'odd' cannot be written as JSON"):
        chain.line("odd", {"inside": [value]})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"{", b"{ "),
        (b'"run_finished"', b'"run\\u005ffinished"'),
        (b"{", b'{"n":4,'),
        (b'"n":4', b'"n":4.0'),
        (b'"n":4', b'"n":true'),
        (b'"n":4', b'"n":1e999'),
        (b'"signature":"', b'"signature":"\\n'),
        (b'","time"', b'=","time"'),
    ],
    ids=["space", "escape", "twice", "float", "true", "infinite", "break", "padding"],
)
def test_another_way_to_write_the_same_is_not_what_was_written(old: bytes, new: bytes) -> None:
    """In the last line no later digest gives it away."""
    *lines, last = written(AuditChain(), *THREE).splitlines(keepends=True)
    flaw = examine(b"".join([*lines, last.replace(old, new, 1)])).flaw
    assert flaw is not None
    assert flaw.line == 4


def forged(key: SigningKey, previous: str | None = None, **changes: Any) -> bytes:
    """The first line of a segment, by somebody who can sign as well as anybody."""
    record = {
        "format": "qfl-audit-1",
        "run": "mine",
        "segment": 1,
        "algorithm": "ML-DSA-65",
        "public_key": to_text(key.public),
        "time": "2026-03-04T05:06:07+0000",
        "event": "segment_started",
        "n": 1,
        **changes,
    }
    record = {name: value for name, value in record.items() if value is not None}
    with contextlib.suppress(KeyError):
        record["previous"] = previous or header_digest(record)
    record["signature"] = to_text(key.sign(signed_part(record), b"qfl audit record 1"))
    return canonical(record) + b"\n"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": "qfl-audit-0"}, "it has format 'qfl-audit-0'; this version reads qfl-audit-1"),
        ({"algorithm": "ML-DSA-44"}, "it is signed by 'ML-DSA-44'; qfl-audit-1 allows ML-DSA-65"),
        ({"public_key": None}, "has no 'previous'"),
        ({"public_key": None, "previous": "x"}, "it brings no public key"),
        ({"public_key": "AA="}, "it brings no public key"),
        ({"public_key": "AAAA"}, "its signature does not hold"),
        ({"run": "\x1b[2J"}, "its run or time is no printable text"),
        ({"run": 7}, "its run or time is no printable text"),
        ({"time": None}, "its run or time is no printable text"),
        ({"segment": 2}, "it begins a segment out of turn"),
        ({"previous": "0" * 64}, "it does not follow on what stands before it"),
        ({"n": 2}, "it is numbered 2"),
    ],
)
def test_a_beginning_that_was_made_up(changes: dict[str, Any], words: str) -> None:
    key = generate_signing_key()
    assert examine(forged(key)).flaw is None
    previous = changes.pop("previous", None)
    flaw = examine(forged(key, previous, **changes)).flaw
    assert flaw is not None and flaw.line == 1
    assert words in flaw.reason


def test_a_segment_of_another_run_is_no_part_of_this_one() -> None:
    data = written(AuditChain())
    head = examine(data).head
    line = forged(generate_signing_key(), head, n=2, segment=2)
    flaw = examine(data + line).flaw
    assert flaw is not None and "it begins a segment of another run" in flaw.reason


def test_keys_that_are_numbers_are_sorted_as_they_are_read() -> None:
    data = written(AuditChain(), ("counts", {"by_node": {2: 1, 10: 2, "1": (3, None, True)}}))
    assert examine(data).flaw is None
    assert json.loads(data.splitlines()[1])["by_node"] == {"2": 1, "10": 2, "1": [3, None, True]}


def test_the_key_is_in_no_line_and_no_repr() -> None:
    chain = AuditChain()
    data = written(chain, *THREE)
    secret = chain._key.secret
    for form in (secret, secret.hex().encode(), base64.b64encode(secret)):
        assert form not in data
        assert form.decode("latin-1") not in repr(chain) + repr(chain._key)
