"""Our schemes, one row each: the grid that their error asks for, and who opens."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from aggregation_round import Case, Contender
from aggregation_several import CommitteeSum, MaskedSum
from aggregation_sum import Ours, Sum

PACKAGES = ("qfl", "tenseal", "cryptography", "numpy")

# 2^-20 is the grid of a run whose configuration says nothing. Rounding ten contributions costs up
# to five steps of the sum, so that 2^-23 keeps the error of a mean below 2^-20. Packed lanes of
# 16 bits hold sums on 2^-18; hybrid takes the finest grid that is sound, masking what float32
# resolves.
SCHEMES = (
    Ours("plain", "none", 23),
    Ours("ckks", "key_holder", 20),
    Ours("ckks", "key_holder", 23, "fine"),
    Ours("packed", "key_holder", 18),
    Ours("hybrid", "key_holder", 30),
    Ours("hybrid", "committee", 30),
    Ours("ckks", "shared", 20),
    Ours("ckks", "shared", 23, "fine"),
    Ours("packed", "shared", 18),
    Ours("hybrid", "shared", 30),
    Ours("masking", "none", 26),
)
BY_NAME = {str(ours): ours for ours in SCHEMES}


def contender_of(ours: Ours) -> Callable[[Case], Contender | MaskedSum]:
    """What drives a scheme."""
    if ours.several:
        return partial(MaskedSum, ours)
    return partial(CommitteeSum if ours.trust == "committee" else Sum, ours)


CONTENDERS = {name: contender_of(ours) for name, ours in BY_NAME.items()}
