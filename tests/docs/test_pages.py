"""What the pages say can be run runs, and what they link to is there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.md")])


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_that_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("number", range(len(blocks(ROOT / "README.md", "python"))))
def test_python_of_the_readme_runs(number: int, tmp_path: Path) -> None:
    code = blocks(ROOT / "README.md", "python")[number]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    if "simulate(" in code:
        assert "Held-out accuracy after 2 rounds" in done.stdout


def test_commands_of_the_readme_are_targets_and_verbs() -> None:
    text = (ROOT / "README.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\S+)", text, re.MULTILINE):
        assert re.search(rf"^{target}:.*## ", makefile, re.MULTILINE), target
    verbs = set(re.findall(r"^qfl (\w+)", text, re.MULTILINE))
    assert verbs == {"simulate", "privacy", "audit", "report", "provision", "doctor"}


def test_the_experiment_of_getting_started_composes(tmp_path: Path) -> None:
    import qfl

    (text,) = blocks(ROOT / "docs" / "getting-started.md", "yaml")
    folder = tmp_path / "experiment"
    folder.mkdir()
    (folder / "wine.yaml").write_text(text)
    config = qfl.load_config(["experiment=wine"], tmp_path)
    assert (config.name, config.dataset.name, config.clients) == ("wine", "wine", 4)
