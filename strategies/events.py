"""What a strategy tells those who watch it: progress displays, records, audits."""

from __future__ import annotations

from dataclasses import dataclass, field

from qfl.identity.countersigning import Countersignature, Head
from qfl.identity.standing import Change


@dataclass(frozen=True)
class SetupFinished:
    """The run is ready for its first round.

    Attributes:
        in_clear: Parameters that the server reads of every client.
        proven: Participants that proved who they are; 0 where nobody has to.
    """

    clients: int
    scheme: str
    trust: str
    assumption: str
    opened_by: str
    key_id: str
    examples: int
    parameters: int
    notes: tuple[str, ...] = ()
    in_clear: int = 0
    proven: int = 0


@dataclass(frozen=True)
class Joined:
    """A participant proved who it is.

    Attributes:
        node: Its number.
        did: Its present identifier.
        name: Its name in the federation's policy.
        roles: What it does in the run: ``client``, ``key-holder``, or both.
    """

    node: int
    did: str
    name: str
    roles: tuple[str, ...]


@dataclass(frozen=True)
class NotJoined:
    """A node that takes no part in the run."""

    node: int
    reason: str


@dataclass(frozen=True)
class ClientsSelected:
    """These clients are asked to train.

    Attributes:
        kept_out: Those that are quarantined or expelled.
    """

    round: int
    nodes: tuple[int, ...]
    kept_out: tuple[int, ...] = ()


@dataclass(frozen=True)
class StandingChanged:
    """A participant stands better or worse than before."""

    change: Change


@dataclass(frozen=True)
class Countersigned:
    """Clients signed the head of the audit trail."""

    head: Head
    signatures: tuple[Countersignature, ...]


@dataclass(frozen=True)
class SumOpened:
    """A sum was opened.

    Attributes:
        round: 0 where that was before the first round.
        label: What was summed: ``train`` or ``evaluate``; before the first round ``count``,
            ``moments`` or ``sensitivity``.
        contributions: How many are in it.
        opened_by: Who opened it.
    """

    round: int
    label: str
    contributions: int
    opened_by: str


@dataclass(frozen=True)
class ClientReplied:
    """One reply arrived."""

    round: int
    node: int
    replied: int
    asked: int
    error: str | None = None


@dataclass(frozen=True)
class RoundFinished:
    """A round is complete, or, as round 0, the initial model was evaluated.

    Attributes:
        failures: Clients that were asked and whose reply is in no sum: refused, failed or late.
        bytes_up: What clients sent in the round, in all.
        bytes_down: What clients were sent in the round, in all.
        bytes_key_holder: What went to and from the key holder.
        phases: Seconds of each phase: ``train`` (clients train, protect and send; the server
            adds), ``open`` (whoever opens, all sums of the round), ``evaluate`` (federated
            evaluation), ``held_out`` (evaluation at the server).
        metrics: Held-out metrics and the clients' weighted means.
        max_abs_error: Largest possible distance of a coordinate of the opened mean from the mean
            of unrounded updates.
    """

    round: int
    rounds: int
    clients: int
    failures: int
    bytes_up: int
    bytes_down: int
    bytes_key_holder: int
    seconds: float
    max_abs_error: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)
    phases: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class BudgetSpent:
    """The run ends before a round that budgets do not pay for.

    Attributes:
        round: The round that does not start, or whose sum is not opened.
        reason: In words.
    """

    round: int
    reason: str


Event = (
    Joined
    | NotJoined
    | SetupFinished
    | ClientsSelected
    | SumOpened
    | ClientReplied
    | StandingChanged
    | Countersigned
    | RoundFinished
    | BudgetSpent
)
