"""Audit records: each is signed, and each names the digest of the line before.

A process that writes makes a signing key of its own and forgets it when it ends, so that no secret
lies on the disk. Its records are a *segment*; the first, ``segment_started``, carries the public
key. A run that goes on starts another segment, chained to the last line of the one before.

Whoever holds the folder can write the whole trail anew under keys of their own. That shows only
where a head, or the public keys, were kept or countersigned elsewhere.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from typing import Any

from qfl.crypto.signatures import generate_signing_key
from qfl.errors import CryptoError, SignatureError
from qfl.identity.audit_check import examine
from qfl.identity.audit_line import (
    ALGORITHM,
    CHAIN_FIELDS,
    FORMAT,
    RECORD_CONTEXT,
    STARTED,
    canonical,
    digest_of,
    header_digest,
    signed_part,
    to_text,
)
from qfl.identity.countersigning import Head

_OWN_FIELDS = {"time", "event", *CHAIN_FIELDS}


class AuditChain:
    """Makes the lines of one segment; whoever calls it writes them.

    A line counts once it is taken, which is to be done when it is on the disk.

    Args:
        trail: What was written so far: whole lines, or nothing.

    Raises:
        SignatureError: The trail does not verify. Nothing is chained to what was changed.

    Example:
        >>> chain = AuditChain()
        >>> first = chain.start()
        >>> chain.take(first)
        >>> second = chain.line("sum_opened", {"round": 1, "contributions": 10})
        >>> chain.take(second)
        >>> chain.checkpoint().n
        2
        >>> AuditChain(first + second).start() != first
        True
    """

    def __init__(self, trail: bytes = b"") -> None:
        self._run, self._n, self._last, self._segments = uuid.uuid4().hex, 0, "", 0
        if trail:
            verdict = examine(trail)
            if verdict.flaw:
                raise SignatureError(
                    f"the audit trail does not verify at line {verdict.flaw.line}: "
                    f"{verdict.flaw.reason}"
                )
            self._run, self._n, self._last = verdict.run, verdict.records, verdict.head
            self._segments = len(verdict.segments)
        self._key = generate_signing_key(ALGORITHM)

    def start(self) -> bytes:
        """The line that a segment begins with; to be taken before any other is made."""
        about = {
            "format": FORMAT,
            "run": self._run,
            "segment": self._segments + 1,
            "algorithm": ALGORITHM,
            "public_key": to_text(self._key.public),
        }
        return self._made(STARTED, about, self._last or header_digest(about))

    def line(self, event: str, details: Mapping[str, Any]) -> bytes:
        """A record as the next line, with its line break.

        Args:
            event: What happened.
            details: What else is to be known of it: JSON values under names of their own. They
                are readable by whoever reads the folder, for good: no secrets, no data.

        Raises:
            CryptoError: A name is the chain's own, or a value is none of JSON's.
        """
        assert self._last, "a segment starts with its key"
        if taken := sorted(_OWN_FIELDS & details.keys()):
            raise CryptoError(
                f"audit record '{event}' has a field '{taken[0]}', which the chain fills in: "
                "give it another name"
            )
        try:
            # As it will be read: keys become text before they are sorted.
            plain = json.loads(json.dumps(dict(details), allow_nan=False))
        except (TypeError, ValueError, RecursionError):
            raise CryptoError(
                f"audit record '{event}' cannot be written as JSON: give it text, finite numbers, "
                "and lists and objects of them"
            ) from None
        return self._made(event, plain, self._last)

    def take(self, line: bytes) -> None:
        """Go on after a line, which was written."""
        self._n, self._last = self._n + 1, digest_of(line.removesuffix(b"\n"))

    def checkpoint(self) -> Head:
        """The head, as others can sign it (:mod:`qfl.identity.countersigning`)."""
        return Head(self._run, self._n, self._last)

    def _made(self, event: str, details: Mapping[str, Any], previous: str) -> bytes:
        record = {
            **details,
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "event": event,
            "n": self._n + 1,
            "previous": previous,
        }
        record["signature"] = to_text(self._key.sign(signed_part(record), RECORD_CONTEXT))
        return canonical(record) + b"\n"
