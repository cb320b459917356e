"""Which clients train in a round.

A choice is a function of the seed and the round alone, so that a resumed run chooses the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from qfl.errors import FederationError


class Selection(Protocol):
    """Chooses nodes for a round."""

    def choose(
        self, nodes: Sequence[int], round: int, seed: int, sizes: Mapping[int, int]
    ) -> list[int]:
        """Node ids that train in this round.

        Args:
            nodes: Clients in an order that is the same in every run.
            round: Number of the round.
            seed: Seed of the experiment.
            sizes: Examples of each node; only :class:`SelectBySize` looks at them.
        """


@dataclass(frozen=True)
class SelectAll:
    """Every client, every round."""

    def choose(
        self, nodes: Sequence[int], round: int, seed: int, sizes: Mapping[int, int]
    ) -> list[int]:
        """All nodes."""
        return list(nodes)


@dataclass(frozen=True)
class SelectCount:
    """A fixed number, uniformly without replacement.

    Example:
        >>> SelectCount(2).choose([5, 6, 7], round=1, seed=0, sizes={})
        [6, 7]
    """

    count: int

    def choose(
        self, nodes: Sequence[int], round: int, seed: int, sizes: Mapping[int, int]
    ) -> list[int]:
        """``count`` nodes.

        Raises:
            FederationError: Fewer nodes than that are there.
        """
        return _draw(nodes, self.count, round, seed, None)


@dataclass(frozen=True)
class SelectFraction:
    """A share of the clients, rounded up, uniformly without replacement."""

    fraction: float

    def choose(
        self, nodes: Sequence[int], round: int, seed: int, sizes: Mapping[int, int]
    ) -> list[int]:
        """``ceil(fraction * len(nodes))`` nodes."""
        return _draw(nodes, math.ceil(self.fraction * len(nodes) - 1e-9), round, seed, None)


@dataclass(frozen=True)
class SelectBySize:
    """A fixed number, with chances in proportion to data size.

    The server has to know every client's number of examples for this; the run says so.
    """

    count: int

    def choose(
        self, nodes: Sequence[int], round: int, seed: int, sizes: Mapping[int, int]
    ) -> list[int]:
        """``count`` nodes, larger ones more often."""
        return _draw(nodes, self.count, round, seed, sizes)


def _draw(
    nodes: Sequence[int], count: int, round: int, seed: int, sizes: Mapping[int, int] | None
) -> list[int]:
    if count > len(nodes):
        raise FederationError(
            f"round {round} needs {count} clients, {len(nodes)} are connected: lower "
            "strategy.selection.count or connect more"
        )
    chances = None
    if sizes is not None:
        weights = np.array([sizes[node] for node in nodes], dtype=np.float64)
        if np.count_nonzero(weights) < count:
            raise FederationError(
                f"round {round} needs {count} clients with data, "
                f"{np.count_nonzero(weights)} have any"
            )
        chances = weights / weights.sum()
    # Positions, not ids, are drawn: node ids differ between engines, their order does not.
    drawn = np.random.default_rng((seed, round)).choice(
        len(nodes), size=count, replace=False, p=chances
    )
    return [nodes[position] for position in sorted(drawn)]
