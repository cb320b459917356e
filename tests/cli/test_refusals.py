"""What ``qfl simulate`` and ``qfl report`` refuse, in which words, and what they leave."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from calls import SMALL, Call


@pytest.mark.parametrize(
    ("arguments", "expected", "words"),
    [
        (["experiment=dmeo"], 2, "unknown experiment 'dmeo'; did you mean 'demo'"),
        (["client.lrr=1"], 2, "unknown key 'client.lrr'; did you mean 'client.lr'"),
        (["rounds=-1"], 2, "rounds=-1 is not allowed: must be >= 1"),
        (["rounds=many"], 2, "rounds: Value 'many' of type 'str' could not be converted"),
        (["rounds"], 2, "cannot read 'rounds'"),
        (["clients=1"], 2, "clients=1 is fewer than strategy.min_clients=2"),
        (["model.n_qubits=30"], 2, "GiB are free: use fewer qubits"),
        (["quantum.device=none.such", "model.n_qubits=2"], 2, "quantum.device=none.such is not"),
        (["strategy=plain", "strategy.trust=key_holder"], 2, "set strategy.trust=none"),
        (["dataset=csv", "dataset.path=x.csv"], 2, "dataset.target is not set"),
        (["dataset=csv", "dataset.path=x.csv", "dataset.target=y"], 3, "x.csv does not exist"),
        (["dataset=iris", "clients=90"], 3, "lower clients or partition.min_examples"),
        (["dataset=iris", "partition=files"], 3, "partition=files needs data with one file per"),
        (["resume=nowhere"], 7, "nowhere is no run folder: it holds no config.yaml"),
        (["resume=."], 7, "is no run folder"),
        (["--nonsense"], 2, "unrecognized arguments: --nonsense"),
    ],
)
def test_bad_input_is_refused_and_leaves_nothing(
    call: Call, arguments: list[str], expected: int, words: str
) -> None:
    code, output, errors = call("simulate", *arguments)
    assert (code, output) == (expected, "")
    assert words in errors
    assert "Traceback" not in errors
    assert not Path("outputs").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "data.csv is empty"),
        ("a,b,y\n", "data.csv has a header and no rows"),
        ("a,b,why\n1,2,x\n", "data.csv has no column 'y' (dataset.target)"),
        ("a,b,y\n1,2,x\n3,red,z\n", "data row 2, column 'b': found 'red' where a number belongs"),
        ("a,b,y\n1,2,x\n3,nan,z\n", "data row 2, column 'b': the cell is nan"),
        ("a,b,y\n1,2,x\n3,,z\n", "data row 2, column 'b': the cell is empty"),
        ("a,b,y\n1,2,x\n3,4\n", "data row 2: 2 cells, and the header names 3 columns"),
        ("a,b,y\n1,2,x\n3,4,x\n", "target 'y' has 1 class (x): classification needs at least 2"),
    ],
)
def test_bad_data_is_refused_with_its_place(call: Call, content: str, words: str) -> None:
    Path("data.csv").write_text(content)
    own = ["dataset=csv", "dataset.path=data.csv", "dataset.target=y", "model=mlp"]
    code, _, errors = call("simulate", *own)
    assert code == 3
    assert words in errors
    assert not Path("outputs").exists()


@pytest.mark.parametrize("content", [None, "not a run"])
def test_a_report_of_what_is_no_run(call: Call, content: str | None) -> None:
    if content:
        Path("run").mkdir()
        Path("run", "summary.json").write_text(content)
    code, output, errors = call("report", "run")
    assert (code, output) == (7, "")
    assert errors.startswith("qfl: run is not a ")


def test_a_refused_run_takes_nothing_of_the_users_with_it(call: Call) -> None:
    Path("mine").mkdir()
    Path("mine", "precious.txt").write_text("a year of work")
    code, _, _ = call("simulate", "model.n_qubits=30", "hydra.run.dir=mine")
    assert code == 2
    assert [path.name for path in Path("mine").iterdir()] == ["precious.txt"]


def test_a_full_disk_is_exit_code_seven(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    code, _, errors = call("simulate", *SMALL)
    assert code == 7
    assert "No space left on device; free some space" in errors
    assert not Path("outputs").exists()
