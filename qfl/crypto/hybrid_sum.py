"""The server's side of ``hybrid``: one masked sum, and everybody's sealed keys.

The keys are kept apart, because whoever opens adds them itself: a server cannot pass off a single
key, or one key twice, as a sum. They are small, a few kilobytes for each client.
"""

from __future__ import annotations

import hashlib
import struct

import numpy as np

from qfl.crypto.agreement import Request, Statement
from qfl.crypto.contribution import Record, contributor
from qfl.crypto.encoding import IntVector
from qfl.crypto.hybrid_keys import (
    check_public,
    committee_of,
    identity_of,
    receivers_of,
    record_bytes,
)
from qfl.crypto.members import Roster
from qfl.errors import PayloadError

KEYS = struct.Struct("<4sIH")  # contributions and receivers; the records follow
KEYS_MAGIC = b"qhr1"
IDENTITY_BYTES = 32


class HybridSum:
    """One masked sum, and everybody's sealed keys."""

    def __init__(self, length: int, public_key: bytes, trust: str, additions: int) -> None:
        check_public(public_key, trust)
        self._public, self._most = public_key, additions
        self._identity = identity_of(public_key)
        self._receivers = receivers_of(public_key, trust)
        self._size = record_bytes(self._receivers, trust)
        self._total = np.zeros(length, dtype="<u4")
        self._records: dict[bytes, Record] = {}

    def add(self, body: bytes) -> None:
        """Add one contribution.

        Signatures are for those who open to check; so is what is sealed.

        Raises:
            PayloadError: It has another size, its contributor is there already, or there are as
                many as the parameters are sound for.
        """
        if len(body) != self._size + self._total.nbytes:
            raise PayloadError(
                f"a contribution of {self._total.size} values has "
                f"{self._size + self._total.nbytes} bytes, not {len(body)}"
            )
        if len(self._records) >= self._most:
            raise PayloadError(
                f"more than {self._most} contributions: these parameters are not sound for "
                "another one"
            )
        record = Record.from_bytes(body[: self._size], self._receivers)
        if (who := contributor(record)) in self._records:
            raise PayloadError(f"member {record.voucher.name} contributed already")
        self._total += np.frombuffer(body, dtype="<u4", offset=self._size)
        self._records[who] = record

    def result(self) -> bytes:
        """The sealed keys of all contributions."""
        head = KEYS.pack(KEYS_MAGIC, len(self._records), self._receivers)
        return b"".join([head, *(record.to_bytes() for record in self._records.values())])

    def masked(self) -> bytes:
        """The identity of the key, and the masked sum."""
        return b"".join([self._identity, self._total.data])

    def statement(self, place: str) -> bytes:
        """Trust ``committee``: what the members are asked to agree on."""
        return self._statement(place).to_bytes()

    def request_for(self, member: str, place: str, signatures: dict[str, bytes]) -> bytes:
        """Trust ``committee``: what one member is asked to add up.

        Args:
            member: Its name.
            place: As in :meth:`statement`.
            signatures: Of members, by name.

        Raises:
            PayloadError: There is no such member.
        """
        committee = committee_of(self._public)
        receiver, records = committee.place_of(member), list(self._records.values())
        return Request.of(records, self._statement(place), signatures, receiver).to_bytes()

    def combine(self, shares: dict[str, bytes]) -> IntVector:
        """Trust ``committee``: the sum of the ring keys, from which ``finish`` gets the sum.

        Raises:
            PayloadError: There are fewer shares than the threshold, or malformed ones.
        """
        return committee_of(self._public).combine(shares)

    def _statement(self, place: str) -> Statement:
        vouchers = [record.voucher for record in self._records.values()]
        return Statement.of(vouchers, self._identity, place)


def check_contribution(
    body: bytes, length: int, public_key: bytes, trust: str, place: str, roster: Roster
) -> str:
    """Check all that a client vouched for, its masked vector included.

    Openers see no masked vector. Whoever does, the server or an auditor, can make sure with this
    that a contribution is as its client sent it.

    Args:
        body: From :meth:`qfl.crypto.hybrid.Hybrid.protect`.
        length: Values in the vector.
        public_key: What it was protected under.
        trust: Who opens.
        place: Where it belongs.
        roster: Who may contribute.

    Returns:
        The contributor's name.

    Raises:
        PayloadError: Its size, signature or digest does not fit.
    """
    check_public(public_key, trust)
    receivers = receivers_of(public_key, trust)
    size = record_bytes(receivers, trust)
    if len(body) != size + 4 * length:
        raise PayloadError(
            f"a contribution of {length} values has {size + 4 * length} bytes, not {len(body)}"
        )
    voucher = Record.from_bytes(body[:size], receivers).voucher
    voucher.check(roster, identity_of(public_key), place)
    if hashlib.sha256(memoryview(body)[size:]).digest() != voucher.masked:
        raise PayloadError(f"the masked vector of member {voucher.name} is not the one it sent")
    return voucher.name
