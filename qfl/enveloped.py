"""A Flower message whose content is one envelope: what the signing mod and the signed grid share.

Everything that a message says travels inside, Flower's own type and node number included, so that
nothing that counts stands outside the signature. The first exchange with a node, by which both
learn who the other is, carries descriptions beside the envelope.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache

from flwr.app import RecordDict

from qfl._flower_compat import records_from_bytes, records_to_bytes
from qfl.crypto import Step
from qfl.errors import PayloadError
from qfl.identity.canonical import Fields, Value, decode, encode
from qfl.identity.countersigning import Countersignature, Head
from qfl.identity.envelope import Place
from qfl.identity.refusal import Refusal, RefusedError
from qfl.records import STEP, record_bytes

ENVELOPE = "qfl-envelope"
CHAIN = "qfl-chain"
OPERATOR = "qfl-operator"
POLICY = "qfl-policy"
REVOCATIONS = "qfl-revocations"
INTRODUCTION = "introduce"
"""The step by which a server and a node learn who the other is."""
INTRODUCTION_TYPE = "train"
"""Flower's type of it: one that every app has, or Flower answers before the mod is asked."""
_MOST_HEAD = 1 << 16
_MOST_TEXT = 4096
_KEYS = frozenset(
    {"kind", "node", "session", "number", "request", "refused", "head", "countersignature"}
)


@dataclass(frozen=True)
class Enclosed:
    """What is inside an envelope.

    Attributes:
        kind: Flower's type of the message.
        node: Number of the node that it goes to or comes from.
        session: One for each grid of a server; messages of another are not taken.
        content: Flower records.
        number: Counts the server's messages of a session up; 0 in an answer.
        request: Id of the envelope that is answered; empty in a request.
        refused: Why nothing was done; empty where something was.
        head: Head of the server's audit trail, to be countersigned.
        countersignature: Of the head in the request.
    """

    kind: str
    node: int
    session: str
    content: RecordDict
    number: int = 0
    request: bytes = b""
    refused: str = ""
    head: Head | None = None
    countersignature: Countersignature | None = None

    def to_bytes(self) -> bytes:
        """Length of the head (4 bytes, big endian), head, records."""
        head: list[Value] = []
        if self.head is not None:
            head = [self.head.run, self.head.n, self.head.digest]
        signed: list[Value] = []
        if (one := self.countersignature) is not None:
            signed = [one.name, one.algorithm, one.public, one.signature]
        front = encode(
            {
                "kind": self.kind,
                "node": str(self.node),
                "session": self.session,
                "number": self.number,
                "request": self.request,
                "refused": self.refused[:_MOST_TEXT],
                "head": head,
                "countersignature": signed,
            }
        )
        return struct.pack(">I", len(front)) + front + records_to_bytes(self.content)

    @staticmethod
    def from_bytes(data: bytes) -> Enclosed:
        """The inverse of :meth:`to_bytes`.

        Raises:
            RefusedError: The bytes are something else.
        """
        if len(data) < 4:
            raise _damaged("it is empty")
        (size,) = struct.unpack_from(">I", data)
        if size > _MOST_HEAD or 4 + size > len(data):
            raise _damaged(f"it claims a head of {size} bytes")
        read = Fields(decode(data[4 : 4 + size], "a message", _MOST_HEAD), "a message", _KEYS)
        node = read.text("node")
        if not (node.isascii() and node.isdigit()):
            raise _damaged(f"its node is {node[:40]!a}")
        try:
            content = records_from_bytes(memoryview(data)[4 + size :])
        except ValueError as error:
            raise _damaged(str(error)) from None
        return Enclosed(
            kind=read.text("kind"),
            node=int(node),
            session=read.text("session"),
            content=content,
            number=read.number("number"),
            request=read.octets("request"),
            refused=read.text("refused", _MOST_TEXT),
            head=_head(read.values("head", 3)),
            countersignature=_countersignature(read.values("countersignature", 4)),
        )

    def check(self, kind: str, node: int, session: str) -> None:
        """Make sure that an answer says of itself what it should.

        Raises:
            RefusedError: Its type, node or session is another's.
        """
        for reason, name, ours, theirs in (
            (Refusal.TYPE, "type", kind, self.kind),
            (Refusal.NODE, "node", node, self.node),
            (Refusal.RUN, "session", session, self.session),
        ):
            if ours != theirs:
                raise RefusedError(
                    reason, f"an answer has {name}={theirs!a}, expected {name}={ours!a}"
                )


def place_of(content: RecordDict, session: str, kind: str) -> Place:
    """Where a message belongs: its step, or for messages of other apps the session.

    Raises:
        PayloadError: Its step is malformed.
    """
    record = content.config_records.get(STEP)
    if record is None:
        return Place(session, 0, kind)
    return _place_of_step(str(record.get("step")))


@lru_cache(maxsize=4)
def _place_of_step(text: str) -> Place:
    # All requests of a round carry the same step.
    step = Step.from_json(text)
    return Place(step.run, step.round, step.step, step.attempt, step.scheme, step.key_id)


def envelope_of(content: RecordDict) -> bytes:
    """The envelope in a message.

    Raises:
        RefusedError: There is none.
    """
    try:
        return record_bytes(content, ENVELOPE)
    except PayloadError:
        raise RefusedError(
            Refusal.NOT_SIGNED,
            "a message came without an envelope: it is not signed, or the other side runs without "
            "identities",
        ) from None


def _head(value: list[Value]) -> Head | None:
    match value:
        case []:
            return None
        case [str(run), int(n), str(digest)]:
            return Head(run, n, digest)
    raise _damaged("its head of the audit trail is none")


def _countersignature(value: list[Value]) -> Countersignature | None:
    match value:
        case []:
            return None
        case [str(name), str(algorithm), bytes(public), bytes(signature)]:
            return Countersignature(name, algorithm, public, signature)
    raise _damaged("its countersignature is none")


def _damaged(why: str) -> RefusedError:
    return RefusedError(Refusal.DAMAGED, f"what an envelope holds cannot be read: {why}")
