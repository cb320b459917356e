"""The example attacks models: it wins without privacy, and never shows more than is proven."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy.stats import norm

FOLDER = Path(__file__).parents[2] / "examples" / "audit_privacy"


def cells(line: str) -> tuple[str, float, float, float]:
    """Mechanism, proven and shown epsilon, area under the curve."""
    words = line[20:].replace("at most", "").replace("at least", "").split()
    proven = float("inf") if words[0] == "infinite" else float(words[0])
    return line[:20].strip(), proven, float(words[1]), float(words[2])


def test_the_attack_wins_without_privacy_and_keeps_below_what_is_proven(tmp_path: Path) -> None:
    command = [sys.executable, FOLDER / "audit_privacy.py", "--quick"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    header, *lines = ran.stdout.splitlines()
    open_, *private = [cells(line) for line in lines]
    assert open_[0] == "no privacy"
    assert open_[1] == np.inf
    assert open_[2] > 2
    assert open_[3] > 0.65
    assert [proven for _, proven, _, _ in private] == pytest.approx([4, 1], rel=0.01)
    for _, proven, shown, area in private:
        assert shown < proven
        assert area < 0.62
    drawn = ElementTree.parse(tmp_path / "roc.svg").getroot()
    assert len([one for one in drawn.iter() if one.get("id", "").startswith("line2d")]) > 7
    # The page shows a longer run of the same ways of training.
    page = (FOLDER / "README.md").read_text().split("```text\n")[1].split("```")[0].splitlines()
    assert page[0] == header
    shown_there = [cells(line) for line in page[1:]]
    assert [one[:2] for one in shown_there] == [one[:2] for one in (open_, *private)]
    assert all(shown < proven for _, proven, shown, _ in shown_there)


def test_scores_are_likelihood_ratios() -> None:
    draws = np.random.default_rng(0)
    coins = draws.random((20_000, 2)) < 0.5
    means, spreads = np.where(coins, [3.0, -1.0], [0.0, -1.0]), np.where(coins, 2.0, 1.0)
    targets = np.array([[0.0, 0.5], [4.0, -2.0]])
    found = runpy.run_path(str(FOLDER / "audit_privacy.py"))["likelihood_ratios"](
        draws.normal(means, spreads), coins, targets
    )
    expected = norm.logpdf(targets, [3.0, -1.0], 2.0) - norm.logpdf(targets, [0.0, -1.0], 1.0)
    np.testing.assert_allclose(found, expected, rtol=0.03, atol=0.05)
