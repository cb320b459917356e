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
- Low bits of a contribution that do not travel (``drop`` of c0, ``second_drop`` of c1) leave
  errors g0 + g1 s. Of d bits, read as the middle of 2^d integers, g is uniform on
  -2^(d-1) + 1 ... 2^(d-1): of variance (4^d - 1) / 12 around 1/2.
- Low bits of a sum that do not travel leave h0 + h1 s. These are not uniform, as what was cut
  before leaves a pattern: all that is used is |h| <= 2^(d-1). With a public key fewer bits are cut
  here, so that this is little. (With seeds c1 is cut in the sum only.)

Given the key, a coefficient of the noise is a sum of independent terms times fixed numbers. Each
term is sub-Gaussian with its variance v, that is E exp(l x) <= exp(l^2 v / 2): for coin tosses
cosh(l) <= exp(l^2 / 2); for ternary u, (1 + 2 cosh l) / 3 <= exp(l^2 / 3), coefficient by
coefficient of the series; likewise for uniform ones. That what is cut is uniform is the one thing
assumed: it is the assumption that ciphertexts look random. So the noise around its mean is
sub-Gaussian with

    V = n / P^2 (2/3 |e'|^2 + 10.5 (1 + |s|^2)) + n [P > 1] (1 + |s|^2) / 12
        + n 4^drop / 12 + n |s|^2 4^second_drop / 12

and P(|noise - mean| > x) <= 2 exp(-x^2 / 2 V). The mean is n / 2 for the halves of g0, at most
2^(d-1) for h0, and N coefficients of s, with signs, times n / 2 + h1. The last is sub-Gaussian by
the choice of s, which a, and so h1, knows nothing of, with variance 2/3 N (n / 2 + 2^(d-1))^2.

The key enters by two norms. |s|^2 counts N coefficients that are not zero with probability 2/3:
by Hoeffding it exceeds 2 N / 3 + sqrt(N y / 2) with probability at most exp(-y). |e'|^2 is a sum of
squares of sub-Gaussians, whose moment generating function is at most that of 10.5 times a
chi-square variable: it exceeds 10.5 (N + 2 sqrt(N y) + 2 y) with probability at most exp(-y)
(Laurent and Massart 2000).

Of the failure probability 2^-64 half goes to noise past x, over all coefficients that are opened; a
quarter to the mean; an eighth to each norm. With the secret key there is neither u nor e2, and
where n times the largest values of e and g0 is below what this gives, it is used: these never fail.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, sqrt

from qfl.crypto.rlwe_bits import packed_bytes
from qfl.crypto.rlwe_ring import (
    ERROR_VARIANCE,
    FAILURE_BITS,
    LARGEST_ERROR,
    SECRET_VARIANCE,
    Ring,
)
from qfl.crypto.seal_objects import SEED_BYTES

# Of 2**bits, what SEAL's primes of these bits exceed: they are the largest that fit the degree.
_PRIME_FLOOR = 0.998
_SPARE = 1
_KEPT_IN_SUMS = 3  # low bits that a sum keeps, of those that contributions drop


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
        second_drop: The same of second polynomials; under ``shared`` in sums only.
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
            return self._first_bytes(length, self.drop) + rows * SEED_BYTES
        return self._bytes(length, self.drop, self.second_drop)

    @property
    def total_drop(self) -> int:
        """Low bits of a sum's first polynomials that do not travel."""
        return max(0, self.drop - _KEPT_IN_SUMS)

    @property
    def total_second_drop(self) -> int:
        """The same of its second ones."""
        if self.trust == "shared":
            return self.second_drop
        return max(0, self.second_drop - _KEPT_IN_SUMS)

    def download_bytes(self, length: int) -> int:
        """Size of a sum."""
        return self._bytes(length, self.total_drop, self.total_second_drop)

    def _bytes(self, length: int, drop: int, second_drop: int) -> int:
        second = packed_bytes(1, self.degree, self.data_bits - second_drop)
        return self._first_bytes(length, drop) + self.ciphertexts(length) * second

    def _first_bytes(self, length: int, drop: int) -> int:
        whole, width = self.ciphertexts(length) - 1, self.data_bits - drop
        last = self.coefficients(length) - whole * self.degree
        return whole * packed_bytes(1, self.degree, width) + packed_bytes(1, last, width)

    def room(self) -> float:
        """Noise that decryption bears: q / 2t, less what is kept for SEAL's rounding."""
        return _PRIME_FLOOR * 2.0**self.data_bits / (2 * self.plain_modulus) - _SPARE

    def noise(self, additions: int) -> float:
        """Standard deviation of a coefficient of a sum, before the sum is cut, in units."""
        n = self.degree
        return sqrt(self._variance(additions, n * SECRET_VARIANCE, n * ERROR_VARIANCE))

    def noise_bound(self, additions: int, length: int) -> float:
        """What noise exceeds with probability 2**-64 at most, in any opened coefficient."""
        n, shared = self.degree, self.trust == "shared"
        # By the docstring: an eighth for each norm, a quarter for the mean, half for the noise.
        y = (FAILURE_BITS + 3) * log(2)
        secret = n * SECRET_VARIANCE + sqrt(n * y / 2)
        error = ERROR_VARIANCE * (n + 2 * sqrt(n * y) + 2 * y)
        opened = log(self.coefficients(length))
        far = sqrt(2 * (FAILURE_BITS + 2) * log(2) + 2 * opened)
        far_mean = sqrt(2 * (FAILURE_BITS + 3) * log(2) + 2 * opened)
        halves = additions / 2 if self.second_drop and not shared else 0.0
        second = halves + _half(self.total_second_drop)
        mean = _half(self.total_drop) + far_mean * sqrt(n * SECRET_VARIANCE) * second
        bound = far * sqrt(self._variance(additions, min(secret, n), error))
        if self.drop:
            bound += additions / 2
        if shared:
            bound = min(bound, additions * (LARGEST_ERROR + _half(self.drop)))
        return additions / 2 + mean + bound

    def is_sound(self, additions: int, length: int) -> bool:
        """Whether every sum is right, but for a probability of 2**-64."""
        return self.noise_bound(additions, length) <= self.room()

    def _variance(self, additions: int, secret: float, error: float) -> float:
        """V of the docstring, by the squared norms of the key."""
        cut = 4.0**self.drop / 12 if self.drop else 0.0
        if self.trust == "shared":
            return additions * (ERROR_VARIANCE + cut)
        fresh = SECRET_VARIANCE * error + ERROR_VARIANCE * (1 + secret)
        switching = (1 + secret) / 12 if self.special_bits else 0.0
        spread = secret * 4.0**self.second_drop / 12 if self.second_drop else 0.0
        return additions * (fresh / 4.0**self.special_bits + switching + cut + spread)


def _half(bits: int) -> float:
    """Largest error of cutting so many bits."""
    return 2.0 ** (bits - 1) if bits else 0.0
