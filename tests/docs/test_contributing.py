"""The examples of CONTRIBUTING.md run as they stand and do what the text says."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import qfl
from qfl.conf.schema import DATASET_NAMES, MODEL_CONFIGS, ModelConfig, setting
from qfl.crypto import SCHEMES
from qfl.data import datasets, register_dataset
from qfl.errors import ConfigError
from qfl.models import build, register_model

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
EXAMPLES = re.findall(
    r"^### ([^\n]+)\n(?:(?!^```).)*?^```python\n(.*?)^```\n\n```text\n(.*?)^```",
    TEXT,
    re.MULTILINE | re.DOTALL,
)


@pytest.fixture
def registries() -> Iterator[None]:
    """What a test registers is gone afterwards."""
    held: list[dict[str, Any]] = [MODEL_CONFIGS, build._BUILDERS, datasets._LOADERS, SCHEMES]
    copies = [dict(registry) for registry in held]
    names = list(DATASET_NAMES)
    yield
    DATASET_NAMES[:] = names
    for registry, copy in zip(held, copies, strict=True):
        registry.clear()
        registry.update(copy)


@dataclass
class WideConfig(ModelConfig):
    name: str = setting("wide", "model")
    width: int = setting(64, "units in the hidden layer", ge=1)


def nothing(*_: object) -> Any:
    raise AssertionError("nothing is built here")


def test_every_python_block_is_an_example_with_its_output() -> None:
    titles = [title for title, _, _ in EXAMPLES]
    assert titles == ["A model", "A data set", "A part of the strategy", "An aggregation scheme"]
    assert TEXT.count("```python") == len(EXAMPLES)


@pytest.mark.parametrize(("title", "code", "shown"), EXAMPLES, ids=[each[0] for each in EXAMPLES])
def test_the_block_prints_what_is_shown_under_it(
    title: str, code: str, shown: str, tmp_path: Path
) -> None:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    lines = shown.splitlines()
    assert done.stdout.splitlines()[-len(lines) :] == lines


@pytest.mark.usefixtures("registries")
def test_a_model_of_yours_is_chosen_by_name_and_its_range_is_enforced(tmp_path: Path) -> None:
    register_model("wide", WideConfig, nothing)
    (yaml,) = re.findall(r"^```yaml\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "wide.yaml").write_text(yaml)
    config = qfl.load_config(["model=wide", "model.width=32"], config_dir=tmp_path)
    assert config.model == WideConfig(width=32)
    config.model = WideConfig(width=0)
    (said,) = re.findall(r"refused with `([^`]+)`", TEXT)
    with pytest.raises(ConfigError) as refusal:
        qfl.simulate(config, tmp_path / "run")
    assert str(refusal.value) == said
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("registries")
def test_a_taken_name_is_refused() -> None:
    register_model("wide", WideConfig, nothing)
    with pytest.raises(ConfigError, match="model 'wide' is already registered: choose another"):
        register_model("wide", WideConfig, nothing)
    with pytest.raises(ConfigError, match="data set 'iris' is already registered: choose another"):
        register_dataset("iris", nothing)


@pytest.mark.usefixtures("registries")
def test_a_schema_that_names_another_model_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"WideConfig has the default name 'wide'.*'wider'"):
        register_model("wider", WideConfig, nothing)
    assert "wider" not in MODEL_CONFIGS


def test_the_places_to_touch_exist() -> None:
    table = re.search(r"^\| \| model \|.*?(?=^\n)", TEXT, re.MULTILINE | re.DOTALL)
    assert table is not None
    named = 0
    for clause in re.split(r"[|;]", table[0]):
        words = re.findall(r"`([^`]+)`", clause)
        places = [word.split("NAME")[0] for word in words if "/" in word]
        for place in places:
            assert (ROOT / place).exists(), place
        if " in `" in clause and len(places) == 1:
            for word in words[:-1]:
                named += 1
                assert word in (ROOT / places[0]).read_text(), f"{word} in {places[0]}"
    assert named >= 6
