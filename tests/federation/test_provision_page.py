"""The page on provisioning: every block of it runs, one after the other, as a reader would."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from qfl.federation.provision_kit import PATHS
from qfl.federation.provision_plan import DAYS, MOST_DAYS, read_plan

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "provisioning.md").read_text()
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHON": sys.executable}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def ran(*command: str, folder: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all commands of the page were run."""
    made = tmp_path_factory.mktemp("page")
    (text,) = blocks("yaml")
    (made / "federation.yaml").write_text(text)
    script = 'set -e\nqfl() { "$PYTHON" -m qfl "$@"; }\n' + "\n".join(blocks("bash"))
    said = ran("bash", "-c", script, folder=made)
    assert said.count("All holds.") == 2
    return made


def test_commands_run(folder: Path) -> None:
    names = {path.name for path in (folder / "kits").iterdir()} - {".lock", "operator"}
    assert names == {"hub", "notary", "clinic-1", "clinic-2", "clinic-3", "clinic-4"}
    assert (folder / "clinic-1" / "kit.json").exists()


def test_python_runs_on_what_the_commands_made(folder: Path) -> None:
    (code,) = blocks("python")
    assert ran(sys.executable, "-c", code, folder=folder) == "clinic-1 in clinics\n"


def test_the_page_shows_the_example_and_names_every_file() -> None:
    (text,) = blocks("yaml")
    example = (ROOT / "examples" / "federation.yaml").read_text()
    assert read_plan(text) == read_plan(example)
    bare = "".join(line for line in example.splitlines(True) if not line.startswith("#"))
    assert bare == text
    table = PAGE.split("| in `kits/NAME/`")[1].split("\n\n")[0]
    named = set(re.findall(r"`([a-z/]+\.(?:key|cbor|json|crt|pub))`", table))
    assert named == PATHS
    assert f"1 to {MOST_DAYS} | {DAYS} |" in PAGE
