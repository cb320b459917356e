"""Clipping gradients of single records, and their sum.

Abadi et al. 2016, "Deep learning with differential privacy": a record's gradient is scaled down to
a norm C where it is longer, so that one record changes the sum by at most C. ``per_layer`` scales
each of the k layers' parts to C / sqrt(k) on its own (McMahan et al. 2018), and the whole to C with
that.

**In floating point.** Gradients are scaled to (1 - 2^-16) C. The part that is kept back pays for
what rounding adds to the sensitivity of the sum, together with the grid of
:mod:`qfl.privacy.noised_sum`. With u = 2^-53, a batch of B records and d coordinates:

- A norm computed in float64 from numbers of the same sign (squares) is off by a relative (d + 4) u
  at most, and a scaled coordinate by 4 u: with d <= 2^24 that is less than 2^-28 in all. No step
  that could cancel stands between the factors of a gradient and its norm.
- Each coordinate of the sum, divided by a grid's step, is off by at most (B + 3) u times the sum of
  the magnitudes of what is added, in any order of addition (Higham 2002, "Accuracy and stability of
  numerical algorithms", section 3.1). As the norm of a sum of vectors of magnitudes is at most the
  sum of their norms, the error of the whole sum is at most (B + 3) B u C. Two neighbouring sums are
  off by twice that, less than 2^-17 C - 2^-28 C up to B = 2^17 = 131072.

So two sums computed in float64 over batches that differ in one record are at most (1 - 2^-17) C
apart, given the gradients of the records that they share. What is not covered: the same record's
gradient may come out differently by a rounding of float32 (about 10^-7 of it) in a batch of another
size, because matrix products add in another order there.

A record whose gradient is infinite or not a number counts as zero: it changes the sum by at most C
as any other, and nobody learns that it is there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from qfl.privacy.per_sample import Block, Floats

KEPT_BACK = 2.0**-16
LARGEST_BATCH = 2**17


@dataclass(frozen=True)
class Clipped:
    """A sum of clipped gradients.

    Attributes:
        total: (parameters,), in float64.
        within: Records whose gradient was not longer than the norm.
    """

    total: Floats
    within: int


def clipped_sum(
    blocks: list[Block], batch: int, size: int, norm: float, layers: int | None = None
) -> Clipped:
    """Sum over records of their gradients, each clipped to a norm.

    Args:
        blocks: Gradients of every record.
        batch: Records.
        size: Parameters.
        norm: Largest norm of a record's part in the sum; positive.
        layers: Clip so many layers each on its own; None clips the whole.

    Example:
        >>> import torch
        >>> from qfl.privacy.per_sample import Rows
        >>> rows = Rows(torch.tensor([[3.0, 4.0], [0.0, 0.5]]), slice(0, 2), layer=0)
        >>> clipped_sum([rows], batch=2, size=2, norm=1.0).total.round(3).tolist()
        [0.6, 1.3]
    """
    total = np.zeros(size)
    with np.errstate(over="ignore", invalid="ignore"):
        squares = [block.squares() for block in blocks]
        whole = np.sum(squares, axis=0) if squares else np.zeros(batch)
        if not math.isfinite(whole.sum()):
            wrong = ~np.isfinite(whole)
            for block in blocks:
                block.drop(wrong)
            squares = [block.squares() for block in blocks]
            whole = np.sum(squares, axis=0)
    if layers is None:
        scales = [_scale(whole, norm)] * len(blocks)
    else:
        by_layer = np.zeros((layers, batch))
        for block, square in zip(blocks, squares, strict=True):
            by_layer[block.layer] += square
        found = [_scale(row, norm / math.sqrt(layers)) for row in by_layer]
        scales = [found[block.layer] for block in blocks]
    for block, scale in zip(blocks, scales, strict=True):
        block.add_to(total, scale)
    return Clipped(total, int(np.count_nonzero(whole <= norm * norm)))


def _scale(squares: Floats, norm: float) -> Floats:
    """What gradients with these squared norms are multiplied by."""
    limit = norm * (1 - KEPT_BACK)
    # A norm of 0 would divide by zero; anything up to the limit stays as it is.
    scale: Floats = limit / np.sqrt(np.maximum(squares, limit * limit))
    return scale
