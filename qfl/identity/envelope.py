"""What travels between nodes: a payload, where it belongs, from whom and to whom, and a signature.

    "qfle" | length of the front (4 bytes, big endian) | front | content

The front is deterministic CBOR: version, receivers, for each receiver the content key sealed to
it, and the signed head, which says what the payload is. The content is the payload itself, or its
sealed chunks.

Who signs and then seals must say inside to whom, or a receiver can seal what it was sent to
somebody else, who then takes it as meant for itself (Davis: Defective Sign & Encrypt in S/MIME,
PKCS#7, MOSS, PEM, PGP, and XML, USENIX 2001). So the receivers stand inside, under the signature,
and outside, where everything sealed is bound to them; both must agree.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, fields

from qfl.crypto.payload import LARGEST_NUMBER, is_text
from qfl.errors import PayloadError
from qfl.identity.canonical import Fields, decode, encode
from qfl.identity.description import check_did
from qfl.identity.refusal import Refusal, RefusedError
from qfl.identity.signed import Kind

MAGIC = b"qfle"
VERSION = 1
HEAD = Kind("envelope", VERSION, at_most=1 << 17)
MOST_RECEIVERS = 256
MOST_FRONT_BYTES = 1 << 19
ID_BYTES = 16
DIGEST_BYTES = 32
_MOST_TEXT = 256
_FRONT_KEYS = frozenset({"version", "receivers", "keys", "head"})
_PLACE = ("run", "round", "step", "attempt", "scheme", "key_id")
_HEAD_KEYS = frozenset({"id", "sender", "receivers", "sealed", "length", "digest", *_PLACE})
_PLACE_REFUSALS = {
    "run": Refusal.RUN,
    "round": Refusal.ROUND,
    "step": Refusal.STEP,
    "attempt": Refusal.ATTEMPT,
    "scheme": Refusal.SCHEME,
    "key_id": Refusal.KEY,
}


@dataclass(frozen=True)
class Place:
    """Where a message belongs.

    Attributes:
        run: Run, as text.
        round: Round, 0 for steps before the first.
        step: Step within the round, such as ``train``.
        attempt: 0, and one more each time that the step is repeated.
        scheme: Aggregation scheme; empty where there is none.
        key_id: Key under which the payload is protected; empty where there is none.

    Raises:
        PayloadError: A text is too long or none, a number negative or too large.
    """

    run: str
    round: int
    step: str
    attempt: int = 0
    scheme: str = ""
    key_id: str = ""

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if item.type == "str" and not (
                type(value) is str and len(value) <= _MOST_TEXT and is_text(value)
            ):
                raise PayloadError(f"{item.name} must be a text of at most {_MOST_TEXT} characters")
            if item.type == "int" and not (type(value) is int and 0 <= value <= LARGEST_NUMBER):
                raise PayloadError(f"{item.name}={value!a} must be from 0 to {LARGEST_NUMBER}")

    def check(self, expected: Place) -> None:
        """Make sure that it is the expected one.

        Raises:
            RefusedError: Names the first field that differs and both sides.
        """
        for name in _PLACE:
            ours, theirs = getattr(expected, name), getattr(self, name)
            if ours != theirs:
                raise RefusedError(
                    _PLACE_REFUSALS[name],
                    f"a message belongs elsewhere: it has {name}={theirs!a}, this step expects "
                    f"{name}={ours!a}",
                )


@dataclass(frozen=True)
class Expected:
    """What a receiver waits for.

    Attributes:
        place: Where the message must belong; None where its content will say.
        role: What its sender must act as; empty if nothing in particular.
        sender: Who must have sent it; empty for anybody who is known.
        sealed: Whether it must have been sealed.
    """

    place: Place | None
    role: str = ""
    sender: str = ""
    sealed: bool = True


@dataclass(frozen=True)
class Envelope:
    """The head of a message, as its sender signed it.

    Attributes:
        id: 16 bytes, new for each message.
        sender: Identifier of who signed.
        receivers: Identifiers of whom it is for, in order; none if it is for everybody.
        place: Where it belongs.
        sealed: Whether it travels sealed.
        length: Bytes of the payload.
        digest: SHA-256 of the payload.
    """

    id: bytes
    sender: str
    receivers: tuple[str, ...]
    place: Place
    sealed: bool
    length: int
    digest: bytes

    def to_body(self) -> bytes:
        """What is signed."""
        return encode(
            {
                "id": self.id,
                "sender": self.sender,
                "receivers": list(self.receivers),
                "sealed": int(self.sealed),
                "length": self.length,
                "digest": self.digest,
                **{name: getattr(self.place, name) for name in _PLACE},
            }
        )

    @staticmethod
    def from_body(body: bytes) -> Envelope:
        """The inverse of :meth:`to_body`.

        Raises:
            RefusedError: It is damaged.
        """
        read = Fields(decode(body, "an envelope's head", HEAD.at_most), "an envelope", _HEAD_KEYS)
        sealed = read.number("sealed")
        if sealed not in (0, 1):
            raise RefusedError(Refusal.DAMAGED, f"an envelope has sealed={sealed}; expected 0 or 1")
        place = Place(
            run=read.text("run", _MOST_TEXT),
            round=read.number("round"),
            step=read.text("step", _MOST_TEXT),
            attempt=read.number("attempt"),
            scheme=read.text("scheme", _MOST_TEXT),
            key_id=read.text("key_id", _MOST_TEXT),
        )
        return Envelope(
            id=read.octets("id", ID_BYTES),
            sender=read.text("sender"),
            receivers=read.texts("receivers", MOST_RECEIVERS),
            place=place,
            sealed=bool(sealed),
            length=read.number("length"),
            digest=read.octets("digest", DIGEST_BYTES),
        )

    def check(self, expected: Expected) -> None:
        """Make sure that it belongs here.

        Raises:
            RefusedError: Names the first field that differs and both sides.
        """
        if expected.place is not None:
            self.place.check(expected.place)
        if expected.sender and self.sender != expected.sender:
            raise RefusedError(
                Refusal.SENDER,
                f"a message is from {self.sender}; this step expects one from {expected.sender}",
            )


@dataclass(frozen=True)
class Front:
    """What stands before the content.

    Attributes:
        receivers: Identifiers of whom it is for, in order.
        keys: The content key sealed to each; none where nothing is sealed.
        head: The signed head, itself sealed where the content is.

    Raises:
        RefusedError: Receivers are not in order, malformed, or do not fit the keys.
    """

    receivers: tuple[str, ...]
    keys: tuple[bytes, ...]
    head: bytes

    def __post_init__(self) -> None:
        for did in self.receivers:
            check_did(did)
        if list(self.receivers) != sorted(set(self.receivers)):
            raise RefusedError(
                Refusal.RECEIVER, "a message's receivers are not in order, once each"
            )
        if self.keys and len(self.keys) != len(self.receivers):
            raise RefusedError(
                Refusal.RECEIVER,
                f"a message for {len(self.receivers)} receivers carries {len(self.keys)} keys",
            )

    def to_bytes(self) -> bytes:
        """Magic, length and front."""
        front = encode(
            {
                "version": VERSION,
                "receivers": list(self.receivers),
                "keys": list(self.keys),
                "head": self.head,
            }
        )
        return MAGIC + struct.pack(">I", len(front)) + front

    @staticmethod
    def from_bytes(front: bytes) -> Front:
        """The inverse of :meth:`to_bytes`, without magic and length.

        Raises:
            RefusedError: It is damaged, or of another version.
        """
        value = decode(front, "an envelope", MOST_FRONT_BYTES)
        if isinstance(value, dict) and value.get("version") != VERSION and "version" in value:
            raise RefusedError(
                Refusal.VERSION,
                f"an envelope of version {value['version']!a} was given; this qfl reads version "
                f"{VERSION}",
            )
        read = Fields(value, "an envelope", _FRONT_KEYS)
        return Front(
            read.texts("receivers", MOST_RECEIVERS),
            read.byte_strings("keys", MOST_RECEIVERS),
            read.octets("head"),
        )


def key_info(receivers: tuple[str, ...], receiver: str) -> bytes:
    """What a sealed content key is bound to: all receivers, and the one that it is for."""
    return encode(["qfl envelope 1 key", list(receivers), receiver])
