"""How much a node differs from the others in what is visible of it: a hint, never a proof.

Honest nodes with data of their own differ too, and poison within the clipping bound need not. So a
high score is suspicion (:class:`qfl.identity.standing.Observation`), which warns at most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from qfl.errors import DataError

FEWEST = 8
SUSPICIOUS = 0.4
# A feature that differs by less, as bytes of equal vectors do, is taken for the same everywhere.
_LEAST = 0.01
_FARTHEST = 10.0
_BLUR = 0.1
# Beyond 1,000 nodes, for memory: 5,000 of them would need half a gigabyte.
_MOST_NEIGHBOURS = 500


def anomaly_scores(features: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Score each node by the local outlier factor (Breunig et al., SIGMOD 2000) of scikit-learn.

    A node's factor says how many times sparser it is around it than around its neighbours, which
    are half of all nodes (at most 500), so that a few who agree are not each other's whole
    neighbourhood. The score is 1 - 1 / factor, and 0 below a factor of 1.

    Features are scaled by median and quartiles, and cut at ten times the distance between these,
    so that one huge value does not hide another. Two nodes are as far apart as in the feature in
    which they differ most. A feature whose range is below 1 % of its median tells nothing and is
    left out. Nodes that are equal would have an infinite density: everything is blurred by a tenth
    of the distance between quartiles, which is all that the seed is for.

    Args:
        features: Of shape (nodes, features).
        seed: Of the blur; another one each round, so that what chance does falls on all alike.

    Returns:
        Of shape (nodes,), in [0, 1). All 0 for fewer than 8 nodes, among which none can be told
        from the others.

    Raises:
        DataError: The features are no table, or one is not finite.

    Example:
        >>> seconds = [[2.0], [2.1], [2.3], [1.9], [2.2], [2.0], [1.8], [9.0]]
        >>> (anomaly_scores(np.array(seconds), seed=1) > SUSPICIOUS).nonzero()[0].tolist()
        [7]
    """
    table = np.asarray(features, dtype=np.float64)
    if table.ndim != 2:
        raise DataError(f"features of shape {table.shape} were given; expected (nodes, features)")
    if not np.isfinite(table).all():
        row, column = np.argwhere(~np.isfinite(table))[0]
        raise DataError(
            f"feature {column} of node {row} is {table[row, column]}; leave out nodes that have no "
            "number there"
        )
    if len(table) < FEWEST:
        return np.zeros(len(table))
    scaled = _scaled(table)
    if not scaled.shape[1]:
        return np.zeros(len(table))
    # Only who scores waits for it.
    from sklearn.neighbors import LocalOutlierFactor

    scaled += np.random.default_rng(seed).normal(0, _BLUR, scaled.shape)
    neighbours = min(len(table) // 2, _MOST_NEIGHBOURS)
    # So the noise of other features does not drown one that stands out.
    found = LocalOutlierFactor(n_neighbors=neighbours, metric="chebyshev").fit(scaled)
    factors = np.maximum(-found.negative_outlier_factor_, 1.0)
    scores: NDArray[np.float64] = 1.0 - 1.0 / factors
    return scores


def suspicious(features: Mapping[str, Sequence[float]], seed: int) -> dict[str, float]:
    """Nodes whose score is above 0.4: around them it is 1.7 times sparser than around others.

    Args:
        features: Those of each node, by its first identifier, in one order for all.
        seed: Another one each round, as for :func:`anomaly_scores`.

    Returns:
        Their scores, by identifier in order. None are suspicious among fewer than 8 nodes.

    Raises:
        DataError: Nodes have different numbers of features, or one is not finite.
    """
    dids = sorted(features)
    counts = sorted({len(features[did]) for did in dids})
    if len(counts) > 1:
        raise DataError(
            f"nodes have from {counts[0]} to {counts[-1]} features; all must have the same, in "
            "the same order"
        )
    if not dids:
        return {}
    table = np.array([features[did] for did in dids], dtype=np.float64)
    scores = anomaly_scores(table, seed)
    return {
        did: float(score) for did, score in zip(dids, scores, strict=True) if score > SUSPICIOUS
    }


def _scaled(table: NDArray[np.float64]) -> NDArray[np.float64]:
    # Squares, and differences of the largest numbers, stay finite.
    table = np.clip(table, -1e100, 1e100)
    low, median, high = np.percentile(table, [25, 50, 75], axis=0)
    least = _LEAST * np.abs(median)
    told = np.ptp(table, axis=0) > least
    spread = np.maximum(high - low, least)
    spread[spread == 0] = 1.0
    with np.errstate(over="ignore"):
        away: NDArray[np.float64] = np.clip((table - median) / spread, -_FARTHEST, _FARTHEST)
    return away[:, told]
