"""The section of the page on the audit trail: what is on record, and whether it holds."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from qfl.federation.report import markup
from qfl.federation.report.files import is_number
from qfl.federation.report.reading import Run
from qfl.federation.report.units import number_text
from qfl.identity.audit_line import CHAIN_FIELDS, COUNTERSIGNED, STARTED
from qfl.identity.audit_verdict import Verdict

ENDS = 20
"""Events shown from each end of the trail."""


def trail(run: Run) -> str:
    """The events of a run; empty where none is on record."""
    if not run.audit or run.verdict is None:
        return ""
    plain = run.verdict.flaw is not None and run.verdict.flaw.kind == "plain"
    shown = [_row(event) for event in (run.audit if plain else _without_chain(run.audit))]
    said, number = f"{len(shown)} events.", len(shown)
    if left_out := max(0, number - 2 * ENDS):
        said = f"The first and last {ENDS} of {number} events."
        gap = ["…", f"{left_out} events left out here", ""]
        shown = [*shown[:ENDS], gap, *shown[-ENDS:]]
    return markup.section(
        "Audit trail",
        markup.paragraph(f"{said} The whole trail is in audit.jsonl."),
        markup.paragraph(_held(run.verdict)),
        markup.folded("Events", markup.table(["time", "event", "details"], shown)),
    )


def _held(verdict: Verdict) -> str:
    flaw = verdict.flaw
    if flaw is None:
        parts = len(verdict.segments)
        return (
            f"Every record is signed and chained to the one before: {verdict.records} in {parts} "
            f"segment{'' if parts == 1 else 's'}, the last with digest {verdict.head}. With that "
            "digest kept elsewhere, qfl audit verify --head finds any change, also a trail that "
            "was cut off or written anew."
        )
    if flaw.kind == "plain":
        return "Its lines are plain, neither chained nor signed; nothing of it can be verified."
    return (
        f"The trail does not hold: line {flaw.line}: {flaw.reason}. Records before it that hold: "
        f"{verdict.records}."
    )


def _without_chain(events: tuple[dict[str, Any], ...]) -> Iterator[dict[str, Any]]:
    for event in events:
        if event["event"] == STARTED:
            continue
        shown = {key: value for key, value in event.items() if key not in CHAIN_FIELDS}
        if event["event"] == COUNTERSIGNED:
            shown.pop("signatures", None)
        yield shown


def _row(event: dict[str, Any]) -> list[str]:
    time = event["time"]
    if is_number(time):
        try:
            time = f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M:%S} UTC"
        except (ValueError, OverflowError, OSError):
            time = str(time)
    details = ", ".join(
        f"{key} {_value(value)}" for key, value in event.items() if key not in ("time", "event")
    )
    return [str(time), str(event["event"]), details]


def _value(value: Any) -> str:
    text = number_text(value) if isinstance(value, float) else str(value)
    return text if len(text) <= 200 else f"{text[:199]}…"
