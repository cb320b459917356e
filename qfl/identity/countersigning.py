"""The head of an audit trail, signed by others.

Whoever has signed a head can tell later whether a trail still holds it; whoever writes the trail
cannot make such a signature. That is what a trail in one folder lacks by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from qfl.crypto.signatures import SigningKey, verify
from qfl.errors import SignatureError
from qfl.identity.audit_line import (
    CHECKPOINT_CONTEXT,
    FORMAT,
    canonical,
    fingerprint,
    from_text,
    to_text,
)
from qfl.identity.description import PREFIX, did_of


@dataclass(frozen=True)
class Head:
    """How far a trail goes.

    Attributes:
        run: The trail's run.
        n: Number of the last record, from 1.
        digest: SHA-256 of the last record's line, which vouches for all before it.
    """

    run: str
    n: int
    digest: str

    def statement(self, name: str, algorithm: str, public: bytes) -> bytes:
        """What ``name`` signs who has seen this head, with the key that it signs by."""
        return canonical(
            {
                "format": FORMAT,
                "run": self.run,
                "n": self.n,
                "digest": self.digest,
                "name": name,
                "algorithm": algorithm,
                "public_key": to_text(public),
            }
        )


@dataclass(frozen=True)
class Countersignature:
    """A head was seen.

    Attributes:
        name: Who says so; the signature covers it.
        algorithm: Of the signature.
        public: The key that checks it. Whose it is, has to be known from elsewhere.
        signature: Over :meth:`Head.statement`.
    """

    name: str
    algorithm: str
    public: bytes
    signature: bytes

    @property
    def key(self) -> str:
        """Fingerprint of the public key."""
        return fingerprint(self.public)


def countersign(head: Head, name: str, key: SigningKey) -> Countersignature:
    """Sign a head.

    Example:
        >>> from qfl.crypto.signatures import generate_signing_key
        >>> head = Head("run", 3, "00" * 32)
        >>> signed = countersign(head, "clinic 2", generate_signing_key())
        >>> check(head, signed)
    """
    statement = head.statement(name, key.algorithm, key.public)
    signature = key.sign(statement, CHECKPOINT_CONTEXT)
    return Countersignature(name, key.algorithm, key.public, signature)


def check(head: Head, signed: Countersignature) -> None:
    """Check a countersignature against the key that it names, and the name against the key.

    Raises:
        SignatureError: It is not over this head, or not by this name and key; or the name is the
            identifier of another key.
        PayloadError: Key or signature have another length than the algorithm's.
        ConfigError: The algorithm is unknown.
    """
    if signed.name.startswith(PREFIX) and signed.name != did_of(signed.algorithm, signed.public):
        raise SignatureError(f"{signed.name} is the identifier of another key than signed")
    statement = head.statement(signed.name, signed.algorithm, signed.public)
    verify(signed.algorithm, signed.public, statement, signed.signature, CHECKPOINT_CONTEXT)


def countersigned(head: Head, signatures: Iterable[Countersignature]) -> dict[str, Any]:
    """Details of a record ``countersigned``, to be put on the trail that the head is of.

    Raises:
        SignatureError: There is no signature, or one does not hold.
        PayloadError: A key or signature has another length than its algorithm's.
        ConfigError: An algorithm is unknown.
    """
    rows = []
    for signed in signatures:
        check(head, signed)
        rows.append(
            {
                "name": signed.name,
                "algorithm": signed.algorithm,
                "public_key": to_text(signed.public),
                "signature": to_text(signed.signature),
            }
        )
    if not rows:
        raise SignatureError("no countersignature was given: a record needs at least one")
    return {"head": {"n": head.n, "digest": head.digest}, "signatures": rows}


def read_countersigned(run: str, record: Mapping[str, Any]) -> tuple[Head, list[Countersignature]]:
    """The head and the signatures of a record, as they stand; nothing is checked.

    Raises:
        ValueError: The record has another form; so do AttributeError, KeyError and TypeError say.
    """
    at, rows = record["head"], record["signatures"]
    if not rows or set(at) != {"n", "digest"} or type(at["n"]) is not int:
        raise ValueError("no countersignature")
    fields = {"name", "algorithm", "public_key", "signature"}
    texts = [value for row in rows for value in row.values()]
    if any(set(row) != fields for row in rows) or not all(isinstance(v, str) for v in texts):
        raise ValueError("no countersignature")
    found = [
        Countersignature(
            row["name"], row["algorithm"], from_text(row["public_key"]), from_text(row["signature"])
        )
        for row in rows
    ]
    return Head(run, at["n"], at["digest"]), found
