"""The Gaussian mechanism in closed form, without sampling.

After Balle and Wang, "Improving the Gaussian Mechanism for Differential Privacy" (2018), theorem 8.
With z the noise multiplier, x = epsilon z + 1/(2z) and y = epsilon z - 1/(2z),

    delta(epsilon) = Phi(-y) - exp(epsilon) Phi(-x)
                   = exp(-y^2 / 2) (erfcx(y / sqrt 2) - erfcx(x / sqrt 2)) / 2,

since (x^2 - y^2) / 2 = epsilon. The second form neither overflows nor cancels where delta is tiny.

Releases without sampling compose to one: their losses are Gaussian and add up, so that multipliers
z_i, each used k_i times, are worth a single release with 1/z^2 = sum_i k_i / z_i^2.
"""

from __future__ import annotations

import math

from qfl.errors import PrivacyError

_PRECISION = 1e-12  # of epsilon, relative


def gaussian_delta(noise_multiplier: float, epsilon: float) -> float:
    """Smallest delta with which one release is (epsilon, delta)-private.

    Args:
        noise_multiplier: Standard deviation over L2 sensitivity; above 0.
        epsilon: At least 0.

    Raises:
        PrivacyError: A value is out of range.

    Example:
        >>> f"{gaussian_delta(1.0, epsilon=1.0):.6f}"
        '0.126937'
    """
    if not (noise_multiplier > 0 and 0 <= epsilon < math.inf):
        raise PrivacyError(
            f"noise_multiplier={noise_multiplier} and epsilon={epsilon} are not allowed: "
            "must be above 0, and at least 0"
        )
    return math.exp(_log_delta(noise_multiplier, epsilon))


def gaussian_epsilon(noise_multiplier: float, delta: float) -> float:
    """Smallest epsilon with which one release is (epsilon, delta)-private.

    Args:
        noise_multiplier: Standard deviation over L2 sensitivity; at least 0.
        delta: In (0, 1).

    Returns:
        It, rounded up by at most 10^-12 of itself; infinity without noise.

    Raises:
        PrivacyError: A value is out of range.

    Example:
        >>> round(gaussian_epsilon(4 / 50**0.5, delta=1e-5), 3)
        8.596
    """
    if not (noise_multiplier >= 0 and 0 < delta < 1):
        raise PrivacyError(
            f"noise_multiplier={noise_multiplier} and delta={delta} are not allowed: "
            "must be at least 0, and in (0, 1)"
        )
    if noise_multiplier < 1e-100:  # its square would underflow
        return math.inf
    goal = math.log(delta)
    if _log_delta(noise_multiplier, 0.0) <= goal:
        return 0.0
    # The loss is Gaussian, and delta is at most the chance that it passes epsilon.
    low, high = 0.0, (0.5 / noise_multiplier + math.sqrt(-2 * goal)) / noise_multiplier
    while high - low > _PRECISION * high:
        middle = (low + high) / 2
        if _log_delta(noise_multiplier, middle) <= goal:
            high = middle
        else:
            low = middle
    return high


def _log_delta(noise_multiplier: float, epsilon: float) -> float:
    from scipy.special import erfcx, ndtr

    half = 0.5 / noise_multiplier
    x, y = epsilon * noise_multiplier + half, epsilon * noise_multiplier - half
    far = float(erfcx(x / math.sqrt(2)))
    if y > 0:
        near = float(erfcx(y / math.sqrt(2)))
        return -y * y / 2 + math.log((near - far) / 2) if near > far else -math.inf
    left = float(ndtr(-y)) - math.exp(-y * y / 2) * far / 2
    return math.log(left) if left > 0 else -math.inf
