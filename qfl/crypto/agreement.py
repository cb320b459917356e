"""What a committee agrees on before it opens a sum, and what its members then ask to see.

A *statement* says: at this place, this committee opens the sum of exactly these contributions. A
*request* repeats it with the members' signatures, and brings one member its shares, each with the
contributor's voucher. All of it comes from the server and is data to be checked.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from qfl.crypto.contribution import DIGEST_BYTES, Record, Voucher
from qfl.crypto.members import NAME_BYTES, SIGNATURE_BYTES
from qfl.errors import PayloadError

_STATEMENT_MAGIC, _REQUEST_MAGIC = b"qfls", b"qflq"
_STATEMENT = struct.Struct("<4s32sIH")  # the place's bytes and the entries follow
_REQUEST = struct.Struct("<4sIHI")  # statement, signatures and pieces follow
_ENTRY_BYTES = NAME_BYTES + DIGEST_BYTES
_SIGNED_BYTES = NAME_BYTES + SIGNATURE_BYTES
_LABEL = b"qfl committee statement"


@dataclass(frozen=True)
class Statement:
    """Whose contributions are opened.

    Attributes:
        committee: The committee's identity, 32 bytes.
        place: Run, round, step and attempt.
        entries: Name and digest of each contribution, ordered by name, no name twice.
    """

    committee: bytes
    place: str
    entries: tuple[tuple[str, bytes], ...]

    @staticmethod
    def of(vouchers: Sequence[Voucher], committee: bytes, place: str) -> Statement:
        """The statement over these contributions."""
        entries = sorted((voucher.name, voucher.digest) for voucher in vouchers)
        return Statement(committee, place, tuple(entries))

    def to_bytes(self) -> bytes:
        """Head, place, entries."""
        place = self.place.encode()
        head = _STATEMENT.pack(_STATEMENT_MAGIC, self.committee, len(self.entries), len(place))
        entries = b"".join(bytes.fromhex(name) + digest for name, digest in self.entries)
        return head + place + entries

    @staticmethod
    def from_bytes(data: bytes) -> Statement:
        """The inverse of :meth:`to_bytes`.

        Raises:
            PayloadError: The bytes are no statement, or name a contributor twice or out of order.
        """
        if len(data) < _STATEMENT.size or data[:4] != _STATEMENT_MAGIC:
            raise PayloadError(
                f"not a statement: it starts with {data[:4]!r}, expected {_STATEMENT_MAGIC!r}"
            )
        _, committee, count, size = _STATEMENT.unpack_from(data)
        start = _STATEMENT.size + size
        if len(data) != start + count * _ENTRY_BYTES:
            raise PayloadError(f"a statement of {len(data)} bytes claims {count} contributions")
        try:
            place = data[_STATEMENT.size : start].decode()
        except UnicodeDecodeError:
            raise PayloadError("the place of a statement is no text") from None
        found = [data[at : at + _ENTRY_BYTES] for at in range(start, len(data), _ENTRY_BYTES)]
        entries = tuple((entry[:NAME_BYTES].hex(), entry[NAME_BYTES:]) for entry in found)
        names = [name for name, _ in entries]
        if any(one >= other for one, other in pairwise(names)):
            raise PayloadError("a statement names a contributor twice, or out of order")
        return Statement(committee, place, entries)

    @property
    def signed_text(self) -> bytes:
        """What members sign."""
        return _LABEL + self.to_bytes()


@dataclass(frozen=True, repr=False)
class Request:
    """What one member is asked to add up.

    Attributes:
        statement: What was agreed on.
        signatures: Of members on the statement, by name.
        pieces: For each entry of the statement, in order: the contributor's voucher, and the part
            that is sealed to this member.
    """

    statement: Statement
    signatures: dict[str, bytes]
    pieces: tuple[tuple[Voucher, bytes], ...]

    @staticmethod
    def of(
        records: Sequence[Record], statement: Statement, signatures: dict[str, bytes], receiver: int
    ) -> Request:
        """The request to the member that stands at ``receiver`` in the committee's order."""
        ordered = sorted(records, key=lambda record: record.voucher.name)
        pieces = tuple((record.voucher, record.sealed[receiver]) for record in ordered)
        return Request(statement, signatures, pieces)

    def to_bytes(self) -> bytes:
        """Head, statement, signatures, pieces."""
        statement = self.statement.to_bytes()
        size = len(self.pieces[0][1]) if self.pieces else 0
        head = _REQUEST.pack(_REQUEST_MAGIC, len(statement), len(self.signatures), size)
        signed = b"".join(bytes.fromhex(name) + it for name, it in self.signatures.items())
        pieces = b"".join(
            voucher.signature + voucher.masked + b"".join(voucher.parts) + part
            for voucher, part in self.pieces
        )
        return head + statement + signed + pieces

    @staticmethod
    def from_bytes(data: bytes, members: int) -> Request:
        """The inverse of :meth:`to_bytes`.

        Args:
            data: The bytes.
            members: Size of the committee.

        Raises:
            PayloadError: The bytes are no request.
        """
        if len(data) < _REQUEST.size or data[:4] != _REQUEST_MAGIC:
            raise PayloadError(
                f"not a request: it starts with {data[:4]!r}, expected {_REQUEST_MAGIC!r}"
            )
        _, length, signed, size = _REQUEST.unpack_from(data)
        start = _REQUEST.size + length
        statement = Statement.from_bytes(data[_REQUEST.size : start])
        middle = start + signed * _SIGNED_BYTES
        piece = SIGNATURE_BYTES + DIGEST_BYTES * (1 + members) + size
        if len(data) != middle + len(statement.entries) * piece:
            raise PayloadError(
                f"a request of {len(data)} bytes claims {signed} signatures and "
                f"{len(statement.entries)} shares of {size} bytes"
            )
        signatures: dict[str, bytes] = {}
        for at in range(start, middle, _SIGNED_BYTES):
            name = data[at : at + NAME_BYTES].hex()
            if name in signatures:
                raise PayloadError(f"a request holds two signatures of member {name}")
            signatures[name] = data[at + NAME_BYTES : at + _SIGNED_BYTES]
        pieces = [
            _piece(name, data[at : at + piece], members)
            for (name, _), at in zip(
                statement.entries, range(middle, len(data), piece), strict=True
            )
        ]
        return Request(statement, signatures, tuple(pieces))


def _piece(name: str, data: bytes, members: int) -> tuple[Voucher, bytes]:
    start = SIGNATURE_BYTES + DIGEST_BYTES
    end = start + members * DIGEST_BYTES
    parts = tuple(data[at : at + DIGEST_BYTES] for at in range(start, end, DIGEST_BYTES))
    masked = data[SIGNATURE_BYTES:start]
    return Voucher(name, data[:SIGNATURE_BYTES], masked, parts), data[end:]
