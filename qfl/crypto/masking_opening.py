"""How the server gets secrets back from shares, some of which may be wrong, and masks from secrets.

A secret that was got back is checked: a root against the key that grew from it, a seed against its
commitment. So a wrong share is noticed, and as long as enough right ones are there, it is found.
"""

from __future__ import annotations

import hmac
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from qfl.crypto.masking_circle import Circle
from qfl.crypto.masking_package import edge_seed, open_edge
from qfl.crypto.masking_statements import Advertisement, Members, commitment_of
from qfl.crypto.sealing import SealingKey
from qfl.crypto.shamir import PRIME, FieldVector, bytes_of, combine, interpolate
from qfl.crypto.shamir_errors import right_shares
from qfl.errors import OpeningRefusedError, PayloadError

MOST_CHOICES = 2000


@dataclass(frozen=True)
class Masks:
    """What stands between the masked sum and the sum.

    Attributes:
        add: Seeds of masks to add.
        subtract: Seeds of masks to subtract.
        wrong: As in :class:`Sorter`.
    """

    add: list[bytes] = field(repr=False)
    subtract: list[bytes] = field(repr=False)
    wrong: list[tuple[int, int]]


def masks_left(
    circle: Circle,
    advertised: Mapping[int, Advertisement],
    place: str,
    shared: Members,
    survivors: Members,
    *,
    given: Mapping[int, Mapping[int, bytes]],
    edges: Mapping[int, Mapping[int, bytes]],
) -> Masks:
    """Members' own masks, and common masks of those who vanished.

    Args:
        circle: Participants of the sum.
        advertised: By number.
        place: Run, round, label and attempt, as one text.
        shared: Who shared its secrets.
        survivors: Members of the sum.
        given: Shares, by the number of the one whose secret it is, then of the giver.
        edges: Sealed seeds of common masks, by receiver, then by sender.

    Raises:
        OpeningRefusedError: A secret has fewer shares than the threshold.
        PayloadError: A secret cannot be got back from its shares.
    """
    sorter = Sorter(circle.neighbourhood.threshold)
    masks = Masks([], [], sorter.wrong)
    for index in np.flatnonzero(shared).tolist():
        name, advertisement = circle.names[index], advertised[index]

        def is_seed(secret: bytes, name: str = name, made: Advertisement = advertisement) -> bool:
            return hmac.compare_digest(commitment_of(secret, place, name), made.commitment)

        def is_root(secret: bytes, made: Advertisement = advertisement) -> bool:
            return hmac.compare_digest(SealingKey(secret).public, made.sealing)

        shares = given.get(index, {})
        if survivors[index]:
            masks.subtract.append(sorter.rebuild(index, name, shares, is_seed))
            continue
        root = sorter.rebuild(index, name, shares, is_root)
        key = SealingKey(root)
        for other in (j for j in circle.neighbours(index).tolist() if survivors[j]):
            # A member added the masks that it chose and subtracted those that were chosen for it.
            if index < other:
                masks.add.append(edge_seed(circle, index, other, root))
            else:
                masks.subtract.append(open_edge(circle, other, index, edges[index][other], key))
    return masks


@dataclass
class Sorter:
    """Puts shares together, leaving out wrong ones, and remembers who gave them.

    Attributes:
        threshold: Shares that a secret needs.
        wrong: Who gave a wrong share of whose secret, by their numbers, as far as it was in the
            way. Either may be to blame: the one who gave it, or the one who dealt it.
    """

    threshold: int
    wrong: list[tuple[int, int]] = field(default_factory=list)

    def rebuild(
        self, about: int, name: str, shares: Mapping[int, bytes], right: Callable[[bytes], bool]
    ) -> bytes:
        """One secret.

        Args:
            about: Number of the one whose secret it is.
            name: Its name, for messages.
            shares: By number of the giver.
            right: Whether a secret is the one that was committed to.

        Raises:
            OpeningRefusedError: There are fewer shares than the threshold.
            PayloadError: No choice of shares gives the secret.
        """
        if len(shares) < self.threshold:
            raise OpeningRefusedError(
                f"{len(shares)} shares of member {name}'s secret arrived; {self.threshold} are "
                "needed. Nothing was opened"
            )
        rows = {giver: np.frombuffer(share, "<u4") for giver, share in shares.items()}
        usable = {giver: row.astype(np.int64) for giver, row in rows.items() if row.max() < PRIME}
        self.wrong += [(giver, about) for giver in rows if giver not in usable]
        for attempt, chosen in enumerate(self._choices(usable)):
            points = [giver + 1 for giver in chosen]
            matrix = np.stack([usable[giver] for giver in chosen])
            secret = _secret(matrix, points)
            if secret is not None and right(secret):
                if attempt:
                    self._blame(about, usable, matrix, points)
                return secret
        raise PayloadError(
            f"{len(shares)} shares of member {name}'s secret arrived, and no {self.threshold} of "
            "them were found that give it: the member dealt wrong shares, or too many gave wrong "
            "ones. Nothing was opened"
        )

    def _choices(self, usable: Mapping[int, FieldVector]) -> Iterator[tuple[int, ...]]:
        """Those who were right so far; then what decoding leaves; then every choice of a few."""
        suspects = {giver for giver, _ in self.wrong}
        givers = sorted(usable, key=lambda giver: (giver in suspects, giver))
        if len(givers) < self.threshold:
            return
        yield tuple(givers[: self.threshold])
        points = [giver + 1 for giver in givers]
        matrix = np.stack([usable[giver] for giver in givers])
        kept = [givers[row] for row in right_shares(matrix, points, self.threshold)]
        if kept:
            yield tuple(kept[: self.threshold])
        if math.comb(len(givers), self.threshold) <= MOST_CHOICES:
            yield from itertools.combinations(givers, self.threshold)

    def _blame(
        self, about: int, rows: Mapping[int, FieldVector], matrix: FieldVector, points: list[int]
    ) -> None:
        for giver, row in rows.items():
            if giver + 1 in points:
                continue
            if (interpolate(matrix, points, giver + 1) != row).any():
                self.wrong.append((giver, about))


def _secret(matrix: FieldVector, points: list[int]) -> bytes | None:
    try:
        return bytes_of(combine(matrix, points))
    except PayloadError:
        return None
