"""The trail of a run folder: interrupted, torn, resumed, changed."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from qfl.conf.schema import ExperimentConfig
from qfl.errors import SignatureError, StorageError
from qfl.federation import audit_trail
from qfl.federation.audit_trail import AuditTrail, read_trail
from qfl.federation.files import append_bytes
from qfl.federation.simulate import resumed_config, simulate
from qfl.identity.audit_check import examine
from qfl.identity.audit_verdict import Verdict

Configure = Callable[..., ExperimentConfig]
Run = Callable[..., dict[str, Any]]
PRIVATE = {
    "privacy": {"mechanism": "central", "noise_multiplier": 3.0, "epsilon": None, "delta": 1e-5},
    "strategy.weighting": "uniform",
    "preprocess.fit": "local",
}


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def verdict_of(path: Path) -> Verdict:
    verdict = examine(path.read_bytes())
    assert verdict.flaw is None
    return verdict


def test_another_process_starts_a_segment(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    with pytest.raises(StorageError, match="nothing was put on record"):
        AuditTrail(file).head()
    for event in ("first", "second"):
        trail = AuditTrail(file)
        trail.append(event, {})
        trail.append(event, {"more": 1})
    assert [record["event"] for record in records(file)] == [
        *("segment_started", "first", "first", "segment_started", "second", "second")
    ]
    assert trail.head().digest == verdict_of(file).head
    assert [path.name for path in tmp_path.iterdir()] == ["audit.jsonl"]  # and no key


@pytest.mark.parametrize("moment", ["before", "within", "after"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_ctrl_c_at_any_moment_leaves_a_trail_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, number: int
) -> None:
    trail, count = AuditTrail(tmp_path / "audit.jsonl"), 0

    def interrupted(path: Path, line: bytes) -> None:
        nonlocal count
        count += 1
        if count == number and moment == "before":
            raise KeyboardInterrupt
        append_bytes(path, line[:100] if count == number and moment == "within" else line)
        if count == number:
            raise KeyboardInterrupt

    monkeypatch.setattr(audit_trail, "append_bytes", interrupted)
    with contextlib.suppress(KeyboardInterrupt):
        for event in ("one", "two", "three"):
            trail.append(event, {})
    assert count == number
    trail.append("run_interrupted", {})
    trail.append("and_more", {})
    verdict_of(trail.path)
    events = [record["event"] for record in records(trail.path)]
    assert events[-2:] == ["run_interrupted", "and_more"]
    written = [event for event in events if event != "segment_started"][:-2]
    whole = number - 1 + (moment == "after")
    assert written == ["one", "two", "three"][: max(0, whole - 1)]


def test_a_torn_line_is_dropped_and_the_chain_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    AuditTrail(file).append("first", {})
    whole = file.read_bytes()
    file.write_bytes(whole + whole.splitlines()[1][:50])
    AuditTrail(file).append("second", {})
    assert file.read_bytes().startswith(whole)
    assert verdict_of(file).records == 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data.replace(b'"first"', b'"other"'), "at line 2: its signature does not"),
        (lambda data: data[data.index(b"\n") + 1 :], "at line 1: .* its first line is gone"),
        (lambda data: b'{"time": "t", "event": "old"}\n', "at line 1: it is neither chained nor"),
    ],
)
def test_a_changed_trail_is_not_gone_on_with(
    tmp_path: Path, change: Callable[[bytes], bytes], words: str
) -> None:
    file = tmp_path / "audit.jsonl"
    AuditTrail(file).append("first", {})
    file.write_bytes(change(file.read_bytes()))
    before = file.read_bytes()
    with pytest.raises(SignatureError, match=rf"audit\.jsonl: .*{words}.* move it out of the"):
        AuditTrail(file).append("second", {})
    assert file.read_bytes() == before


def test_a_trail_that_cannot_be_read_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot read .*Is a directory"):
        read_trail(tmp_path)


def test_a_run_puts_its_models_on_record(configure: Configure, run: Run, tmp_path: Path) -> None:
    run(configure({"rounds": 3}))
    folder = tmp_path / "run"
    started, *_ = [one for one in records(folder / "audit.jsonl") if one["event"] == "run_started"]
    config = (folder / "config.yaml").read_bytes()
    assert started["config"] == hashlib.sha256(config).hexdigest()
    rounds = [one for one in records(folder / "audit.jsonl") if one["event"] == "round_finished"]
    assert [(one["round"], one["clients"]) for one in rounds] == [(0, 0), (1, 3), (2, 3), (3, 3)]
    assert len({one["model"] for one in rounds}) == 4
    model = (folder / "model.safetensors").read_bytes()
    assert rounds[-1]["model"] == hashlib.sha256(model).hexdigest()
    assert all("epsilon" not in one for one in rounds)


def test_where_clients_alone_learn_the_model_there_is_no_digest(
    configure: Configure, run: Run, tmp_path: Path
) -> None:
    run(
        configure(
            {
                "strategy.scheme": "ckks",
                "strategy.trust": "key_holder",
                "strategy.release": "clients",
                "preprocess.fit": "local",
            }
        )
    )
    rounds = [
        one for one in records(tmp_path / "run" / "audit.jsonl") if one["event"] == "round_finished"
    ]
    assert [one["round"] for one in rounds] == [0, 1, 2]
    assert all("model" not in one for one in rounds)


def test_what_was_spent_is_on_record_round_by_round(
    configure: Configure, run: Run, tmp_path: Path
) -> None:
    summary = run(configure(PRIVATE))
    spent = [
        one["epsilon"]
        for one in records(tmp_path / "run" / "audit.jsonl")
        if one["event"] == "round_finished" and one["round"]
    ]
    assert 0 < spent[0] < spent[1] == summary["privacy"]["epsilon"]


def test_a_resumed_run_goes_on_with_its_trail(
    configure: Configure, run: Run, tmp_path: Path
) -> None:
    run(configure())
    file = tmp_path / "run" / "audit.jsonl"
    before = file.read_bytes()
    run(resumed_config(tmp_path / "run", ["rounds=3"]), "ignored")
    assert file.read_bytes().startswith(before)
    verdict = verdict_of(file)
    assert [segment.line for segment in verdict.segments] == [1, len(before.splitlines()) + 1]
    assert examine(file.read_bytes(), examine(before).head).known == len(before.splitlines())


def test_a_run_whose_trail_was_changed_is_not_resumed_and_loses_nothing(
    configure: Configure, run: Run, tmp_path: Path
) -> None:
    run(configure())
    folder = tmp_path / "run"
    file = folder / "audit.jsonl"
    file.write_bytes(file.read_bytes().replace(b'"clients":3', b'"clients":9'))
    kept = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with pytest.raises(SignatureError, match="does not verify at line"):
        run(resumed_config(folder, ["rounds=3"]), "ignored")
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == kept
    file.rename(tmp_path / "kept.jsonl")
    run(resumed_config(folder, ["rounds=3"]), "ignored")
    verdict_of(file)


def test_the_report_shows_events_without_signatures(
    configure: Configure, tmp_path: Path, console: Console
) -> None:
    simulate(configure(), tmp_path / "run", console=console)
    page = (tmp_path / "run" / "report.html").read_text()
    verdict = verdict_of(tmp_path / "run" / "audit.jsonl")
    assert f"chained to the one before: {verdict.records} in 1 segment, the last" in page
    assert verdict.head in page
    assert f"{verdict.records - 1} events." in page
    for record in records(tmp_path / "run" / "audit.jsonl"):
        assert record["signature"][:40] not in page
        assert record["previous"] not in page
    assert "segment_started" not in page
    assert "<td>clients 3, model " in page
