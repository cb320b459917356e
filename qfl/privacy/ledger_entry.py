"""What a ledger records, and what it measures it by."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from qfl.errors import PrivacyError, unknown_name
from qfl.privacy.accounting import ACCOUNTANTS
from qfl.privacy.charge import Charge

_DIGEST = re.compile("[0-9a-fA-F]{32,}")


@dataclass(frozen=True)
class Entry:
    """One release, or several of one mechanism, and the data set that it was made from.

    Attributes:
        dataset: Whose budget pays: a digest of the data, in hexadecimal digits, or a name that
            always means the same data. The same data under another client or run draws on the
            same budget.
        client: Who holds the data.
        run: The run that releases.
        round: Its round, from 0.
        attempt: Which attempt at that round, from 0.
        charge: What it costs.
        time: When it was written, in UTC (ISO 8601). The ledger sets it; empty until then.

    Raises:
        PrivacyError: A value is out of range.

    Example:
        >>> Entry("00c0ffee1234", "3", "demo", 1, 0, Charge("gaussian", 1.1)).round
        1
    """

    dataset: str
    client: str
    run: str
    round: int
    attempt: int
    charge: Charge
    time: str = ""

    def __post_init__(self) -> None:
        for name in ("dataset", "client", "run"):
            text = getattr(self, name)
            if not text or not text.isprintable():
                raise PrivacyError(f"an entry has {name}={text!r}: give it a printable name")
        for name in ("round", "attempt"):
            if not 0 <= getattr(self, name) < 2**63:
                raise PrivacyError(
                    f"an entry has {name}={getattr(self, name)}: it must be >= 0 and < 2^63"
                )


def short_name(dataset: str) -> str:
    """A data set as people are shown it: the first 12 digits of a digest; names in full.

    >>> short_name("0123456789abcdef0123456789abcdef"), short_name("all data of this node")
    ('0123456789ab', 'all data of this node')
    """
    return dataset[:12] if _DIGEST.fullmatch(dataset) else dataset


@dataclass(frozen=True)
class Budget:
    """What may be spent on one data set, over all runs.

    Attributes:
        epsilon: The most that all releases together may come to, > 0. None: no limit, they are
            only recorded.
        delta: Chance with which epsilon need not hold, between 0 and 1; below 1 over the number of
            records.
        accountant: ``auto``, ``prv`` or ``rdp``.

    Raises:
        PrivacyError: A value is out of range.

    Example:
        >>> Budget(epsilon=4.0, delta=1e-5).accountant
        'auto'
    """

    epsilon: float | None
    delta: float
    accountant: str = "auto"

    def __post_init__(self) -> None:
        if self.epsilon is not None and not 0 < self.epsilon < math.inf:
            raise PrivacyError(
                f"a budget of epsilon={self.epsilon} is not allowed: must be > 0 and finite, or "
                "None for no limit"
            )
        if not 0 < self.delta < 1:
            raise PrivacyError(
                f"a budget with delta={self.delta} is not allowed: must be > 0 and < 1"
            )
        if self.accountant not in ACCOUNTANTS:
            raise PrivacyError(unknown_name("accountant", self.accountant, ACCOUNTANTS))
