"""Epsilon of sampled Gaussians by Opacus' composition of privacy loss random variables (PRV).

Gopi, Lee and Wutschitz, "Numerical Composition of Differential Privacy" (2021): the distribution of
one release's loss is put on a grid and composed with itself by FFT. Its error is bounded, and what
is reported here is the upper end. The loss is that of a record's removal, which for Poisson-sampled
Gaussians was never found to be smaller than that of an addition.

Where Opacus cannot be trusted, and what is done here:

- FFT rounds to about 10^-16 of the largest value, whatever delta is. Up to 3e-14 a release were
  measured (delta 10^-13 to 10^-8, up to 300,000 releases); 1e-13 a release is taken off delta. None
  is left, or less than half: refused.
- Above an epsilon of about 700 exp overflows, and infinity or nonsense comes back. Refused from 500
  on, where the Renyi bound is within 5 %.
- The grid grows with epsilon and with the root of the number of releases, to terabytes. From 2^20
  points on its error is let grow from 0.01 to at most 0.02 or 0.5 % of epsilon; then: refused.
- It raises where epsilon would be below 0, and now and then elsewhere: refused.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

from qfl.privacy.charge import Charge
from qfl.privacy.renyi import rdp_epsilon

_LARGEST_EPSILON = 500.0
_LARGEST_GRID = 2.0**20
_ROUNDING = 1e-13  # of delta, for each release
_ERROR = 0.01  # of epsilon: Opacus' own default


def prv_epsilon(charges: Sequence[Charge], delta: float, bound: float) -> float | None:
    """Epsilon of all charges together by Opacus' ``PRVAccountant``.

    Args:
        charges: Of mechanism ``gaussian``, with noise; their own deltas are not looked at.
        delta: In (0, 1).
        bound: Epsilon by Renyi differential privacy at this delta.

    Returns:
        An upper bound of the true epsilon, or nothing where it is refused.

    Example:
        >>> charge = Charge("gaussian", noise_multiplier=1.0, sample_rate=0.1, steps=200)
        >>> round(prv_epsilon([charge], 1e-5, bound=11.0), 2)
        9.98
    """
    steps = sum(charge.steps for charge in charges)
    left = delta - _ROUNDING * steps
    if bound > _LARGEST_EPSILON or left < delta / 2:
        return None
    error = _ERROR * max(1.0, _grid(charges, steps, left) / _LARGEST_GRID)
    if error > max(2 * _ERROR, bound / 200):
        return None

    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = [(c.noise_multiplier, c.sample_rate, c.steps) for c in charges]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of orders, and of exp at the ends of the grid
        try:
            found = float(accountant.get_epsilon(left, eps_error=error))
        except (ArithmeticError, RuntimeError, ValueError):
            return None
    return max(0.0, found) if math.isfinite(found) else None


def _grid(charges: Sequence[Charge], steps: int, delta: float) -> float:
    """Points of Opacus' grid, nearly: its ends are epsilon at a delta smaller by 4,000."""
    reach = rdp_epsilon(charges, delta / 4000) + 3
    return 2 * reach / _ERROR * math.sqrt(steps * math.log(12_000 / delta) / 2)
