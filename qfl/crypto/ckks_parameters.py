"""Parameters of addition-only CKKS (Cheon, Kim, Kim, Song 2017), worked out from what is summed.

One data prime and one special prime; nothing is ever multiplied. The data prime must hold the
scaled sum with a factor of two to spare, and be large enough that decryption noise stays below
half a grid step: then rounding to the grid gives the exact sum.

Noise of a slot. A fresh ciphertext is switched down from the special prime, which leaves a
rounding error r with uniform coefficients in [-1/2, 1/2] on the part that is multiplied by the
ternary secret s. At a root of unity both s and r are sums of N independent terms, so nearly
complex Gaussian; the real part of the product of two complex Gaussians has a *Laplace*
distribution. Its tail is far heavier than a Gaussian's of the same variance, and it is what the
failure probability here is computed from.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log, log2, sqrt

from qfl.crypto.encoding import SumRange
from qfl.errors import ConfigError

FAILURE_BITS = 64

# 128-bit security, ternary secret (homomorphicencryption.org standard, 2018): modulus bits.
_TOTAL_BITS = {2048: 54, 4096: 109}
_SPECIAL_BITS = {2048: 14, 4096: 20}
_SMALLEST_PRIME, _LARGEST_PRIME = 25, 60
_ENCRYPTION_ERROR = 3.2


@dataclass(frozen=True)
class CkksParameters:
    """Degree, primes and scale.

    Attributes:
        degree: Ring degree N; a ciphertext has N / 2 slots.
        data_bits: Bits of the prime that carries the sum.
        special_bits: Bits of the prime that encryption noise is divided by.
        scale_bits: A slot value v is carried as v * 2**scale_bits.
    """

    degree: int
    data_bits: int
    special_bits: int
    scale_bits: int

    @property
    def slots(self) -> int:
        """Values per ciphertext."""
        return self.degree // 2

    @property
    def prime_bits(self) -> list[int]:
        """Bit sizes in the order in which SEAL takes them."""
        return [self.data_bits, self.special_bits]

    def noise(self, additions: int) -> float:
        """Standard deviation of a slot of a sum, over keys and encryptions, in real units."""
        n = self.degree
        switching = (2 * n / 3 + 1) / 12
        encryption = n * _ENCRYPTION_ERROR**2 * 4 / 3 / 4.0**self.special_bits
        per_coefficient = additions * (switching + encryption + 1 / 12)
        return sqrt(n / 2 * per_coefficient) / 2.0**self.scale_bits

    def failure_bits(self, length: int, sums: SumRange) -> float:
        """-log2 of the probability that any of ``length`` sums is released wrong."""
        deviations = sums.step / 2 / self.noise(sums.additions)
        return sqrt(2) * deviations / log(2) - log2(max(length, 1))


def choose_parameters(length: int, sums: SumRange) -> CkksParameters:
    """The parameters with the smallest upload that are sound for these sums.

    Args:
        length: Values in the longest vector.
        sums: Grid, bound and number of additions.

    Raises:
        ConfigError: No parameters give a failure probability under 2**-64.

    Example:
        >>> choose_parameters(658, SumRange(20, 2.0, 10))
        CkksParameters(degree=2048, data_bits=40, special_bits=14, scale_bits=37)
    """
    bound_bits = max(0, ceil(log2(sums.bound)))
    sound = []
    for degree, total in _TOTAL_BITS.items():
        special = _SPECIAL_BITS[degree]
        for data in range(_SMALLEST_PRIME, min(_LARGEST_PRIME, total - special) + 1):
            found = CkksParameters(degree, data, special, data - 2 - bound_bits)
            if found.scale_bits > 0 and found.failure_bits(length, sums) >= FAILURE_BITS:
                ciphertexts = -(-length // found.slots)
                sound.append((ciphertexts * degree * ceil(data / 8), found))
                break
    if not sound:
        raise ConfigError(
            f"no CKKS parameters sum {sums.additions} vectors of {length} values with bound "
            f"{sums.bound:g} on a grid of 2^-{sums.fraction_bits} soundly: lower "
            "strategy.grid_bits or strategy.bound"
        )
    return min(sound, key=lambda entry: entry[0])[1]
