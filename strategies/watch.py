"""What the server sees participants do, round by round, and what follows for them.

Counts only where participants prove who they are: a score belongs to an identity.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable

import numpy as np
from flwr.app import Message

from qfl.errors import RangeError
from qfl.identity.reputation import Change, Observation, Reputation
from qfl.strategies.events import StandingChanged
from qfl.strategies.signed_grid import DECLINED, SignedGrid

Tell = Callable[[StandingChanged], None]


class Watch:
    """Scores participants by their replies.

    Args:
        grid: On which they prove who they are.
        reputation: Their scores.
        tell: Called with every change of a standing.
        plain: Whether the server can read updates.
        anomalies: Whether what is visible of replies is scored too.
        seed: Of the anomaly scores.
    """

    def __init__(
        self,
        grid: SignedGrid,
        reputation: Reputation,
        tell: Tell,
        *,
        plain: bool = False,
        anomalies: bool = False,
        seed: int = 0,
    ) -> None:
        self._grid, self.reputation, self._tell = grid, reputation, tell
        self._plain, self._anomalies, self._seed = plain, anomalies, seed
        self._round = 0
        self._asked = 0.0
        self._waiting: set[int] = set()
        self._seen: dict[int, list[float]] = {}

    def eligible(self, nodes: Iterable[int]) -> list[int]:
        """Those of the nodes that are neither quarantined nor expelled."""
        return [node for node in nodes if self.reputation.may_take_part(self._grid.first_of(node))]

    def asked(self, round: int, nodes: Iterable[int]) -> None:
        """Note who is asked for a contribution."""
        self._round, self._asked = round, time.monotonic()
        self._waiting = set(nodes)

    def replied(
        self, node: int, reply: Message, problem: str | None, error: Exception | None, body: bytes
    ) -> None:
        """Note a reply.

        Args:
            node: Whose.
            reply: The reply, as the grid gave it.
            problem: What is wrong with it; None where nothing is.
            error: What was raised on reading it, where something was.
            body: The protected vector; empty where there is none.
        """
        self._waiting.discard(node)
        if problem is None:
            seen = Observation.CONTRIBUTED
            if self._anomalies and body:
                self._seen[node] = self._features(body)
        elif not reply.has_error():
            out = isinstance(error, RangeError)
            seen = Observation.OUT_OF_BOUNDS if out else Observation.VIOLATION
        elif reply.error.code == DECLINED:
            seen = Observation.DECLINED
        else:
            seen = Observation.MISSED
        self._observe(node, seen, problem or "")

    def blame(self, node: int, detail: str) -> None:
        """Note that a node broke the protocol, as shown by what it signed."""
        self._observe(node, Observation.VIOLATION, detail)

    def over(self) -> None:
        """Note that no more replies are awaited."""
        for node in sorted(self._waiting):
            self._observe(node, Observation.MISSED, "no reply in time")
        self._waiting.clear()

    def end_round(self, round: int) -> None:
        """Score anomalies, and let scores fade."""
        if self._anomalies and self._seen:
            from qfl.identity.anomaly import suspicious

            features = {str(node): row for node, row in self._seen.items()}
            for name, score in suspicious(features, self._seed + round).items():
                detail = f"anomaly score {score:.2f}"
                self._observe(int(name), Observation.ANOMALOUS, detail)
        self._seen.clear()
        for change in self.reputation.end_round(round):
            self._say(change)

    def pardon(self, did: str, by: str, reason: str) -> None:
        """An operator's word: everything counted against a node so far is forgotten.

        Args:
            did: First identifier of the node.
            by: Identifier of the operator.
            reason: Why, for the record.

        Raises:
            RefusedError: ``by`` may not submit runs here.
            ConfigError: An argument is empty.
        """
        self._grid.credentials.permit(by, "submit")
        self._say(self.reputation.pardon(did, self._round, by, reason))

    def expel(self, did: str, by: str, reason: str) -> None:
        """An operator's word: a node takes no part until it is pardoned; as :meth:`pardon`."""
        self._grid.credentials.permit(by, "submit")
        self._say(self.reputation.expel(did, self._round, by, reason))

    def _features(self, body: bytes) -> list[float]:
        """What is visible of a reply: when it came, how long it is, and how large in the clear."""
        seen = [math.log(max(1e-6, time.monotonic() - self._asked)), float(len(body))]
        if self._plain:
            norm = float(np.linalg.norm(np.frombuffer(body, dtype="<f4").astype(np.float64)))
            seen.append(math.log(max(1e-30, norm)))
        return seen

    def _observe(self, node: int, seen: Observation, detail: str) -> None:
        change = self.reputation.observe(self._grid.first_of(node), self._round, seen, detail)
        if change is not None:
            self._say(change)

    def _say(self, change: Change) -> None:
        self._tell(StandingChanged(change))
