"""Which of many shares are wrong: the decoder of Welch and Berlekamp (US patent 4,633,470, 1986).

Shares of one secret are a Reed-Solomon code word. Of m shares, t of which give the secret, up to
(m - t) / 2 wrong ones are found, whoever chose them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qfl.crypto.shamir import PRIME, FieldVector, random_elements


def right_shares(shares: FieldVector, points: Sequence[int], threshold: int) -> list[int]:
    """Rows that belong together.

    Args:
        shares: One per row, (m, n), within [0, :data:`~qfl.crypto.shamir.PRIME`).
        points: Where they lie; all different.
        threshold: t, at most m.

    Returns:
        Indices of at least t rows. None of them is wrong if at most (m - t) // 2 of all are, though
        a right one may be missing. If more are wrong, any rows, or none where that was noticed.

    Example:
        >>> from qfl.crypto.shamir import split
        >>> shares = split(np.array([7, 11]), 2, [1, 2, 3, 4])
        >>> shares[2] = 5
        >>> right_shares(shares, [1, 2, 3, 4], 2)
        [0, 1, 3]
    """
    count = len(points)
    most = (count - threshold) // 2
    # One random combination of the columns: a wrong row stays wrong but with probability 2^-31.
    mix = random_elements((shares.shape[1],))
    values = np.zeros(count, dtype=np.int64)
    for column, factor in zip(shares.T, mix.tolist(), strict=True):
        values = (values + column * factor) % PRIME
    powers = _powers(np.array(points, dtype=np.int64), threshold + most)
    # Find q of degree < t + most and e of degree most, leading coefficient 1, with
    # q(x) = y e(x) at every point: e vanishes where y is wrong.
    scaled = powers[:, : most + 1] * values[:, None] % PRIME
    system = np.concatenate([powers, -scaled[:, :most] % PRIME, scaled[:, most:]], axis=1)
    solution = _solve(system)
    if solution is None:
        return []
    locator = np.append(solution[threshold + most :], 1)
    at_points = np.zeros(count, dtype=np.int64)
    for coefficient, column in zip(locator.tolist(), powers[:, : most + 1].T, strict=True):
        at_points = (at_points + column * coefficient) % PRIME
    kept = np.flatnonzero(at_points)
    return kept.tolist() if kept.size >= threshold else []


def _powers(points: FieldVector, count: int) -> FieldVector:
    powers = np.ones((points.size, count + 1), dtype=np.int64)
    for at in range(1, count + 1):
        powers[:, at] = powers[:, at - 1] * points % PRIME
    return powers[:, :count] if count else powers[:, :0]


def _solve(system: FieldVector) -> FieldVector | None:
    """One solution of linear equations, last column on the right; None where there is none."""
    rows, unknowns = system.shape[0], system.shape[1] - 1
    system = system.copy()
    pivots: list[int] = []
    for column in range(unknowns):
        at = len(pivots)
        below = np.flatnonzero(system[at:, column])
        if at == rows or not below.size:
            continue
        first = at + int(below[0])
        system[[at, first]] = system[[first, at]]
        system[at] = system[at] * pow(int(system[at, column]), -1, PRIME) % PRIME
        factors = system[:, column].copy()
        factors[at] = 0
        system = (system - factors[:, None] * system[at]) % PRIME
        pivots.append(column)
    if system[len(pivots) :, -1].any():
        return None
    solution = np.zeros(unknowns, dtype=np.int64)
    solution[pivots] = system[: len(pivots), -1]
    return solution
