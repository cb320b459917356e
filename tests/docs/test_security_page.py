"""The threat model names tests; each of them exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()


def test_every_test_that_the_threat_model_names_exists() -> None:
    named: dict[str, list[str]] = {}
    for line in PAGE.splitlines():
        file = ""
        for word in re.findall(r"`([^`]+)`", line):
            if word.endswith(".py"):
                path = ROOT / word if "/" in word else ROOT / "tests" / "attacks" / word
                file = str(path.relative_to(ROOT))
                named.setdefault(file, [])
            elif word.startswith("test_") and file:
                named[file].append(word)
    assert sum(map(len, named.values())) > 40
    for file, tests in named.items():
        source = (ROOT / file).read_text()
        for test in tests:
            assert f"def {test}(" in source, f"{file} holds no {test}"
