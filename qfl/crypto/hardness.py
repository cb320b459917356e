"""How hard it is to get at a client's vector under ``hybrid``, estimated; experimental, unreviewed.

What an attacker sees. Server and dishonest clients together see every honest client's b_i, and by
taking away the dishonest ones' keys and errors, the sums S and E of the honest ones' keys and
errors (E is what is left when the sum is unmasked). The vectors' sum they know anyway. To show:
moving d from the vector of one honest client to that of another changes nothing they can see. Give
them the keys of all others, too. What remains is one sample b = a s + e + ..., and S = s + s',
E = e + e' over the two.

What the sums tell. A discrete Gaussian s of parameter sigma, given s + s' = S, has weight
exp(-s^2 / (2 sigma^2)) exp(-(S - s)^2 / (2 sigma^2)), which is that of a discrete Gaussian of
parameter sigma / sqrt(2) around S / 2, exactly. The same holds for each error. So it is ring-LWE
with 6.4 / sqrt(2) = 4.53 around known centres. With n honest clients one key, given the sum, keeps
sigma * sqrt(1 - 1/n): 5.23 with three.

Reduction to plain ring-LWE (the idea of Hint-LWE: Kim, Lee, Seo and Song, Crypto 2023). Take a
sample with keys and errors of 3.2 around 0. Draw another discrete Gaussian of 3.2 around S / 2 for
each coefficient and add a times the one, plus the other. The sum of two such integers is a
discrete Gaussian of 4.53 around S / 2 up to a statistical distance of 2^-144, because
3.2 / sqrt(2) is past the smoothing parameter of the integers for 2^-144. Over ten million values
that is 2^-120. Whoever tells the vectors apart therefore tells ring-LWE with 3.2, the standard's
error, from random, with half the advantage for each pair of honest clients.

How hard is that. The estimate is that of the primal attack of Alkim, Ducas, Poppelmann and Schwabe
("Post-quantum key exchange", 2016): blocks of size b find the secret once its projection is
shorter than the last vector that reduction to b gives. It is checked against the table of the
homomorphicencryption.org standard (2018), whose cost model :func:`standard_bits` is; tests hold
all nine rows. Core-SVP counts one call to a solver in dimension b and leaves out all else.

>>> attack = primal_attack(2048, 32, 3.2)
>>> round(attack.core_svp_bits), round(attack.quantum_bits), round(attack.standard_bits)
(218, 198, 249)

Left out: attacks that use the ring, of which none is known for a power-of-two cyclotomic and keys
of this width, dual and hybrid attacks, which the standard finds weaker here, and whatever is yet
to be found. Nobody outside has looked at this construction.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import e, log2, pi, sqrt


@dataclass(frozen=True)
class Attack:
    """What the primal attack needs.

    Attributes:
        block: Block size of the lattice reduction.
        dimension: Dimension of the lattice.
    """

    block: int
    dimension: int

    @property
    def core_svp_bits(self) -> float:
        """log2 of classical operations, one call to the solver."""
        return 0.292 * self.block

    @property
    def quantum_bits(self) -> float:
        """log2 of quantum operations, one call to the solver."""
        return 0.265 * self.block

    @property
    def standard_bits(self) -> float:
        """log2 of operations as the standard of 2018 counts them."""
        return 0.292 * self.block + 16.4 + log2(8 * self.dimension)


def primal_attack(
    degree: int, modulus_bits: float, error: float, secret: float | None = None
) -> Attack:
    """The smallest block size with which the primal attack succeeds.

    Args:
        degree: Degree of the ring.
        modulus_bits: log2 of the modulus.
        error: Standard deviation of the errors.
        secret: That of the secret's coefficients; unset, the same.
    """
    widths = log2(error / (secret or error))
    step = max(1, degree // 128)
    dimensions = range(degree + 2, 3 * degree + 2, step)
    # log2 of the volume, per dimension
    volumes = [((d - degree - 1) * modulus_bits + degree * widths) / d for d in dimensions]

    def dimension_for(block: int) -> int:
        """The dimension in which it succeeds best, or 0."""
        root = _log2_root_hermite(block)
        room = [
            (2 * block - d - 1) * root + volume
            for d, volume in zip(dimensions, volumes, strict=True)
        ]
        best = max(room)
        return dimensions[room.index(best)] if log2(block) / 2 + log2(error) <= best else 0

    low, high = 50, 8 * degree  # fails, succeeds
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if dimension_for(middle) else (middle, high)
    return Attack(high, dimension_for(high))


def width_given_sum(sigma: float, honest: int) -> float:
    """Standard deviation of one of ``honest`` Gaussians, given their sum.

    Example:
        >>> round(width_given_sum(6.4, 3), 2)
        5.23
    """
    return sigma * sqrt(1 - 1 / honest)


def _log2_root_hermite(block: int) -> float:
    return log2((pi * block) ** (1 / block) * block / (2 * pi * e)) / (2 * (block - 1))
