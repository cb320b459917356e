"""Samples a second of the noise of integer schemes, on one core.

Beside each: numpy's normal distribution, rounded, whose generator can be predicted and which gives
no guarantee. Beside Gaussians, the exact sampler of Canonne, Kamath and Steinke in rational
arithmetic; beside Skellam noise, the difference of numpy's Poisson variables, predictable as well.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import numpy as np
from common import Row
from numpy.typing import NDArray

from qfl.privacy.discrete_gaussian import DiscreteGaussian
from qfl.privacy.exact_gaussian import draw_exactly
from qfl.privacy.randomness import Stream
from qfl.privacy.skellam import Skellam

SIGMAS = {"6.4": 6.4, "1000": 1e3, "1e5": 1e5, "2^32": 2.0**32}
DEVIATIONS = {"100": 100.0, "4000": 4000.0}
COUNT, EXACT_COUNT = 1_000_000, 2_000
TURNS = 7
TARGET = 100.0  # ns/sample: 10 million samples a second
NORMAL = "numpy normal, rounded (not private)"
POISSON = "numpy Poisson difference (not private)"
EXACT = "exact rational sampler"

Draw = Callable[[], Any]


def rows(turns: int = TURNS) -> list[Row]:
    """Measure, in turns, pinned to a core: medians of processor time."""
    with _pinned():
        return [
            *(row for name, sigma in SIGMAS.items() for row in _gaussian(name, sigma, turns)),
            *(row for name, std in DEVIATIONS.items() for row in _skellam(name, std, turns)),
        ]


def met(found: list[Row]) -> list[bool]:
    """Which rows reach the target."""
    return [row.ours < TARGET for row in found]


def _gaussian(name: str, sigma: float, turns: int) -> list[Row]:
    noise, stream, generator = DiscreteGaussian(sigma), Stream(), np.random.default_rng()
    return _beside(
        f"discrete Gaussian, sigma {name}",
        lambda: noise.draw(COUNT, stream),
        {
            NORMAL: (lambda: _rounded(generator, sigma), COUNT),
            EXACT: (lambda: draw_exactly(sigma, EXACT_COUNT, stream), EXACT_COUNT),
        },
        turns,
    )


def _skellam(name: str, std: float, turns: int) -> list[Row]:
    noise, stream, generator = Skellam(std**2), Stream(), np.random.default_rng()
    mean = std**2 / 2
    return _beside(
        f"Skellam, standard deviation {name}",
        lambda: noise.draw(COUNT, stream),
        {
            NORMAL: (lambda: _rounded(generator, std), COUNT),
            POISSON: (
                lambda: generator.poisson(mean, COUNT) - generator.poisson(mean, COUNT),
                COUNT,
            ),
        },
        turns,
    )


def _rounded(generator: np.random.Generator, std: float) -> NDArray[np.int64]:
    return np.rint(generator.normal(0.0, std, COUNT)).astype(np.int64)


def _beside(case: str, draw: Draw, peers: dict[str, tuple[Draw, int]], turns: int) -> list[Row]:
    """Ours beside each peer, all of them in turns."""
    contenders = {"ours": (draw, COUNT), **peers}
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(turns + 1):
        for name, (run, count) in contenders.items():
            began = time.process_time()
            run()
            if turn:  # the first makes tables
                taken[name].append(1e9 * (time.process_time() - began) / count)
    ours = median(taken["ours"])
    return [
        Row(
            case,
            "CPU time",
            "ns/sample",
            ours,
            peer,
            median(taken[peer]),
            f"< {TARGET:.0f} ns/sample",
        )
        for peer in peers
    ]


@contextmanager
def _pinned() -> Iterator[None]:
    """On one core, where the system can do that."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
