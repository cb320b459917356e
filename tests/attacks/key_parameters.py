"""Every set of parameters that CKKS may run with, and sums that each of them is just sound for."""

from __future__ import annotations

from dataclasses import dataclass

from qfl.crypto import CkksParameters, SumRange

# Of the data prime. At each degree the choice begins at 25 bits and ends where security does, or
# at the largest prime that SEAL makes.
PRIME_BITS = {
    ("key_holder", 2048): range(25, 41),
    ("key_holder", 4096): range(25, 61),
    ("shared", 1024): range(25, 28),
    ("shared", 2048): range(25, 55),
    ("shared", 4096): range(25, 61),
}
_SPECIAL_BITS = {("key_holder", 2048): 14, ("key_holder", 4096): 20}
_FINEST_GRID = 30


@dataclass(frozen=True)
class Set:
    """One set: what encrypts, but for the scale, which follows from the sums."""

    trust: str
    degree: int
    data_bits: int

    def __str__(self) -> str:
        return f"{self.trust}-{self.degree}-{self.data_bits}"

    def parameters(self, sums: SumRange) -> CkksParameters:
        """For these sums, sound or not."""
        special = _SPECIAL_BITS.get((self.trust, self.degree), 0)
        scale = int(0.45 * 2.0**self.data_bits / (sums.capacity * sums.step))
        scale = min(scale, 2 ** (self.data_bits - 1) - 1)
        return CkksParameters(self.degree, self.data_bits, special, scale, self.trust)

    def widest_sums(self, additions: int) -> SumRange:
        """Sums up to 1 on the finest grid that it is sound for; past 2^-30, the largest sums."""
        found = None
        for doublings in range(3, 53):
            finer = min(doublings, _FINEST_GRID)
            sums = SumRange(finer, 2.0 ** (doublings - finer), additions)
            if self.parameters(sums).failure_bits(self.degree, sums) < 64:
                break
            found = sums
        assert found is not None, f"{self} is sound for no sums"
        return found


EVERY = [
    Set(trust, degree, bits) for (trust, degree), widths in PRIME_BITS.items() for bits in widths
]
ENDS = [
    Set(trust, degree, bits)
    for (trust, degree), widths in PRIME_BITS.items()
    for bits in (widths[0], widths[-1])
]
