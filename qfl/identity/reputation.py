"""Trust over time: a score for each node, from what can be seen, and what follows from it.

What sealed updates hide it cannot see: an update within the clipping bound may be poisoned, and
none of this notices. Nor does it decide who somebody is; a score belongs to a pinned identifier.

Three numbers for each node fade from round to round: blame for what the node signed, the same
fading slower, and suspicion for what it may not have caused. Suspicion alone warns at most.
"""

from __future__ import annotations

from dataclasses import replace

from qfl.errors import ConfigError
from qfl.identity.standing import SCORE, SUSPECTED, Change, Observation, Rules, Standing
from qfl.identity.standing_node import Node, Tally
from qfl.identity.standing_text import check_did, from_text, to_text

__all__ = ["Change", "Observation", "Reputation", "Rules", "Standing", "Tally"]

_LONGEST = 200


class Reputation:
    """Keeps every node's score and standing.

    It draws nothing at random and looks at no clock: the same observations give the same scores,
    in whatever order they came within a round. What it returns as a change is to be put on record.

    Args:
        rules: Weights, half-life, thresholds.

    Example:
        >>> reputation = Reputation()
        >>> reputation.observe("did:qfl:a", 1, Observation.VIOLATION, "12 bytes, not 640").after
        <Standing.WARNED: 'warned'>
        >>> _ = reputation.end_round(1)
        >>> for round in (2, 3):
        ...     change = reputation.observe("did:qfl:a", round, Observation.VIOLATION)
        ...     _ = reputation.end_round(round)
        >>> change.after, reputation.may_take_part("did:qfl:a")
        (<Standing.QUARANTINED: 'quarantined'>, False)
        >>> reputation.pardon("did:qfl:a", 3, "operator", "a bug, mended in 1.2.1").after
        <Standing.GOOD: 'good'>
    """

    def __init__(self, rules: Rules | None = None) -> None:
        self.rules = rules or Rules()
        self._nodes: dict[str, Node] = {}

    def observe(
        self, did: str, round: int, observation: Observation, detail: str = ""
    ) -> Change | None:
        """Take in what a node did.

        Args:
            did: Its first identifier, whatever keys it has by now.
            round: In which; what comes after the round has ended counts in the next.
            observation: What it was.
            detail: In words, for the record; may quote what the node sent.

        Returns:
            A change for the worse, or None.

        Raises:
            ConfigError: The identifier or the round cannot be.
        """
        _check(did, round)
        if observation is Observation.DECLINED:
            return None
        node = self._nodes.setdefault(did, Node())
        node.seen[observation] = node.seen.get(observation, 0) + 1
        due = node.due(self.rules)
        if observation in SUSPECTED:
            # A commuted expulsion must not come back because somebody dropped a message.
            due = min(due, Standing.WARNED, key=lambda one: one.rank)
        if observation is Observation.CONTRIBUTED or due.rank <= node.standing.rank:
            return None
        told = f"{observation}: {_printable(detail)}" if detail else str(observation)
        return self._change(did, round, due, f"{told} ({self._reached(node, due)})")

    def end_round(self, round: int) -> list[Change]:
        """Let all scores fade, once a round.

        Args:
            round: Which one ends.

        Returns:
            Changes for the better, by identifier: warnings and quarantines that have ended. An
            expulsion, and what an operator quarantined, does not end by itself.

        Raises:
            ConfigError: The round cannot be.
        """
        _check_round(round)
        changes = []
        for did, node in sorted(self._nodes.items()):
            node.end_round(self.rules)
            eased = node.eased(self.rules)
            if eased is not node.standing:
                faded = f"score faded to {node.tally(self.rules).score:.1f}"
                changes.append(self._change(did, round, eased, faded))
        return changes

    def standing(self, did: str) -> Standing:
        """Where a node stands; ``GOOD`` where nothing is known of it."""
        return self._node(did).standing

    def tally(self, did: str) -> Tally:
        """A node's numbers."""
        return self._node(did).tally(self.rules)

    def score(self, did: str) -> float:
        """A node's score, from 0: what warns and quarantines; 0 where nothing is known of it."""
        return self.tally(did).score

    def may_take_part(self, did: str) -> bool:
        """Whether a node is to be asked, and its contribution to be added."""
        return self.standing(did).rank <= Standing.WARNED.rank

    @property
    def nodes(self) -> tuple[str, ...]:
        """Identifiers of all that something is known of, in order."""
        return tuple(sorted(self._nodes))

    def pardon(self, did: str, round: int, by: str, reason: str) -> Change:
        """An operator's word: the node stands well, and everything counted so far is forgotten.

        Args:
            did: First identifier of the node.
            round: When.
            by: Which operator.
            reason: Why, for the record.

        Raises:
            ConfigError: An argument is empty or cannot be, or ``by`` is ``score``.
        """
        return self._say(did, round, Node(), by, reason)

    def quarantine(self, did: str, round: int, by: str, reason: str) -> Change:
        """An operator's word: the node takes no part until it is pardoned.

        It may be said of who was expelled too. What is counted stays, and further violations may
        expel. Arguments and errors are those of :meth:`pardon`.
        """
        held = replace(self._node(did), standing=Standing.QUARANTINED, held=True)
        return self._say(did, round, held, by, reason)

    def expel(self, did: str, round: int, by: str, reason: str) -> Change:
        """An operator's word: the node takes no part until it is pardoned, or only quarantined.

        What is counted stays. Arguments and errors are those of :meth:`pardon`.
        """
        expelled = replace(self._node(did), standing=Standing.EXPELLED, held=False)
        return self._say(did, round, expelled, by, reason)

    def to_json(self) -> str:
        """All of it as text, the rules too: keep it, and trust goes on after a restart."""
        return to_text(self.rules, self._nodes)

    @staticmethod
    def from_json(text: str) -> Reputation:
        """The inverse of :meth:`to_json`.

        Raises:
            StorageError: The text is anything else.
        """
        rules, nodes = from_text(text)
        made = Reputation(rules)
        made._nodes = nodes
        return made

    def _node(self, did: str) -> Node:
        return self._nodes.get(did) or Node()

    def _say(self, did: str, round: int, node: Node, by: str, reason: str) -> Change:
        _check(did, round)
        if by.strip() in ("", SCORE) or not reason.strip():
            raise ConfigError(
                f"'{_printable(by)}' changes the standing of {did} for '{_printable(reason)}'; "
                f"name who does it, other than '{SCORE}', and why"
            )
        before = self.standing(did)
        self._nodes[did] = node
        score = self.score(did)
        return Change(did, round, before, node.standing, score, _printable(reason), _printable(by))

    def _change(self, did: str, round: int, after: Standing, reason: str) -> Change:
        node = self._nodes[did]
        before, node.standing = node.standing, after
        if after is not Standing.QUARANTINED:
            node.held = False
        return Change(did, round, before, after, node.tally(self.rules).score, reason, SCORE)

    def _reached(self, node: Node, standing: Standing) -> str:
        now, rules = node.tally(self.rules), self.rules
        if standing is Standing.EXPELLED:
            return f"lasting blame {now.lasting:.1f}, expelled from {rules.expel:g}"
        if standing is Standing.QUARANTINED:
            return f"blame {now.blame:.1f}, quarantined from {rules.quarantine:g}"
        return f"score {now.score:.1f}, warned from {rules.warn:g}"


def _check(did: str, round: int) -> None:
    check_did(did)
    _check_round(round)


def _check_round(round: int) -> None:
    if round < 0:
        raise ConfigError(f"round {round} was given; rounds count from 0")


def _printable(text: str) -> str:
    """What may come from a message, for records and terminals."""
    cut = text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
    return "".join(sign if sign.isprintable() else "?" for sign in cut)
