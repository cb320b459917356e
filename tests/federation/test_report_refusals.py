"""Run folders that give no report: what is wrong is named, and nothing is written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from run_folders import build_run, change

from qfl.errors import StorageError
from qfl.federation.report import write_report


@pytest.mark.parametrize("names", [("config.yaml",), ("metrics.jsonl", "summary.json")])
def test_what_is_missing_is_listed(tmp_path: Path, names: tuple[str, ...]) -> None:
    folder = build_run(tmp_path / "run")
    for name in names:
        (folder / name).unlink()
    with pytest.raises(StorageError, match=f"not a run folder: {', '.join(names)} missing"):
        write_report(folder)


def test_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nowhere is not a folder"):
        write_report(tmp_path / "nowhere")


def line(**values: Any) -> str:
    record = {"run": "main", "round": 1, "metric": "loss", "value": 1.0} | values
    return json.dumps(record) + "\n"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("config.yaml", "a: 1\nb: [1\nc: 2\n", r"config\.yaml, line 3: not valid YAML"),
        ("config.yaml", "- a\n", r"config\.yaml, line 1: must be a mapping, not a list"),
        ("config.yaml", "a: \x01\n", r"config\.yaml, line 1: not valid YAML"),
        ("config.yaml", "a: 1\nb: \udcff\n", r"config\.yaml, line 2: not UTF-8 text"),
        ("summary.json", '{\n"a": 1,\n}', r"summary\.json, line 3: not valid JSON"),
        ("summary.json", "[]", r"summary\.json, line 1: must be a JSON object, not a list"),
        ("evaluation.json", "{", r"evaluation\.json, line 1: not valid JSON"),
        ("metrics.jsonl", "{\n{}\n", r"metrics\.jsonl, line 1: not valid JSON"),
        ("metrics.jsonl", "\n[]\n", r"metrics\.jsonl, line 2: must be a JSON object"),
        ("metrics.jsonl", line(run=3), r"line 1: 'run' must be text, not 3"),
        ("metrics.jsonl", line(metric=None), r"line 1: 'metric' must be text, not empty"),
        ("metrics.jsonl", line(round=-1), r"line 1: 'round' is -1; must be a whole number >= 0"),
        ("metrics.jsonl", line(round=True), r"line 1: 'round' is True"),
        ("metrics.jsonl", line(value="1"), r"line 1: 'value' must be a number, not text"),
        ("metrics.jsonl", line(value=10**400), r"line 1: 'value' must be a number"),
        ("audit.jsonl", '{"time": 1}\n', r"audit\.jsonl, line 1: 'time' or 'event' is missing"),
    ],
)
def test_malformed_files_are_refused_by_name_and_line(
    tmp_path: Path, name: str, content: str, words: str
) -> None:
    folder = build_run(tmp_path / "run", rounds=1)
    (folder / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(StorageError, match=words):
        write_report(folder)
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"task": "ranking"}, "task is 'ranking'; must be one of classification, regression"),
        ({"rounds": "3"}, "'rounds' must be a number, not text"),
        ({"metrics": [1]}, "'metrics' must be an object, not a list"),
        ({"metrics": {"loss": "low"}}, "'metrics.loss' must be a number, not text"),
        ({"baseline": {"twin": 0.9}}, "'baseline.twin' must be an object, not 0.9"),
        ({"baseline": {"twin": {"loss": []}}}, "'baseline.twin.loss' must be a number"),
        ({"privacy": {"epsilon": True}}, "'privacy.epsilon' must be a number, not true or false"),
        ({"notes": "text"}, "'notes' must be a list, not text"),
    ],
)
def test_summaries_of_a_wrong_kind_are_refused(
    tmp_path: Path, values: dict[str, Any], words: str
) -> None:
    folder = build_run(tmp_path / "run", rounds=1)
    change(folder, "summary.json", **values)
    with pytest.raises(StorageError, match=f"summary.json: {words}"):
        write_report(folder)


CLIENT = {"client": 0, "examples": 3, "labels": [1, 2], "accuracy": 0.5}


@pytest.mark.parametrize(
    ("task", "values", "words"),
    [
        ("classification", {"task": "regression"}, "the files belong to different runs"),
        ("classification", {"classes": None}, "'classes' is missing"),
        ("classification", {"confusion_matrix": [[1, 2]]}, "must be 2 rows of 2 counts"),
        ("classification", {"confusion_matrix": [[1, 2], [1]]}, "must be 2 rows of 2 counts"),
        ("classification", {"confusion_matrix": [[1, 2], [1, -1]]}, "must be 2 rows of 2 counts"),
        ("classification", {"clients": [3]}, "'clients' is missing, or holds what does not"),
        ("classification", {"clients": [CLIENT | {"examples": 1.5}]}, "examples is 1.5; must be a"),
        ("classification", {"clients": [CLIENT | {"labels": [1]}]}, "labels must be 2 counts"),
        ("classification", {"clients": [CLIENT | {"accuracy": "x"}]}, "score must be a number"),
        ("regression", {"truth": [1.0], "prediction": []}, "has 1 values and 'prediction' 0"),
        ("regression", {"truth": ["1"]}, "'truth' is missing, or holds what does not belong"),
    ],
)
def test_evaluations_that_contradict_themselves_are_refused(
    tmp_path: Path, task: str, values: dict[str, Any], words: str
) -> None:
    folder = build_run(tmp_path / "run", task=task, rounds=1, classes=("no", "yes"))
    change(folder, "evaluation.json", **values)
    with pytest.raises(StorageError, match=words):
        write_report(folder)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_failed_write_leaves_the_old_page_and_no_debris(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    folder = build_run(tmp_path / "run", rounds=1)
    (folder / "report.html").write_text("the old page")
    before = sorted(folder.iterdir())

    def fail(*arguments: Any) -> None:
        # The temporary file is there and written by now.
        assert len(list(folder.iterdir())) == len(before) + 1
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(StorageError, match=r"cannot write .*report\.html: No space left"):
        write_report(folder)
    assert sorted(folder.iterdir()) == before
    assert (folder / "report.html").read_text() == "the old page"


def test_unreadable_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = build_run(tmp_path / "run", rounds=1)

    def fail(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(StorageError, match=r"config\.yaml cannot be read: Permission denied"):
        write_report(folder)
