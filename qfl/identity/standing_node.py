"""What is kept of one node: blame, lasting blame, suspicion, and what its round brought so far."""

from __future__ import annotations

from dataclasses import dataclass, field

from qfl.identity.standing import SIGNED, SUSPECTED, Observation, Rules, Standing

# Lasting blame halves in so many half-lives: long enough to see that somebody does it again.
MEMORY = 10


@dataclass(frozen=True)
class Tally:
    """A node's numbers, this round's included.

    Attributes:
        blame: Of what it signed.
        lasting: The same, fading ten times slower: what an expulsion looks at.
        suspicion: Of what it may not be to blame for, at most the warning threshold.
    """

    blame: float
    lasting: float
    suspicion: float

    @property
    def score(self) -> float:
        """The larger of blame and suspicion; they do not add up.

        >>> Tally(blame=4.0, lasting=9.0, suspicion=3.0).score
        4.0
        """
        return max(self.blame, self.suspicion)


@dataclass
class Node:
    """One node's record.

    What a round brings is kept as counts until the round ends, so that the order in which messages
    arrive makes no difference.

    Attributes:
        blame: At the start of the round, as the two after it.
        lasting: Of what it signed.
        suspicion: Of what it may not be to blame for.
        seen: How often each thing was observed in this round.
        standing: Where it stands.
        held: Whether an operator quarantined it, so that no fading ends that.
        been_quarantined: Whether it was in quarantine at the end of an earlier round.

    Example:
        >>> node = Node(seen={Observation.VIOLATION: 40})
        >>> node.tally(Rules())
        Tally(blame=6.0, lasting=6.0, suspicion=0.0)
        >>> node.end_round(Rules(half_life=1.0))
        >>> node.blame
        3.0
    """

    blame: float = 0.0
    lasting: float = 0.0
    suspicion: float = 0.0
    seen: dict[Observation, int] = field(default_factory=dict)
    standing: Standing = Standing.GOOD
    held: bool = False
    been_quarantined: bool = False

    def tally(self, rules: Rules) -> Tally:
        """The numbers with this round's.

        One cause, such as a bug, may spoil every message of a round. So no round brings more blame
        than quarantines, and each kind of suspicion counts once.
        """
        signed = sum(rules.weight(one) * self.seen.get(one, 0) for one in SIGNED)
        signed = min(rules.quarantine, signed)
        suspected = sum(rules.weight(one) for one in SUSPECTED if one in self.seen)
        return Tally(
            self.blame + signed,
            self.lasting + signed,
            min(rules.warn, self.suspicion + suspected),
        )

    def end_round(self, rules: Rules) -> None:
        """Take the round's numbers in, and let all of them fade by a round."""
        now = self.tally(rules)
        clean = Observation.CONTRIBUTED in self.seen and not any(one in self.seen for one in SIGNED)
        rounds = 1.0 + (rules.contributed if clean else 0.0)
        left = 0.5 ** (rounds / rules.half_life)
        self.blame, self.suspicion = now.blame * left, now.suspicion * left
        self.lasting = now.lasting * 0.5 ** (rounds / (MEMORY * rules.half_life))
        self.seen = {}
        self.been_quarantined |= self.standing is Standing.QUARANTINED

    def due(self, rules: Rules) -> Standing:
        """The best standing that its numbers allow, wherever it stands.

        Only who was in quarantine in an earlier round is expelled: no burst in one round does it.
        """
        now = self.tally(rules)
        if now.blame >= rules.quarantine:
            again = self.been_quarantined and now.lasting >= rules.expel
            return Standing.EXPELLED if again else Standing.QUARANTINED
        return Standing.WARNED if now.score >= rules.warn else Standing.GOOD

    def eased(self, rules: Rules) -> Standing:
        """Its standing once what has faded enough is forgiven.

        Suspicion does not prolong a quarantine: it was none that began it.
        """
        now, standing = self.tally(rules), self.standing
        if standing is Standing.QUARANTINED and not self.held and now.blame < rules.warn:
            standing = Standing.WARNED
        if standing is Standing.WARNED and now.score < rules.warn / 2:
            standing = Standing.GOOD
        return standing
