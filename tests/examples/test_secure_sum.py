"""The example of a secure sum prints what its page shows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "examples" / "secure_sum"


def test_it_prints_what_its_page_shows() -> None:
    ran = subprocess.run(
        [sys.executable, FOLDER / "secure_sum.py"], capture_output=True, text=True, check=True
    )
    shown = (FOLDER / "README.md").read_text().split("```text\n")[1].split("```")[0]
    assert ran.stdout == shown
    assert ran.stdout.count("exact") == 4
