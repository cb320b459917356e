"""Differential privacy: mechanisms, noise, accounting, the ledger.

Usable on its own, without a federation::

    charge = Charge("gaussian", noise_multiplier=1.1, sample_rate=0.01, steps=1000)
    epsilon_of([charge], delta=1e-5)
"""

from __future__ import annotations

from qfl.privacy.accounting import chosen, epsilon_of
from qfl.privacy.calibration import noise_multiplier_for, rounds_within
from qfl.privacy.charge import Charge
from qfl.privacy.client_level import CLIENT_LEVEL, ClientLevel
from qfl.privacy.floor import PrivacyFloor
from qfl.privacy.ledger import Budget, Entry, Ledger
from qfl.privacy.randomness import Stream
from qfl.privacy.terms import BUDGET_SPENT, Terms

__all__ = [
    "BUDGET_SPENT",
    "CLIENT_LEVEL",
    "Budget",
    "Charge",
    "ClientLevel",
    "Entry",
    "Ledger",
    "PrivacyFloor",
    "Stream",
    "Terms",
    "chosen",
    "epsilon_of",
    "noise_multiplier_for",
    "rounds_within",
]
