"""All that a run needs in order to continue: plain arrays and numbers.

Keys and other cryptographic randomness are not part of it; a resumed run makes new ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from qfl.crypto import Arrays
from qfl.server_optimizer import OptimizerState


@dataclass(frozen=True)
class ServerState:
    """The state after a round.

    Attributes:
        round: Last completed round.
        arrays: Global model.
        optimizer: State of the server optimizer.
        losses: Held-out loss of every completed round, for the convergence monitor.
    """

    round: int
    arrays: Arrays
    optimizer: OptimizerState
    losses: list[float] = field(default_factory=list)
