"""The noise that a budget takes, and the rounds that it lasts.

An account by PRV takes up to a second, one by Renyi divergence milliseconds. Neither is ever above
the Renyi bound, so that is solved first, and what it gives is where the search by PRV starts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from qfl.errors import PrivacyError
from qfl.privacy.accounting import chosen, epsilon_of
from qfl.privacy.charge import Charge

_LEAST, _MOST = 0.01, 1e6  # noise multipliers that are tried
_PRECISION = 5e-4  # relative
_DIGITS = 4
_NO_DELTA = math.nextafter(1, 0)  # a charge's delta is below 1; nothing is left of any delta then


def noise_multiplier_for(
    epsilon: float,
    delta: float,
    charges_of: Callable[[float], Sequence[Charge]],
    accountant: str = "auto",
) -> float:
    """Smallest noise multiplier with which charges stay within a budget.

    Args:
        epsilon: Above 0.
        delta: In (0, 1).
        charges_of: All charges, what was spent before included, for a noise multiplier. More noise
            must not cost more.
        accountant: As in :func:`qfl.privacy.accounting.epsilon_of`.

    Returns:
        It, with four significant digits and rounded up, so that the budget holds; 0.01 if even
        that little would do.

    Raises:
        PrivacyError: No noise is enough, or a value is out of range.

    Example:
        >>> noise_multiplier_for(2.0, 1e-5, lambda z: [Charge("gaussian", z, steps=10)])
        6.306
    """
    _check(epsilon)

    def by(name: str) -> Callable[[float], float]:
        return lambda z: epsilon_of(charges_of(z), delta, name)

    found = _smallest(by("rdp"), epsilon, start=1.0, factor=2.0)
    if chosen(charges_of(1.0), accountant) == "prv":
        found = _smallest(by("prv"), epsilon, start=found or _MOST, factor=1.1)
    if found is None:
        raise PrivacyError(_impossible(epsilon, delta, charges_of(_MOST), accountant))
    return _rounded_up(found, lambda z: epsilon_of(charges_of(z), delta, accountant) <= epsilon)


def rounds_within(
    epsilon: float,
    delta: float,
    charge: Charge,
    spent: Sequence[Charge] = (),
    accountant: str = "auto",
    most: int = 10**6,
) -> int:
    """How often a charge can be made within a budget.

    Args:
        epsilon: Above 0.
        delta: In (0, 1).
        charge: What each round costs.
        spent: What was spent before.
        accountant: As in :func:`qfl.privacy.accounting.epsilon_of`.
        most: Where to stop counting.

    Returns:
        Rounds, at most ``most``; 0 where none is left.

    Raises:
        PrivacyError: A value is out of range.

    Example:
        >>> rounds_within(8.0, 1e-5, Charge("gaussian", noise_multiplier=4.0))
        44
    """
    _check(epsilon)

    def by(name: str) -> Callable[[int], float]:
        def spent_after(rounds: int) -> float:
            added = min(rounds * charge.delta, _NO_DELTA)
            more = [replace(charge, steps=rounds * charge.steps, delta=added)] if rounds else []
            return epsilon_of([*spent, *more], delta, name)

        return spent_after

    found = _largest(by("rdp"), epsilon, 0, most)
    if found < most and chosen([*spent, charge], accountant) == "prv":
        found = _largest(by("prv"), epsilon, found, most)
    return found


def _check(epsilon: float) -> None:
    if not 0 < epsilon < math.inf:
        raise PrivacyError(f"epsilon={epsilon} is not allowed: must be a number above 0")


def _smallest(
    cost: Callable[[float], float], epsilon: float, start: float, factor: float
) -> float | None:
    """Smallest noise whose cost is within epsilon, a little above it; costs fall with noise."""
    low = high = start
    at_low = at_high = cost(start)
    while at_high > epsilon:
        if high >= _MOST:
            return None
        low, at_low = high, at_high
        high = min(high * factor, _MOST)
        at_high = cost(high)
        factor *= factor
    while at_low <= epsilon:
        if low <= _LEAST:
            return _LEAST
        high, at_high = low, at_low
        low = max(low / factor, _LEAST)
        at_low = cost(low)
        factor *= factor
    while high > low * (1 + _PRECISION):
        part = _between(at_low, at_high, epsilon, _PRECISION / 4 / math.log(high / low))
        middle = low * (high / low) ** part
        found = cost(middle)
        if found <= epsilon:
            high, at_high = middle, found
        else:
            low, at_low = middle, found
    return high


def _largest(cost: Callable[[int], float], epsilon: float, low: int, most: int) -> int:
    """Largest number of rounds whose cost is within epsilon; ``low`` is known to be, or is 0."""
    at_low, ahead = cost(low), max(1, low // 8)
    while low < most:
        high = min(low + ahead, most)
        at_high = cost(high)
        if at_high > epsilon:
            break
        low, at_low, ahead = high, at_high, 2 * ahead
    else:
        return most
    while high - low > 1:
        part = _between(at_low, at_high, epsilon, 0.0)
        middle = min(max(low + round(part * (high - low)), low + 1), high - 1)
        found = cost(middle)
        if found <= epsilon:
            low, at_low = middle, found
        else:
            high, at_high = middle, found
    return low


def _between(first: float, second: float, wanted: float, least: float) -> float:
    """Where between two costs the wanted one lies: from 0 to 1, and not too near to either."""
    if min(first, second) <= 0 or math.isinf(max(first, second)):
        return 0.5
    part = math.log(first / wanted) / math.log(first / second)
    # The end from which it is far would never move; a little beyond, both close in.
    margin = min(max(0.05, least), 0.5)
    return min(max(part, margin), 1 - margin)


def _rounded_up(value: float, enough: Callable[[float], bool]) -> float:
    digits = _DIGITS - 1 - math.floor(math.log10(value))
    units = math.ceil(round(value * 10.0**digits, 6))
    while not enough(round(units / 10.0**digits, max(digits, 0))):
        units += 1
    return round(units / 10.0**digits, max(digits, 0))


def _impossible(epsilon: float, delta: float, charges: Sequence[Charge], accountant: str) -> str:
    added = math.fsum(charge.delta for charge in charges)
    if added >= delta:
        return (
            f"delta={delta} cannot be kept: the charges add {added:.3g} to it whatever the noise; "
            "allow a larger delta, or fewer rounds"
        )
    least = epsilon_of(charges, delta, accountant)
    return (
        f"epsilon={epsilon} at delta={delta} cannot be kept with any noise multiplier up to "
        f"{_MOST:g}, which still comes to {least:.4g}; allow a larger epsilon or delta, fewer "
        "rounds, or use data of which less was spent"
    )
