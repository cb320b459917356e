"""Epsilon of sampled Gaussians by Opacus' composition of privacy loss random variables (PRV).

Gopi, Lee and Wutschitz, "Numerical Composition of Differential Privacy" (2021): the distribution of
one release's loss is put on a grid and composed with itself by FFT. Its error is bounded, and what
is reported here is the upper end. The loss is that of a record's removal, which for Poisson-sampled
Gaussians was never found to be smaller than that of an addition.

Where Opacus cannot be trusted, and what is done here:

- FFT rounds to about 10^-16 of the largest value, whatever delta is. Against long doubles up to
  8e-16 a release were measured (174 cases, up to a million releases); 1e-14 a release is taken off
  delta. Where that is more than half of it: refused.
- Above a loss of about 700 exp overflows, and infinity or nonsense comes back: refused.
- The grid grows with epsilon and with the root of the number of releases, to terabytes. From 2^20
  points on its error is let grow from 0.01 to at most 0.02 or 0.5 % of epsilon; then: refused.
- It raises where epsilon would be below 0, and now and then elsewhere: refused.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from qfl.privacy.charge import Charge
from qfl.privacy.renyi import rdp_epsilon

_LARGEST_LOSS = 700.0
_LARGEST_GRID = 2.0**20
_ROUNDING = 1e-14  # of delta, for each release
_ERROR = 0.01  # of epsilon: Opacus' own default
_DELTA_SHARE = 1000  # of delta, what the grid's ends may cost: Opacus' own default


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
    left = delta - _ROUNDING * sum(charge.steps for charge in charges)
    if bound > _LARGEST_LOSS or left < delta / 2:
        return None

    end = _end(charges, left / _DELTA_SHARE)
    error = _error(charges, end, left, bound)
    if error is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of exp at the ends of the grid
        try:
            found = float(_accountant(charges, end).get_epsilon(left, eps_error=error))
        except (ArithmeticError, RuntimeError, ValueError):
            return None
    return max(0.0, found) if math.isfinite(found) else None


def _end(charges: Sequence[Charge], delta_error: float) -> float:
    """Where the grid ends: losses beyond it, of all releases or of one, are as rare as wanted.

    As remark 5.6 of Gopi et al. has it. Opacus finds the same by its own Renyi bounds, in most of a
    second; ours are the same bounds, in milliseconds.
    """
    steps = sum(charge.steps for charge in charges)
    ends = [rdp_epsilon(charges, delta_error / 4)]
    for charge in charges:
        ends.append(rdp_epsilon([replace(charge, steps=1)], delta_error / (8 * steps)))
    return max(*ends, _ERROR) + 3


def _error(charges: Sequence[Charge], end: float, delta: float, bound: float) -> float | None:
    """The error of epsilon with which the grid is small enough, if there is one."""
    if not end < _LARGEST_LOSS:
        return None
    steps = sum(charge.steps for charge in charges)
    points = 2 * end / _ERROR * math.sqrt(steps * math.log(12 * _DELTA_SHARE / delta) / 2)
    error = _ERROR * max(1.0, points / _LARGEST_GRID)
    return error if error <= max(2 * _ERROR, bound / 200) else None


def _accountant(charges: Sequence[Charge], end: float) -> Any:
    from opacus.accountants import PRVAccountant
    from opacus.accountants.analysis.prv.domain import Domain

    class Accountant(PRVAccountant):  # type: ignore[misc]
        def _get_domain(
            self, prvs: Any, num_self_compositions: Any, eps_error: float, delta_error: float
        ) -> Any:
            steps = sum(num_self_compositions)
            mesh = eps_error / math.sqrt(steps * math.log(12 / delta_error) / 2)
            return Domain.create_aligned(-end, end, mesh)

    accountant = Accountant()
    accountant.history = [(c.noise_multiplier, c.sample_rate, c.steps) for c in charges]
    return accountant
