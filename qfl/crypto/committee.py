"""A committee that opens sums together under ``hybrid``: ``threshold`` of its members, never fewer.

Each client deals Shamir shares of its ring key to the members, sealed to each. Shares add up to a
share of the sum, so a member adds what it was dealt over one agreed set of clients, and
``threshold`` of these sums give the sum of the keys. Nobody ever holds a key of the committee:
there is none, only the keys that members made for the run.

Any more than half must open together. Otherwise two groups without a member in common could each
agree on a set of clients, and the difference of two sums is an update.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from qfl.crypto.encoding import IntVector
from qfl.crypto.members import Roster
from qfl.crypto.ring import DEGREE
from qfl.crypto.shamir import PRIME, combine, split
from qfl.errors import ConfigError, PayloadError

_MAGIC = b"qflc"
_HEAD = struct.Struct("<4sI")
# Two coefficients share a field element: each has 15 bits, signed, for itself and every sum.
_BITS = 15
LARGEST_COEFFICIENT = 2 ** (_BITS - 1) - 1
SHARE_BYTES = 4 * DEGREE // 2


@dataclass(frozen=True)
class Committee:
    """The members and how many open together.

    Attributes:
        roster: The members.
        threshold: Members that open together; more than half, at least 2.

    Raises:
        ConfigError: The threshold is out of range.

    Example:
        >>> from qfl.crypto.members import MemberKeys
        >>> committee = Committee(Roster(MemberKeys().member for _ in range(3)), threshold=2)
        >>> key = np.arange(-1024, 1024)
        >>> shares = committee.deal(key)
        >>> first, _, third = committee.names
        >>> bool((committee.combine({first: shares[0], third: shares[2]}) == key).all())
        True
    """

    roster: Roster
    threshold: int

    def __post_init__(self) -> None:
        members = len(self.names)
        if not max(2, members // 2 + 1) <= self.threshold <= members:
            raise ConfigError(
                f"threshold={self.threshold} with a committee of {members} is not allowed: must be "
                f"at least 2, more than half (two groups could open two sums) and at most all"
            )

    @cached_property
    def names(self) -> list[str]:
        """The members in order; the first has point 1."""
        return self.roster.names

    def place_of(self, name: str) -> int:
        """Where a member stands in that order, from 0.

        Raises:
            PayloadError: It is no member.
        """
        if name not in self.names:
            raise PayloadError(f"'{name}' is not on the committee of {len(self.names)} members")
        return self.names.index(name)

    @cached_property
    def identity(self) -> bytes:
        """32 bytes that stand for members and threshold."""
        return hashlib.sha256(self.to_bytes()).digest()

    def to_bytes(self) -> bytes:
        """What clients protect with, in the place of a public key."""
        return _HEAD.pack(_MAGIC, self.threshold) + self.roster.to_bytes()

    @staticmethod
    def from_bytes(data: bytes) -> Committee:
        """The inverse of :meth:`to_bytes`.

        Raises:
            PayloadError: The bytes are no committee, or one with a threshold that is not allowed.
        """
        if data[:4] != _MAGIC or len(data) < _HEAD.size:
            raise PayloadError(f"not a committee: it starts with {data[:4]!r}, expected {_MAGIC!r}")
        threshold = _HEAD.unpack_from(data)[1]
        try:
            return Committee(Roster.from_bytes(data[_HEAD.size :]), threshold)
        except ConfigError as error:
            raise PayloadError(f"this committee is refused: {error}") from None

    def deal(self, key: IntVector) -> list[bytes]:
        """Shares of a ring key, one for each member in order.

        Args:
            key: 2048 integers, none larger than 16383 in magnitude.
        """
        low, high = key[: DEGREE // 2], key[DEGREE // 2 :]
        dealt = split((low + (high << _BITS)) % PRIME, self.threshold, self._points(self.names))
        return [row.astype("<u4").tobytes() for row in dealt]

    def combine(self, shares: dict[str, bytes]) -> IntVector:
        """The ring key of ``threshold`` shares, or the sum of keys of as many sums of shares.

        Args:
            shares: By member; the first ``threshold`` are used.

        Raises:
            PayloadError: There are too few, a stranger's, or malformed ones.
        """
        if len(shares) < self.threshold:
            raise PayloadError(
                f"{len(shares)} members of the committee answered; at least {self.threshold} must"
            )
        used = sorted(shares, key=self.place_of)[: self.threshold]
        rows = np.stack([share_of(shares[name]) for name in used])
        packed = combine(rows, self._points(used))
        signed = np.where(packed > PRIME // 2, packed - PRIME, packed)
        half = 1 << (_BITS - 1)
        low = ((signed + half) & ((1 << _BITS) - 1)) - half
        return np.concatenate([low, (signed - low) >> _BITS])

    def _points(self, names: list[str]) -> list[int]:
        return [self.place_of(name) + 1 for name in names]


def share_of(data: bytes) -> IntVector:
    """A share as field elements.

    Raises:
        PayloadError: The size is wrong, or a number is not in the field.
    """
    if len(data) != SHARE_BYTES:
        raise PayloadError(f"a share has {len(data)} bytes; expected {SHARE_BYTES}")
    elements = np.frombuffer(data, dtype="<u4").astype(np.int64)
    if int(elements.max()) >= PRIME:
        raise PayloadError("a share holds a number that is not in the field of 2^31 - 1")
    return elements
