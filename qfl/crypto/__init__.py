"""Secure summation of vectors: aggregation schemes and their key holder.

Usable alone, without Flower:

>>> import numpy as np
>>> from qfl.crypto import SumRange, from_grid, make_scheme, to_grid
>>> sums = SumRange(fraction_bits=20, bound=2.0, additions=2)
>>> scheme = make_scheme("ckks", length=3, sums=sums)
>>> keys = scheme.generate_keys()
>>> total = scheme.accumulator(3, keys.public)
>>> for update in ([0.5, 1.0, -1.0], [0.25, 0.0, 1.0]):
...     total.add(scheme.protect(to_grid(update, 0.5, sums), keys.public))
>>> from_grid(scheme.open(total.result(), 3, keys.secret), sums).tolist()
[0.375, 0.5, 0.0]
"""

from __future__ import annotations

from collections.abc import Callable

from qfl.conf.trust import (
    FEWEST,
    RELEASES,
    TRUSTS,
    assumption,
    check_fewest,
    check_release,
    check_trust,
)
from qfl.crypto.ckks import Ckks
from qfl.crypto.ckks_parameters import CkksParameters, choose_parameters
from qfl.crypto.committee import Committee
from qfl.crypto.committee_member import CommitteeMember
from qfl.crypto.encoding import (
    ROUNDINGS,
    IntVector,
    SumRange,
    from_grid,
    from_limbs,
    to_grid,
    to_limbs,
)
from qfl.crypto.group_box import box_for, lock, open_box, unlock
from qfl.crypto.hybrid import Hybrid
from qfl.crypto.hybrid_sum import HybridSum, check_contribution
from qfl.crypto.key_holder import KeyHolder
from qfl.crypto.layout import Arrays, Layout
from qfl.crypto.masking_client import MaskingClient
from qfl.crypto.masking_graph import CORRUPTED, DROPOUT
from qfl.crypto.masking_rules import MaskingRules
from qfl.crypto.masking_server import MaskingServer
from qfl.crypto.members import Member, MemberKeys, Roster
from qfl.crypto.packed import Packed
from qfl.crypto.packed_choice import choose_packed
from qfl.crypto.packed_parameters import PackedParameters
from qfl.crypto.payload import Header, expect, pack, unpack
from qfl.crypto.plain import Plain
from qfl.crypto.scheme import Accumulator, KeyPair, OpensWhole, Scheme, WholeSum
from qfl.crypto.step import Step
from qfl.errors import ConfigError, unknown_name

__all__ = [
    "CORRUPTED",
    "DROPOUT",
    "FEWEST",
    "RELEASES",
    "ROUNDINGS",
    "SCHEMES",
    "TRUSTS",
    "Accumulator",
    "Arrays",
    "Ckks",
    "CkksParameters",
    "Committee",
    "CommitteeMember",
    "Header",
    "Hybrid",
    "HybridSum",
    "IntVector",
    "KeyHolder",
    "KeyPair",
    "Layout",
    "MaskingClient",
    "MaskingRules",
    "MaskingServer",
    "Member",
    "MemberKeys",
    "OpensWhole",
    "Packed",
    "PackedParameters",
    "Plain",
    "Roster",
    "Scheme",
    "Step",
    "SumRange",
    "WholeSum",
    "assumption",
    "box_for",
    "check_contribution",
    "check_fewest",
    "check_release",
    "check_trust",
    "choose_packed",
    "choose_parameters",
    "expect",
    "from_grid",
    "from_limbs",
    "lock",
    "make_scheme",
    "open_box",
    "pack",
    "register_scheme",
    "to_grid",
    "to_limbs",
    "unlock",
    "unpack",
]

SCHEMES: dict[str, Callable[[int, SumRange, str], Scheme]] = {
    "plain": lambda length, sums, trust: Plain(sums),
    "hybrid": Hybrid.for_sums,
    "ckks": Ckks.for_sums,
    "packed": Packed.for_sums,
}


def register_scheme(
    name: str, make: Callable[[int, SumRange, str], Scheme], trusts: tuple[str, ...], fewest: int
) -> None:
    """Make a scheme of one's own known by name, in this process.

    Args:
        name: Its name in configurations and payloads.
        make: Makes it for vectors of a length, sums and a trust.
        trusts: Who can open its sums; the first is what is meant where nothing is said.
        fewest: Fewest updates in a sum that is opened.
    """
    SCHEMES[name] = make
    TRUSTS[name] = trusts
    FEWEST[name] = fewest


def make_scheme(name: str, length: int, sums: SumRange, trust: str | None = None) -> Scheme:
    """A scheme by name.

    Args:
        name: One of :data:`SCHEMES`. Masking is none of them: it takes several steps; see
            :class:`MaskingClient`.
        length: Values in the longest vector that will be summed.
        sums: Grid, bound and number of additions.
        trust: Who can open; unset, the scheme's first in :data:`TRUSTS`.

    Raises:
        ConfigError: The name is unknown, the trust does not go with it, or no sound parameters
            exist.
    """
    if name not in SCHEMES:
        raise ConfigError(unknown_name("scheme", name, SCHEMES))
    trust = trust or TRUSTS[name][0]
    check_trust(name, trust)
    return SCHEMES[name](length, sums, trust)
