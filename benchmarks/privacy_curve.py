"""What privacy costs: held-out accuracy over epsilon, of the quantum model and of its twin.

``experiment=digits_dp``: DP-SGD for each record, ten clients, encrypted. Three seeds, each with its
own split of the digits, its own clients and its own initial model; the noise has no seed, so runs
do not repeat bit for bit. Infinity stands for the same steps and clipping without noise, "none" for
no clipping either. At one epsilon every scheme is run: what is spent must be equal to all digits,
and accuracies no further apart than noise makes them.

Prints Markdown, writes ``results/privacy_curve.json``, and draws ``docs/images/privacy-curve.png``.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, Row, write
from privacy_curve_figure import draw
from privacy_curve_runs import Case, Trained, train_all

PICTURE = Path(__file__).parents[1] / "docs/images/privacy-curve.png"
MODELS = ("qnn", "mlp")
BUDGETS = ("1", "2", "4", "8", "infinity", "none")
QUICK_BUDGETS = ("1", "8")
SCHEMES = ("ckks", "packed", "hybrid", "masking", "plain")
COMPARED = "8"
SEEDS = (0, 1, 2)
# Below this, schemes would differ by more than noise makes them.
SMALLEST_P = 0.01


@dataclass(frozen=True)
class Agreement:
    """How far schemes lie apart, with the seeds' own differences taken out.

    Attributes:
        error: Standard error of the difference of two schemes' means.
        p: Chance of differences as large among equal schemes (F test, seeds as blocks).
    """

    error: float
    p: float


def agreement(accuracies: np.ndarray[Any, np.dtype[Any]]) -> Agreement:
    """Whether schemes differ.

    Args:
        accuracies: (schemes, seeds), at least two of each.
    """
    from scipy import stats

    schemes, seeds = accuracies.shape
    by_scheme, by_seed = accuracies.mean(1, keepdims=True), accuracies.mean(0, keepdims=True)
    rest = accuracies - by_scheme - by_seed + accuracies.mean()
    freedom = (schemes - 1) * (seeds - 1)
    variance = float((rest**2).sum()) / freedom
    between = seeds * float(((by_scheme - accuracies.mean()) ** 2).sum()) / (schemes - 1)
    p = float(stats.f.sf(between / variance, schemes - 1, freedom))
    return Agreement(math.sqrt(2 * variance / seeds), p)


def curve_table(runs: Sequence[Trained], budgets: Sequence[str]) -> str:
    """Markdown: what was spent, and what was learnt, for each budget."""
    names = [f"`{model}`, {_of(runs, model)[0].parameters} parameters" for model in MODELS]
    lines = [f"| epsilon | spent | noise multiplier | {' | '.join(names)} |", "|---" * 5 + "|"]
    for budget in budgets:
        found = [_of(runs, model, budget) for model in MODELS]
        both = [run for part in found for run in part]
        spent = max(run.spent for run in both)
        cells = [
            {"infinity": "infinite: no noise", "none": "infinite: no noise, no clipping"}.get(
                budget, budget
            ),
            f"{spent:.4f}" if math.isfinite(spent) else "",
            f"{min(run.noise for run in both):.3f}" if math.isfinite(spent) else "",
            *(_spread([run.accuracy for run in part]) for part in found),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def scheme_table(runs: Sequence[Trained], agreed: Agreement | None) -> str:
    """Markdown: all schemes at one budget; differences in standard errors."""
    lines = [
        "| scheme | spent | `qnn` | difference from `ckks`, points | in standard errors |",
        "|---" * 5 + "|",
    ]
    first = _accuracies(runs, SCHEMES[0])
    for scheme in SCHEMES:
        ours = _accuracies(runs, scheme)
        difference = float(np.mean(ours) - np.mean(first))
        apart = f"{difference / agreed.error:+.1f}" if agreed else ""
        cells = (f"{100 * difference:+.1f}", apart) if scheme != SCHEMES[0] else ("", "")
        spent = " ".join(sorted({repr(run.spent) for run in _under(runs, scheme)}))
        lines.append(f"| `{scheme}` | {spent} | {_spread(ours)} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def _of(runs: Iterable[Trained], model: str, budget: str | None = None) -> list[Trained]:
    return [
        run
        for run in runs
        if run.case.model == model
        and run.case.scheme == SCHEMES[0]
        and budget in (None, run.case.budget)
    ]


def _under(runs: Iterable[Trained], scheme: str) -> list[Trained]:
    chosen = (MODELS[0], COMPARED, scheme)
    return [run for run in runs if (run.case.model, run.case.budget, run.case.scheme) == chosen]


def _accuracies(runs: Iterable[Trained], scheme: str) -> list[float]:
    return [run.accuracy for run in _under(runs, scheme)]


def _spread(values: Sequence[float]) -> str:
    mean, least, most = (100 * float(f(values)) for f in (np.mean, np.min, np.max))
    return f"{mean:.1f} % ({least:.1f} to {most:.1f})"


def _write(runs: Sequence[Trained], budgets: Sequence[str], more: dict[str, Any]) -> None:
    rows = []
    for model in MODELS:
        free = _of(runs, model, budgets[-1])
        held = 1 - float(np.mean([run.accuracy for run in free]))
        for budget in budgets:
            wrong = 1 - float(np.mean([run.accuracy for run in _of(runs, model, budget)]))
            case, peer = f"{model}, epsilon {budget}", f"epsilon {budgets[-1]}"
            rows.append(Row(case, "held-out error rate", "", wrong, peer, held, ""))
    every = [
        asdict(run) | {"spent": run.spent if math.isfinite(run.spent) else None} for run in runs
    ]
    write("privacy_curve", rows, None, {**more, "runs": every})


def main() -> None:
    """Run, print, write, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, two epsilons, no picture")
    parser.add_argument("--out", type=Path, default=PICTURE, help="where the picture goes")
    options = parser.parse_args()
    budgets, seeds = (QUICK_BUDGETS, SEEDS[:1]) if options.quick else (BUDGETS, SEEDS)
    cases = [
        *(Case(m, b, SCHEMES[0], seed) for m in MODELS for b in budgets for seed in seeds),
        *(Case(MODELS[0], COMPARED, scheme, seed) for scheme in SCHEMES[1:] for seed in seeds),
    ]
    started = time.perf_counter()
    runs = train_all(cases)
    spread = "one seed" if options.quick else f"{len(seeds)} seeds: mean (lowest to highest)"
    print(f"Held-out accuracy; {spread}\n\n{curve_table(runs, budgets)}\n")
    agreed = None
    if len(seeds) > 1:
        agreed = agreement(np.array([_accuracies(runs, scheme) for scheme in SCHEMES]))
    print(f"Epsilon {COMPARED} under every scheme\n\n{scheme_table(runs, agreed)}\n")
    spent = {run.spent for scheme in SCHEMES for run in _under(runs, scheme)}
    same = len(spent) == 1
    print("Spent: " + ("the same, to all digits." if same else "MISSED: not the same."))
    alike = agreed is None or agreed.p >= SMALLEST_P
    if agreed:
        print(
            f"F test of schemes, seeds as blocks: p = {agreed.p:.2f}; "
            + ("no more apart than noise." if alike else "MISSED: schemes differ.")
        )
    note = f"{(time.perf_counter() - started) / 60:.1f} minutes; load {os.getloadavg()[0]:.1f}"
    print(note)
    _write(runs, budgets, {"notes": [note], "agreement": asdict(agreed) if agreed else None})
    print(f"Written: {RESULTS / 'privacy_curve'}.json")
    if not options.quick:
        accuracies = {
            model: {
                budget: [run.accuracy for run in _of(runs, model, budget)] for budget in budgets
            }
            for model in MODELS
        }
        draw(accuracies, options.out)
        print(f"Drawn: {options.out}")
    if not (same and alike):
        sys.exit(1)


if __name__ == "__main__":
    main()
