"""What a client vouches for under ``hybrid``: its sealed key, and the digest of its masked vector.

Layout of a record: the contributor's name (8 bytes), its signature (64), the SHA-256 digest of the
masked vector (32), then the key, sealed once for each receiver. The signature covers the key's
identity, the place and the digests of every part, so that a receiver who is given one part and the
others' digests can check it. A record without a signer has zeros in its first 104 bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from qfl.crypto.members import NAME_BYTES, SIGNATURE_BYTES, MemberKeys, Roster
from qfl.errors import PayloadError

DIGEST_BYTES = 32
VOUCHER_BYTES = NAME_BYTES + SIGNATURE_BYTES + DIGEST_BYTES
NOBODY = "00" * NAME_BYTES
_LABEL = b"qfl hybrid contribution"


@dataclass(frozen=True)
class Voucher:
    """Who contributed, and the signature over what.

    Attributes:
        name: The contributor; :data:`NOBODY` where nobody signed.
        signature: Ed25519, 64 bytes.
        masked: Digest of the masked vector.
        parts: Digests of the sealed parts, one for each receiver.
    """

    name: str
    signature: bytes
    masked: bytes
    parts: tuple[bytes, ...]

    @property
    def digest(self) -> bytes:
        """32 bytes that stand for the whole contribution."""
        return hashlib.sha256(self.masked + b"".join(self.parts)).digest()

    def check(self, roster: Roster, identity: bytes, place: str) -> None:
        """Make sure that a member of the roster signed it, for this place.

        Raises:
            PayloadError: Nobody signed it, a stranger did, or for something else.
        """
        if self.name == NOBODY:
            raise PayloadError("a contribution is not signed: here every contributor must sign")
        if not roster.member(self.name).verifies(
            _text(identity, place, self.digest), self.signature
        ):
            raise PayloadError(
                f"the signature on the contribution of member {self.name} does not fit: it is "
                f"damaged, forged, under another key or not for place '{place}'"
            )


@dataclass(frozen=True, repr=False)
class Record:
    """A voucher with the sealed parts themselves.

    Attributes:
        voucher: Who contributed, and the signature.
        sealed: The key, sealed once for each receiver.
    """

    voucher: Voucher
    sealed: tuple[bytes, ...]

    def to_bytes(self) -> bytes:
        """Name, signature, digest, parts."""
        voucher = self.voucher
        head = bytes.fromhex(voucher.name) + voucher.signature + voucher.masked
        return head + b"".join(self.sealed)

    @staticmethod
    def from_bytes(data: bytes, receivers: int) -> Record:
        """The inverse of :meth:`to_bytes`; the caller has checked the size."""
        name, rest = data[:NAME_BYTES].hex(), data[NAME_BYTES:]
        signature, rest = rest[:SIGNATURE_BYTES], rest[SIGNATURE_BYTES:]
        masked, rest = rest[:DIGEST_BYTES], rest[DIGEST_BYTES:]
        size = len(rest) // receivers
        sealed = tuple(rest[at * size : (at + 1) * size] for at in range(receivers))
        return Record(Voucher(name, signature, masked, digests(sealed)), sealed)


def vouch(
    sealed: Sequence[bytes],
    masked: memoryview,
    identity: bytes,
    place: str,
    signer: MemberKeys | None,
) -> Record:
    """Make the record of a contribution.

    Args:
        sealed: The key, sealed once for each receiver.
        masked: The masked vector's bytes.
        identity: Digest of the public key that it is sealed under.
        place: Where it belongs.
        signer: Who vouches; unset, nobody does.
    """
    parts = digests(sealed)
    if signer is None:
        blank = Voucher(NOBODY, bytes(SIGNATURE_BYTES), bytes(DIGEST_BYTES), parts)
        return Record(blank, tuple(sealed))
    digest = hashlib.sha256(masked).digest()
    unsigned = Voucher(signer.name, b"", digest, parts)
    signature = signer.sign(_text(identity, place, unsigned.digest))
    return Record(Voucher(signer.name, signature, digest, parts), tuple(sealed))


def contributor(record: Record) -> bytes:
    """What no two contributions of a sum may share: the name, or unsigned, the content."""
    voucher = record.voucher
    return voucher.digest if voucher.name == NOBODY else bytes.fromhex(voucher.name)


def digests(sealed: Sequence[bytes]) -> tuple[bytes, ...]:
    """SHA-256 of each part."""
    return tuple(hashlib.sha256(part).digest() for part in sealed)


def _text(identity: bytes, place: str, digest: bytes) -> bytes:
    # All but the place have one length, so that no two statements give the same text.
    return _LABEL + identity + digest + place.encode()
