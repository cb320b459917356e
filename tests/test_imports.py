"""What is imported when: a light command loads nothing heavy, and nothing ever loads oqs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "pennylane", "flwr", "hydra", "tenseal", "sklearn", "matplotlib", "ray", "numpy"}


def loaded_after(code: str, folder: Path) -> set[str]:
    """Top-level modules of a fresh interpreter after ``code``."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    tail = "import sys, json; print(json.dumps(sorted({n.split('.')[0] for n in sys.modules})))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{tail}"],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "code",
    [
        "import qfl, qfl.cli, qfl.errors",
        "import qfl.cli; qfl.cli.main(['--help']); qfl.cli.main(['--version'])",
        "import qfl.cli; qfl.cli.main(['nothing'])",
        "import qfl.conf.checks; qfl.conf.checks.from_dict({})",
    ],
)
def test_light_paths_load_nothing_heavy(code: str, tmp_path: Path) -> None:
    assert not loaded_after(code, tmp_path) & HEAVY


def test_a_plain_classical_run_loads_neither_circuits_nor_encryption(tmp_path: Path) -> None:
    code = """
from qfl.cli import main
done = main(["simulate", "dataset=iris", "model=mlp", "strategy=plain", "clients=2", "rounds=1",
             "partition=iid", "baselines.twin=false", "baselines.pooled=false"])
assert done == 0
"""
    loaded = loaded_after(code, tmp_path)
    assert {"torch", "flwr", "hydra"} <= loaded
    assert not loaded & {"pennylane", "tenseal", "oqs", "ray", "pyarrow", "opacus", "pandas"}


def test_no_module_of_ours_loads_oqs(tmp_path: Path) -> None:
    code = """
import importlib, pkgutil, qfl
for module in pkgutil.walk_packages(qfl.__path__, "qfl."):
    # The kernel is a plain shared library beside the modules, which ctypes loads.
    if module.name not in ("qfl.__main__", "qfl.quantum._kernel"):
        importlib.import_module(module.name)
from qfl.federation.doctor import examine
examine()
"""
    loaded = loaded_after(code, tmp_path)
    assert {"qfl", "torch", "pennylane", "tenseal"} <= loaded
    assert "oqs" not in loaded


def test_names_of_the_package() -> None:
    import qfl

    assert callable(qfl.simulate)
    assert callable(qfl.load_config)
    with pytest.raises(AttributeError, match="module 'qfl' has no attribute 'simulte'"):
        _ = qfl.simulte
