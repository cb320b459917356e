"""The report's section on who took part."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_folders import build_run, page_of, table_of

from qfl.federation.audit_trail import AuditTrail
from qfl.identity import Identity
from qfl.identity.countersigning import countersign, countersigned

NODES = [Identity.create(["client"]) for _ in range(3)]
DIDS = [one.did for one in NODES]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = build_run(tmp_path / "run", rounds=2, baselines=False)
    (made / "audit.jsonl").unlink()
    trail = AuditTrail(made / "audit.jsonl")
    for node, did in enumerate(DIDS, 1):
        roles = ["client"] if node < 3 else ["key-holder"]
        trail.append("joined", {"node": node, "did": did, "name": f"n{node}", "roles": roles})
    trail.append("not_joined", {"node": 9, "reason": "it is <none> of the pinned identities"})
    for round in (1, 2):
        asked = {"round": round, "nodes": [1, 2][: 3 - round], "kept_out": []}
        trail.append("clients_selected", asked)
    trail.append("client_left_out", {"round": 1, "node": 2, "reason": "short"})
    changes = [("good", "warned"), ("warned", "quarantined")]
    for before, after in changes:
        trail.append("standing_changed", {"did": DIDS[1], "before": before, "after": after})
    signed = countersign(trail.head(), DIDS[0], NODES[0].signing)
    trail.append("countersigned", countersigned(trail.head(), [signed]))
    return made


def test_everybody_is_listed_with_what_became_of_them(folder: Path) -> None:
    page = page_of(folder)
    assert "Who took part" in page.headings
    assert "3 participants proved who they are" in page.text
    assert "countersigned up to record 10 by 1 of them" in page.text
    assert "Node 9: it is <none> of the pinned identities" in page.text
    rows = table_of(page, "node")
    assert [row[0] for row in rows[1:]] == ["1", "2", "3"]
    assert rows[1][1:] == ["n1", f"{DIDS[0][:16]}…{DIDS[0][-6:]}", "client", "good", "2", "0"]
    assert rows[2][3:] == ["client", "quarantined", "1", "1"]
    assert rows[3][3:] == ["key-holder", "good", "0", "0"]


def test_without_identities_there_is_no_such_section(tmp_path: Path) -> None:
    page = page_of(build_run(tmp_path / "run", rounds=1, baselines=False))
    assert "Who took part" not in page.headings
