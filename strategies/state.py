"""All that a run needs in order to continue: plain arrays and numbers.

Keys and other cryptographic randomness are not part of it; a resumed run makes new ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from qfl.crypto import Arrays, Layout, Step
from qfl.errors import StorageError
from qfl.global_model import GlobalModel, SummedUpdate, rounding_error
from qfl.privacy import ClientLevel
from qfl.server_optimizer import OptimizerState, ServerOptimizer
from qfl.strategies.aggregation import OpenedSum


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


def next_state(
    last: ServerState,
    opened: OpenedSum,
    step: Step,
    level: ClientLevel | None,
    weight: float,
    optimizer: ServerOptimizer,
) -> tuple[ServerState, float]:
    """The state with the next model, and how far its mean may be from that of unrounded updates.

    Args:
        last: The state before.
        opened: The sum of updates.
        step: Whose sum it is.
        level: Privacy of whole clients, where there is any.
        weight: The contributions' weights, added up.
        optimizer: The run's.
    """
    parameters = Layout.of(last.arrays).length
    summed = SummedUpdate.of(opened.values, parameters, step.sums, level)
    model, largest = GlobalModel(last.arrays, last.optimizer).step(summed, optimizer)
    off = step.sums.step / (2 if step.rounding == "nearest" and level is None else 1)
    error = rounding_error(opened.contributions, off, weight, largest)
    return ServerState(last.round, model.arrays, model.optimizer, last.losses), error
