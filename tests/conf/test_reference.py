"""The configuration reference is what the schemas say."""

import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


@pytest.fixture(scope="module")
def reference() -> str:
    # A process of its own: other tests register models and data sets in this one.
    command = [sys.executable, "-m", "qfl.conf.reference"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_committed_page_is_current(reference: str) -> None:
    assert PAGE.read_text() == reference, "run: make configuration-reference"


def test_groups_keys_ranges_and_choices_are_on_the_page(reference: str) -> None:
    for words in ("`client.lr`", "`model.n_qubits`", "`strategy.selection.name`", "> 0", "`mlp`"):
        assert words in reference
