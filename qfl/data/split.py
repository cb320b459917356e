"""The held-out test set: taken before any partitioning, stratified by class where possible."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qfl.data.examples import Examples, Targets
from qfl.errors import DataError

_STREAM = 1


def hold_out(
    examples: Examples, test_fraction: float, seed: int, *, part: int = 0
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices of the training and of the test examples, both sorted.

    Integer targets are stratified by class when every class has at least two examples; then
    each class keeps at least one training example. Otherwise the split is uniform.

    Args:
        examples: What to split.
        test_fraction: Share of the test set, within (0, 1).
        seed: Same seed, same split.
        part: Separates the randomness of several splits under one seed.

    Raises:
        DataError: Fewer than two examples.
    """
    n = len(examples)
    if n < 2:
        raise DataError(f"{n} examples cannot be split into training and test: give at least 2")
    rng = np.random.default_rng((seed, _STREAM, part))
    wanted = min(max(round(test_fraction * n), 1), n - 1)
    groups = _strata(examples.y)
    counts = _shares(np.array([len(group) for group in groups]), wanted)
    chosen = [rng.permutation(group)[:k] for group, k in zip(groups, counts, strict=True)]
    test = np.sort(np.concatenate(chosen))
    train = np.setdiff1d(np.arange(n, dtype=np.intp), test, assume_unique=True)
    return train, test


def _strata(y: Targets) -> list[NDArray[np.intp]]:
    if np.issubdtype(y.dtype, np.integer):
        groups = [np.flatnonzero(y == label) for label in np.unique(y)]
        if min(len(group) for group in groups) >= 2:
            return groups
    return [np.arange(len(y), dtype=np.intp)]


def _shares(sizes: NDArray[np.intp], wanted: int) -> NDArray[np.intp]:
    """Divide ``wanted`` in proportion to ``sizes``, by largest remainder.

    No group is emptied, which the callers' ``wanted < sum(sizes)`` alone does not ensure.
    """
    exact = sizes * (wanted / sizes.sum())
    shares: NDArray[np.intp] = np.minimum(np.floor(exact).astype(np.intp), sizes - 1)
    order = np.argsort(shares - exact, kind="stable")
    while shares.sum() < wanted and np.any(shares < sizes - 1):
        for group in order:
            if shares.sum() < wanted and shares[group] < sizes[group] - 1:
                shares[group] += 1
    return shares
