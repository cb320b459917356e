"""Scaling an update down to a norm.

After McMahan, Ramage, Talwar and Zhang, "Learning differentially private recurrent language
models" (2018).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qfl.errors import PrivacyError


def clip(vector: NDArray[np.float64], norm: float) -> tuple[NDArray[np.float64], bool]:
    """Scale a vector down to an L2 norm, if it is longer.

    Args:
        vector: Any finite values, however large.
        norm: Largest norm; positive.

    Returns:
        The vector, whose norm is now at most ``norm``, also as float64 computes it; and whether it
        was before.

    Raises:
        PrivacyError: A value is NaN or infinite.

    Example:
        >>> clip(np.array([0.3, 0.4]), 1.0)[0].tolist()
        [0.3, 0.4]
    """
    if not np.isfinite(vector).all():
        # How many is not said: what is refused here is told to the server.
        raise PrivacyError(
            "the update holds NaN or infinite values: training diverged; lower client.lr"
        )
    largest = float(np.abs(vector).max(initial=0.0))
    if largest == 0:
        return vector, True
    direction = vector / largest  # so that no square overflows
    length, limit = float(np.linalg.norm(direction)), norm / largest
    # Sums of n squares are off by a relative n * 2^-53 at most, here and where they are checked.
    margin = 1 - (vector.size + 8) * 2.0**-52
    if length <= limit * margin:
        return vector, True
    return direction * (norm / length * margin), length <= limit
