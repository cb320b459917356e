"""What participants of a sum under masks sign, commit to, and bind sealed messages to.

Every statement is a digest over its purpose and its parts with their lengths, so that no statement
can be taken for another.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qfl.crypto.members import Roster
from qfl.errors import PayloadError

Members = NDArray[np.bool_]  # one entry for each participant, in the order of names


@dataclass(frozen=True)
class Advertisement:
    """What a client makes for one sum.

    Attributes:
        sealing: Public sealing key of this sum, 1,216 bytes; grown from the client's root.
        commitment: Digest of the seed of the client's own mask, 32 bytes.
        signature: By the client's key of the run, 64 bytes.
    """

    sealing: bytes
    commitment: bytes
    signature: bytes = b""

    def statement(self, place: str, roster: Roster) -> bytes:
        """What the client signs."""
        parts = (place.encode(), roster.digest, self.sealing, self.commitment)
        return statement("advertisement", *parts)

    def check(self, place: str, roster: Roster, name: str) -> None:
        """Make sure that a member made it for this place and roster.

        Raises:
            PayloadError: The member is unknown, or its signature does not fit.
        """
        if not roster.member(name).verifies(self.statement(place, roster), self.signature):
            raise PayloadError(
                f"the advertisement of member {name} is not signed by it for {place} and this "
                "roster"
            )


def statement(purpose: str, *parts: bytes) -> bytes:
    """Digest of some parts for one purpose, 32 bytes."""
    digest = hashlib.sha256()
    for part in (b"qfl masking " + purpose.encode(), *parts):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()


def commitment_of(seed: bytes, place: str, name: str) -> bytes:
    """What a client shows of the seed of its own mask before the seed is opened."""
    return statement("seed of own mask", place.encode(), name.encode(), seed)


def pack_members(members: Members) -> bytes:
    """A set of participants as a bit map."""
    return np.packbits(members, bitorder="little").tobytes()


def unpack_members(data: bytes, size: int) -> Members:
    """The inverse of :func:`pack_members`.

    Raises:
        PayloadError: The map is of another size, or names a participant that there is not.
    """
    if len(data) != map_bytes(size):
        raise PayloadError(
            f"a set of {size} participants has {map_bytes(size)} bytes, not {len(data)}"
        )
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8), bitorder="little")
    if bits[size:].any():
        raise PayloadError(f"a set of {size} participants names more of them")
    return bits[:size].astype(np.bool_)


def map_bytes(size: int) -> int:
    """Bytes of a bit map."""
    return -(-size // 8)
