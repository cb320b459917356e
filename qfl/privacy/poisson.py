"""Poisson sampling: who takes part in a step is drawn for every record on its own.

Amplification by sampling (Abadi et al. 2016; Mironov, Talwar, Zhang 2019) holds for batches of
which nobody knows whom they hold. So they come from a cryptographic stream, their sizes are told to
nobody, and a step whose batch is empty is a step like any other.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from qfl.errors import ConfigError
from qfl.privacy.randomness import Stream

_AT_ONCE = 1 << 18  # words


def steps_of(local_epochs: int, sample_rate: float) -> int:
    """Steps that use each record ``local_epochs`` times on average.

    Example:
        >>> steps_of(2, 0.1)
        20
    """
    return local_epochs * max(1, round(1 / sample_rate))


def poisson_batches(
    records: int, sample_rate: float, steps: int, stream: Stream
) -> Iterator[NDArray[np.int64]]:
    """Numbers of the records of each step.

    Args:
        records: How many there are.
        sample_rate: Probability that a record is in a batch, 0 < q <= 1. It is rounded down to a
            multiple of 2^-64.
        steps: Batches.
        stream: Where the randomness comes from.

    Raises:
        ConfigError: The rate is out of range.

    Example:
        >>> [len(batch) for batch in poisson_batches(5, 1.0, 2, Stream())]
        [5, 5]
    """
    if not 0 < sample_rate <= 1:
        raise ConfigError(f"sample_rate={sample_rate}: must be above 0 and at most 1")
    at_once = max(1, _AT_ONCE // max(1, records))
    threshold = int(sample_rate * 2.0**64)  # exact: a product with a power of two
    for first in range(0, steps, at_once):
        count = min(at_once, steps - first)
        if threshold >= 2**64:
            taken = np.ones((count, records), dtype=bool)
        else:
            taken = stream.words(count * records).reshape(count, records) < np.uint64(threshold)
        for row in taken:
            yield np.flatnonzero(row)
