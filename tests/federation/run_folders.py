"""Run folders whose values follow from formulas, and report pages as a reader meets them."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

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


def add_lines(path: Path, records: list[dict[str, Any]]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


def add_metrics(folder: Path, name: str, values: dict[int, float], run: str = "main") -> None:
    """A further metric by round."""
    lines = [{"run": run, "round": i, "metric": name, "value": v} for i, v in values.items()]
    add_lines(folder / "metrics.jsonl", lines)


def add_openings(folder: Path, label: str, contributions: dict[int, int]) -> None:
    """Opened sums by round in the audit trail."""
    lines = [
        {
            "time": "2026-03-04T05:06:07+0000",
            "event": "sum_opened",
            "round": i,
            "label": label,
            "contributions": count,
            "opened_by": "key holder (node 11)",
        }
        for i, count in contributions.items()
    ]
    add_lines(folder / "audit.jsonl", lines)


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


def facts_of(page: Page, title: str = "Aggregation") -> dict[str, str]:
    """The rows of a section's table of names and what they are."""
    section = page.html.split(f"<h2>{title}</h2>")[1].split("</section>")[0]
    pairs = re.findall(r'<th scope="row">(.*?)</th><td>(.*?)</td>', section)
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def table_of(page: Page, first: str) -> list[list[str]]:
    """The cells of the table whose header starts with ``first``, row by row."""
    (table,) = [
        table for table in page.html.split("<table>")[1:] if f"<tr><th>{first}</th>" in table
    ]
    rows = re.findall(r"<tr>(.*?)</tr>", table.split("</table>")[0])
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]


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
