"""Parameters of ``packed``: exact sums in BFV (Fan and Vercauteren 2012), worked out from the sums.

**Lanes.** A coefficient of the plaintext holds several values v_0, v_1, ... of magnitude at most
the capacity C as the number v_0 + v_1 B + v_2 B^2 + ... with B = 2 C + 1, modulo t = B^lanes. Sums
of values add lane by lane, and as a sum's magnitude is at most C too, its digits in base B, taken
from -C to C, are unique: no lane reaches into the next, whatever the signs.

**Opening.** A ciphertext opens to (q / t) m + noise modulo the prime q, and m is exact as long as
|noise| < q / 2t. One unit is kept for SEAL's own rounding, which is off by less than 2^-60 q / t.

**Noise** of a coefficient of a sum of n contributions:

- SEAL encodes m as the integer nearest to (q / t) m: at most n / 2. Sums that pass t lose a
  multiple of (q / t) t = q, which is nothing.
- With the secret key (trust ``shared``) c0 + c1 s = (q / t) m + e: one error e for each
  contribution, 21 coin tosses less 21 others, thus |e| <= 21, of variance 10.5.
- With a public key (-a s - e', a) a contribution adds -e' u + e1 + e2 s, for its own ternary u and
  errors e1, e2. With a special prime P these are divided by P, and dividing leaves rounding errors
  r1 + r2 s, uniform in [-1/2, 1/2].
- Low bits that do not travel (``drop`` of c0, ``second_drop`` of c1) leave errors g0 + g1 s. Of d
  bits, read as the middle of 2^d integers, g is uniform on -2^(d-1) + 1 ... 2^(d-1): at most
  2^(d-1), of variance (4^d - 1) / 12 around 1/2. They occur once in each contribution, and once
  more when the sum travels. (Seeds leave nothing out: there c1 is cut in the sum only.)

Given the key, a coefficient of the noise is a sum of independent terms times fixed numbers. Each
term is sub-Gaussian with its variance v, that is E exp(l x) <= exp(l^2 v / 2): for coin tosses
cosh(l) <= exp(l^2 / 2); for ternary u, (1 + 2 cosh l) / 3 <= exp(l^2 / 3), coefficient by
coefficient of the series; likewise for uniform ones. So the noise around its mean is sub-Gaussian
with

    V = n / P^2 (2/3 |e'|^2 + 10.5 (1 + |s|^2)) + n [P > 1] (1 + |s|^2) / 12
        + k0 4^drop / 12 + k1 |s|^2 4^second_drop / 12

where k0, k1 count how often bits are dropped, and P(|noise - mean| > x) <= 2 exp(-x^2 / 2 V).
The mean comes from the halves above: k0 / 2, and k1 / 2 times a sum of N coefficients of s with
signs, which is sub-Gaussian with variance 2 N / 3.

The key enters by two norms. |s|^2 counts N coefficients that are not zero with probability 2/3:
by Hoeffding it exceeds 2 N / 3 + sqrt(N y / 2) with probability at most exp(-y). |e'|^2 is a sum of
squares of sub-Gaussians, whose moment generating function is at most that of 10.5 times a
chi-square variable: it exceeds 10.5 (N + 2 sqrt(N y) + 2 y) with probability at most exp(-y)
(Laurent and Massart 2000).

Of the failure probability 2^-64 half goes to noise past x, over all coefficients that are opened; a
quarter to the mean; an eighth to each norm. Where the largest value of e and g0, counted n times,
is below what this gives, the largest value is used: then these alone never fail.

**Choice.** All of this is below q / 2t or the parameters are not taken. Among those that remain
the smallest upload wins. Degrees above 4096 never do: SEAL's primes have at most 60 bits, which
4096 allows, and its plain modulus too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from math import log, sqrt

from qfl.conf.trust import check_trust
from qfl.crypto.encoding import SumRange
from qfl.crypto.rlwe_bits import packed_bytes
from qfl.crypto.rlwe_ring import (
    ERROR_VARIANCE,
    FAILURE_BITS,
    LARGEST_ERROR,
    LARGEST_PRIME_BITS,
    SECRET_VARIANCE,
    TOTAL_BITS,
    Ring,
)
from qfl.crypto.seal_objects import SEED_BYTES
from qfl.errors import ConfigError

_SPECIAL_BITS = {2048: 14, 4096: 20}
# Of 2**bits, what SEAL's primes of these bits exceed: they are the largest that fit the degree.
_PRIME_FLOOR = 0.998
_LARGEST_PLAIN_BITS = 60
_SPARE = 1


@dataclass(frozen=True)
class PackedParameters:
    """Degree, primes, lanes and what need not travel.

    Attributes:
        degree: Ring degree N; a ciphertext has N coefficients.
        data_bits: Bits of the prime q.
        special_bits: Bits of the prime that encryption noise is divided by; 0 for none.
        capacity: Largest magnitude of a sum.
        lanes: Values in a coefficient.
        drop: Low bits of first polynomials that do not travel.
        second_drop: The same of second polynomials.
        trust: ``key_holder`` or ``shared``.
    """

    degree: int
    data_bits: int
    special_bits: int
    capacity: int
    lanes: int
    drop: int
    second_drop: int
    trust: str = "key_holder"

    @property
    def base(self) -> int:
        """Sums that a lane can tell apart."""
        return 2 * self.capacity + 1

    @property
    def plain_modulus(self) -> int:
        """Numbers that a coefficient can tell apart."""
        return int(self.base**self.lanes)

    @property
    def ring(self) -> Ring:
        """What SEAL is told."""
        bits = (self.data_bits, self.special_bits) if self.special_bits else (self.data_bits,)
        return Ring("BFV", self.degree, bits, self.plain_modulus)

    def coefficients(self, length: int) -> int:
        """Coefficients that hold ``length`` values, and one by which sums are told from noise."""
        return -(-length // self.lanes) + 1

    def ciphertexts(self, length: int) -> int:
        """Ciphertexts for ``length`` values."""
        return -(-self.coefficients(length) // self.degree)

    def upload_bytes(self, length: int) -> int:
        """Size of one contribution."""
        rows = self.ciphertexts(length)
        if self.trust == "shared":
            return self._first_bytes(length) + rows * SEED_BYTES
        return self.download_bytes(length)

    def download_bytes(self, length: int) -> int:
        """Size of a sum."""
        second = packed_bytes(1, self.degree, self.data_bits - self.second_drop)
        return self._first_bytes(length) + self.ciphertexts(length) * second

    def _first_bytes(self, length: int) -> int:
        whole, width = self.ciphertexts(length) - 1, self.data_bits - self.drop
        last = self.coefficients(length) - whole * self.degree
        return whole * packed_bytes(1, self.degree, width) + packed_bytes(1, last, width)

    def room(self) -> float:
        """Noise that decryption bears: q / 2t, less what is kept for SEAL's rounding."""
        return _PRIME_FLOOR * 2.0**self.data_bits / (2 * self.plain_modulus) - _SPARE

    def noise(self, additions: int) -> float:
        """Standard deviation of a coefficient of a sum, over keys and encryptions, in units."""
        n = self.degree
        always, cut, spread = self._variances(additions, n * SECRET_VARIANCE, n * ERROR_VARIANCE)
        return sqrt(always + cut + spread)

    def noise_bound(self, additions: int, length: int) -> float:
        """What noise exceeds with probability 2**-64 at most, in any opened coefficient."""
        n, k0, k1 = self.degree, *self._cuts(additions)
        # By the docstring: an eighth for each norm, a quarter for the mean, half for the noise.
        y = (FAILURE_BITS + 3) * log(2)
        secret = n * SECRET_VARIANCE + sqrt(n * y / 2)
        error = ERROR_VARIANCE * (n + 2 * sqrt(n * y) + 2 * y)
        always, cut, spread = self._variances(additions, min(secret, n), error)
        opened = log(self.coefficients(length))
        far = 2 * ((FAILURE_BITS + 2) * log(2) + opened)
        far_mean = 2 * ((FAILURE_BITS + 3) * log(2) + opened)
        mean = k0 / 2 + k1 / 2 * sqrt(far_mean * n * SECRET_VARIANCE)
        bound = sqrt(far * (always + cut + spread))
        if self.trust == "shared":
            largest = additions * LARGEST_ERROR + k0 * 2.0 ** (self.drop - 1)
            bound = min(bound, largest + sqrt(far * spread))
        return additions / 2 + mean + bound

    def is_sound(self, additions: int, length: int) -> bool:
        """Whether every sum is right, but for a probability of 2**-64."""
        return self.noise_bound(additions, length) <= self.room()

    def _cuts(self, additions: int) -> tuple[int, int]:
        first = additions + 1 if self.drop else 0
        second = 1 if self.trust == "shared" else additions + 1
        return first, second if self.second_drop else 0

    def _variances(self, additions: int, secret: float, error: float) -> tuple[float, float, float]:
        """Of encryption, of bits dropped in the first polynomial and in the second."""
        k0, k1 = self._cuts(additions)
        cut, spread = k0 * 4.0**self.drop / 12, k1 * secret * 4.0**self.second_drop / 12
        if self.trust == "shared":
            return additions * ERROR_VARIANCE, cut, spread
        fresh = SECRET_VARIANCE * error + ERROR_VARIANCE * (1 + secret)
        switching = (1 + secret) / 12 if self.special_bits else 0.0
        return additions * (fresh / 4.0**self.special_bits + switching), cut, spread


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
        (3, 2.2)
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
    """What remains sound with the fewest bits that travel; nothing where nothing is sound."""
    if not found.is_sound(additions, length):
        return
    if found.trust == "shared":
        found = _most(found, "drop", length, additions)
        yield _most(found, "second_drop", length, additions)
        return
    most = _most(found, "second_drop", length, additions).second_drop
    for second in range(max(0, most - 6), most + 1):
        yield _most(replace(found, second_drop=second), "drop", length, additions)


def _most(found: PackedParameters, name: str, length: int, additions: int) -> PackedParameters:
    """The parameters with as many bits dropped as is sound."""
    while True:
        next_one = replace(found, **{name: getattr(found, name) + 1})
        if not next_one.is_sound(additions, length):
            return found
        found = next_one
