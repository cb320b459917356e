"""Who takes part in a run: keys made for that run, and the roster that everybody agrees on.

Each node makes a signing key (Ed25519) and a sealing key for the run and announces their public
halves. The server collects them into the roster; a node keeps the first roster that names it and
takes no other. Who stands behind a name is for identities to say, which are not configured here:
the roster keeps a server from changing its story later, not from telling a false one at the start.
"""

from __future__ import annotations

import hashlib
import secrets
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from qfl.crypto.sealing import PUBLIC_BYTES, SEED_BYTES, SealingKey, seal
from qfl.errors import PayloadError

SIGNATURE_BYTES = 64
NAME_BYTES = 8
_SIGNING_BYTES = 32
_MEMBER_BYTES = _SIGNING_BYTES + PUBLIC_BYTES
_MAGIC = b"qflr"
MOST_MEMBERS = 100_000


@dataclass(frozen=True)
class Member:
    """The public half of a node's keys of a run.

    Attributes:
        signing: Ed25519 public key, 32 bytes.
        sealing: Public sealing key, 1,216 bytes.

    Raises:
        PayloadError: A key has another length.
    """

    signing: bytes
    sealing: bytes

    def __post_init__(self) -> None:
        if len(self.signing) != _SIGNING_BYTES or len(self.sealing) != PUBLIC_BYTES:
            raise PayloadError(
                f"a member's keys have {len(self.signing)} and {len(self.sealing)} bytes; expected "
                f"{_SIGNING_BYTES} and {PUBLIC_BYTES}"
            )

    @cached_property
    def name(self) -> str:
        """Short digest of both keys, 16 hexadecimal digits."""
        return hashlib.sha256(self.to_bytes()).hexdigest()[: 2 * NAME_BYTES]

    def to_bytes(self) -> bytes:
        """Both keys, 1,248 bytes."""
        return self.signing + self.sealing

    @staticmethod
    def from_bytes(data: bytes) -> Member:
        """The inverse of :meth:`to_bytes`.

        Raises:
            PayloadError: The length is another.
        """
        return Member(data[:_SIGNING_BYTES], data[_SIGNING_BYTES:])

    def seal(self, plain: bytes, info: bytes) -> bytes:
        """Encrypt for this member; see :func:`qfl.crypto.sealing.seal`."""
        return seal(plain, self.sealing, info)

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """Whether this member signed the message."""
        try:
            Ed25519PublicKey.from_public_bytes(self.signing).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


class MemberKeys:
    """The secret half: one node's keys of one run.

    Args:
        seed: 64 secret bytes; unset, new ones from the operating system.

    Example:
        >>> keys = MemberKeys()
        >>> keys.member.verifies(b"survivors", keys.sign(b"survivors"))
        True
    """

    def __init__(self, seed: bytes | None = None) -> None:
        self.seed = secrets.token_bytes(2 * SEED_BYTES) if seed is None else seed
        if len(self.seed) != 2 * SEED_BYTES:
            raise PayloadError(
                f"a seed of {len(self.seed)} bytes was given; expected {2 * SEED_BYTES}"
            )
        self._signing = Ed25519PrivateKey.from_private_bytes(self.seed[:SEED_BYTES])
        self._sealing = SealingKey(self.seed[SEED_BYTES:])

    def __repr__(self) -> str:
        return f"MemberKeys(name={self.name!r})"

    @cached_property
    def member(self) -> Member:
        """The public half."""
        return Member(self._signing.public_key().public_bytes_raw(), self._sealing.public)

    @property
    def name(self) -> str:
        """The member's name."""
        return self.member.name

    def sign(self, message: bytes) -> bytes:
        """A signature of 64 bytes."""
        return self._signing.sign(message)

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """What was sealed to this member.

        Raises:
            PayloadError: It cannot be opened.
        """
        return self._sealing.open(sealed, info)


class Roster:
    """The members of a run, ordered by name.

    Raises:
        PayloadError: Two members have the same name.

    Example:
        >>> keys = MemberKeys()
        >>> Roster([keys.member]).member(keys.name) == keys.member
        True
    """

    def __init__(self, members: Iterable[Member]) -> None:
        ordered = sorted(members, key=lambda member: member.name)
        self._members = {member.name: member for member in ordered}
        if len(self._members) != len(ordered):
            raise PayloadError("a roster names a member twice")

    @property
    def names(self) -> list[str]:
        """All names, in order."""
        return list(self._members)

    @cached_property
    def digest(self) -> bytes:
        """32 bytes that stand for the whole roster."""
        return hashlib.sha256(self.to_bytes()).digest()

    def member(self, name: str) -> Member:
        """The member of this name.

        Raises:
            PayloadError: There is none.
        """
        if name not in self._members:
            raise PayloadError(f"'{name}' is not on the roster of {len(self._members)} members")
        return self._members[name]

    def to_bytes(self) -> bytes:
        """A head, and the members' keys in order."""
        members = b"".join(member.to_bytes() for member in self._members.values())
        return _MAGIC + struct.pack("<I", len(self._members)) + members

    @staticmethod
    def from_bytes(data: bytes) -> Roster:
        """The inverse of :meth:`to_bytes`.

        Raises:
            PayloadError: The bytes are no roster.
        """
        if data[:4] != _MAGIC or len(data) < 8:
            raise PayloadError(f"not a roster: it starts with {data[:4]!r}, expected {_MAGIC!r}")
        (count,) = struct.unpack_from("<I", data, 4)
        if count > MOST_MEMBERS or len(data) != 8 + count * _MEMBER_BYTES:
            raise PayloadError(f"a roster of {len(data)} bytes claims {count} members")
        starts = range(8, len(data), _MEMBER_BYTES)
        roster = Roster(Member.from_bytes(data[at : at + _MEMBER_BYTES]) for at in starts)
        if roster.to_bytes() != data:
            raise PayloadError("a roster's members are not ordered by name")
        return roster


def check_signatures(
    message: bytes, signatures: dict[str, bytes], roster: Roster, at_least: int
) -> None:
    """Make sure that enough members signed the same message.

    Args:
        message: What they must have signed.
        signatures: By member.
        roster: Who may sign.
        at_least: Fewest valid signatures.

    Raises:
        PayloadError: A signature is wrong, its member unknown, or there are too few.
    """
    for name, signature in signatures.items():
        if not roster.member(name).verifies(message, signature):
            raise PayloadError(f"the signature of member {name} does not fit what was agreed on")
    if len(signatures) < at_least:
        raise PayloadError(
            f"{len(signatures)} members signed what was agreed on; at least {at_least} must"
        )
