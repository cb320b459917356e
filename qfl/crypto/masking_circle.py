"""Who takes part in a sum under masks, who is whose neighbour, and which sets may be summed.

Server and clients each build the circle from the same advertisements. Its digest stands for
everything that was advertised, and every later message is bound to it: to the run's roster, to the
place (run, round, label, attempt) and to the keys that were made for this sum alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from qfl.crypto.masking_rules import MaskingRules
from qfl.crypto.masking_statements import Advertisement, Members, pack_members, statement
from qfl.crypto.members import Roster
from qfl.errors import OpeningRefusedError

Indices = NDArray[np.int64]


def gather(
    place: str, roster: Roster, advertised: Mapping[str, Advertisement], rules: MaskingRules
) -> Circle:
    """The circle of everybody who advertised.

    Args:
        place: Run, round, label and attempt, as one text.
        roster: Members of the run.
        advertised: By name; checked before.
        rules: From the caller's own configuration.

    Raises:
        OpeningRefusedError: They are fewer than ``min_clients``, or more than a sum holds.
        ConfigError: The rules cannot be met with so many.
    """
    names = sorted(advertised)
    if len(names) < rules.min_clients:
        raise OpeningRefusedError(
            f"{len(names)} clients take part in the sum of {place}; at least {rules.min_clients} "
            "are needed"
        )
    if len(names) > rules.sums.additions:
        raise OpeningRefusedError(
            f"{len(names)} clients take part in the sum of {place}; it holds at most "
            f"{rules.sums.additions} contributions"
        )
    parts = [place.encode(), roster.digest]
    for name in names:
        parts += [name.encode(), advertised[name].sealing, advertised[name].commitment]
    return Circle(names, statement("circle", *parts), rules)


class Circle:
    """Participants of one sum on a ring; numbered in the order of their names.

    Args:
        names: In order.
        digest: Of everything advertised; also decides who stands where.
        rules: From the caller's own configuration.

    Raises:
        ConfigError: The rules cannot be met with so many participants.
    """

    def __init__(self, names: Sequence[str], digest: bytes, rules: MaskingRules) -> None:
        self.names, self.digest, self.rules = list(names), digest, rules
        self.number = {name: index for index, name in enumerate(self.names)}
        self.size = len(self.names)
        self.neighbourhood = rules.neighbourhood(self.size)

    @cached_property
    def _ring(self) -> Indices:
        """Who stands at each position: sorting by digests is a random order."""
        keys = [statement("position", self.digest, name.encode()) for name in self.names]
        return np.array(sorted(range(self.size), key=keys.__getitem__), dtype=np.int64)

    @cached_property
    def _position(self) -> Indices:
        return np.argsort(self._ring)

    def neighbours(self, index: int) -> Indices:
        """Numbers of a participant's neighbours, in order."""
        if self.neighbourhood.complete:
            return np.delete(np.arange(self.size), index)
        half = self.neighbourhood.degree // 2
        steps = np.delete(np.arange(-half, half + 1), half)
        return np.sort(self._ring[(self._position[index] + steps) % self.size])

    def holders(self, index: int) -> Indices:
        """Who holds shares of a participant's secrets: its neighbours and itself, in order."""
        return np.sort(np.append(self.neighbours(index), index))

    def members(self, indices: Iterable[int]) -> Members:
        """A set of participants."""
        members = np.zeros(self.size, dtype=np.bool_)
        members[list(indices)] = True
        return members

    def between(self, purpose: str, sender: int, receiver: int, *parts: bytes) -> bytes:
        """A statement about something that goes from one participant to another."""
        pair = (self.names[sender].encode(), self.names[receiver].encode())
        return statement(purpose, self.digest, *pair, *parts)

    def view(self, shared: Members) -> bytes:
        """What a client signs with its masked vector: among whom it masked."""
        return statement("view", self.digest, pack_members(shared))

    def agreement(self, shared: Members, survivors: Members) -> bytes:
        """What a client signs before it gives shares: who is in the sum."""
        return statement("agreement", self.digest, pack_members(shared), pack_members(survivors))

    def check(self, members: Members, what: str) -> None:
        """Refuse a set of participants that must not be summed.

        Args:
            members: Who would be in the sum.
            what: What they did, for the message.

        Raises:
            OpeningRefusedError: They are fewer than ``min_clients`` or than the quorum, leave
                somebody too few holders of shares, or leave stretches of the ring so bare that the
                sum could fall apart.
        """
        count, numbers = int(members.sum()), self.neighbourhood
        least = max(self.rules.min_clients, numbers.quorum)
        if count < least:
            raise OpeningRefusedError(
                f"{count} of {self.size} clients {what}; at least {least} must "
                f"(min_clients={self.rules.min_clients}, quorum={numbers.quorum})"
            )
        if numbers.complete:
            return
        if (fewest := self.fewest_holders(members)) < numbers.threshold:
            raise OpeningRefusedError(
                f"of {self.size} clients {count} {what}, and one of them has {fewest} of "
                f"{numbers.degree + 1} holders of its shares left; at least {numbers.threshold} "
                "must be"
            )
        if (barest := self.barest(members)) < numbers.spread:
            raise OpeningRefusedError(
                f"of {self.size} clients {count} {what}, and two stretches of the ring hold "
                f"{barest} of them; at least {numbers.spread} must be there, or the sum could be "
                "taken apart"
            )

    def fewest_holders(self, members: Members) -> int:
        """Fewest holders of shares, themselves members, that a member has."""
        width = self.neighbourhood.degree + 1
        around = np.roll(self._on_stretches(members, width), width // 2)
        return int(around[members[self._ring]].min())

    def barest(self, members: Members) -> int:
        """Fewest members on any two separate stretches of ``degree / 2`` positions."""
        half = self.neighbourhood.degree // 2
        stretches = self._on_stretches(members, half)
        # The second begins half a neighbourhood after the first at least, and ends before it.
        others = lowest_in_window(np.roll(stretches, -half), self.size - 2 * half + 1)
        return int((stretches + others).min())

    def _on_stretches(self, members: Members, width: int) -> Indices:
        """Members on each stretch of so many positions, by where it begins."""
        around = members[self._ring].astype(np.int64)
        sums = np.cumsum(np.concatenate([[0], around, around[: width - 1]]))
        counts: Indices = sums[width:] - sums[:-width]
        return counts


def lowest_in_window(values: Indices, width: int) -> Indices:
    """Least of ``width`` values from each index on, around the end (van Herk 1992).

    Example:
        >>> lowest_in_window(np.array([3, 1, 2, 5]), 2).tolist()
        [1, 1, 2, 3]
    """
    size = values.size
    around = np.concatenate([values, values[: width - 1]])
    padded = np.pad(around, (0, -around.size % width), constant_values=values.max())
    blocks = padded.reshape(-1, width)
    from_left = np.minimum.accumulate(blocks, axis=1).ravel()
    from_right = np.minimum.accumulate(blocks[:, ::-1], axis=1)[:, ::-1].ravel()
    return np.minimum(from_right[:size], from_left[width - 1 : width - 1 + size])
