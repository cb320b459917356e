"""Every error that qfl raises on purpose, and the exit code that belongs to it.

A message says what was given, what is allowed and what to do. The command line prints the
message alone and leaves with ``exit_code``; ``--debug`` adds the traceback.

| code | meaning |
|---|---|
| 0 | success |
| 1 | a defect in qfl, or in code that it was given: please report it |
| 2 | configuration or command line: unknown name, wrong type, value out of range |
| 3 | data: missing file or column, text where numbers belong, impossible split |
| 4 | something optional is not installed |
| 5 | the federation failed: too few clients, a client's or a key holder's refusal |
| 6 | a message, key or ciphertext was refused, or an audit trail does not verify |
| 7 | a run folder, checkpoint or disk cannot be used |
| 8 | privacy: a budget is spent, a ledger cannot be trusted, a model cannot be trained privately |
| 130 | interrupted; the run folder can be resumed |
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

EXIT_OK = 0
EXIT_INTERRUPTED = 130


class QflError(Exception):
    """Base of all errors that qfl raises on purpose."""

    exit_code = 1


class ConfigError(QflError):
    """A configuration names something unknown or holds a value that is not allowed."""

    exit_code = 2


class DataError(QflError):
    """Data cannot be read, or cannot be split as asked."""

    exit_code = 3


class MissingDependencyError(QflError):
    """An optional package is needed and not installed."""

    exit_code = 4


class FederationError(QflError):
    """A round could not be completed."""

    exit_code = 5


class CryptoError(QflError):
    """Base of refusals by an aggregation scheme, and of messages and keys by cryptography."""

    exit_code = 6


class PayloadError(CryptoError):
    """A message is malformed, or belongs to another run, round, key or scheme."""


class SignatureError(CryptoError):
    """A signature does not fit its message, context and public key."""


class MisfitError(PayloadError):
    """What was opened does not fit the rest of a sum; told once, because it tells of both."""


class RefusedError(PayloadError):
    """Something was refused, for a reason that a program can tell.

    Attributes:
        reason: A word for it; identities and envelopes use :class:`qfl.identity.refusal.Refusal`.

    Example:
        >>> RefusedError("revoked", "did:qfl:a was revoked").reason
        'revoked'
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason

    def __str__(self) -> str:
        return str(self.args[1])


class RangeError(CryptoError):
    """A value lies outside the range that a scheme can sum without wrapping."""


class OpeningRefusedError(CryptoError):
    """A key holder will not open this sum."""


class StorageError(QflError):
    """A run folder or a checkpoint cannot be read or written."""

    exit_code = 7


class PrivacyError(QflError):
    """A guarantee cannot be given, or a ledger cannot be trusted."""

    exit_code = 8


class BudgetSpentError(PrivacyError):
    """A release would spend more of a data set's privacy than its budget allows."""


def unknown_name(kind: str, given: str, allowed: Iterable[str]) -> str:
    """Say that a name is unknown, offering the nearest known one.

    >>> unknown_name("scheme", "ckk", ["plain", "ckks"])
    "unknown scheme 'ckk'; did you mean 'ckks'? Known: ckks, plain"
    """
    names = sorted(allowed)
    close = get_close_matches(given, names, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else "."
    return f"unknown {kind} '{given}'{hint} Known: {', '.join(names) or 'none'}"
