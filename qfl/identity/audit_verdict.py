"""What checking an audit trail finds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Segment:
    """What one process wrote.

    Attributes:
        line: Number of its first record.
        key: Fingerprint of its public key.
        time: When it began, by its own clock.
    """

    line: int
    key: str
    time: str


@dataclass(frozen=True)
class Witness:
    """A countersignature that holds.

    Attributes:
        name: Who signed.
        key: Fingerprint of the key, to be compared with the one that is known.
        n: The record up to which the trail was seen.
    """

    name: str
    key: str
    n: int


@dataclass(frozen=True)
class Flaw:
    """The first line that does not hold.

    Attributes:
        line: Its number, from 1; one past the last where lines are missing at the end.
        reason: In words.
        kind: ``damaged``, ``torn`` (its end is missing, as after a crash), ``cut`` (lines at the
            end are missing) or ``plain`` (the trail is neither chained nor signed).
    """

    line: int
    reason: str
    kind: str = "damaged"


@dataclass(frozen=True)
class Verdict:
    """What an audit trail holds, up to its first flaw.

    Attributes:
        run: The run that it is of; empty without a first record.
        records: Number of records that hold.
        segments: One for each process that wrote, in order.
        head: Digest of the last record that holds; empty where there is none.
        witnesses: Countersignatures.
        flaw: None where all of it holds.
        known: Number of the record whose digest was given as a head; None where none was found.
    """

    run: str
    records: int
    segments: tuple[Segment, ...]
    head: str
    witnesses: tuple[Witness, ...]
    flaw: Flaw | None
    known: int | None = None
