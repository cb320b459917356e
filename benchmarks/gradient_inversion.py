"""What a server can see of the images that clients trained on, drawn and in numbers.

Twenty clients hold four handwritten digits each and take one step of gradient descent on them. The
server attacks what it receives: a client's update in the clear, sums that a key holder opened for
it, and a client's ciphertext. Images, models and attack follow from seeds; keys never do, so what
is made of a ciphertext differs from run to run.

The attack is ``tests/attacks/inversion.py``, which the tests run too. Prints Markdown, and draws
``docs/images/gradient-inversion.png``. Run from the repository root:
``python benchmarks/gradient_inversion.py``; a minute.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests/attacks"))

from inversion import Images, Likeness, chance, likeness, readings  # noqa: E402
from watched import Update, Watched, watch  # noqa: E402

PICTURE = ROOT / "docs/images/gradient-inversion.png"
CLIENTS, IMAGES, SIDE = 20, 4, 8
SUMS = (2, 3, 5, 10, 20)
SHOWN = (5, 20)
SEEDS = (0, 1, 2)
STEPS = 150


@dataclass(frozen=True)
class Result:
    """What one attack came to.

    Attributes:
        what: Which data were attacked.
        clients: Clients in them.
        likeness: Of all images in them.
        guess: Correlation of as many other digits, assigned as well as possible.
        labels: Share of labels that were inferred rightly.
        first: What was found for the first client's images, (images, pixels).
    """

    what: str
    clients: int
    likeness: Likeness
    guess: float
    labels: float
    first: Images

    @property
    def correlation(self) -> float:
        """Mean over all images."""
        return float(self.likeness.correlation.mean())

    @property
    def psnr(self) -> float:
        """Peak signal to noise, in decibels, of the mean squared error over all images."""
        return _decibels(float(self.likeness.error.mean()))


def _decibels(error: float) -> float:
    return -10 * float(np.log10(error))


def attack(seen: Watched, what: str, update: Update, clients: int) -> Result:
    """Invert a gradient of the first clients' images, and compare."""
    attacker, originals = seen.attacker(), seen.originals(clients)
    found = attacker.invert(update.gradient, update.images, STEPS)
    compared = likeness(found.images, originals, attacker.mean)
    # From both sides, a label counts as often as it occurs.
    labels = np.concatenate([part.y for part in seen.experiment.parts[:clients]])
    counts = [np.bincount(found_or_true, minlength=10) for found_or_true in (found.labels, labels)]
    return Result(
        what,
        clients,
        compared,
        chance(attacker, originals, update.images),
        float(np.minimum(*counts).sum() / len(labels)),
        found.images[compared.order][:IMAGES],
    )


def attacks(model: str, seed: int) -> tuple[Watched, list[Result]]:
    """All attacks on one federation."""

    def run(scheme: str, training: int) -> Watched:
        return watch(scheme, model, clients=CLIENTS, images=IMAGES, training=training, seed=seed)

    clear = run("plain", CLIENTS)
    update = clear.in_the_clear(1)
    results = [attack(clear, "update in the clear", update, 1)]
    for training in SUMS:
        seen = run("ckks", training)
        results.append(attack(seen, f"opened sum of {training}", seen.summed(), training))
    size = float(np.linalg.norm(update.gradient))
    length = seen.experiment.parameters
    tries = [
        attack(seen, "ciphertext", Update(reading, IMAGES), 1)
        for reading in readings(seen.training[1], length, size)
    ]
    results.append(max(tries, key=lambda result: result.correlation))
    return clear, results


def table(seen: Watched, runs: Sequence[Sequence[Result]]) -> str:
    """Markdown: means over seeds."""
    lines = [
        "| the server has | images in it | likeness | by guessing | PSNR, dB | labels right |",
        "|---|---|---|---|---|---|",
    ]
    for results in zip(*runs, strict=True):
        first = results[0]
        likenesses = [result.correlation for result in results]
        lines.append(
            f"| {first.what} | {first.clients * IMAGES} "
            f"| {np.mean(likenesses):.2f} ({min(likenesses):.2f} to {max(likenesses):.2f}) "
            f"| {np.mean([result.guess for result in results]):.2f} "
            f"| {np.mean([result.psnr for result in results]):.1f} "
            f"| {np.mean([result.labels for result in results]):.0%} |"
        )
    error = float(np.mean((seen.attacker().mean - seen.originals(CLIENTS)) ** 2)) / 4
    lines.append(f"| nothing: the mean digit | | 0 | | {_decibels(error):.1f} | |")
    return "\n".join(lines)


def draw(seen: Watched, runs: Sequence[Sequence[Result]], path: Path) -> None:
    """Images of the first run at the left, likeness over the number of clients at the right."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    halves: Any = figure.subfigures(1, 2, width_ratios=[1.2, 1])
    left, right = halves
    by_name = {result.what: result for result in runs[0]}
    clear, cipher = by_name["update in the clear"], by_name["ciphertext"]
    few, many = (by_name[f"opened sum of {clients}"] for clients in SHOWN)
    guess, guessed = guessing(seen, many.clients)
    rows: list[tuple[str, Images, Likeness | None]] = [
        ("what a client trained on", seen.originals(1).astype(float), None),
        ("found in its update\nin the clear", clear.first, clear.likeness),
        (f"found in the opened\nsum of {few.clients} clients", few.first, few.likeness),
        (f"found in the opened\nsum of {many.clients} clients", many.first, many.likeness),
        (f"{many.clients * IMAGES} other digits,\nthe best assignment", guess, guessed),
        ("found in its ciphertext", cipher.first, cipher.likeness),
    ]
    for panels, (words, images, compared) in zip(
        left.subplots(len(rows), IMAGES), rows, strict=True
    ):
        numbers = np.full(IMAGES, np.nan) if compared is None else compared.correlation
        _row(panels, words, images, numbers[:IMAGES])
    _curve(right.subplots(), runs)
    figure.savefig(path, dpi=110, facecolor="white")


def guessing(seen: Watched, clients: int) -> tuple[Images, Likeness]:
    """Other digits in the place of found ones: for the first client, and their likeness."""
    attacker, originals = seen.attacker(), seen.originals(clients)
    others = attacker.known.numpy()[: clients * IMAGES]
    compared = likeness(others, originals, attacker.mean)
    return others[compared.order][:IMAGES], compared


def _row(panels: Any, words: str, images: Images, numbers: Images) -> None:
    for panel, image, number in zip(panels, images, numbers, strict=True):
        # One scale for all images: that of the data.
        panel.imshow(image.reshape(SIDE, SIDE), cmap="gray_r", vmin=-1, vmax=1)
        panel.set(xticks=[], yticks=[])
        panel.spines[:].set_color("#bbbbbb")
        shown = "likeness" if np.isnan(number) else f"{number:.2f}"
        panel.set_xlabel(shown, fontsize=9, labelpad=2)
    panels[0].set_ylabel(
        words, rotation=0, ha="right", va="center", multialignment="right", fontsize=11, labelpad=8
    )


def _curve(axes: Any, runs: Sequence[Sequence[Result]]) -> None:
    sums = [[result for result in results if result.what != "ciphertext"] for results in runs]
    clients = [result.clients for result in sums[0]]
    for results in sums:
        axes.plot(clients, [r.correlation for r in results], "o", color="#D55E00", alpha=0.35, ms=5)
    found = np.mean([[result.correlation for result in results] for results in sums], axis=0)
    guessed = np.mean([[result.guess for result in results] for results in sums], axis=0)
    axes.plot(clients, found, color="#D55E00", lw=2.2, label="attack on the opened sum")
    axes.plot(
        clients, guessed, color="#555555", lw=1.6, ls="--", label="as many other digits, no attack"
    )
    axes.plot(
        [1] * len(runs),
        [results[-1].correlation for results in runs],
        "X",
        color="#0072B2",
        ms=8,
        label="attack on one client's ciphertext",
    )
    axes.set_xscale("log")
    axes.set_xticks(clients, [str(number) for number in clients])
    axes.minorticks_off()
    axes.set_ylim(-0.05, 1.05)
    axes.set_xlabel(f"clients in the sum, {IMAGES} images each (1: in the clear)", fontsize=11)
    axes.set_ylabel("likeness: 1 the image itself, 0 the mean digit", fontsize=11)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False, fontsize=10)


def main() -> None:
    """Attack, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=("qnn", "mlp"), default="qnn")
    parser.add_argument("--out", type=Path, default=PICTURE, help="where the picture goes")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    began = time.perf_counter()
    runs = [attacks(arguments.model, seed) for seed in SEEDS]
    seen = runs[0][0]
    results = [found for _, found in runs]
    print(
        f"{arguments.model}, {seen.experiment.parameters} parameters; {CLIENTS} clients, {IMAGES} "
        f"digits each, one step of gradient descent; {len(SEEDS)} seeds: mean (lowest to highest)\n"
    )
    print(table(seen, results))
    draw(seen, results, arguments.out)
    print(f"\n{arguments.out}, {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
