"""Whether samples follow a distribution that is given by its probabilities."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from qfl.privacy.alias import ONE, AliasTable

PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459")


def fits(drawn: NDArray[np.int64], probabilities: NDArray[np.float64]) -> bool:
    """Chi-square test, and the first four moments.

    ``probabilities`` are of an odd number of values around 0. A right sampler passes in all but
    about 2 of 1000 cases.
    """
    return p_value(drawn, probabilities) > 1e-3 and furthest_moment(drawn, probabilities) < 4


def p_value(drawn: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    """Of the chi-square test: neighbours share a bin until so many are expected in it."""
    half = probabilities.size // 2
    counts = np.bincount(np.clip(drawn, -half, half) + half, minlength=probabilities.size)
    enough = max(10.0, drawn.size / 100)
    observed, expected = [0.0], [0.0]
    for count, probability in zip(counts.tolist(), probabilities.tolist(), strict=True):
        if expected[-1] >= enough:
            observed.append(0.0)
            expected.append(0.0)
        observed[-1] += count
        expected[-1] += probability * drawn.size
    if expected[-1] < 10:
        observed[-2:], expected[-2:] = [sum(observed[-2:])], [sum(expected[-2:])]
    scale = drawn.size / sum(expected)
    return float(stats.chisquare(observed, [scale * value for value in expected]).pvalue)


def furthest_moment(drawn: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    """By how many standard errors the worst of four moments is off."""
    half = probabilities.size // 2
    values = np.arange(-half, half + 1, dtype=np.float64)
    off = []
    for power in (1, 2, 3, 4):
        mean = float(np.sum(probabilities * values**power))
        variance = float(np.sum(probabilities * values ** (2 * power))) - mean**2
        sample = float(np.mean(drawn.astype(np.float64) ** power))
        off.append(abs(sample - mean) / np.sqrt(variance / drawn.size))
    return float(max(off))


def gaussian(sigma: float) -> NDArray[np.float64]:
    """Probabilities of the discrete Gaussian up to 12 sigma."""
    half = int(12 * sigma) + 1
    weights = np.exp(-0.5 * (np.arange(-half, half + 1) / sigma) ** 2)
    return np.asarray(weights / weights.sum())


def masses(table: AliasTable) -> dict[int, int]:
    """Probability of each value, out of thresholds and aliases: in units of 2^-128 of a slot."""
    found = dict.fromkeys(range(table.first, table.first + table.high.size), 0)
    words = zip(table.high.tolist(), table.low.tolist(), strict=True)
    for slot, (high, low) in enumerate(words):
        threshold = high << 64 | low
        found[table.first + int(table.owners[2 * slot + 1])] += threshold
        found[table.first + int(table.owners[2 * slot])] += ONE - threshold
    return found
