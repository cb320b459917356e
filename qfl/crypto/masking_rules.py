"""What server and clients of sums under masks must have in common."""

from __future__ import annotations

from dataclasses import dataclass

from qfl.crypto.encoding import SumRange
from qfl.crypto.masking_graph import CORRUPTED, DROPOUT, Neighbourhood, choose_neighbourhood
from qfl.errors import ConfigError


@dataclass(frozen=True)
class MaskingRules:
    """Each side takes them from its own configuration; none are taken from a message.

    Attributes:
        sums: Grid, bound and most contributions.
        min_clients: Fewest members of a sum that is opened.
        dropout: Largest share of the participants that vanishes during a sum.
        corrupted: Largest share of the participants that colludes with the server.

    Raises:
        ConfigError: Sums do not fit 32 bits, or ``min_clients`` is below 2.
    """

    sums: SumRange
    min_clients: int
    dropout: float = DROPOUT
    corrupted: float = CORRUPTED

    def __post_init__(self) -> None:
        if self.sums.capacity >= 2**31:
            raise ConfigError(
                f"bound={self.sums.bound:g} with {self.sums.fraction_bits} grid bits needs "
                f"{self.sums.capacity} steps; masked sums hold fewer than 2^31: lower "
                "strategy.bound or strategy.grid_bits"
            )
        if self.min_clients < 2:
            raise ConfigError(
                f"min_clients={self.min_clients} is not allowed: a sum of one is that one's update"
            )

    def neighbourhood(self, clients: int) -> Neighbourhood:
        """Neighbours and thresholds for so many participants.

        Raises:
            ConfigError: The rules cannot be met with so many.
        """
        return choose_neighbourhood(clients, dropout=self.dropout, corrupted=self.corrupted)
