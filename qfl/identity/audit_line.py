"""How one audit record is written: canonical JSON, so that equal records are equal bytes."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from typing import Any

FORMAT = "qfl-audit-1"
ALGORITHM = "ML-DSA-65"
RECORD_CONTEXT = b"qfl audit record 1"
CHECKPOINT_CONTEXT = b"qfl audit checkpoint 1"
STARTED, COUNTERSIGNED = "segment_started", "countersigned"
CHAIN_FIELDS = ("n", "previous", "signature")


def canonical(data: Mapping[str, Any]) -> bytes:
    """JSON with sorted keys, without spaces, in ASCII.

    Raises:
        ValueError: It holds a number that is not finite.
        TypeError: It holds what JSON has not.

    Example:
        >>> canonical({"n": 1, "event": "setup"})
        b'{"event":"setup","n":1}'
    """
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def digest_of(line: bytes) -> str:
    """SHA-256 of a line without its line break, in hexadecimal digits."""
    return hashlib.sha256(line).hexdigest()


def header_digest(record: Mapping[str, Any]) -> str:
    """What the first record names in place of a line before it.

    Args:
        record: The first record of a segment; its format, run, algorithm and public key count.
    """
    fields = ("format", "run", "algorithm", "public_key")
    return digest_of(canonical({field: record[field] for field in fields}))


def signed_part(record: Mapping[str, Any]) -> bytes:
    """The bytes that a record's signature covers: all of it but the signature."""
    return canonical({key: value for key, value in record.items() if key != "signature"})


def to_text(raw: bytes) -> str:
    """Bytes as base64.

    >>> to_text(b"key")
    'a2V5'
    """
    return base64.b64encode(raw).decode()


def from_text(text: object) -> bytes:
    """Bytes from base64.

    Raises:
        ValueError: It is no base64, or not the only one for these bytes.
    """
    if not isinstance(text, str):
        raise ValueError("no text")
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("no base64") from None
    if to_text(raw) != text:
        raise ValueError("another base64 of these bytes")
    return raw


def fingerprint(public: bytes) -> str:
    """SHA-256 of a public key: what people compare."""
    return hashlib.sha256(public).hexdigest()
