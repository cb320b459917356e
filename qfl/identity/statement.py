"""What a node says to everybody: signed, bound to its place, and checked by whoever it reaches.

An envelope without receivers. It may be passed on and shown again, since it says the same to all;
so nothing is kept of which were read.
"""

from __future__ import annotations

from qfl.identity.credentials import Credentials
from qfl.identity.envelope import Expected, Place


def state(payload: bytes, place: Place, credentials: Credentials) -> bytes:
    """Sign a payload for everybody, about 3.7 kB more with ML-DSA-65.

    Example:
        >>> from qfl.identity.identity import Identity
        >>> from qfl.identity.registry import Registry
        >>> node = Identity.create(["client"])
        >>> known = Registry({node.did: ["client"]})
        >>> known.admit([node.description])
        >>> place, own = Place("run", 1, "vouch"), Credentials.of(node, known)
        >>> read_statement(state(b"mine", place, own), place, own) == (node.did, b"mine")
        True
    """
    return credentials.seal(payload, place, [], sealed=False)[1]


def read_statement(
    data: bytes, place: Place, credentials: Credentials, sender: str = ""
) -> tuple[str, bytes]:
    """Who said something, and what.

    Args:
        data: From :func:`state`.
        place: Where it must belong.
        credentials: The reader's.
        sender: Who must have said it; empty for anybody who is known.

    Raises:
        RefusedError: As :func:`qfl.identity.opening.open_envelope`.
    """
    head, payload = credentials.open(data, Expected(place, sender=sender, sealed=False))
    return head.sender, payload
