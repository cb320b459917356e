"""The report page of a run, made from run folders whose values follow from formulas."""

from __future__ import annotations

import base64
import json
import math
import os
import re
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from qfl.errors import StorageError
from qfl.federation.report import write_report

CONFIG = """\
name: demo
seed: 0
rounds: {rounds}
clients: {clients}
dataset:
  name: {dataset}
  task: {task}
partition:
  name: dirichlet
  alpha: 0.5
model:
  name: qnn
  n_qubits: 8
strategy:
  scheme: {scheme}
  trust: {trust}
"""


def write_lines(path: Path, records: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def metric_lines(rounds: int, task: str, runs: tuple[str, ...]) -> list[dict[str, Any]]:
    """Curves that fall or rise exponentially; ``plain`` equals ``main``, ``twin`` is better."""
    records = []
    for run in runs:
        for i in range(rounds + 1):
            gone = math.exp(-i / (5 if run == "twin" else 6))
            values = {"loss": 0.12 + 2.2 * gone, "train_loss": 0.1 + 2.1 * gone}
            if task == "classification":
                values["accuracy"] = 0.96 - 0.86 * gone
            else:
                values |= {"rmse": 0.05 + 0.4 * gone, "mae": 0.04 + 0.3 * gone, "r2": 0.98 - gone}
            if i:
                values |= {
                    "clients": 10,
                    "failures": 1 if i == 4 else 0,
                    "bytes_up": 10 * 15_990,
                    "bytes_down": 10 * 2_632,
                    "seconds": 0.8 + 0.1 * math.sin(i),
                }
            records += [
                {"run": run, "round": i, "metric": name, "value": value}
                for name, value in values.items()
            ]
    return records


def classification(clients: int, classes: list[str]) -> dict[str, Any]:
    number = len(classes)
    matrix = [
        [37 if i == j else (3 if (i + j) % 5 == 0 else 0) for j in range(number)]
        for i in range(number)
    ]
    held = []
    for i in range(clients):
        labels = [int(60 * math.exp(-((k - i) % number) * 0.7)) for k in range(number)]
        accuracy = 0.85 + 0.1 * math.sin(i)
        held.append({"client": i, "examples": sum(labels), "labels": labels, "accuracy": accuracy})
    return {
        "task": "classification",
        "classes": classes,
        "confusion_matrix": matrix,
        "clients": held,
    }


def regression(clients: int, length: int) -> dict[str, Any]:
    truth = [math.exp(-i / 200) * math.sin(i / 6) for i in range(length)]
    prediction = [value + 0.05 * math.cos(1.7 * i) for i, value in enumerate(truth)]
    held = [
        {
            "client": i,
            "examples": 100 + 10 * i,
            "target_mean": math.sin(i),
            "target_std": 0.3,
            "rmse": 0.05 + 0.01 * (i % 3),
        }
        for i in range(clients)
    ]
    return {"task": "regression", "truth": truth, "prediction": prediction, "clients": held}


def build_run(
    folder: Path,
    task: str = "classification",
    rounds: int = 20,
    clients: int = 10,
    classes: tuple[str, ...] = tuple("0123456789"),
    length: int = 240,
    baselines: bool = True,
    **summary: Any,
) -> Path:
    """A run folder as a simulation leaves it."""
    folder.mkdir(parents=True)
    config = CONFIG.format(
        rounds=20,
        clients=clients,
        dataset="digits" if task == "classification" else "damped_oscillator",
        task=task,
        scheme="ckks",
        trust="key_holder",
    )
    (folder / "config.yaml").write_text(config, encoding="utf-8")
    runs = ("main", "plain", "twin") if baselines else ("main",)
    write_lines(folder / "metrics.jsonl", metric_lines(rounds, task, runs))
    score = "accuracy" if task == "classification" else "rmse"
    metrics = {
        record["metric"]: record["value"]
        for record in metric_lines(rounds, task, ("main",))
        if record["metric"] in ("loss", "accuracy", "rmse", "mae", "r2")
    }
    compared = {
        "plain": metrics,
        "twin": {score: metrics[score] * 1.01, "name": "mlp", "parameters": 698},
        "pooled": {
            score: 0.97 if task == "classification" else 0.06,
            "name": "logistic regression" if task == "classification" else "ridge",
        },
    }
    data: dict[str, Any] = {
        "experiment": "demo",
        "status": "finished",
        "reason": None,
        "seed": 0,
        "rounds": rounds,
        "clients": clients,
        "task": task,
        "metrics": metrics,
        "baseline": compared if baselines else {},
        "model": {"name": "qnn", "parameters": 658},
        "privacy": {"epsilon": None, "delta": None, "mechanism": "none", "accountant": "none"},
        "aggregation": {
            "scheme": "ckks",
            "trust": "key_holder",
            "assumption": "server and key holder do not collude; honest-but-curious only: "
            "no identities configured",
            "opened_by": "key holder (node 11)",
            "upload_bytes_per_client": 15_990,
            "download_bytes_per_client": 2_632,
            "max_abs_error": 0.0,
        },
        "seconds": {"total": 200.0, "per_round": 0.8},
        "versions": {"qfl": "0.1.0", "flwr": "1.41.0", "torch": "2.13.0", "python": "3.11.7"},
        "notes": [],
    }
    (folder / "summary.json").write_text(json.dumps(data | summary), encoding="utf-8")
    if task == "classification":
        evaluation = classification(clients, list(classes))
    else:
        evaluation = regression(clients, length)
    (folder / "evaluation.json").write_text(json.dumps(evaluation), encoding="utf-8")
    events = [
        {"time": 1_700_000_000 + i, "event": "sum opened", "round": i, "clients": 10}
        for i in range(1, rounds + 1)
    ]
    write_lines(folder / "audit.jsonl", events)
    return folder


class Page(HTMLParser):
    """What a reader meets: headings, text, images; and whether every tag is closed."""

    EMPTY = ("meta", "img", "br", "link")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.open: list[str] = []
        self.tags: list[str] = []
        self.headings: list[str] = []
        self.figures: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag == "img":
            self.images.append(dict(attrs))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            return
        self.text += data
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)
        if self.open[-2:] == ["figure", "h3"]:
            self.figures.append(data)


def page_of(folder: Path) -> Page:
    path = write_report(folder)
    assert path == folder / "report.html"
    return Page(path.read_text(encoding="utf-8"))


def change(folder: Path, name: str, **values: Any) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values), encoding="utf-8")


def drop(folder: Path, name: str, key: str) -> None:
    data = json.loads((folder / name).read_text())
    del data[key]
    (folder / name).write_text(json.dumps(data), encoding="utf-8")


SECTIONS = [
    "Learning",
    "Baselines",
    "Held-out predictions",
    "Clients",
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


def test_reports_are_written_by_several_threads(tmp_path: Path) -> None:
    folders = [build_run(tmp_path / str(i), rounds=2, experiment=f"run {i}") for i in range(4)]
    with ThreadPoolExecutor(4) as pool:
        pages = list(pool.map(page_of, folders))
    for i, page in enumerate(pages):
        assert page.text.strip().startswith(f"run {i}: run report")
        assert len(page.images) == 7
