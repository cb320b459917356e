"""Whole runs with identities: the same model, a record of who did what, countersigned."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qfl.conf.checks import from_dict
from qfl.errors import ConfigError
from qfl.identity.audit import AuditChain
from qfl.identity.audit_check import examine
from qfl.identity.audit_line import CHAIN_FIELDS

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="ray is not installed"
)
SIGNED = {"identity.name": "post_quantum", "strategy.min_clients": 2}
SCHEMES: list[dict[str, Any]] = [
    {"strategy.scheme": "plain", "strategy.trust": "none"},
    {"strategy.scheme": "packed", "strategy.trust": "key_holder", "strategy.grid_bits": 14},
]


def records(folder: Path, event: str) -> list[dict[str, Any]]:
    lines = (folder / "audit.jsonl").read_text().splitlines()
    return [found for found in map(json.loads, lines) if found["event"] == event]


@pytest.mark.parametrize("scheme", SCHEMES, ids=["plain", "packed"])
def test_a_signed_run_gives_the_same_model_and_records_who_took_part(
    configure: Callable[..., Any],
    run: Callable[..., dict[str, Any]],
    tmp_path: Path,
    scheme: dict[str, Any],
) -> None:
    run(configure(scheme), "open")
    summary = run(configure({**scheme, **SIGNED}), "signed")
    models = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("open", "signed")]
    assert models[0] == models[1]
    assert "honest-but-curious" not in summary["aggregation"]["assumption"]
    folder = tmp_path / "signed"
    joined = records(folder, "joined")
    holder = scheme["strategy.trust"] == "key_holder"
    assert [one["name"] for one in joined] == [f"node-{number}" for number in range(3 + holder)]
    assert joined[-1]["roles"] == (["key-holder"] if holder else ["client"])
    selected = records(folder, "clients_selected")
    assert [(one["round"], one["nodes"]) for one in selected] == [(1, [1, 2, 3]), (2, [1, 2, 3])]
    verdict = examine((folder / "audit.jsonl").read_bytes())
    assert verdict.flaw is None
    assert {one.name for one in verdict.witnesses} == {one["did"] for one in joined}


def test_the_countersigned_trail_cannot_be_written_anew(
    configure: Callable[..., Any], run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    run(configure({**SCHEMES[0], **SIGNED, "rounds": 1}))
    trail = (tmp_path / "run" / "audit.jsonl").read_bytes()
    assert examine(trail).flaw is None
    lines = trail.splitlines(keepends=True)
    number = next(i for i, line in enumerate(lines) if b'"clients_selected"' in line)
    # The server has keys to sign with: it says that it never asked client 3, and goes on.
    chain = AuditChain(b"".join(lines[:number]))
    anew = [chain.start()]
    chain.take(anew[-1])
    for line in lines[number:]:
        record = {k: v for k, v in json.loads(line).items() if k not in CHAIN_FIELDS}
        event = record.pop("event")
        record.pop("time")
        if event == "clients_selected":
            record["nodes"] = [1, 2]
        anew.append(chain.line(event, record))
        chain.take(anew[-1])
    verdict = examine(b"".join([*lines[:number], *anew]))
    assert verdict.flaw is not None and "of no head of this trail" in verdict.flaw.reason
    # Without the countersignatures it holds: whoever signed remembers the head.
    head = json.loads(next(line for line in lines if b'"countersigned"' in line))["head"]["digest"]
    without = [line for line in anew if b'"countersigned"' not in line]
    verdict = examine(b"".join([*lines[:number], without[0]]), head)
    assert verdict.flaw is not None and verdict.flaw.kind == "cut"


def test_a_sum_of_one_is_refused_with_identities() -> None:
    wrong = {
        "identity": {"name": "post_quantum"},
        "strategy": {"scheme": "plain", "trust": "none", "min_clients": 1},
    }
    with pytest.raises(ConfigError, match="min_clients=1 is not allowed with identity=post_quant"):
        from_dict(wrong)


@needs_ray
def test_identities_reach_ray_actors(
    configure: Callable[..., Any], run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    signed = {**SCHEMES[1], **SIGNED}
    run(configure(signed), "local")
    run(configure({**signed, "simulation.backend": "ray"}), "ray")
    models = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("local", "ray")]
    assert models[0] == models[1]
    assert len(records(tmp_path / "ray", "joined")) == 4
