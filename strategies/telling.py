"""The events of a round, put together."""

from __future__ import annotations

from collections.abc import Callable

from flwr.app import Message, MetricRecord

from qfl.strategies.clock import Clock
from qfl.strategies.events import ClientReplied, Event, RoundFinished
from qfl.strategies.session import Session
from qfl.strategies.sums import OnReply

Emit = Callable[[Event], None]


def reply_teller(session: Session, emit: Emit, round: int, asked: int) -> OnReply:
    """What tells of each reply in a round in which so many were asked."""
    replied = 0

    def tell(reply: Message, problem: str | None) -> None:
        nonlocal replied
        replied += 1
        emit(ClientReplied(round, session.node_of(reply), replied, asked, problem))

    return tell


def round_finished(
    session: Session,
    number: int,
    rounds: int,
    clients: int,
    failures: int,
    clock: Clock,
    max_abs_error: float,
    metrics: dict[str, float],
) -> RoundFinished:
    """A round, with what the session and the clock counted in it."""
    return RoundFinished(
        round=number,
        rounds=rounds,
        clients=clients,
        failures=failures,
        bytes_up=session.bytes_up,
        bytes_down=session.bytes_down,
        bytes_key_holder=session.bytes_key_holder,
        seconds=clock.seconds,
        max_abs_error=max_abs_error,
        phases=clock.phases,
        metrics=metrics,
    )


def floats(record: MetricRecord | None) -> dict[str, float]:
    """The single numbers of a record."""
    if record is None:
        return {}
    return {k: float(v) for k, v in record.items() if isinstance(v, int | float)}
