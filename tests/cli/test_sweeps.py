"""``qfl simulate --multirun``: a folder for each job, and one table."""

from __future__ import annotations

import pytest
from calls import SMALL, Call, runs


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
