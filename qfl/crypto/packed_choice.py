"""Which parameters of ``packed`` are taken: of all that are sound, those with the smallest upload.

Degrees above 4096 never win: SEAL's primes have at most 60 bits, which 4096 allows, and so has its
plain modulus.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

from qfl.conf.trust import check_trust
from qfl.crypto.encoding import SumRange
from qfl.crypto.packed_parameters import PackedParameters
from qfl.crypto.rlwe_ring import LARGEST_PRIME_BITS, TOTAL_BITS
from qfl.errors import ConfigError

_SPECIAL_BITS = {2048: 14, 4096: 20}
_LARGEST_PLAIN_BITS = 60
_TRIED = 8


@lru_cache(maxsize=64)
def choose_packed(length: int, sums: SumRange, trust: str = "key_holder") -> PackedParameters:
    """The parameters with the smallest upload that are sound for these sums.

    Args:
        length: Values in the longest vector.
        sums: Capacity and number of additions.
        trust: ``key_holder`` (clients have a public key) or ``shared`` (they have the secret one).

    Raises:
        ConfigError: No parameters give a failure probability under 2**-64.

    Example:
        >>> found = choose_packed(1_000_000, SumRange(15, 1.0, 10), trust="shared")
        >>> found.lanes, round(found.upload_bytes(1_000_000) / 1_000_000, 2)
        (3, 2.17)
    """
    check_trust("packed", trust)
    sound = [
        cut
        for found in _candidates(sums.capacity, trust)
        for cut in _cut(found, length, sums.additions)
    ]
    if not sound:
        raise ConfigError(
            f"no packed parameters sum {sums.additions} vectors of {length} values of magnitude "
            f"{sums.capacity} soundly: lower strategy.grid_bits or strategy.bound"
        )
    return min(
        sound,
        key=lambda found: (
            found.upload_bytes(length),
            found.special_bits > 0,
            found.download_bytes(length),
        ),
    )


def _candidates(capacity: int, trust: str) -> Iterator[PackedParameters]:
    """All degrees, chains and numbers of lanes, with primes as large as is secure."""
    for degree, total in TOTAL_BITS.items():
        specials = [0]
        if trust == "key_holder" and degree in _SPECIAL_BITS:
            specials.append(_SPECIAL_BITS[degree])
        for special in specials:
            data = min(LARGEST_PRIME_BITS, total - special)
            lanes = 1
            while (2 * capacity + 1) ** lanes < 2 ** min(_LARGEST_PLAIN_BITS, data):
                yield PackedParameters(degree, data, special, capacity, lanes, 0, 0, trust)
                lanes += 1


def _cut(found: PackedParameters, length: int, additions: int) -> Iterator[PackedParameters]:
    """What remains sound with few bits that travel; nothing where nothing is sound.

    The fewest bits are not always the fewest bytes: rows are filled up to whole words.
    """
    if not found.is_sound(additions, length):
        return
    if found.trust == "shared":
        most = _most(found, "drop", length, additions).drop
        for drop in range(max(0, most - _TRIED), most + 1):
            yield _most(replace(found, drop=drop), "second_drop", length, additions)
        return
    most = _most(found, "second_drop", length, additions).second_drop
    for second in range(max(0, most - _TRIED), most + 1):
        cut = _most(replace(found, second_drop=second), "drop", length, additions)
        for drop in range(max(0, cut.drop - _TRIED), cut.drop + 1):
            yield replace(cut, drop=drop)


def _most(found: PackedParameters, name: str, length: int, additions: int) -> PackedParameters:
    """The parameters with as many bits dropped as is sound."""
    while True:
        next_one = replace(found, **{name: getattr(found, name) + 1})
        if not next_one.is_sound(additions, length):
            return found
        found = next_one
