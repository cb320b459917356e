"""Histories of one node, played to a reputation."""

from __future__ import annotations

from qfl.identity.reputation import Change, Observation, Reputation, Rules

A = "did:qfl:a"
History = list[list[Observation]]


def play(history: History, rules: Rules | None = None) -> tuple[Reputation, list[Change]]:
    """A reputation after these rounds of one node, and all changes."""
    made = Reputation(rules)
    changes: list[Change] = []
    for number, observations in enumerate(history, 1):
        told = [made.observe(A, number, one) for one in observations]
        changes += [one for one in [*told, *made.end_round(number)] if one]
    return made, changes
