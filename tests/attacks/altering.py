"""Envelopes that somebody on the way has changed, or put in the place of others."""

from __future__ import annotations

import struct
from collections.abc import Callable

from flwr.app import ConfigRecord, Message, RecordDict
from man_in_the_middle import Middle, Seen, changed

from qfl.enveloped import ENVELOPE, Enclosed
from qfl.identity.credentials import Credentials
from qfl.identity.envelope import MAGIC, Envelope, Expected, Front
from qfl.identity.identity import Identity
from qfl.identity.opening import open_envelope
from qfl.identity.refusal import Refusal
from qfl.identity.registry import Registry
from qfl.identity.replay import ReplayGuard
from qfl.records import bytes_record, record_bytes

_START = len(MAGIC) + 4
Change = Callable[[bytes], bytes]


def flipped(data: bytes, at: int, bit: int = 0) -> bytes:
    """With one bit turned over."""
    at %= len(data)
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def front_end(data: bytes) -> int:
    """Where the content begins."""
    (size,) = struct.unpack_from(">I", data, len(MAGIC))
    return _START + int(size)


def front_of(data: bytes) -> Front:
    """What stands before the content."""
    return Front.from_bytes(data[_START : front_end(data)])


def _within(data: bytes, piece: bytes, bit: int = 0) -> bytes:
    """With a bit turned over in the middle of a piece of it."""
    return flipped(data, data.index(piece) + len(piece) // 2, bit)


def _of_version(data: bytes, version: int) -> bytes:
    return data.replace(b"gversion\x01", b"gversion" + bytes([version]), 1)


def _to_another(data: bytes) -> bytes:
    """With another receiver named outside."""
    (named,) = front_of(data).receivers
    last = "a" if named[-1] != "a" else "q"
    return data.replace(named.encode(), (named[:-1] + last).encode(), 1)


SEALED: dict[str, tuple[Change, Refusal]] = {
    "first byte": (lambda data: flipped(data, 0), Refusal.DAMAGED),
    "length of the front": (lambda data: flipped(data, _START - 1), Refusal.DAMAGED),
    "claimed length": (lambda data: flipped(data, len(MAGIC), 7), Refusal.DAMAGED),
    "version": (lambda data: _of_version(data, 2), Refusal.VERSION),
    "receiver": (_to_another, Refusal.RECEIVER),
    "sealed key": (lambda data: _within(data, front_of(data).keys[0]), Refusal.DAMAGED),
    "head": (lambda data: _within(data, front_of(data).head), Refusal.DAMAGED),
    "content, first byte": (lambda data: flipped(data, front_end(data)), Refusal.DAMAGED),
    "content, middle": (
        lambda data: flipped(data, (front_end(data) + len(data)) // 2, 3),
        Refusal.DAMAGED,
    ),
    "tag": (lambda data: flipped(data, -1, 7), Refusal.DAMAGED),
    "last byte gone": (lambda data: data[:-1], Refusal.DAMAGED),
    "content gone": (lambda data: data[: front_end(data)], Refusal.DAMAGED),
    "half gone": (lambda data: data[: len(data) // 2], Refusal.DAMAGED),
    "all gone": (lambda data: b"", Refusal.DAMAGED),
    "one byte more": (lambda data: data + b"\0", Refusal.DAMAGED),
    "twice": (lambda data: data + data, Refusal.DAMAGED),
    "garbage": (lambda data: bytes(range(256)) * 8, Refusal.DAMAGED),
    "garbage behind a good start": (lambda data: data[:_START] + bytes(999), Refusal.DAMAGED),
}
"""Ways to change a sealed envelope, and why the outcome is refused."""

OPEN: dict[str, tuple[Change, Refusal]] = {
    name: SEALED[name]
    for name in ("first byte", "version", "last byte gone", "one byte more", "garbage", "tag")
} | {
    "receiver's number": (lambda data: flipped(data, front_end(data) + 40), Refusal.DAMAGED),
    "signature": (lambda data: _within(data, front_of(data).head[-99:]), Refusal.SIGNATURE),
}
"""The same for an introduction, which is signed and not sealed."""


def changing(change: Change) -> Callable[[Middle, Seen, Message], Message]:
    """Replaces the envelope in a message by a changed one."""

    def replaced(middle: Middle, seen: Seen, message: Message) -> Message:
        return with_envelope(message, change(record_bytes(message.content, ENVELOPE)))

    return replaced


def with_envelope(message: Message, data: bytes) -> Message:
    """A message with another envelope, and what else stood beside it."""
    content = RecordDict(dict(message.content))
    content[ENVELOPE] = bytes_record(data, "envelope")
    return changed(message, content)


def inside(middle: Middle, seen: Seen, message: Message) -> tuple[Envelope, Enclosed]:
    """What only the receiver reads."""
    everybody = middle.identities
    own = everybody.server if seen.way == "reply" else everybody.nodes[seen.node - 1]
    head, payload = open_envelope(
        record_bytes(message.content, ENVELOPE),
        Expected(None, sealed=False),
        middle.everybody,
        own.now(),
        identity=own.identity,
        guard=ReplayGuard(),
    )
    return head, Enclosed.from_bytes(payload)


def signed_by(
    signer: Credentials,
) -> Callable[[Middle, Seen, Message], Message]:
    """Says the same in an envelope of somebody else's."""

    def forged(middle: Middle, seen: Seen, message: Message) -> Message:
        head, said = inside(middle, seen, message)
        receivers = [middle.everybody.find(did) for did in head.receivers]
        _, data = signer.seal(said.to_bytes(), head.place, receivers, sealed=head.sealed)
        return with_envelope(message, data)

    return forged


def stranger(roles: tuple[str, ...]) -> Credentials:
    """Somebody whom nobody enrolled."""
    identity = Identity.create(list(roles), algorithm="ML-DSA-44")
    return Credentials.of(identity, Registry({}))


def beside(**records: bytes | None) -> Callable[[Middle, Seen, Message], Message]:
    """Puts records beside the envelope, in place of those of these names, or takes them away.

    Args:
        records: Their bytes; None for those that go. A name is that of a record of qfl's.
    """

    def added(middle: Middle, seen: Seen, message: Message) -> Message:
        content = RecordDict(dict(message.content))
        for name, data in records.items():
            content.pop(f"qfl-{name}", None)
            if data is not None:
                content[f"qfl-{name}"] = bytes_record(data, name)
        return changed(message, content)

    return added


def called_settings(middle: Middle, seen: Seen, message: Message) -> Message:
    """The envelope as a value among settings."""
    data = record_bytes(message.content, ENVELOPE)
    return changed(message, RecordDict({ENVELOPE: ConfigRecord({"data": data})}))


def empty(middle: Middle, seen: Seen, message: Message) -> Message:
    """Nothing."""
    return changed(message, RecordDict())


def bare(middle: Middle, seen: Seen, message: Message) -> Message:
    """What is inside, without an envelope."""
    _, said = inside(middle, seen, message)
    return changed(message, said.content)


def another_type(middle: Middle, seen: Seen, message: Message) -> Message:
    """The same, called something else by Flower."""
    kind = message.metadata.message_type
    return changed(message, message_type="evaluate" if kind != "evaluate" else "train")
