"""What tests of the command share: a small run, where runs go, the command as a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
SMALL = [
    *("dataset=iris", "model=mlp", "partition=iid", "clients=3", "rounds=2", "strategy=plain"),
    *("baselines.twin=false", "baselines.plain=false", "baselines.pooled=false"),
]
Call = Callable[..., tuple[int, str, str]]


def runs(experiment: str = "demo") -> list[Path]:
    return sorted(Path("outputs", experiment).iterdir())


def start(*arguments: str) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-m", "qfl", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,
        # A shell that runs the tests in the background has them ignore Ctrl-C, children included.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
