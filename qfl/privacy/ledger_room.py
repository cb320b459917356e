"""Whether one more charge keeps a data set within its budget, without an account for each.

An account by PRV takes up to hundreds of milliseconds; training asks once for every client and
round, nearly always for the same charge again. So what is computed is how many of that charge fit
beside all else that was spent; after that it is enough to count. The answer depends on nothing but
the charges and the budget, so it cannot grow stale and serves every data set with that history.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache

from qfl.privacy.accounting import epsilon_of
from qfl.privacy.calibration import rounds_within
from qfl.privacy.charge import Charge
from qfl.privacy.ledger_entry import Budget

_FEWEST = 64

# Threads that ask the same at once wait for one answer instead of each computing it.
_computing = threading.Lock()


def fits(spent: Mapping[Charge, int], charge: Charge, budget: Budget) -> bool:
    """Whether a charge fits beside what was spent.

    Args:
        spent: How often each charge was made before.
        charge: The next one.
        budget: What may be spent.

    Example:
        >>> fits({}, Charge("gaussian", noise_multiplier=4.0), Budget(epsilon=2.0, delta=1e-5))
        True
    """
    if budget.epsilon is None:
        return True
    wanted = spent.get(charge, 0) + 1
    others = frozenset((other, count) for other, count in spent.items() if other != charge)
    most = _FEWEST
    with _computing:
        while (found := _count(others, charge, budget, most)) == most and wanted > most:
            most *= 2
    if wanted <= found:
        return True
    # Once, at the end of a budget; the accountant has the last word.
    return epsilon_of([*expanded(spent), charge], budget.delta, budget.accountant) <= budget.epsilon


def expanded(counts: Mapping[Charge, int]) -> list[Charge]:
    """Each charge as often as it was made."""
    return list(Counter(counts).elements())


@lru_cache(maxsize=4096)
def _count(others: frozenset[tuple[Charge, int]], charge: Charge, budget: Budget, most: int) -> int:
    assert budget.epsilon is not None
    spent = expanded(dict(others))
    return rounds_within(budget.epsilon, budget.delta, charge, spent, budget.accountant, most)
