"""How updates are summed: scheme, trust, release and the range of the sums."""

from __future__ import annotations

from dataclasses import dataclass, field

from qfl.crypto import (
    CORRUPTED,
    DROPOUT,
    FEWEST,
    ROUNDINGS,
    TRUSTS,
    IntVector,
    SumRange,
    assumption,
    check_fewest,
    check_release,
    check_trust,
)
from qfl.errors import ConfigError, unknown_name
from qfl.strategies.selective import Selective

WEIGHTINGS = ("uniform", "examples")


@dataclass(frozen=True)
class Aggregation:
    """How updates are summed, and who learns the sum.

    Attributes:
        scheme: ``plain``, ``ckks``, ``packed``, ``hybrid`` or ``masking``.
        weighting: ``uniform``, or ``examples``, which needs a ClientApp that answers
            ``query.count``.
        min_clients: Fewest updates in a sum that is opened; 0, the scheme's fewest, at least 2.
        bound: Largest magnitude of an update's coordinate.
        grid_bits: Updates are rounded to multiples of 2**-grid_bits.
        key_holder: Node that makes the keys and opens sums. Unset, it is the node whose role says
            so, else the first client, which then trains as well.
        trust: Who can open a sum; unset, the scheme's first in :data:`qfl.crypto.TRUSTS`.
        release: Who learns what is opened: ``server``, or ``clients``, which keeps the model from
            the server.
        rounding: How updates are brought to the grid: ``nearest``, or ``stochastic``, which is
            right on average.
        committee: Trust ``committee``: number of members.
        threshold: Trust ``committee``: members that open together; more than half.
        dropout: Scheme ``masking``: share of clients that may vanish in a round.
        corrupted: Scheme ``masking``: share of clients that may collude with the server.
        selective: Which parameters are protected.

    Raises:
        ConfigError: A name is unknown, a value out of range, or two do not go together.

    Example:
        >>> Aggregation("hybrid").trust, Aggregation("hybrid").min_clients
        ('key_holder', 3)
    """

    scheme: str = "ckks"
    weighting: str = "uniform"
    min_clients: int = 0
    bound: float = 2.0
    grid_bits: int = 20
    key_holder: int | None = None
    trust: str = ""
    release: str = "server"
    rounding: str = "nearest"
    committee: int = 3
    threshold: int = 2
    dropout: float = DROPOUT
    corrupted: float = CORRUPTED
    selective: Selective = field(default_factory=Selective)

    def __post_init__(self) -> None:
        if self.scheme not in TRUSTS:
            raise ConfigError(unknown_name("scheme", self.scheme, TRUSTS))
        # Frozen, but a default may depend on the scheme.
        object.__setattr__(self, "trust", self.trust or TRUSTS[self.scheme][0])
        fewest = max(2, FEWEST[self.scheme])
        object.__setattr__(self, "min_clients", self.min_clients or fewest)
        check_trust(self.scheme, self.trust)
        check_release(self.scheme, self.trust, self.release)
        check_fewest(self.scheme, self.min_clients)
        if self.weighting not in WEIGHTINGS:
            raise ConfigError(unknown_name("weighting", self.weighting, WEIGHTINGS))
        if self.rounding not in ROUNDINGS:
            raise ConfigError(unknown_name("rounding", self.rounding, ROUNDINGS))
        if not (0 < self.bound <= 64 and 8 <= self.grid_bits <= 30):
            raise ConfigError(
                f"bound={self.bound:g} with grid_bits={self.grid_bits} is not allowed: bound must "
                "be > 0 and <= 64, grid_bits >= 8 and <= 30"
            )
        if self.selective.by != "all" and (self.scheme == "plain" or self.release == "clients"):
            raise ConfigError(
                f"protecting parameters by {self.selective.by} is not possible with scheme plain, "
                "which protects none, or release=clients, which keeps all from the server"
            )
        if self.trust == "committee" and not self.committee / 2 < self.threshold <= self.committee:
            raise ConfigError(
                f"threshold={self.threshold} of committee={self.committee} is not allowed: more "
                "than half must open together, or two groups could open two sums; at most all"
            )

    @property
    def assumption(self) -> str:
        """What has to be true of the participants where nobody proves who it is."""
        return self.assumption_with(identities=False)

    def assumption_with(self, *, identities: bool) -> str:
        """What has to be true of the participants."""
        return assumption(
            self.scheme, self.trust, self.threshold, self.committee, identities=identities
        )

    @property
    def needs_roster(self) -> bool:
        """Whether nodes make keys for the run and learn each other's."""
        return (
            self.scheme in ("hybrid", "masking")
            or self.trust == "shared"
            or self.release == "clients"
        )

    def sums(self, clients: int) -> SumRange:
        """Grid and capacity of sums of this many contributions."""
        return SumRange(self.grid_bits, self.bound, max(1, clients))


@dataclass(frozen=True)
class OpenedSum:
    """What came out of one step.

    Attributes:
        values: The integers; empty where only clients learn them.
        contributions: How many contributed.
    """

    values: IntVector
    contributions: int
