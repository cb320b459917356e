"""The example with one CSV file per client runs as its page says."""

import runpy
from pathlib import Path

import pytest

import qfl

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_data"


def test_three_hospitals_train_on_principal_components(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLE / "make_files.py"))["main"](Path("hospitals"))
    assert sorted(path.name for path in Path("hospitals").iterdir()) == [
        "hospital_0.csv",
        "hospital_1.csv",
        "hospital_2.csv",
    ]
    overrides = ["experiment=hospitals", "rounds=2", "model=mlp", "baselines.twin=false"]
    # The experiment sets keys of the quantum model, which the classical one does not have.
    text = (EXAMPLE / "experiment" / "hospitals.yaml").read_text()
    folder = tmp_path / "experiment"
    folder.mkdir()
    (folder / "hospitals.yaml").write_text(text.replace("model:\n  n_qubits: 6\n", ""))
    summary = qfl.simulate(qfl.load_config(overrides, tmp_path), tmp_path / "run", report=False)
    assert summary["clients"] == 3
    assert summary["metrics"]["accuracy"] > 0.9
    assert summary["baseline"]["pooled"]["accuracy"] > 0.95


def test_the_committed_experiment_composes() -> None:
    config = qfl.load_config(["experiment=hospitals"], EXAMPLE)
    assert config.preprocess.pca == 6
    assert config.partition.name == "files"
