"""All that a run needs in order to continue: plain arrays and numbers.

Keys and other cryptographic randomness are not part of it; a resumed run makes new ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from qfl.crypto import Arrays, Layout
from qfl.errors import StorageError
from qfl.server_optimizer import OptimizerState, ServerOptimizer


@dataclass(frozen=True)
class ServerState:
    """The state after a round.

    Attributes:
        round: Last completed round.
        arrays: Global model.
        optimizer: State of the server optimizer.
        losses: Held-out loss of every completed round, for the convergence monitor.
        clipping_norm: Of the next round, where it adapts; 0 where it does not.
    """

    round: int
    arrays: Arrays
    optimizer: OptimizerState
    losses: list[float] = field(default_factory=list)
    clipping_norm: float = 0.0


def first_state(
    initial: Arrays, optimizer: ServerOptimizer, resume: ServerState | None = None
) -> ServerState:
    """The state that a run starts from.

    Args:
        initial: The initial model.
        optimizer: The run's.
        resume: State of an earlier run, to go on with.

    Raises:
        StorageError: ``resume`` holds another model, or belongs to another optimizer.
    """
    fresh = ServerState(0, initial, optimizer.init(Layout.of(initial).length))
    if resume is None:
        return fresh
    if Layout.of(resume.arrays) != Layout.of(initial):
        raise StorageError("the state to resume from belongs to another model")
    if set(resume.optimizer) != set(fresh.optimizer):
        raise StorageError("the state to resume from belongs to another server optimizer")
    return resume
