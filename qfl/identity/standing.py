"""Words and numbers of trust over time: what is observed of a node, where it stands, by what rules.

One principle: only what a node signed can quarantine it. Whoever drops or garbles its messages, and
whoever finds its data odd, can have it warned and no more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from enum import StrEnum

from qfl.errors import ConfigError

SCORE = "score"
LARGEST = 1e6


class Observation(StrEnum):
    """What a node did, or what seems so, in a round.

    Attributes:
        CONTRIBUTED: A usable reply.
        MISSED: No reply in time, or one whose envelope was refused for whatever reason. Anybody on
            the network can cause that: a message with a good signature may be an old one, sent
            again.
        DECLINED: A refusal that the node itself signed, as over its budget. Nobody is blamed.
        VIOLATION: A payload that breaks the protocol, such as one of the wrong length, in an
            envelope that :func:`qfl.identity.opening.open_envelope` opened: so the node signed it,
            for this place, and it came for the first time.
        OUT_OF_BOUNDS: Likewise signed, and well formed, but a statistic lies outside what is
            allowed.
        ANOMALOUS: What is visible differs from the others' (:mod:`qfl.identity.anomaly`).
    """

    CONTRIBUTED = "contributed"
    MISSED = "missed"
    DECLINED = "declined"
    VIOLATION = "violation"
    OUT_OF_BOUNDS = "out of bounds"
    ANOMALOUS = "anomalous"


SIGNED = (Observation.VIOLATION, Observation.OUT_OF_BOUNDS)
SUSPECTED = (Observation.MISSED, Observation.ANOMALOUS)


class Standing(StrEnum):
    """Where a node stands, from best to worst; it takes part while ``GOOD`` or ``WARNED``."""

    GOOD = "good"
    WARNED = "warned"
    QUARANTINED = "quarantined"
    EXPELLED = "expelled"

    @property
    def rank(self) -> int:
        """0 for the best.

        >>> Standing.GOOD.rank, Standing.EXPELLED.rank
        (0, 3)
        """
        return list(Standing).index(self)


@dataclass(frozen=True)
class Change:
    """One change of standing; ``dataclasses.asdict`` makes a record of it for the audit trail.

    Attributes:
        did: First identifier of the node.
        round: When.
        before: Where it stood.
        after: Where it stands. An operator's word may leave that as it was.
        score: The node's score, right after.
        reason: In words; what it quotes of a message is cut short and printable.
        by: ``score``, or who of the operators.
    """

    did: str
    round: int
    before: Standing
    after: Standing
    score: float
    reason: str
    by: str


@dataclass(frozen=True)
class Rules:
    """What counts how much, how it fades, and what follows.

    Attributes:
        missed: Suspicion of a round with a missed message. A node that is away is warned at the
            eighth round in a row; one that misses three of ten rarely.
        anomalous: Suspicion of a round in which a node looks odd. Nine in a row warn, so that
            somebody looks; honest nodes with data of their own look odd too.
        out_of_bounds: Blame. Half a violation: a diverged model does it without a bug.
        violation: Blame, as much as ``warn``: the first one is told.
        contributed: Rounds of fading that a usable reply adds, in a round without blame. Work
            makes up for something, but slowly: a node that violates in every third round and works
            in the others is quarantined.
        half_life: Rounds in which a score halves. What was ten rounds ago still tells something of
            a node; what was a hundred rounds ago has been mended, or came again.
        warn: Score from which a node is warned, until it is below half of that.
        quarantine: Blame from which it is quarantined, until it is below ``warn``: two violations
            in one round, or any three within a half-life in which it did not contribute.
        expel: Lasting blame, which fades ten times slower, from which a node that reaches
            ``quarantine`` once more, in a later round, is expelled: at the sixth violation in a
            row, or in place of a third quarantine.

    Raises:
        ConfigError: A number is not finite or too large, a weight is negative, or the thresholds
            do not rise.

    Example:
        >>> Rules().half_life
        10.0
        >>> Rules(warn=8.0)
        Traceback (most recent call last):
        qfl.errors.ConfigError: thresholds warn 8.0, quarantine 6.0, expel 15.0 must rise, above 0
    """

    missed: float = 0.5
    anomalous: float = 0.5
    out_of_bounds: float = 1.5
    violation: float = 3.0
    contributed: float = 0.5
    half_life: float = 10.0
    warn: float = 3.0
    quarantine: float = 6.0
    expel: float = 15.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value, least = getattr(self, field.name), 0.1 if field.name == "half_life" else 0.0
            if not (math.isfinite(value) and least <= value <= LARGEST):
                raise ConfigError(
                    f"{field.name} of reputation is {value}; expected a number from {least:g} to "
                    f"{LARGEST:g}"
                )
        if not 0 < self.warn < self.quarantine < self.expel:
            raise ConfigError(
                f"thresholds warn {self.warn}, quarantine {self.quarantine}, expel {self.expel} "
                "must rise, above 0"
            )

    def weight(self, observation: Observation) -> float:
        """What one observation adds to suspicion or blame; 0 where it adds to neither."""
        return {
            Observation.MISSED: self.missed,
            Observation.ANOMALOUS: self.anomalous,
            Observation.OUT_OF_BOUNDS: self.out_of_bounds,
            Observation.VIOLATION: self.violation,
        }.get(observation, 0.0)
