"""The runs behind the privacy curve, over two processes."""

from __future__ import annotations

import math
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from io import StringIO
from multiprocessing import get_context
from pathlib import Path

PROCESSES = 2


@dataclass(frozen=True)
class Case:
    """One run.

    Attributes:
        model: ``qnn``, or ``mlp`` for its twin.
        budget: Epsilon; ``infinity`` without noise, ``none`` without clipping either.
        scheme: That the updates are summed under.
        seed: Of the run.
    """

    model: str
    budget: str
    scheme: str
    seed: int


@dataclass(frozen=True)
class Trained:
    """What a run came to.

    Attributes:
        case: Which run.
        accuracy: On held-out examples.
        spent: Epsilon, the largest over clients; infinite without noise.
        noise: Noise multiplier, the smallest over clients; 0 without noise.
        parameters: Of the model.
        seconds: That it took.
    """

    case: Case
    accuracy: float
    spent: float
    noise: float
    parameters: int
    seconds: float


def train(case: Case) -> Trained:
    """Run in a folder that is thrown away."""
    from rich.console import Console

    import qfl
    from qfl.conf.schema import PrivacyConfig
    from qfl.federation.baselines import twin_config

    overrides = ["experiment=digits_dp", f"strategy={case.scheme}", f"seed={case.seed}"]
    overrides += ["simulation.workers=1", "baselines.plain=false", "baselines.twin=false"]
    if case.budget in ("infinity", "none"):
        overrides += ["privacy.epsilon=null", "privacy.noise_multiplier=0"]
    else:
        overrides.append(f"privacy.epsilon={case.budget}")
    config = qfl.load_config(overrides)
    if case.model != config.model.name:
        twin = twin_config(config)
        assert twin is not None
        config = replace(config, model=twin.model)
    if case.budget == "none":
        config = replace(config, privacy=PrivacyConfig())
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        summary = qfl.simulate(config, path, console=Console(file=StringIO()), report=False)
    privacy = summary["privacy"]
    return Trained(
        case,
        summary["metrics"]["accuracy"],
        math.inf if privacy["epsilon"] is None else privacy["epsilon"],
        privacy["noise_multiplier"] or 0.0,
        summary["model"]["parameters"],
        time.perf_counter() - began,
    )


def train_all(cases: Sequence[Case]) -> list[Trained]:
    """All runs, in the order of their cases."""
    found: dict[Case, Trained] = {}
    with ProcessPoolExecutor(PROCESSES, get_context("spawn")) as pool:
        for future in as_completed([pool.submit(train, case) for case in cases]):
            done = future.result()
            found[done.case] = done
            case = done.case
            _tell(
                f"{len(found)} of {len(cases)}: {case.model}, epsilon {case.budget}, "
                f"{case.scheme}, seed {case.seed}: {done.accuracy:.1%} in {done.seconds:.0f} s"
            )
    return [found[case] for case in cases]


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
