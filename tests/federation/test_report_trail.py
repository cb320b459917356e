"""The report on a trail: signed, changed, torn, plain, countersigned."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_folders import Page, build_run, page_of

from qfl.crypto.signatures import generate_signing_key
from qfl.federation.audit_trail import AuditTrail
from qfl.identity.countersigning import countersign, countersigned


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run with five records, of which one says who signed the fourth."""
    made = build_run(tmp_path / "run", rounds=1, baselines=False)
    (made / "audit.jsonl").unlink()
    trail = AuditTrail(made / "audit.jsonl")
    for event in ("run_started", "sum_opened", "run_finished"):
        trail.append(event, {"round": 1, "label": "train", "contributions": 10})
    signed = countersign(trail.head(), "clinic 2", generate_signing_key())
    trail.append("countersigned", countersigned(trail.head(), [signed]))
    return made


def changed(folder: Path, old: bytes, new: bytes) -> Page:
    file = folder / "audit.jsonl"
    file.write_bytes(file.read_bytes().replace(old, new, 1))
    return page_of(folder)


def test_a_signed_trail_is_shown_without_its_chain(folder: Path) -> None:
    page = page_of(folder)
    assert "4 events. The whole trail is in audit.jsonl." in page.text
    assert "signed and chained to the one before: 5 in 1 segment, the last with" in page.text
    assert "contributions 10, label train, round 1" in page.text
    assert "train: 1 sum of 10 contributions" in page.text
    for word in ("signature ", "signatures ", "previous ", "public_key", "segment_started"):
        assert word not in page.text
    assert "Notes" not in page.headings


def test_a_changed_trail_is_told_first(folder: Path) -> None:
    page = changed(folder, b'"contributions":10', b'"contributions":11')
    assert page.headings[0] == "Notes"
    assert "was changed: line 2 of audit.jsonl does not hold: its signature does" in page.text
    assert "The trail does not hold: line 2: " in page.text
    assert "Records before it that hold: 1." in page.text


def test_a_torn_trail_is_no_alarm(folder: Path) -> None:
    with (folder / "audit.jsonl").open("ab") as file:
        file.write(b'{"event":"run_')
    page = page_of(folder)
    assert "The last line of audit.jsonl (line 6) is torn" in page.text
    assert "The trail does not hold: line 6: it is torn" in page.text
    assert "was changed" not in page.text


def test_plain_lines_are_said_to_prove_nothing(tmp_path: Path) -> None:
    page = page_of(build_run(tmp_path / "run", rounds=1, baselines=False))
    assert "Its lines are plain, neither chained nor signed; nothing of it can" in page.text
    assert "Notes" not in page.headings
