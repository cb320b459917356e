"""``qfl simulate`` as people use it: what a run leaves, how it goes on."""

from __future__ import annotations

import csv
import json
import os
import signal
import time
from pathlib import Path

import pytest
from calls import SMALL, Call, runs, start


def test_a_run_its_report_and_its_continuation(call: Call) -> None:
    code, output, errors = call("simulate", *SMALL)
    assert (code, errors) == (0, "")
    assert "demo: mlp on iris" in output
    assert "Held-out accuracy after 2 rounds" in output
    (folder,) = runs()
    names = {path.name for path in folder.iterdir()}
    assert names >= {"config.yaml", "metrics.jsonl", "summary.json", "model.safetensors",
                     "model.json", "checkpoints", "audit.jsonl", "report.html"}  # fmt: skip
    (folder / "report.html").unlink()
    code, output, _ = call("report", str(folder))
    assert (code, output.strip()) == (0, str(folder / "report.html"))
    assert (folder / "report.html").exists()
    code, output, _ = call("simulate", f"resume={folder}", "rounds=3")
    assert code == 0
    assert "   3/3 " in output
    assert "   2/3 " not in output
    assert runs() == [folder]
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["status"], summary["rounds"], summary["experiment"]) == ("finished", 3, "demo")
    code, _, errors = call("simulate", f"resume={folder}", "client.lr=1")
    assert code == 2
    assert "client.lr=1 is not allowed with resume" in errors
    assert (folder / "summary.json").exists()


def own_experiment(rounds: int = 1) -> str:
    """A configuration folder with an experiment called ``mine``."""
    Path("own", "experiment").mkdir(parents=True)
    lines = [
        "# @package _global_",
        "defaults:",
        "  - override /dataset: iris",
        "  - override /model: mlp",
        "  - override /strategy: plain",
        f"rounds: {rounds}",
        "clients: 2",
    ]
    Path("own", "experiment", "mine.yaml").write_text("\n".join(lines))
    return "own"


@pytest.mark.usefixtures("no_report")
@pytest.mark.parametrize(
    "order",
    [
        ["--config-dir", "own", "experiment=mine", "seed=5"],
        ["experiment=mine", "--config-dir", "own", "seed=5"],
        ["experiment=mine", "seed=5", "--config-dir=own"],
    ],
)
def test_an_experiment_of_the_users_own_with_options_anywhere(call: Call, order: list[str]) -> None:
    own_experiment()
    code, _, errors = call("simulate", *order)
    assert (code, errors) == (0, "")
    (folder,) = runs("mine")
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["experiment"], summary["seed"], summary["rounds"]) == ("mine", 5, 1)


@pytest.mark.usefixtures("no_report")
def test_good_data_of_the_users_own_runs(call: Call) -> None:
    with Path("data.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "b", "y"])
        writer.writerows([i % 7, (i * 3) % 5, "yes" if i % 7 > 3 else "no"] for i in range(60))
    own = ["dataset=csv", "dataset.path=data.csv", "dataset.target=y"]
    code, _, errors = call("simulate", *SMALL[1:], *own)
    assert (code, errors) == (0, "")


@pytest.mark.usefixtures("no_report")
def test_a_failed_federation_says_what_to_do_and_keeps_its_records(call: Call) -> None:
    small = [entry for entry in SMALL if not entry.startswith("strategy")]
    code, _, errors = call("simulate", *small, "strategy=ckks", "strategy.bound=0.001")
    assert code == 5
    assert "0 usable replies, at least 2 are needed" in errors
    assert "raise strategy.bound" in errors
    (folder,) = runs()
    assert json.loads((folder / "summary.json").read_text())["status"] == "failed"


@pytest.mark.usefixtures("no_report")
def test_a_folder_with_a_run_is_not_overwritten(call: Call) -> None:
    assert call("simulate", *SMALL, "hydra.run.dir=mine")[0] == 0
    model = Path("mine", "model.safetensors").read_bytes()
    code, _, errors = call("simulate", *SMALL, "seed=9", "hydra.run.dir=mine")
    assert code == 7
    assert "mine holds a run already: go on with resume=" in errors
    assert Path("mine", "model.safetensors").read_bytes() == model


@pytest.mark.usefixtures("no_report")
@pytest.mark.parametrize(
    ("checkpoint", "fewest"), [("round-*", 0), ("round-*[1-9].safetensors", 1)]
)
def test_ctrl_c_leaves_a_run_that_goes_on(call: Call, checkpoint: str, fewest: int) -> None:
    process = start("simulate", *SMALL, "rounds=100000", "client.local_epochs=5")
    deadline = time.monotonic() + 120
    while not list(Path().glob(f"outputs/demo/*/checkpoints/{checkpoint}")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no checkpoint within two minutes"
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors == "qfl: interrupted\n"
    (folder,) = runs()
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "interrupted"
    done = summary["rounds"]
    assert done >= fewest
    assert call("simulate", f"resume={folder}", f"rounds={done + 1}")[0] == 0
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["status"], summary["rounds"]) == ("finished", done + 1)
