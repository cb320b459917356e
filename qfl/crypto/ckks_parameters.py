"""Parameters of addition-only CKKS (Cheon, Kim, Kim, Song 2017), worked out from what is summed.

Nothing is ever multiplied. A scaled sum reaches at most 0.45 of the data prime, as half of it would
wrap; and the prime is large enough that decryption noise stays below half a grid step: then
rounding to the grid gives the exact sum. A slot reads a noise polynomial e at a root of unity z:
Re e(z) has N / 2 times the variance of a coefficient, as the squared cosines of N multiples of an
angle add up to N / 2.

Noise with a public key (trust ``key_holder``). A fresh ciphertext is switched down from a special
prime, which leaves a rounding error r with uniform coefficients in [-1/2, 1/2] on the part that
is multiplied by the ternary secret s. At a root of unity both s and r are sums of N independent
terms, so nearly complex Gaussian; the real part of the product of two complex Gaussians has a
*Laplace* distribution. Its tail is far heavier than a Gaussian's of the same variance, and it is
what the failure probability is computed from.

Noise with the secret key (trust ``shared``). A ciphertext is (m + e - a s, a): it opens to m + e,
and no product with the secret is left. The coefficients of e are centred binomial, 21 coin tosses
less 21 others, of variance 10.5; those of the rounding of m are uniform in [-1/2, 1/2]. Both are
sub-Gaussian with their variance, that is E exp(l e) <= exp(l^2 v / 2), since cosh(l / 2) <=
exp(l^2 / 8) and sinh(l / 2) / (l / 2) <= exp(l^2 / 24). Sub-Gaussian variances add, so of n
contributions P(|Re e(z)| > x) <= 2 exp(-x^2 / 2 V) with V = n (N / 2) (10.5 + 1 / 12): a proof,
not an approximation. There is no need of a special prime.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, log2, sqrt

from qfl.conf.trust import check_trust
from qfl.crypto.encoding import SumRange
from qfl.crypto.rlwe_bits import packed_bytes
from qfl.crypto.rlwe_ring import (
    ERROR_VARIANCE,
    FAILURE_BITS,
    LARGEST_PRIME_BITS,
    SECRET_VARIANCE,
    TOTAL_BITS,
    Ring,
)
from qfl.crypto.seal_objects import SEED_BYTES
from qfl.errors import ConfigError

_SPECIAL_BITS = {2048: 14, 4096: 20}
_SMALLEST_PRIME_BITS = 25
_ROUNDING = 1 / 12
_LARGEST_SHARE = 0.45
# Seeds of larger polynomials expand in a sixth less time: worth so much more upload.
_WORTH_A_LARGER_DEGREE = {"key_holder": 1.0, "shared": 1.03}


@dataclass(frozen=True)
class CkksParameters:
    """Degree, primes and scale.

    Attributes:
        degree: Ring degree N; a ciphertext has N / 2 slots.
        data_bits: Bits of the prime that carries the sum.
        special_bits: Bits of the prime that encryption noise is divided by; 0 under ``shared``.
        scale: A slot value v is carried as v * scale.
        trust: ``key_holder`` or ``shared``.
    """

    degree: int
    data_bits: int
    special_bits: int
    scale: int
    trust: str = "key_holder"

    @property
    def slots(self) -> int:
        """Values per ciphertext."""
        return self.degree // 2

    @property
    def prime_bits(self) -> list[int]:
        """Bit sizes in the order in which SEAL takes them."""
        return [bits for bits in (self.data_bits, self.special_bits) if bits]

    @property
    def ring(self) -> Ring:
        """What SEAL is told."""
        return Ring("CKKS", self.degree, tuple(self.prime_bits))

    def noise(self, additions: int) -> float:
        """Standard deviation of a slot of a sum, over keys and encryptions, in real units."""
        n = self.degree
        if self.trust == "shared":
            encryption = ERROR_VARIANCE
        else:
            switching = (n * SECRET_VARIANCE + 1) * _ROUNDING
            fresh = ERROR_VARIANCE * (2 * n * SECRET_VARIANCE + 1)
            encryption = switching + fresh / 4.0**self.special_bits
        per_coefficient = additions * (encryption + _ROUNDING)
        return sqrt(n / 2 * per_coefficient) / self.scale

    def failure_bits(self, length: int, sums: SumRange) -> float:
        """-log2 of the probability that any of ``length`` sums is released wrong; a bound."""
        deviations = sums.step / 2 / self.noise(sums.additions)
        if self.trust == "shared":
            one = deviations**2 / 2 / log(2) - 1
        else:
            one = sqrt(2) * deviations / log(2)
        return one - log2(max(length, 1))

    def upload_bytes(self, length: int) -> int:
        """Size of one contribution."""
        polynomial = packed_bytes(1, self.degree, self.data_bits)
        second = SEED_BYTES if self.trust == "shared" else polynomial
        return max(1, -(-length // self.slots)) * (polynomial + second)


def choose_parameters(length: int, sums: SumRange, trust: str = "key_holder") -> CkksParameters:
    """The parameters with the smallest upload that are sound for these sums.

    Under ``shared`` a larger degree may cost three percent more.

    Args:
        length: Values in the longest vector.
        sums: Grid, bound and number of additions.
        trust: ``key_holder`` (clients have a public key) or ``shared`` (they have the secret one).

    Raises:
        ConfigError: No parameters give a failure probability under 2**-64.

    Example:
        >>> found = choose_parameters(658, SumRange(20, 2.0, 10))
        >>> found.degree, found.prime_bits, found.upload_bytes(658)
        (2048, [39, 14], 19968)
    """
    check_trust("ckks", trust)
    largest = sums.capacity * sums.step
    sound = []
    for degree, total in TOTAL_BITS.items():
        if trust == "key_holder" and degree not in _SPECIAL_BITS:
            continue
        special = _SPECIAL_BITS[degree] if trust == "key_holder" else 0
        for data in range(_SMALLEST_PRIME_BITS, min(LARGEST_PRIME_BITS, total - special) + 1):
            # SEAL takes no scale as wide as the prime, which narrow bounds would ask for.
            scale = min(int(_LARGEST_SHARE * 2.0**data / largest), 2 ** (data - 1) - 1)
            found = CkksParameters(degree, data, special, scale, trust)
            if scale > 0 and found.failure_bits(length, sums) >= FAILURE_BITS:
                sound.append(found)
                break
    if not sound:
        raise ConfigError(
            f"no CKKS parameters sum {sums.additions} vectors of {length} values with bound "
            f"{sums.bound:g} on a grid of 2^-{sums.fraction_bits} soundly: lower "
            "strategy.grid_bits or strategy.bound"
        )
    fewest = min(found.upload_bytes(length) for found in sound)
    most = _WORTH_A_LARGER_DEGREE[trust] * fewest
    return max(
        (found for found in sound if found.upload_bytes(length) <= most),
        key=lambda found: found.degree,
    )
