"""The envelope of every protected vector: what it is, where it belongs, and a digest.

Layout: ``b"qfl1"``, the header's length (4 bytes, little endian), the header as JSON, the body.
The digest covers header and body. It finds damage and mix-ups; it is no signature.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import asdict, dataclass, fields

from qfl.errors import PayloadError

MAGIC = b"qfl1"
MAX_HEADER_BYTES = 4096
LARGEST_NUMBER = 2**53


@dataclass(frozen=True)
class Header:
    """Where a payload belongs.

    Attributes:
        scheme: Aggregation scheme.
        key_id: Key under which the body is protected; empty where there is none.
        run: Run, as text.
        round: Round, 0 for steps before the first.
        step: Step within the round, such as ``train``.
        length: Number of integers in the protected vector.
        contributions: Updates in the body: 1 from a client, more in a sum.
        attempt: 0, and one more each time that the step is repeated.
        terms: Digest of what clients were told of weights, and of what they were sent; see
            :attr:`Step.weights`.
    """

    scheme: str
    key_id: str
    run: str
    round: int
    step: str
    length: int
    contributions: int = 1
    attempt: int = 0
    terms: str = ""

    @property
    def place(self) -> str:
        """Run, round, step, attempt and terms as one text, which protection is bound to."""
        place = f"{self.run}/{self.round}/{self.step}/{self.attempt}"
        return f"{place}/{self.terms}" if self.terms else place


def is_text(value: str) -> bool:
    """Whether a string can be written and sent; half of a surrogate pair cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def pack(header: Header, body: bytes) -> bytes:
    """Join header and body, with a digest over both.

    Raises:
        PayloadError: The header is longer than any receiver reads.
    """
    full = _with_digest(header, body)
    if len(full) > MAX_HEADER_BYTES:
        raise PayloadError(f"payload header has {len(full)} bytes; at most {MAX_HEADER_BYTES}")
    return MAGIC + struct.pack("<I", len(full)) + full + body


def _with_digest(header: Header, body: bytes) -> bytes:
    plain = json.dumps(asdict(header), sort_keys=True).encode()
    digest = hashlib.sha256(plain + body).hexdigest()
    return json.dumps({**asdict(header), "digest": digest}, sort_keys=True).encode()


def unpack(data: bytes) -> tuple[Header, bytes]:
    """Split a payload into header and body.

    Raises:
        PayloadError: It is malformed or damaged.

    Example:
        >>> header = Header("plain", "", "7", 1, "train", 3)
        >>> unpack(pack(header, b"abc")) == (header, b"abc")
        True
    """
    if data[:4] != MAGIC or len(data) < 8:
        raise PayloadError(
            f"not a qfl payload: it starts with {data[:4]!r}, expected {MAGIC!r}; does the client "
            "carry the protect mod?"
        )
    (size,) = struct.unpack_from("<I", data, 4)
    if size > MAX_HEADER_BYTES or len(data) < 8 + size:
        raise PayloadError(f"payload of {len(data)} bytes claims a header of {size} bytes")
    try:
        values = json.loads(data[8 : 8 + size])
        del values["digest"]
        header = Header(**values)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise PayloadError(f"payload header cannot be read: {type(error).__name__}") from None
    for item in fields(Header):
        value = getattr(header, item.name)
        if type(value).__name__ != item.type:
            raise PayloadError(f"payload header has {item.name}={value!r}, expected {item.type}")
        if item.type == "int" and not 0 <= value <= LARGEST_NUMBER:
            raise PayloadError(
                f"payload header has a number {item.name} below 0 or above {LARGEST_NUMBER}"
            )
        if item.type == "str" and not is_text(value):
            raise PayloadError(f"payload header has {item.name}={value!a}, which is no text")
    body = data[8 + size :]
    # Header bytes in full, not the digest alone: spaces in JSON could be changed unnoticed.
    if data[8 : 8 + size] != _with_digest(header, body):
        raise PayloadError("payload is damaged: its digest does not match its content")
    return header, body


def expect(header: Header, expected: Header) -> None:
    """Refuse a payload that belongs elsewhere.

    Raises:
        PayloadError: Names the first field that differs and both sides.
    """
    for item in fields(Header):
        ours, theirs = getattr(expected, item.name), getattr(header, item.name)
        if ours != theirs:
            raise PayloadError(
                f"payload belongs elsewhere: it has {item.name}={theirs!r}, "
                f"this step expects {item.name}={ours!r}"
            )
