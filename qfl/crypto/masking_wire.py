"""The bytes of every message of a sum under masks.

Each begins with ``b"qfm"`` and one byte that says which message it is; numbers are little endian.
Every length follows from what the receiver already knows and is checked before anything is read.

| message | after the first four bytes |
|---|---|
| advertisement | public sealing key (1,216), commitment (32), signature (64) |
| advertisements | number, degree, threshold (4 each); name (8) and advertisement (1,312) of each |
| shares | one package for each neighbour of the sender, in order of names |
| inbox | bit map of who shared; one package from each neighbour that did |
| masked | signature (64), values (4 each) |
| survivors | bit map of who masked |
| agreement | signature (64) |
| signatures | count (4); signer's number (4) and agreement (64) of each; views (64 each) |
| reveal | one share (64) of each who shared: the sender's neighbours and the sender itself |

A package is the sealed shares of both secrets (1,264), the sealed seed of the common mask (1,168;
only from the lower name to the higher) and a signature (64).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from qfl.crypto.masking_circle import Circle
from qfl.crypto.masking_statements import Advertisement
from qfl.crypto.members import MOST_MEMBERS, NAME_BYTES, SIGNATURE_BYTES
from qfl.crypto.sealing import PUBLIC_BYTES, SEED_BYTES
from qfl.errors import PayloadError

KINDS = (
    "advertisement",
    "advertisements",
    "shares",
    "inbox",
    "masked",
    "survivors",
    "agreement",
    "signatures",
    "reveal",
    "state",
)
HEAD_BYTES = 4
DIGEST_BYTES = 32
SHARE_BYTES = 2 * SEED_BYTES  # 16 field elements of 4 bytes
_ADVERTISEMENT = PUBLIC_BYTES + DIGEST_BYTES + SIGNATURE_BYTES


def frame(kind: str, *parts: bytes | memoryview) -> bytes:
    """A message of some kind."""
    return b"".join((b"qfm", bytes([KINDS.index(kind)]), *parts))


def contents(kind: str, data: bytes, size: int | None = None) -> memoryview:
    """What follows the first four bytes.

    Args:
        kind: One of :data:`KINDS`.
        data: The message.
        size: Bytes that must follow; unset, any number.

    Raises:
        PayloadError: It is another message, or of another length.
    """
    if data[:HEAD_BYTES] != frame(kind):
        raise PayloadError(
            f"not the message '{kind}' of a masked sum: it starts with {bytes(data[:HEAD_BYTES])!r}"
        )
    if size is not None and len(data) != HEAD_BYTES + size:
        raise PayloadError(
            f"the message '{kind}' has {len(data)} bytes; expected {HEAD_BYTES + size}"
        )
    return memoryview(data)[HEAD_BYTES:]


def pieces(data: memoryview, sizes: Iterable[int]) -> list[bytes]:
    """Consecutive pieces of given sizes."""
    found: list[bytes] = []
    start = 0
    for size in sizes:
        found.append(bytes(data[start : start + size]))
        start += size
    return found


def pack_advertisement(advertisement: Advertisement) -> bytes:
    """What a client advertises."""
    parts = (advertisement.sealing, advertisement.commitment, advertisement.signature)
    return frame("advertisement", *parts)


def unpack_advertisement(data: bytes) -> Advertisement:
    """The inverse of :func:`pack_advertisement`.

    Raises:
        PayloadError: It is malformed.
    """
    return _advertisement(contents("advertisement", data, _ADVERTISEMENT))


def _advertisement(data: memoryview) -> Advertisement:
    return Advertisement(*pieces(data, (PUBLIC_BYTES, DIGEST_BYTES, SIGNATURE_BYTES)))


def pack_advertisements(circle: Circle, advertised: Mapping[str, Advertisement]) -> bytes:
    """Everybody's advertisements, and the numbers that follow from them."""
    numbers = circle.neighbourhood
    head = struct.pack("<III", circle.size, numbers.degree, numbers.threshold)
    entries = [
        bytes.fromhex(name) + pack_advertisement(advertised[name])[HEAD_BYTES:]
        for name in circle.names
    ]
    return frame("advertisements", head, *entries)


def unpack_advertisements(data: bytes) -> tuple[dict[str, Advertisement], int, int]:
    """Advertisements by name, degree and threshold.

    Raises:
        PayloadError: They are malformed, or not in the order of names.
    """
    inside = contents("advertisements", data)
    if len(inside) < 12:
        raise PayloadError(f"the message 'advertisements' has {len(data)} bytes; expected 16")
    count, degree, threshold = struct.unpack_from("<III", inside)
    size = NAME_BYTES + _ADVERTISEMENT
    if count > MOST_MEMBERS or len(inside) != 12 + count * size:
        raise PayloadError(f"advertisements of {len(data)} bytes claim to be of {count} clients")
    found: dict[str, Advertisement] = {}
    names = []
    for start in range(12, len(inside), size):
        names.append(bytes(inside[start : start + NAME_BYTES]).hex())
        found[names[-1]] = _advertisement(inside[start + NAME_BYTES : start + size])
    if any(first >= second for first, second in pairwise(names)):
        raise PayloadError("advertisements are not in the order of names, each once")
    return found, degree, threshold


def pack_signatures(signers: Mapping[int, bytes], neighbours: Sequence[bytes]) -> bytes:
    """Signatures over the survivors by number, and those of neighbours over who shared."""
    entries = [struct.pack("<I", index) + signature for index, signature in signers.items()]
    return frame("signatures", struct.pack("<I", len(entries)), *entries, *neighbours)


def unpack_signatures(
    data: bytes, circle: Circle, neighbours: int
) -> tuple[dict[str, bytes], list[bytes]]:
    """Signatures over the survivors by name, and those of so many neighbours.

    Raises:
        PayloadError: They are malformed, or name a participant twice or one that there is not.
    """
    inside = contents("signatures", data)
    count = struct.unpack_from("<I", inside)[0] if len(inside) >= 4 else 0
    rest = neighbours * SIGNATURE_BYTES
    if count > circle.size or len(inside) != 4 + count * (4 + SIGNATURE_BYTES) + rest:
        raise PayloadError(
            f"signatures of {len(data)} bytes claim to be of {count} clients and {neighbours} "
            "neighbours"
        )
    found = pieces(inside[4:], [4, SIGNATURE_BYTES] * count + [SIGNATURE_BYTES] * neighbours)
    indices = [int.from_bytes(piece, "little") for piece in found[: 2 * count : 2]]
    if len(set(indices)) != count or any(index >= circle.size for index in indices):
        raise PayloadError("signatures name a participant twice, or one that there is not")
    signers = {circle.names[i]: found[2 * at + 1] for at, i in enumerate(indices)}
    return signers, found[2 * count :]
