"""Reputations as text: one JSON object, read back strictly."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from qfl.errors import ConfigError, StorageError
from qfl.identity.audit_line import canonical
from qfl.identity.standing import Observation, Rules, Standing
from qfl.identity.standing_node import Node

FORMAT = "qfl-reputation-1"
# What a run of 2^53 rounds could add up to, and far more than any does.
_MOST = 1e30
_LARGEST_COUNT = 2**53


def to_text(rules: Rules, nodes: Mapping[str, Node]) -> str:
    """Rules and nodes as JSON with sorted keys, in ASCII."""
    listed = {did: asdict(node) for did, node in nodes.items()}
    return canonical({"format": FORMAT, "rules": asdict(rules), "nodes": listed}).decode()


def from_text(text: str) -> tuple[Rules, dict[str, Node]]:
    """The inverse of :func:`to_text`.

    Raises:
        StorageError: The text is anything else, or holds what cannot come about.
    """
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_refuse)
        whole = _map(value, {"format", "rules", "nodes"}, "it")
        if whole["format"] != FORMAT:
            raise ValueError(f"its format is {str(whole['format'])[:40]!a}, expected {FORMAT!r}")
        names = {field.name for field in fields(Rules)}
        settings = _map(whole["rules"], names, "rules")
        rules = Rules(**{name: _number(settings[name], name) for name in settings})
        if not isinstance(whole["nodes"], dict):
            raise ValueError("nodes is no map")
        return rules, {did: _node(one, did, rules) for did, one in whole["nodes"].items()}
    except (ValueError, RecursionError, ConfigError) as error:
        raise StorageError(
            f"the text is no reputation that was stored by qfl: {error}; restore it from a copy, "
            "or begin with a new one, in which all stand well"
        ) from None


def check_did(did: str) -> None:
    """Make sure that a text can name a node.

    Raises:
        ConfigError: It is empty, long or not printable.
    """
    if not 0 < len(did) <= 256 or not did.isprintable():
        raise ConfigError(
            f"{did[:80]!a} names no node; give its first identifier, up to 256 printable characters"
        )


def _node(value: object, did: str, rules: Rules) -> Node:
    check_did(did)
    what = f"the entry of {did}"
    entry = _map(value, {field.name for field in fields(Node)}, what)
    seen, held, been = entry["seen"], entry["held"], entry["been_quarantined"]
    if not (isinstance(held, bool) and isinstance(been, bool) and isinstance(seen, dict)):
        raise ValueError(f"{what} has a wrong kind of held, been_quarantined or seen")
    for kind, count in seen.items():
        possible = kind != Observation.DECLINED and type(count) is int
        if not possible or not 0 < count <= _LARGEST_COUNT:
            raise ValueError(f"{what} counts {count!r:.40} of {kind[:40]!a}")
    node = Node(
        blame=_number(entry["blame"], "blame"),
        lasting=_number(entry["lasting"], "lasting"),
        suspicion=_number(entry["suspicion"], "suspicion"),
        seen={Observation(kind): count for kind, count in seen.items()},
        standing=Standing(entry["standing"]),
        held=held,
        been_quarantined=been,
    )
    if node.suspicion > rules.warn or node.blame > node.lasting:
        raise ValueError(f"{what} has numbers that do not come about")
    if node.held and node.standing is not Standing.QUARANTINED:
        raise ValueError(f"{what} is held, but {node.standing}")
    # An expulsion takes one more violation, and an operator may have undone it.
    if node.standing.rank < min(node.due(rules).rank, Standing.QUARANTINED.rank):
        raise ValueError(f"{what} says {node.standing}, but its numbers say {node.due(rules)}")
    return node


def _map(value: object, keys: set[str], what: str) -> dict[str, Any]:
    if not isinstance(value, dict) or value.keys() != keys:
        raise ValueError(f"{what} is no map of {', '.join(sorted(keys))}")
    return value


def _number(value: object, name: str) -> float:
    # Whole numbers are compared before they become floats, which may fail.
    if type(value) not in (int, float) or not 0 <= value <= _MOST:  # type: ignore[operator]
        raise ValueError(f"{name} is {value!r:.40}, expected a number from 0")
    number = float(value)  # type: ignore[arg-type]
    assert math.isfinite(number)
    return number


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no number")
