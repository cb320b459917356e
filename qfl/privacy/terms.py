"""What a round promises its clients, as plain data that travels with what they are asked for."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, fields, replace

from qfl.conf.privacy_schema import MECHANISMS
from qfl.errors import PrivacyError, unknown_name
from qfl.privacy.accounting import ACCOUNTANTS
from qfl.privacy.client_level import CLIENT_LEVEL, NOISES, ClientLevel, next_clipping_norm
from qfl.privacy.ledger import Budget

# In what a client answers when it takes no part any more; servers look for it.
BUDGET_SPENT = "privacy budget is spent"


@dataclass(frozen=True)
class Terms:
    """The terms of a round. The server proposes them, so every field is checked.

    Attributes:
        mechanism: ``dpsgd``, ``central``, ``distributed`` or ``local``.
        noise: Client level: ``discrete_gaussian`` or ``skellam``.
        noise_multiplier: Client level: standard deviation of the noise over the sensitivity.
        clipping_norm: Largest L2 norm of a client's update, or of a record's gradient.
        largest_norm: What a clipping norm that adapts never exceeds, because sums are as wide.
        count_noise: Client level: standard deviation of the noise on the count of unclipped
            updates; 0 where the clipping norm does not adapt.
        target_quantile: Share of updates that shall lie below a clipping norm that adapts.
        clipping_lr: How fast it does.
        colluders: ``distributed``: clients whose noise does not count.
        rounds: Rounds that the run is planned for.
        epsilon: Budget of each client's data; 0 where there is none.
        delta: Of the budget.
        accountant: ``auto``, ``prv`` or ``rdp``.

    Raises:
        PrivacyError: A field is out of range.

    Example:
        >>> Terms.from_json(Terms("central", noise_multiplier=1.0).to_json()).mechanism
        'central'
    """

    mechanism: str
    noise: str = "discrete_gaussian"
    noise_multiplier: float = 0.0
    clipping_norm: float = 1.0
    largest_norm: float = 1.0
    count_noise: float = 0.0
    target_quantile: float = 0.5
    clipping_lr: float = 0.2
    colluders: int = 0
    rounds: int = 1
    epsilon: float = 0.0
    delta: float = 1e-5
    accountant: str = "auto"

    def __post_init__(self) -> None:
        for name, allowed in (
            ("mechanism", MECHANISMS[1:]),
            ("noise", NOISES),
            ("accountant", ACCOUNTANTS),
        ):
            if getattr(self, name) not in allowed:
                raise PrivacyError(unknown_name(name, str(getattr(self, name)), allowed))
        ranges = {
            "noise_multiplier": 0 <= self.noise_multiplier < math.inf,
            "clipping_norm": 0 < self.clipping_norm <= self.largest_norm,
            "largest_norm": self.largest_norm < math.inf,
            "count_noise": 0 <= self.count_noise < math.inf,
            "target_quantile": 0 < self.target_quantile < 1,
            "clipping_lr": 0 < self.clipping_lr < math.inf,
            "colluders": self.colluders >= 0,
            "rounds": 1 <= self.rounds <= 10**6,
            "epsilon": 0 <= self.epsilon < math.inf,
            "delta": 0 < self.delta < 1,
        }
        for name, right in ranges.items():
            if not right:
                raise PrivacyError(
                    f"the terms of a round have {name}={getattr(self, name)}, which is out of range"
                )

    @property
    def protects(self) -> str:
        """Whose presence cannot be told: ``record`` or ``client``."""
        return "client" if self.mechanism in CLIENT_LEVEL else "record"

    def after(self, unclipped: float) -> Terms:
        """The next round's, whose clipping norm follows the share of unclipped updates."""
        norm = next_clipping_norm(
            self.clipping_norm, unclipped, self.target_quantile, self.clipping_lr
        )
        return replace(self, clipping_norm=min(norm, self.largest_norm))

    @property
    def budget(self) -> Budget:
        """What each client's data may spend."""
        return Budget(self.epsilon or None, self.delta, self.accountant)

    def level(
        self, *, length: int, clients: int, min_clients: int, fraction_bits: int, place: str
    ) -> ClientLevel:
        """What the terms mean for an update.

        Args:
            length: Parameters.
            clients: Clients among whom weights are shared.
            min_clients: Fewest updates in a sum that is opened.
            fraction_bits: Grid of the sums.
            place: Where the sum belongs; another place, another rotation.

        Raises:
            PrivacyError: No noise would be left beside that of the colluders.
        """
        shares = min_clients - self.colluders if self.mechanism == "distributed" else 1
        if shares < 1:
            raise PrivacyError(
                f"privacy.colluders={self.colluders} with strategy.min_clients={min_clients} "
                "leaves nobody whose noise counts: raise min_clients, or lower colluders"
            )
        return ClientLevel(
            mechanism=self.mechanism,
            noise=self.noise,
            noise_multiplier=self.noise_multiplier,
            clipping_norm=self.clipping_norm,
            length=length,
            clients=clients,
            fraction_bits=fraction_bits,
            shares=shares,
            count_noise=self.count_noise or None,
            rounds=self.rounds,
            seed=hashlib.sha256(place.encode()).digest(),
        )

    def to_json(self) -> str:
        """Text for the message."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Terms:
        """Parse and check.

        Raises:
            PrivacyError: A field is missing, unknown, of a wrong type or out of range.
        """
        try:
            values = json.loads(text)
            if missing := {item.name for item in fields(Terms)} - set(values):
                raise TypeError(f"it has no '{min(missing)}'")
            for item in fields(Terms):
                value = values[item.name]
                if item.type == "float" and type(value) is int:
                    values[item.name] = float(value)
                elif type(value).__name__ != item.type:
                    raise TypeError(f"{item.name} is no {item.type}")
            return Terms(**values)
        except (ValueError, TypeError, AttributeError, RecursionError, OverflowError) as error:
            said = str(error).encode(errors="backslashreplace").decode()
            raise PrivacyError(f"the terms of a round cannot be read: {said}") from None
