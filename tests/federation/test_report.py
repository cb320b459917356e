"""The report page of a run, made from run folders whose values follow from formulas."""

from __future__ import annotations

import base64
import json
import math
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from run_folders import build_run, change, drop, page_of, write_lines

SECTIONS = [
    "Learning",
    "Baselines",
    "Held-out predictions",
    "Clients",
    "Aggregation",
    "Privacy",
    "Cost of a round",
    "Configuration",
    "Audit trail",
    "Versions",
]


def test_classification_answers_in_reading_order(tmp_path: Path) -> None:
    page = page_of(build_run(tmp_path / "2026-03-04_05-06-07", notes=["A plain sentence."]))
    assert page.headings == ["Notes", *SECTIONS]
    assert page.figures == [
        "Held-out accuracy",
        "Held-out loss",
        "Confusion matrix",
        "Labels per client",
        "Accuracy and examples per client",
        "Bytes per round",
        "Time per round",
    ]
    for words in (
        "started 2026-03-04 05:06",
        "92.9 %",  # 0.96 - 0.86 exp(-20 / 6)
        "15.6 KiB",  # 15 990 / 1024
        "3 min 20 s",
        "no differential privacy",
        "trust: key holder",
        "10 in each round, 1 failure",
        "10 clients trained the model qnn (658 parameters) together for 20 rounds",
        "only the sum was opened, by the key holder (node 11)",
        "server and key holder do not collude",
        "A plain sentence.",
        "coincide exactly",
        "370 of 424 held-out predictions are right.",  # 10 * 37 of those and 18 * 3
        "All rounds, without setup and key holder: 3.0 MiB up",  # 20 * 10 * 15 990 bytes
    ):
        assert words in page.text, words


def test_regression_has_its_own_figures_and_no_classes(tmp_path: Path) -> None:
    page = page_of(build_run(tmp_path / "run", task="regression"))
    assert page.headings == SECTIONS
    assert page.figures == [
        "Held-out RMSE",
        "Held-out loss",
        "Held-out MAE",
        "Held-out R²",
        "Prediction over time",
        "Predicted against true",
        "Errors",
        "Targets per client",
        "RMSE and examples per client",
        "Bytes per round",
        "Time per round",
    ]
    assert "Held-out RMSE0.06427" in page.text  # 0.05 + 0.4 exp(-20 / 6)
    assert "ridge" in page.text
    assert "Confusion" not in page.text


def test_interrupted_run_is_shown_as_far_as_it_came(tmp_path: Path) -> None:
    folder = build_run(
        tmp_path / "run",
        rounds=2,
        baselines=False,
        status="interrupted",
        reason="interrupted from the keyboard",
        privacy={},
        aggregation={},
        seconds={},
        versions={},
        metrics={},
    )
    (folder / "evaluation.json").unlink()
    (folder / "audit.jsonl").unlink()
    page = page_of(folder)
    assert page.headings == [
        *SECTIONS[:3],
        "Privacy",
        "Cost of a round",
        "Configuration",
    ]
    assert "of 20 planned" in page.text
    assert "all numbers are those of the rounds completed: interrupted from the key" in page.text
    assert "made without baselines" in page.text
    assert "ended before its final evaluation" in page.text
    assert "34.4 %" in page.text  # the last round's: 0.96 - 0.86 exp(-2 / 6)


def test_run_without_any_round(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", baselines=False, status="failed", reason="no clients")
    (folder / "metrics.jsonl").write_text("")
    page = page_of(folder)
    assert "No round was completed." in page.text
    assert "The run failed" in page.text
    assert page.figures[0] == "Confusion matrix"


def test_real_federation_says_why_clients_are_missing(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run")
    drop(folder, "evaluation.json", "clients")
    page = page_of(folder)
    assert "A real federation does not reveal per-client data." in page.text
    assert "per client" not in " ".join(page.figures)
    assert "Confusion matrix" in page.figures


@pytest.mark.parametrize("clients", [1, 16, 17, 100])
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_any_number_of_clients(tmp_path: Path, clients: int, task: str) -> None:
    page = page_of(build_run(tmp_path / "run", task=task, clients=clients, rounds=3))
    shown = [title for title in page.figures if title.endswith("per client")]
    assert len(shown) == (2 if clients <= 16 else 1)
    assert page.html.count("<figure") == len(page.images) == len(page.figures)


def test_page_needs_nothing_but_itself(tmp_path: Path) -> None:
    page = page_of(build_run(tmp_path / "run"))
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert page.links
    assert all(link.startswith("data:image/svg+xml;base64,") for link in page.links)
    assert "url(" not in page.html
    assert "@import" not in page.html
    for image in page.images:
        assert len(image["alt"] or "") > 20
        svg = base64.b64decode((image["src"] or "").split(",")[1]).decode("utf-8")
        targets = re.findall(r'(?:href|src)\s*=\s*"([^"]*)"', svg)
        assert all(target.startswith(("#", "data:image/png")) for target in targets)
        assert "<script" not in svg


def test_text_from_files_is_escaped(tmp_path: Path) -> None:
    bad = "<script>alert('x')</script>"
    folder = build_run(
        tmp_path / "run",
        experiment=bad,
        reason=bad,
        status=bad,
        classes=(bad, "a & b"),
        notes=[bad],
        versions={bad: bad},
        model={"name": bad, "parameters": 1},
        baseline={bad: {"name": bad, "accuracy": 0.5}},
        aggregation={"scheme": bad, "trust": bad, "assumption": bad, "opened_by": bad},
        privacy={"epsilon": 1.0, "mechanism": bad, "accountant": bad},
    )
    with (folder / "config.yaml").open("a") as file:
        file.write(f'remark: "{bad}"\n')
    with (folder / "audit.jsonl").open("a") as file:
        file.write(json.dumps({"time": bad, "event": bad, bad: bad}) + "\n")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"run": "main", "round": 1, "metric": bad, "value": 1}) + "\n")
    page = page_of(folder)
    assert "script" not in page.tags
    assert "<script" not in page.html
    assert page.text.count(bad) > 15
    assert "a & b" in page.text


def test_names_that_figures_could_stumble_over(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", classes=("$x^$", "a\nb", "\\frac", "l" * 300))
    change(folder, "summary.json", experiment="half a pair: \ud800")
    assert "Confusion matrix" in page_of(folder).figures


def test_torn_last_line_is_left_out_with_a_note(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", rounds=2, baselines=False)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"run": "main", "rou')
    page = page_of(folder)
    # Rounds 0 to 2: three metrics before training, eight in each round.
    assert "The last line of metrics.jsonl (line 20) is torn" in page.text


def test_a_repeated_round_counts_as_last_written(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", rounds=2, baselines=False, metrics={})
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"run": "main", "round": 2, "metric": "accuracy", "value": 0.123}\n')
    page = page_of(folder)
    assert "Held-out accuracy12.3 %" in page.text


def test_curves_that_differ_are_said_to_differ(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", rounds=2)
    with (folder / "metrics.jsonl").open("a") as file:
        for run, value in (("main", 0.5), ("plain", 0.53125)):
            record = {"run": run, "round": 2, "metric": "accuracy", "value": value}
            file.write(json.dumps(record) + "\n")
    page = page_of(folder)
    assert "differ by at most 3.125 percentage points (round 2)" in page.text
    assert "run without encryption coincide exactly." in page.text  # the loss still does


def test_values_that_are_not_finite_are_shown_as_such(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", rounds=2, metrics={"accuracy": 0.1, "loss": math.nan})
    with (folder / "metrics.jsonl").open("a") as file:
        for run in ("main", "plain", "twin"):
            for step, value in enumerate(("NaN", "Infinity", "NaN")):
                file.write(f'{{"run": "{run}", "round": {step}, "metric": "loss", ')
                file.write(f'"value": {value}}}\n')
    page = page_of(folder)
    assert "loss not a number" in page.text
    assert "+infinite" in page.text


def test_privacy_and_plain_sums_in_the_headline(tmp_path: Path) -> None:
    folder = build_run(
        tmp_path / "run",
        privacy={"epsilon": 2.5, "delta": 1e-5, "mechanism": "central", "accountant": "prv"},
        aggregation={"scheme": "plain", "trust": "none", "max_abs_error": 0.0},
    )
    page = page_of(folder)
    assert "ε = 2.5" in page.text
    assert "δ = 1e-05, central, prv" in page.text
    assert "no encryption" in page.text
    assert "the server could read each one" in page.text


def test_long_audit_shows_both_ends(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run")
    events = [{"time": "t", "event": f"event{i}.", "n": {"k": i}} for i in range(50)]
    write_lines(folder / "audit.jsonl", events)
    text = page_of(folder).text
    assert "The first and last 20 of 50 events." in text
    assert "10 events left out here" in text
    assert {i for i in range(50) if f"event{i}." in text} == {*range(20), *range(30, 50)}
    assert "n {'k': 49}" in text


def test_reports_are_written_by_several_threads(tmp_path: Path) -> None:
    folders = [build_run(tmp_path / str(i), rounds=2, experiment=f"run {i}") for i in range(4)]
    with ThreadPoolExecutor(4) as pool:
        pages = list(pool.map(page_of, folders))
    for i, page in enumerate(pages):
        assert page.text.strip().startswith(f"run {i}: run report")
        assert len(page.images) == 7
