"""Client-level differential privacy of a sum: what a client sends, and whose noise it holds.

After Kairouz, Liu and Steinke, "The distributed discrete Gaussian mechanism for federated learning
with secure aggregation" (2021), with the clipping norm of Andrew, Thakkar, McMahan and Ramaswamy,
"Differentially private learning with adaptive clipping" (2021).

A client's update is clipped, rotated, weighed by 1/clients, brought to the grid and rounded there
within a norm. Noise is of whole units of the grid, so that what is accounted for is what is added:
no float64 comes between. Who adds it:

* ``central``: whoever opens the sum, before anybody else sees it.
* ``distributed``: every client a share, before the sum; enough if ``shares`` of them are honest.
* ``local``: every client all of it; what it sends may then be seen by anybody.

Neighbouring under the first two are sums with and without one client's contribution, with public
weights. Under ``local`` a client's data are exchanged for any others: twice the norm.

**Adaptive clipping.** One more integer carries (b - 1/2) s, where b says whether the update was
within the norm. With s even it is whole; with s = sigma / count_noise the noise on it is of the
wanted size, and counts are spent in one with the update: the L2 sensitivity of both together is
sqrt(D^2 + (s/2)^2). That sigma = z sqrt(D^2 + (s/2)^2) gives Andrew et al.'s z_delta = sigma / D =
(z^-2 - (2 count_noise)^-2)^(-1/2).

**Tails.** A discrete Gaussian X of parameter sigma has

    E[exp(tX)] = exp(sigma^2 t^2 / 2) * sum_k rho(k - sigma^2 t) / sum_k rho(k),

rho(x) = exp(-x^2 / (2 sigma^2)), by completing the square. Poisson's summation formula writes
sum_k rho(k - c) as a sum of cosines of c with positive coefficients, which is largest at c = 0: the
last factor is at most 1. By Chernoff's bound, n independent ones add up to x or more with a
probability of at most exp(-x^2 / (2 n sigma^2)). A Skellam X of variance v has
E[exp(tX)] = exp(v (cosh t - 1)), and n of them are one of variance V = n v: for every t > 0,

    P(X >= x) <= exp(V (cosh t - 1) - t x).

With sinh t = sqrt(2 L / V) this is exp(-L) at x = (V (cosh t - 1) + L) / t, which is within
5% of the best t's where V is 1 or more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from qfl.errors import PrivacyError, unknown_name
from qfl.privacy.charge import Charge
from qfl.privacy.discrete_gaussian import DiscreteGaussian
from qfl.privacy.randomness import Stream
from qfl.privacy.rotation import padded_length, rotate, unrotate
from qfl.privacy.rounding import round_within, rounded_norm
from qfl.privacy.skellam import Skellam
from qfl.privacy.update_clipping import clip

CLIENT_LEVEL = ("central", "distributed", "local")
NOISES = ("discrete_gaussian", "skellam")
WRAP_BITS = 40
SMALLEST_NORM, LARGEST_NORM = 1e-6, 1e6
_LARGEST_SUM = 2.0**52  # in units: float64 holds each, and each after it, exactly


@dataclass(frozen=True)
class ClientLevel:
    """How the updates of one round are summed privately.

    Attributes:
        mechanism: ``central``, ``distributed`` or ``local``.
        noise: ``discrete_gaussian`` or ``skellam``.
        noise_multiplier: Standard deviation of all noise that counts, over the sensitivity. 0: no
            noise, no guarantee.
        clipping_norm: Largest L2 norm of an update.
        length: Parameters.
        clients: Clients; the weight of each is 1/clients.
        fraction_bits: A unit of the grid is 2^-fraction_bits of the weighted update.
        shares: ``distributed``: contributors whose noise counts.
        count_noise: Standard deviation of the noise on the count of updates within the norm, if
            all contribute; under ``distributed``, if ``shares`` do. Unset, none are counted.
        rounds: Over which the probability of a wrapped sum is spread.
        seed: Of the rotation; public.

    Raises:
        PrivacyError: A value is out of range, or values do not fit together.

    Example:
        >>> level = ClientLevel("central", "discrete_gaussian", 1.0, 1.0, 3, 2, 24)
        >>> sent = [level.encode(np.array([0.5, -0.25, 0.125]), Stream()) for _ in range(2)]
        >>> update_sum, _ = level.decode(sum(sent), contributions=2)
        >>> update_sum.round(3).tolist()
        [0.5, -0.25, 0.125]
    """

    mechanism: str
    noise: str
    noise_multiplier: float
    clipping_norm: float
    length: int
    clients: int
    fraction_bits: int
    shares: int = 1
    count_noise: float | None = None
    rounds: int = 1
    seed: bytes = b""

    def __post_init__(self) -> None:
        for kind, given, known in (
            ("privacy.mechanism", self.mechanism, CLIENT_LEVEL),
            ("privacy.noise", self.noise, NOISES),
        ):
            if given not in known:
                raise PrivacyError(unknown_name(kind, given, known))
        most = self.clients if self.mechanism == "distributed" else 1
        counted = self.count_noise
        for name, right, allowed in (
            ("clipping_norm", 0 < self.clipping_norm <= 1e12, "positive, at most 1e12"),
            ("noise_multiplier", 0 <= self.noise_multiplier <= 1e6, "0 to 1e6"),
            ("length", self.length >= 1, "at least 1"),
            ("clients", self.clients >= 1, "at least 1"),
            ("fraction_bits", 0 <= self.fraction_bits <= 52, "0 to 52"),
            ("shares", 1 <= self.shares <= most, f"1 to {most} under {self.mechanism}"),
            ("count_noise", counted is None or 0 < counted <= 1e12, "positive, at most 1e12"),
            ("rounds", self.rounds >= 1, "at least 1"),
        ):
            if not right:
                raise PrivacyError(
                    f"{name}={getattr(self, name)} is not allowed: must be {allowed}"
                )
        if self._count_share >= 1:
            raise PrivacyError(
                f"privacy.noise_multiplier={self.noise_multiplier:g} cannot be had with a noise of "
                f"privacy.count_noise={counted:g} on the count of unclipped updates: "
                f"raise count_noise above {self._least_count_noise:g}"
            )
        if not self.bound * 2.0**self.fraction_bits <= _LARGEST_SUM:
            raise PrivacyError(
                f"updates of norm {self.clipping_norm:g} and their noise need more than 2^52 steps "
                f"of a grid of {self.fraction_bits} bits: lower strategy.grid_bits"
            )

    @property
    def padded(self) -> int:
        """Coordinates of a rotated update."""
        return padded_length(self.length)

    @property
    def width(self) -> int:
        """Integers that a client sends."""
        return self.padded + (self.count_noise is not None)

    @property
    def sensitivity(self) -> float:
        """Largest L2 change of the integers between neighbours, count included, in units."""
        return self._distance * math.hypot(self._rounded, self.count_scale / 2)

    @property
    def sigma(self) -> float:
        """Standard deviation of the noise that is accounted for, in units."""
        return self.noise_multiplier * self.sensitivity

    @property
    def share_sigma(self) -> float:
        """Standard deviation of what one party adds, in units."""
        return self.sigma / math.sqrt(self.shares)

    @cached_property
    def count_scale(self) -> int:
        """What one client more within the norm adds to the last integer; even. 0 if not sent."""
        if self.count_noise is None:
            return 0
        # Where the accounted sigma solves the equation of the module's docstring exactly.
        alone = self.noise_multiplier * self._distance * self._rounded
        sigma = alone / math.sqrt(1 - self._count_share**2)
        # Rounding it changes the noise on the count a little. The sensitivity is of what is sent.
        return max(2, 2 * round(self._noise_growth * sigma / (2 * self.count_noise)))

    @property
    def headroom(self) -> float:
        """What no coordinate's noise exceeds, in units, while the sum can still wrap.

        Holds if all clients add their noise, for all coordinates and rounds together, except with
        a probability of 2^-40. 0 under ``central``: that noise is added after the sum is opened.
        """
        if self.mechanism == "central" or self.sigma == 0:
            return 0.0
        variance = self.clients * self.share_sigma**2
        exponent = math.log(2) * (WRAP_BITS + 1) + math.log(self.width * self.rounds)
        if self.noise == "discrete_gaussian":
            return math.sqrt(2 * variance * exponent)
        sinh = math.sqrt(2 * exponent / variance)
        return (variance * (math.hypot(1, sinh) - 1) + exponent) / math.asinh(sinh)

    @property
    def bound(self) -> float:
        """What no sum of contributions exceeds in magnitude, in real units.

        With the noise that clients add, and except with a probability of 2^-40 over all rounds.
        """
        # Rotation and weighing round in float64, by far less than the factor.
        one = max(self._norm * (1 + 2.0**-40) + 1, self.count_scale / 2)
        return (self.clients * one + self.headroom) / 2.0**self.fraction_bits

    def room(self, *, shifted: bool) -> float:
        """What sums must hold, in real units.

        Noise that comes after a sum is opened comes after it wrapped. Whoever can add to a sum on
        the way could move it to where it wraps, and would see, without noise, on which side of any
        value it lay. With twice the bound as room, sums on both sides of that are beyond the bound,
        and what is beyond is not released.

        Args:
            shifted: Whether somebody could add to a sum before it is opened.
        """
        return self.bound * (2 if shifted and self.mechanism == "central" else 1)

    def charge(self) -> Charge:
        """What the round costs each client's data.

        Raises:
            PrivacyError: The noise cannot be drawn at this size.
        """
        # The sum of discrete Gaussians is not quite one; that of Skellams is.
        differs = self.mechanism == "distributed" and self.noise == "discrete_gaussian"
        delta = 0.0
        if self.sigma:
            delta = self._noise.total_variation * self.width * self.shares
            if self.mechanism != "central":
                delta += 2.0**-WRAP_BITS / self.rounds
        return Charge(
            self.noise,
            noise_multiplier=self.noise_multiplier,
            delta=delta,
            sensitivity=self.sensitivity,
            shares=self.shares if differs else 1,
            dimension=self.width,
        )

    def encode(self, update: NDArray[np.float64], stream: Stream) -> NDArray[np.int64]:
        """A client's contribution.

        Args:
            update: ``length`` parameters.
            stream: For rounding and noise.

        Returns:
            ``width`` integers, with the client's noise unless it is ``central``. Nothing is cut
            off from the noise.

        Raises:
            PrivacyError: The update holds NaN or infinite values, or its length is another.
        """
        if update.shape != (self.length,):
            raise PrivacyError(
                f"an update of shape {update.shape} was given where {self.length} parameters are "
                "summed"
            )
        clipped, within = clip(update, self.clipping_norm)
        values = rotate(clipped, self.seed) * self._weight
        rounded = round_within(values, self._rounded, stream)
        if self.count_noise is not None:
            half = self.count_scale // 2
            rounded = np.append(rounded, half if within else -half)
        return rounded if self.mechanism == "central" else self._with_noise(rounded, stream)

    def noised(self, opened_sum: NDArray[np.int64], stream: Stream) -> NDArray[np.int64]:
        """An opened sum that may be shown: with all of the noise, which only ``central`` lacks."""
        return self._with_noise(opened_sum, stream) if self.mechanism == "central" else opened_sum

    def decode(
        self, opened_sum: NDArray[np.int64], contributions: int
    ) -> tuple[NDArray[np.float64], float | None]:
        """Real values of an opened sum.

        Args:
            opened_sum: ``width`` integers.
            contributions: How many were summed.

        Returns:
            The sum of weighted updates, ``length`` coordinates, noise included; and the noisy
            count of updates within the clipping norm, if it was sent.

        Raises:
            PrivacyError: The sum is of another width.
        """
        if opened_sum.shape != (self.width,):
            raise PrivacyError(
                f"a sum of shape {opened_sum.shape} was opened where {self.width} integers are sent"
            )
        values = opened_sum[: self.padded].astype(np.float64) / 2.0**self.fraction_bits
        update_sum = unrotate(values, self.seed, self.length)
        if self.count_noise is None:
            return update_sum, None
        return update_sum, self.unclipped(int(opened_sum[-1]), contributions)

    def unclipped(self, last: int, contributions: int) -> float:
        """The noisy count of updates within the clipping norm.

        Args:
            last: The last integer of an opened sum, where clients sent ``count_noise``'s.
            contributions: How many were summed.
        """
        return last / self.count_scale + contributions / 2

    @cached_property
    def _noise(self) -> DiscreteGaussian | Skellam:
        if self.noise == "skellam":
            return Skellam(self.share_sigma**2)
        return DiscreteGaussian(self.share_sigma)

    def _with_noise(self, integers: NDArray[np.int64], stream: Stream) -> NDArray[np.int64]:
        return integers + self._noise.draw(self.width, stream) if self.sigma else integers

    @property
    def _weight(self) -> float:
        return 2.0**self.fraction_bits / self.clients

    @property
    def _norm(self) -> float:
        """L2 norm of a contribution before it is rounded, in units."""
        return self.clipping_norm * self._weight

    @property
    def _rounded(self) -> float:
        """L2 norm of a contribution without count, in units."""
        return rounded_norm(self._norm, self.padded)

    @property
    def _distance(self) -> int:
        """Norms between neighbours."""
        return 2 if self.mechanism == "local" else 1

    @property
    def _noise_growth(self) -> float:
        """Standard deviation of the noise of a whole sum, over ``sigma``."""
        return math.sqrt(self.clients) if self.mechanism == "local" else 1.0

    @property
    def _count_share(self) -> float:
        """Share of the sensitivity that the count takes; from 1 on no noise is enough."""
        return self._least_count_noise / self.count_noise if self.count_noise else 0.0

    @property
    def _least_count_noise(self) -> float:
        return self.noise_multiplier * self._distance * self._noise_growth / 2


def next_clipping_norm(
    norm: float, unclipped_fraction: float, target_quantile: float, lr: float
) -> float:
    """Move the clipping norm towards a quantile of the norms of the updates.

    Args:
        norm: The last one.
        unclipped_fraction: Noisy share of updates within it; beyond [0, 1] it is cut, which costs
            no privacy, as all that is computed from what was released.
        target_quantile: Share that should be within it, in [0, 1].
        lr: Step on the logarithm of the norm; 0.2 in the paper.

    Returns:
        Within [1e-6, 1e6].

    Example:
        >>> next_clipping_norm(1.0, unclipped_fraction=0.5, target_quantile=0.5, lr=0.2)
        1.0
    """
    fraction = min(max(unclipped_fraction, 0.0), 1.0)
    moved = norm * math.exp(-lr * (fraction - target_quantile))
    return min(max(moved, SMALLEST_NORM), LARGEST_NORM)
