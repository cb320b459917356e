"""The example app, before and after its two lines."""

from __future__ import annotations

import difflib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, Context, Message, RecordDict

from qfl.federation.local_grid import LocalGrid

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "existing_flower_app"
HOSPITALS = 5


class Listening(LocalGrid):
    """Keeps what the server receives."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.received: list[Message] = []

    def pull_messages(self, message_ids: Any) -> list[Message]:
        replies = super().pull_messages(message_ids)
        self.received += replies
        return replies


@pytest.fixture
def tumours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """The app's package, with the current folder for its final model."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    monkeypatch.chdir(tmp_path)
    import importlib

    yield lambda name: importlib.import_module(f"tumours.{name}")
    for name in [name for name in sys.modules if name.split(".")[0] == "tumours"]:
        del sys.modules[name]


def run(tumours: Any, suffix: str, rounds: int) -> tuple[dict[str, np.ndarray], list[Message]]:
    import torch

    client = tumours(f"client_app{suffix}").app
    with Listening(client, HOSPITALS) as grid:
        config = {"num-server-rounds": rounds}
        context = Context(grid.run.run_id, 0, {}, RecordDict(), config)
        tumours(f"server_app{suffix}").app(grid, context)
    weights = torch.load("final_model.pt", weights_only=True)
    return {name: value.numpy() for name, value in weights.items()}, grid.received


def test_run_prints_both_accuracies_and_what_lies_between(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLE / "run.py")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    accuracies = [float(found) for found in re.findall(r"([\d.]+)%", done.stdout)]
    assert len(accuracies) == 2
    assert min(accuracies) > 90
    assert abs(accuracies[0] - accuracies[1]) < 1
    (apart,) = re.findall(r"difference of a weight +(\S+)", done.stdout)
    # Three rounds: what a round's rounding changes, the next one trains on.
    assert 0 < float(apart) < 1e-4
    assert list(tmp_path.iterdir()) == []


def test_one_round_differs_by_no_more_than_the_rounding(tumours: Any) -> None:
    plain, _ = run(tumours, "", rounds=1)
    protected, _ = run(tumours, "_protected", rounds=1)
    assert list(plain) == list(protected)
    # Of five updates, each times a fifth, each is off by half a step of 2^-20 at most, and so is
    # each weight; the largest update is below 1. Both means end up in float32, and Flower's is
    # computed in it.
    grid = 5 * 2.0**-21 * (1 + 1.0)
    for name in plain:
        magnitude = float(np.abs(plain[name]).max())
        float32 = 4 * np.finfo(np.float32).eps * max(magnitude, 1.0)
        apart = float(np.abs(plain[name] - protected[name]).max())
        assert apart <= grid + float32, name


def local_models(replies: list[Message]) -> list[dict[str, np.ndarray]]:
    return [
        {name: array.numpy() for name, array in reply.content["arrays"].items()}
        for reply in replies
        if "arrays" in reply.content
    ]


def test_the_server_of_the_protected_app_sees_no_hospitals_model(tumours: Any) -> None:
    _, open_replies = run(tumours, "", rounds=1)
    _, closed_replies = run(tumours, "_protected", rounds=1)
    models = local_models(open_replies)
    assert len(models) == HOSPITALS

    import torch

    torch.manual_seed(0)
    initial = {k: v.numpy() for k, v in tumours("task").Net().state_dict().items()}
    secrets = set()
    for model in models:
        for name, value in model.items():
            update = value - initial[name]
            on_grid = np.rint(update / HOSPITALS * 2.0**20) / 2.0**20
            for vector in (value, update, on_grid):
                for kind in ("<f4", "<f8"):
                    flat = vector.astype(kind).ravel()
                    pairs = [flat[k : k + 2] for k in range(flat.size - 1)]
                    secrets |= {pair.tobytes() for pair in pairs if pair.all()}

    def seen(replies: list[Message]) -> int:
        blobs = [
            array.data
            for reply in replies
            for record in reply.content.values()
            if isinstance(record, ArrayRecord)
            for array in record.values()
        ]
        hay = b"\x00SEPARATOR\x00".join(blobs)
        return sum(secret in hay for secret in secrets)

    assert seen(open_replies) > 1000
    assert seen(closed_replies) == 0
    named = {name for reply in closed_replies for name in reply.content}
    assert named == {"roles", "qfl-key", "qfl-payload"}


@pytest.mark.parametrize("side", ["client", "server"])
def test_the_readme_shows_the_whole_difference(side: str) -> None:
    before, after = (
        (EXAMPLE / "tumours" / f"{side}_app{suffix}.py").read_text().splitlines()
        for suffix in ("", "_protected")
    )
    differing = sorted(
        line
        for line in difflib.unified_diff(before, after, lineterm="", n=0)
        if line[:1] in "+-" and line[:3] not in ("+++", "---")
    )
    readme = (EXAMPLE / "README.md").read_text()
    shown = re.findall(r"^```diff\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    lines = shown[["client", "server"].index(side)].splitlines()
    assert sorted(line for line in lines if line) == differing


def test_flower_accepts_the_folder() -> None:
    import tomllib

    config = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())
    app = config["tool"]["flwr"]["app"]
    assert set(app["components"]) == {"serverapp", "clientapp"}
    for reference in app["components"].values():
        module, _, attribute = reference.partition(":")
        path = EXAMPLE / f"{module.replace('.', '/')}.py"
        assert re.search(rf"^{attribute} = \w+App\(", path.read_text(), re.MULTILINE)
        protected = path.with_name(f"{path.stem}_protected.py")
        assert re.search(rf"^{attribute} = \w+App\(", protected.read_text(), re.MULTILINE)
