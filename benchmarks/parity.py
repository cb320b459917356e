"""Whether training under a scheme gives the model that training in the clear gives.

Two experiments, three seeds, every scheme and trust. Held against ``strategy=plain``: how many
held-out predictions differ, and by how much a weight does. A scheme on a coarser grid rounds more,
so it is also held against integer sums in the clear on its own grid: there the model has to be the
same, bit for bit, because every scheme sums integers exactly. What a grid alone does to training is
told by runs in the clear on a finer one.

Prints Markdown, and writes ``results/parity`` as .json and .md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, Row, write

EXPERIMENTS = {
    "demo": ["experiment=demo"],
    "breast_cancer": [
        *("name=breast_cancer", "dataset=breast_cancer", "partition=dirichlet", "model=qnn"),
        *("clients=10", "rounds=10", "client.lr=0.02", "client.local_epochs=2"),
        "client.batch_size=32",
    ],
}
FINER = "plain_finer"
STRATEGIES = (
    FINER,
    *("ckks", "ckks_shared", "packed", "packed_shared"),
    *("hybrid", "hybrid_shared", "hybrid_committee", "masking"),
)
OVERRIDES = {FINER: ["strategy=plain", "strategy.grid_bits=22"]}
NO_BASELINES = [f"baselines.{name}=false" for name in ("plain", "twin", "pooled")]


@dataclass(frozen=True)
class Trained:
    """What a run left.

    Attributes:
        weights: All of the model's arrays, joined.
        predictions: Of held-out examples.
        grid: Bits and bound of its sums.
        accuracy: Of those predictions.
    """

    weights: np.ndarray[Any, np.dtype[Any]]
    predictions: np.ndarray[Any, np.dtype[Any]]
    grid: tuple[int, float]
    accuracy: float


@dataclass(frozen=True)
class Parity:
    """One run beside the same in the clear.

    Attributes:
        experiment: Name.
        seed: Of the run.
        strategy: Configuration of the strategy.
        differing: Held-out predictions that differ.
        examples: Held-out predictions.
        largest: Largest difference of a weight.
        accuracy: On held-out examples.
        clear: The same in the clear.
        same_grid: Whether integer sums in the clear on the scheme's own grid give the same bits.
        failed: Why there is no result.
    """

    experiment: str
    seed: int
    strategy: str
    differing: int = 0
    examples: int = 0
    largest: float = 0.0
    accuracy: float = 0.0
    clear: float = 0.0
    same_grid: bool = False
    failed: str = ""


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, three rounds")
    parser.add_argument("--only", metavar="STRATEGY,…", help="these, such as ckks,packed")
    options = parser.parse_args()
    strategies = options.only.split(",") if options.only else STRATEGIES
    seeds, extra = ((0,), ["rounds=3"]) if options.quick else ((0, 1, 2), [])
    started = time.perf_counter()
    found = []
    for experiment, overrides in EXPERIMENTS.items():
        for seed in seeds:
            common = [*overrides, *NO_BASELINES, f"seed={seed}", *extra]
            for parity in _compare(experiment, seed, common, strategies):
                found.append(parity)
                _tell(f"{experiment}, seed {seed}, {parity.strategy}: {_words(parity)}")
    text = _markdown(found)
    print(text)
    note = f"{(time.perf_counter() - started) / 60:.1f} minutes; load {os.getloadavg()[0]:.1f}"
    print(note)
    _write(found, text, note)
    if any(parity.failed or not parity.same_grid for parity in found):
        sys.exit(1)


def _compare(experiment: str, seed: int, common: list[str], strategies: Any) -> list[Parity]:
    """Every strategy beside the clear; runs in the clear are made once for each grid."""
    clear: dict[tuple[int, float], Trained] = {}
    first = _train([*common, "strategy=plain"])
    clear[first.grid] = first
    found = []
    for strategy in strategies:
        parity = Parity(experiment, seed, strategy, examples=first.predictions.size)
        try:
            ours = _train([*common, *OVERRIDES.get(strategy, [f"strategy={strategy}"])])
            if ours.grid not in clear:
                bits, bound = ours.grid
                grid = [f"strategy.grid_bits={bits}", f"strategy.bound={bound}"]
                clear[ours.grid] = _train([*common, "strategy=plain", *grid])
        except Exception as error:
            words = (str(error) or type(error).__name__).splitlines()[0][:160]
            found.append(replace(parity, failed=words))
            continue
        found.append(
            replace(
                parity,
                differing=int(np.count_nonzero(ours.predictions != first.predictions)),
                accuracy=ours.accuracy,
                clear=first.accuracy,
                largest=float(np.abs(ours.weights - first.weights).max()),
                same_grid=np.array_equal(ours.weights, clear[ours.grid].weights),
            )
        )
    return found


def _train(overrides: list[str]) -> Trained:
    """Run in a folder that is thrown away; what counts is read back from its files."""
    from rich.console import Console
    from safetensors.numpy import load

    import qfl
    from qfl.federation.experiment import Experiment

    config = qfl.load_config(overrides)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        qfl.simulate(config, path, console=Console(file=StringIO()), report=False)
        arrays = load((path / "model.safetensors").read_bytes())
        model = json.loads((path / "model.json").read_text())
    experiment = Experiment.prepare(config)
    experiment.statistics = [_statistics(entry) for entry in model["statistics"]]
    metrics, predictions = experiment.evaluate(arrays, experiment.dataset.test)
    return Trained(
        np.concatenate([arrays[name].ravel() for name in sorted(arrays)]),
        predictions.ravel(),
        (config.strategy.grid_bits, config.strategy.bound),
        metrics["accuracy"],
    )


def _statistics(entry: dict[str, Any]) -> Any:
    from qfl.data import Statistics

    read: dict[str, Any] = {
        name: np.array(value) if isinstance(value, list) else value for name, value in entry.items()
    }
    return Statistics(**read)


def _words(parity: Parity) -> str:
    if parity.failed:
        return f"failed: {parity.failed}"
    same = "the same bits" if parity.same_grid else "OTHER BITS"
    return (
        f"{parity.differing} of {parity.examples} predictions differ, weights by at most "
        f"{parity.largest:.2g}; on its own grid {same}"
    )


def _markdown(found: list[Parity]) -> str:
    head = (
        *("experiment", "seed", "strategy", "predictions that differ"),
        *(
            "accuracy",
            "in the clear",
            "largest difference of a weight",
            "as integer sums in the clear on the same grid",
        ),
    )
    lines = [head, ("---",) * len(head)]
    for parity in found:
        start = (parity.experiment, str(parity.seed), parity.strategy)
        if parity.failed:
            lines.append((*start, "FAILED", "", "", parity.failed, ""))
            continue
        same = "the same, bit for bit" if parity.same_grid else "MISSED: other bits"
        same = "–" if parity.strategy == FINER else same
        differing = f"{parity.differing} of {parity.examples}"
        accuracy = (f"{parity.accuracy:.3f}", f"{parity.clear:.3f}")
        lines.append((*start, differing, *accuracy, f"{parity.largest:.2g}", same))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _write(found: list[Parity], text: str, note: str) -> None:
    rows = []
    for parity in found:
        if parity.failed:
            continue
        case = f"{parity.experiment}, seed {parity.seed}: {parity.strategy}"
        count, largest = float(parity.differing), parity.largest
        of = f"of {parity.examples}"
        rows.append(Row(case, "predictions that differ", of, count, "plain", None, ""))
        rows.append(Row(case, "difference of a weight", "", largest, "plain", None, ""))
        wrong = 1 - parity.accuracy
        held = f"{1 - parity.clear:.4f} in the clear"
        rows.append(Row(case, "held-out error rate", "", wrong, "plain", None, held))
        other = float(not parity.same_grid)
        rows.append(Row(case, "other bits on its own grid", "", other, "plain", None, "0"))
    missed = [asdict(parity) for parity in found if parity.failed or not parity.same_grid]
    write("parity", rows, None, {"notes": [note], "missed": missed})
    head = "# The same model as in the clear\n\n`make bench-parity` makes this page.\n\n"
    (RESULTS / "parity.md").write_text(f"{head}{text}\n\n{note}\n")
    print(f"Written: {RESULTS / 'parity'}.json, .md")


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
