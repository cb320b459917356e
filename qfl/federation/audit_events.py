"""What goes on record of what happens in a run."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from qfl.identity.countersigning import countersigned
from qfl.strategies import (
    BudgetSpent,
    ClientReplied,
    ClientsSelected,
    Countersigned,
    Event,
    Joined,
    NotJoined,
    SetupFinished,
    StandingChanged,
    SumOpened,
)


def audit_record(event: Event) -> tuple[str, dict[str, Any]] | None:
    """Name and details of the record of an event; None where there is none.

    No secret, and nothing of anybody's data, is part of any.
    """
    match event:
        case Joined():
            return "joined", asdict(event)
        case NotJoined():
            return "not_joined", asdict(event)
        case SetupFinished():
            return "keys_made" if event.key_id else "setup", {
                "scheme": event.scheme,
                "trust": event.trust,
                "assumption": event.assumption,
                "opened_by": event.opened_by,
                "key_id": event.key_id,
            }
        case ClientsSelected():
            return "clients_selected", asdict(event)
        case ClientReplied(error=str(reason)):
            details = {"round": event.round, "node": event.node, "reason": reason}
            return "client_left_out", details
        case SumOpened():
            return "sum_opened", asdict(event)
        case StandingChanged():
            return "standing_changed", asdict(event.change)
        case Countersigned():
            return "countersigned", countersigned(event.head, event.signatures)
        case BudgetSpent():
            return "budget_spent", asdict(event)
    return None
