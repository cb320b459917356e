"""Heads that others signed, on the trail itself."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey

from qfl.crypto.signatures import SigningKey, generate_signing_key
from qfl.errors import ConfigError, PayloadError, SignatureError
from qfl.identity import Identity
from qfl.identity.audit import AuditChain
from qfl.identity.audit_check import examine
from qfl.identity.audit_line import fingerprint
from qfl.identity.countersigning import Countersignature, Head, check, countersign, countersigned

Change = Callable[[dict[str, Any]], object]


class Trail:
    """Lines, and the chain that they are of."""

    def __init__(self) -> None:
        self.chain, self.data = AuditChain(), b""
        self.add(self.chain.start())

    def add(self, line: bytes) -> None:
        self.chain.take(line)
        self.data += line

    def record(self, event: str, details: dict[str, Any]) -> None:
        self.add(self.chain.line(event, details))


@pytest.fixture(scope="module")
def keys() -> dict[str, SigningKey]:
    return {"clinic 1": generate_signing_key(), "clinic 2": generate_signing_key("ML-DSA-87")}


@pytest.fixture
def trail() -> Trail:
    made = Trail()
    made.record("round_finished", {"round": 1})
    return made


def sign(trail: Trail, keys: dict[str, SigningKey]) -> dict[str, Any]:
    head = trail.chain.checkpoint()
    return countersigned(head, [countersign(head, name, key) for name, key in keys.items()])


def test_countersigned_heads_are_checked_and_told(
    trail: Trail, keys: dict[str, SigningKey]
) -> None:
    details = sign(trail, keys)
    trail.record("round_finished", {"round": 2})
    trail.record("countersigned", details)
    verdict = examine(trail.data)
    assert verdict.flaw is None
    assert [(one.name, one.n, one.key) for one in verdict.witnesses] == [
        (name, 2, fingerprint(key.public)) for name, key in keys.items()
    ]


def test_a_statement_is_what_the_text_says(trail: Trail, keys: dict[str, SigningKey]) -> None:
    """Checked with cryptography alone, as docs/audit.md describes it."""
    head = trail.chain.checkpoint()
    signed = countersign(head, "clinic 1", keys["clinic 1"])
    statement = {
        "format": "qfl-audit-1",
        "run": json.loads(trail.data.splitlines()[0])["run"],
        "n": 2,
        "digest": examine(trail.data).head,
        "name": "clinic 1",
        "algorithm": "ML-DSA-65",
        "public_key": base64.b64encode(signed.public).decode(),
    }
    text = json.dumps(statement, sort_keys=True, separators=(",", ":")).encode()
    public = MLDSA65PublicKey.from_public_bytes(signed.public)
    public.verify(signed.signature, text, b"qfl audit checkpoint 1")


@pytest.mark.parametrize(
    "changes", [{"n": 1}, {"run": "other"}, {"digest": "0" * 64}], ids=["n", "run", "digest"]
)
def test_a_signature_is_over_one_head_name_and_key(
    trail: Trail, keys: dict[str, SigningKey], changes: dict[str, Any]
) -> None:
    head = trail.chain.checkpoint()
    signed = countersign(head, "clinic 1", keys["clinic 1"])
    check(head, signed)
    with pytest.raises(SignatureError):
        check(replace(head, **changes), signed)
    with pytest.raises(SignatureError):
        check(head, replace(signed, name="clinic 2"))
    with pytest.raises(SignatureError):
        check(head, replace(signed, public=generate_signing_key().public))


def test_what_does_not_hold_is_not_put_on_record(trail: Trail, keys: dict[str, SigningKey]) -> None:
    head = trail.chain.checkpoint()
    signed = countersign(head, "clinic 1", keys["clinic 1"])
    bad: list[tuple[list[Countersignature], type[Exception]]] = [
        ([], SignatureError),
        ([signed, replace(signed, name="x")], SignatureError),
        ([replace(signed, signature=signed.signature[1:])], PayloadError),
        ([replace(signed, algorithm="RSA")], ConfigError),
    ]
    for signatures, error in bad:
        with pytest.raises(error):
            countersigned(head, signatures)


def first(details: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = details["signatures"][0]
    return row


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["head"].update(n=1), "are of no head of this trail"),
        (lambda d: d["head"].update(n=0), "are of no head of this trail"),
        (lambda d: d["head"].update(n=99), "are of no head of this trail"),
        (lambda d: d["head"].update(digest="0" * 64), "are of no head of this trail"),
        (lambda d: first(d).update(name="clinic 9"), "of 'clinic 9' does not hold"),
        (lambda d: first(d).update(name="\x1b[2J"), r"of '\\x1b\[2J' does not hold"),
        (lambda d: first(d).update(algorithm="ML-DSA-87"), "of 'clinic 1' does not hold"),
        (lambda d: first(d).update(algorithm="RSA"), "of 'clinic 1' does not hold"),
        (lambda d: first(d).update(algorithm=["x"]), "no countersignatures that can be read"),
        (lambda d: first(d).update(public_key="AAAA"), "of 'clinic 1' does not hold"),
        (lambda d: first(d).update(public_key="A"), "no countersignatures that can be read"),
        (lambda d: first(d).update(signature=7), "no countersignatures that can be read"),
        (lambda d: first(d).pop("name"), "no countersignatures that can be read"),
        (lambda d: first(d).update(more=1), "no countersignatures that can be read"),
        (lambda d: d.update(signatures=[]), "no countersignatures that can be read"),
        (lambda d: d.update(signatures=[3]), "no countersignatures that can be read"),
        (lambda d: d.update(signatures=["ab"]), "no countersignatures that can be read"),
        (lambda d: d.update(head=[]), "no countersignatures that can be read"),
        (lambda d: d.update(head=3), "no countersignatures that can be read"),
        (lambda d: d["head"].update(n=2.0), "no countersignatures that can be read"),
        (lambda d: d.pop("head"), "no countersignatures that can be read"),
    ],
)
def test_countersignatures_that_the_writer_made_up_are_found(
    trail: Trail, keys: dict[str, SigningKey], change: Change, words: str
) -> None:
    """Who writes the trail can sign and chain any record, and still not speak for others."""
    details = sign(trail, keys)
    change(details)
    trail.record("countersigned", details)
    verdict = examine(trail.data)
    assert verdict.flaw is not None
    assert verdict.flaw.line == 3
    assert re.search(words, verdict.flaw.reason)


def test_a_head_is_known_again_when_the_trail_was_written_anew(
    trail: Trail, keys: dict[str, SigningKey]
) -> None:
    """The writer drops a record and signs and chains all that follow again."""
    head = trail.chain.checkpoint()
    details = sign(trail, keys)
    anew = Trail()
    anew.record("countersigned", details)
    verdict = examine(anew.data)
    assert verdict.flaw is not None and "of no head of this trail" in verdict.flaw.reason
    verdict = examine(Trail().data, head.digest)
    assert verdict.flaw is not None and verdict.flaw.kind == "cut"


def test_an_identifier_must_be_that_of_the_key() -> None:
    """Whoever signs as a node of the federation signs with that node's key."""
    one, other = Identity.create(["client"]), Identity.create(["client"])
    head = Head("run", 3, "00" * 32)
    check(head, countersign(head, one.did, one.signing))
    with pytest.raises(SignatureError, match="is the identifier of another key"):
        check(head, countersign(head, other.did, one.signing))
