"""The section of the page on who took part, as the audit trail says it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from qfl.federation.report import markup
from qfl.federation.report.reading import Run

_HEADER = ["node", "name", "identifier", "part", "standing", "rounds asked", "left out"]


def participants(run: Run) -> str:
    """Who proved who it is, and how each stands in the end; empty where nobody has to."""
    joined = _events(run, "joined")
    if not joined:
        return ""
    standing = {
        str(one.get("did")): str(one.get("after")) for one in _events(run, "standing_changed")
    }
    asked: Counter[Any] = Counter()
    for event in _events(run, "clients_selected"):
        nodes = event.get("nodes")
        asked.update(nodes if isinstance(nodes, list) else [])
    left = Counter(event.get("node") for event in _events(run, "client_left_out"))
    rows = [
        [
            str(one.get("node")),
            str(one.get("name")),
            _short(str(one.get("did"))),
            ", ".join(map(str, one.get("roles", []))),
            # A standing is kept by the first identifier, which is this one unless keys rotated.
            standing.get(str(one.get("did")), "good"),
            str(asked[one.get("node")]),
            str(left[one.get("node")]),
        ]
        for one in joined
    ]
    refused = [f"Node {one.get('node')}: {one.get('reason')}" for one in _events(run, "not_joined")]
    return markup.section(
        "Who took part",
        markup.paragraph(
            f"{len(rows)} participants proved who they are by post-quantum signatures. Messages "
            "were signed and sealed; keys and contributions were vouched for by those whose they "
            f"are. {_countersigned(run)}"
        ),
        markup.table(_HEADER, rows, numbers=(5, 6)),
        *map(markup.paragraph, refused),
    )


def _countersigned(run: Run) -> str:
    if run.verdict is None or not run.verdict.witnesses:
        return "Nobody countersigned the audit trail."
    last = max(one.n for one in run.verdict.witnesses)
    many = len({one.name for one in run.verdict.witnesses if one.n == last})
    return f"The audit trail was countersigned up to record {last} by {many} of them."


def _events(run: Run, name: str) -> list[dict[str, Any]]:
    return [event for event in run.audit or () if event.get("event") == name]


def _short(did: str) -> str:
    """Enough of an identifier to tell it from others by eye."""
    return did if len(did) < 24 else f"{did[:16]}…{did[-6:]}"
