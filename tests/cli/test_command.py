"""The ``qfl`` command itself: help, options, exit codes, how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from calls import ROOT, Call, start

import qfl
from qfl import cli
from qfl.errors import DataError


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
        "qfl: unknown command 'simulat'; did you mean 'simulate'? Known: audit, doctor, privacy, "
        "provision, report, simulate\n"
    )


@pytest.mark.parametrize("arguments", [["report"], ["report", "a", "b"], ["doctor", "--briefly"]])
def test_wrong_options_of_a_command(call: Call, arguments: list[str]) -> None:
    code, _, errors = call(*arguments)
    assert code == 2
    assert "usage: qfl " in errors


def test_help_of_simulate_lists_what_can_be_chosen(call: Call) -> None:
    code, output, _ = call("simulate", "-h")
    assert code == 0
    for words in ("qfl simulate experiment=NAME", "lr: 0.05",
                  "experiment: demo, digits_dp, forecast, private_demo",
                  "resume=RUN_DIR", "model: cnn, lstm, mlp, qcnn, qlstm, qnn"):  # fmt: skip
        assert words in output
    assert not Path("outputs").exists()


def test_the_configuration_is_shown_and_nothing_runs(call: Call) -> None:
    code, output, _ = call("simulate", "experiment=forecast", "seed=11", "--cfg", "job")
    assert code == 0
    assert "seed: 11\n" in output
    assert "name: narma10" in output
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
