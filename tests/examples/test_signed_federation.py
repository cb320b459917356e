"""The example of a signed federation prints what its page shows, and lets in whom it names."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "signed_federation"
PAGE = ROOT / "docs" / "identity.md"


def ran(*arguments: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("signed")
    found = ran(str(FOLDER / "run.py"), folder=folder)
    assert list(folder.iterdir()) == []
    return found


def test_it_prints_what_its_page_shows(printed: str) -> None:
    shown = (FOLDER / "README.md").read_text().split("```text\n")[1].split("```")[0]
    assert re.sub(r"did:qfl:[a-z2-7]{52}", "did:qfl:…", printed) == shown


def test_who_is_let_in_stands_in_the_policy_and_what_is_summed_is_theirs(printed: str) -> None:
    named = set(re.findall(r"^  ([\w-]+): \{did", (FOLDER / "policy.yaml").read_text(), re.M))
    let_in = set(re.findall(r"^let in +node \d as (\S+):", printed, re.M))
    assert named == let_in | {"hub"}
    assert len(re.findall(r"^refused ", printed, re.M)) == 1
    clinics, stranger = (0.12, 0.21, 0.15), 0.99
    signed, open_ = (float(one) for one in re.findall(r" (\d\.\d{4})$", printed, re.M))
    # Each of the numbers is rounded to a multiple of 2^-20, and what is printed to four digits.
    assert signed == pytest.approx(sum(clinics) / 3, abs=2**-20 + 5e-5)
    assert open_ == pytest.approx((sum(clinics) + stranger) / 4, abs=2**-20 + 5e-5)


def test_every_program_of_the_page_on_identities_runs(tmp_path: Path) -> None:
    """One after the other, as a reader would; the last one is a federation."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    told = ran("-c", "\n".join(blocks), folder=tmp_path)
    (shown,) = re.findall(r"^```text\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert re.sub(r"did:qfl:[a-z2-7]{52}", "did:qfl:…", told) == shown
