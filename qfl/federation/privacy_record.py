"""What a run spent of its clients' privacy, read from its ledger."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from qfl.conf.schema import ExperimentConfig
from qfl.federation.privacy_statement import left_the_clients, not_achieved
from qfl.privacy import CLIENT_LEVEL, Charge, Ledger, chosen, epsilon_of
from qfl.privacy.ledger_file import Place

LEDGER = "ledger.sqlite"


class PrivacyRecord:
    """A run's ledger, as its summary and display need it.

    Args:
        config: Of the run.
        path: The ledger's file; read only when something was spent.
    """

    def __init__(self, config: ExperimentConfig, path: Path) -> None:
        self.config, self.path = config, path
        self._ledger: Ledger | None = None

    def epsilon(self, rounds: int) -> float | None:
        """What the data set that spent most has spent; None where nothing is known or guaranteed.

        Which that is, is decided by the quicker accountant.

        Args:
            rounds: That were done, and paid for.
        """
        histories = self._histories()
        if not histories:
            return None if rounds or self.config.privacy.mechanism == "none" else 0.0
        delta = self.config.privacy.delta
        worst = max(histories, key=lambda charges: epsilon_of(charges, delta, "rdp"))
        return _finite(epsilon_of(worst, delta, self.config.privacy.accountant))

    @property
    def place(self) -> Place | None:
        """How far the ledger has come, for the audit trail to keep; None where there is none."""
        return self._ledger.place if self._histories() and self._ledger is not None else None

    def summary(self) -> dict[str, Any]:
        """The part ``privacy`` of ``summary.json``."""
        asked = self.config.privacy
        if asked.mechanism == "none":
            nothing = dict.fromkeys(("epsilon", "delta", "budget", "noise_multiplier"))
            return {
                "mechanism": "none",
                "protects": "nobody",
                "accountant": "none",
                **nothing,
                "left_the_clients": left_the_clients(self.config),
                "not_achieved": not_achieved(self.config, None),
            }
        histories = self._histories()
        charges = [charge for history in histories for charge in history]
        spent = [epsilon_of(history, asked.delta, asked.accountant) for history in histories]
        epsilon = _finite(max(spent, default=0.0))
        return {
            "mechanism": asked.mechanism,
            "protects": "client" if asked.mechanism in CLIENT_LEVEL else "record",
            "epsilon": epsilon,
            "delta": asked.delta,
            "accountant": chosen(charges, asked.accountant) if charges else asked.accountant,
            "budget": asked.epsilon,
            "noise_multiplier": min((c.noise_multiplier for c in charges), default=None),
            "sample_rate": max((c.sample_rate for c in charges), default=None),
            "clipping": asked.clipping,
            "clipping_norm": asked.clipping_norm,
            "honest_clients": self.config.strategy.min_clients - asked.colluders
            if asked.mechanism == "distributed"
            else None,
            "epsilon_by_data_set": [_finite(value) for value in sorted(spent)],
            "entries": sum(len(history) for history in histories),
            "left_the_clients": left_the_clients(self.config),
            "not_achieved": not_achieved(self.config, epsilon),
        }

    def _histories(self) -> list[tuple[Charge, ...]]:
        """Charges of every data set."""
        if self._ledger is None:
            if not self.path.exists():
                return []
            self._ledger = Ledger(self.path)
        ledger = self._ledger
        return [tuple(ledger.charges(dataset)) for dataset in ledger.datasets()]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
