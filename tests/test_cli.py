"""The ``qfl`` command as people and scripts use it."""

from __future__ import annotations

import csv
import errno
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import qfl
from qfl import cli
from qfl.errors import DataError

ROOT = Path(__file__).parents[1]
SMALL = [
    *("dataset=iris", "model=mlp", "partition=iid", "clients=3", "rounds=2", "strategy=plain"),
    *("baselines.twin=false", "baselines.plain=false", "baselines.pooled=false"),
]
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder of the test's own; Hydra's logging and environment are put back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setenv("COLUMNS", "160")
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    for handler in set(root.handlers) - set(before):
        handler.close()
    root.handlers[:] = before
    root.setLevel(level)


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run a command in this process; gives exit code, output and errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = cli.main(list(arguments))
        except SystemExit as left:  # argparse: wrong options, or -h
            code = int(left.code or 0)
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qfl.federation.report.write_report", lambda path: path / "report.html")


def runs(experiment: str = "demo") -> list[Path]:
    return sorted(Path("outputs", experiment).iterdir())


def test_version_and_help(call: Call) -> None:
    assert call("--version") == (0, f"qfl {qfl.__version__}\n", "")
    for arguments in (["--help"], ["-h"], ["help"], []):
        code, output, _ = call(*arguments)
        assert code == 0
        assert all(word in output for word in ("simulate", "report RUN_DIR", "doctor", "--debug"))


def test_an_unknown_command(call: Call) -> None:
    code, _, errors = call("simulat")
    assert code == 2
    assert errors == (
        "qfl: unknown command 'simulat'; did you mean 'simulate'? Known: doctor, report, simulate\n"
    )


@pytest.mark.parametrize("arguments", [["report"], ["report", "a", "b"], ["doctor", "--briefly"]])
def test_wrong_options_of_a_command(call: Call, arguments: list[str]) -> None:
    code, _, errors = call(*arguments)
    assert code == 2
    assert "usage: qfl " in errors


def test_help_of_simulate_lists_what_can_be_chosen(call: Call) -> None:
    code, output, _ = call("simulate", "-h")
    assert code == 0
    for words in ("qfl simulate experiment=NAME", "experiment: demo, forecast", "lr: 0.05",
                  "resume=RUN_DIR", "model: cnn, lstm, mlp, qcnn, qlstm, qnn"):  # fmt: skip
        assert words in output
    assert not Path("outputs").exists()


def test_the_configuration_is_shown_and_nothing_runs(call: Call) -> None:
    code, output, _ = call("simulate", "experiment=forecast", "seed=11", "--cfg", "job")
    assert code == 0
    assert "seed: 11\n" in output
    assert "name: narma10" in output
    assert not Path("outputs").exists()


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
def test_a_sweep_makes_a_folder_for_each_job_and_one_table(call: Call) -> None:
    swept = ["client.lr=0.01,0.1", "strategy=plain,ckks"]
    others = [entry for entry in SMALL if not entry.startswith("strategy")]
    code, output, errors = call("simulate", *others, *swept, "--multirun")
    assert (code, errors) == (0, "")
    (folder,) = runs()
    assert folder.name.startswith("multirun-")
    jobs = sorted(path for path in folder.iterdir() if path.is_dir())
    assert [job.name for job in jobs] == ["0", "1", "2", "3"]
    assert all((job / "model.safetensors").exists() for job in jobs)
    assert output.count("4 jobs in ") == 1
    table = output[output.index("4 jobs in ") :].splitlines()
    assert [line.split()[:3] for line in table[2:6]] == [
        ["0", "client.lr=0.01", "strategy=plain"],
        ["1", "client.lr=0.01", "strategy=ckks"],
        ["2", "client.lr=0.1", "strategy=plain"],
        ["3", "client.lr=0.1", "strategy=ckks"],
    ]


@pytest.mark.usefixtures("no_report")
def test_a_bad_job_does_not_stop_a_sweep(call: Call) -> None:
    code, output, errors = call("simulate", "--multirun", *SMALL, "client.lr=0.01,-1,0.1")
    assert code == 2
    assert "qfl: job 1 failed: client.lr=-1.0 is not allowed: must be > 0" in errors
    assert "2 jobs in " in output
    (folder,) = runs()
    assert [(folder / n / "model.safetensors").exists() for n in "012"] == [True, False, True]


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


@pytest.mark.usefixtures("no_report")
def test_a_folder_with_a_run_is_not_overwritten(call: Call) -> None:
    assert call("simulate", *SMALL, "hydra.run.dir=mine")[0] == 0
    model = Path("mine", "model.safetensors").read_bytes()
    code, _, errors = call("simulate", *SMALL, "seed=9", "hydra.run.dir=mine")
    assert code == 7
    assert "mine holds a run already: go on with resume=" in errors
    assert Path("mine", "model.safetensors").read_bytes() == model


def test_a_full_disk_is_exit_code_seven(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    code, _, errors = call("simulate", *SMALL)
    assert code == 7
    assert "No space left on device; free some space" in errors
    assert not Path("outputs").exists()


def test_debug_adds_the_traceback_and_keeps_the_code(call: Call) -> None:
    code, _, errors = call("simulate", "--debug", "rounds=-1")
    assert code == 2
    assert "Traceback (most recent call last)" in errors
    assert errors.endswith("qfl: rounds=-1 is not allowed: must be >= 1\n")
    assert "Traceback" not in call("simulate", "rounds=-1")[2]


def test_a_defect_is_exit_code_one(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(cli, "_doctor", broken)
    code, _, errors = call("doctor")
    assert code == 1
    assert "unexpected ZeroDivisionError: oh (--debug shows where; please report it)" in errors
    assert "in broken" in call("--debug", "doctor")[2]


def test_ctrl_c_and_errors_of_ours_have_their_codes(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error, expected in ((KeyboardInterrupt(), 130), (DataError("no data"), 3)):

        def stopped(_: list[str], error: BaseException = error) -> int:
            raise error

        monkeypatch.setattr(cli, "_doctor", stopped)
        assert call("doctor")[0] == expected


def test_doctor(call: Call) -> None:
    code, output, _ = call("doctor")
    assert code == 0
    assert "works   TenSEAL" in output
    code, brief, _ = call("doctor", "--brief")
    assert code == 0
    assert len(brief.splitlines()) < len(output.splitlines())


def start(*arguments: str) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-m", "qfl", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,
    )


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


def test_a_reader_that_leaves_is_no_error() -> None:
    process = start("--help")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait(timeout=60) == 0
    assert "Error" not in process.stderr.read()
    process.stderr.close()


def test_leaving_does_not_wait_for_clients_nor_end_python_under_them() -> None:
    """PyTorch aborts the process when Python takes a thread away from inside it."""
    code = """
import atexit, threading, time
from qfl import cli
def failed():
    threading.Thread(target=time.sleep, args=(60,), name="qfl-local-node-0", daemon=True).start()
    print("told")
    return 5
atexit.register(print, "Python ends")
cli.main = failed
cli.entry_point()
"""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        timeout=50,
    )
    assert (done.returncode, done.stdout, done.stderr) == (5, "told\n", "")
