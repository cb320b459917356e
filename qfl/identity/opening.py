"""Opening a message: who sent it, whether it belongs here, and what it says.

Nothing in a message is believed before the signature was checked with the key that the registry has
for its sender. A payload that is streamed can be used only once everything was read: a receiver who
knows the content key could have changed a chunk, and the digest tells that at the end.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import struct
from collections.abc import Iterator
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from qfl.errors import PayloadError
from qfl.identity.envelope import (
    HEAD,
    MAGIC,
    MOST_FRONT_BYTES,
    Envelope,
    Expected,
    Front,
    key_info,
)
from qfl.identity.identity import Identity
from qfl.identity.refusal import Refusal, RefusedError
from qfl.identity.registry import Registry
from qfl.identity.replay import ReplayGuard
from qfl.identity.sending import KEY_BYTES, NONCE, content_key, head_key, outside
from qfl.identity.signed import check_signature, unwrap
from qfl.identity.streaming import open_chunks, plain_chunks, read_exactly, room_for


def open_envelope(
    data: bytes,
    expected: Expected,
    registry: Registry,
    now: float,
    *,
    identity: Identity,
    guard: ReplayGuard,
) -> tuple[Envelope, bytes]:
    """What was sent, if it is what this receiver waits for.

    Args:
        data: The message.
        expected: Where it must belong, and from whom.
        registry: Who is known.
        now: Seconds since 1970 in UTC.
        identity: The receiver.
        guard: What was opened before; the message is added to it.

    Returns:
        Its head, and the payload.

    Raises:
        RefusedError: ``reason`` says why: it is damaged, not sealed or not signed, its sender
            unknown, revoked, replaced, expired or not in that role, the signature another key's;
            it belongs to another run, round, step, attempt, scheme, key or receiver, or was opened
            before.
    """
    target = room_for(len(data))
    head = read_envelope(
        io.BytesIO(data), target, expected, registry, now, identity=identity, guard=guard
    )
    target.truncate()
    return head, target.getvalue()


def read_envelope(
    source: BinaryIO,
    target: BinaryIO,
    expected: Expected,
    registry: Registry,
    now: float,
    *,
    identity: Identity,
    guard: ReplayGuard,
) -> Envelope:
    """As :func:`open_envelope`, from stream to stream, in the memory of one chunk.

    Args:
        source: The message, to its end.
        target: Where the payload is written. It counts only if nothing was refused: write to a
            place that can be thrown away.
        expected: Where it must belong, and from whom.
        registry: Who is known.
        now: Seconds since 1970 in UTC.
        identity: The receiver.
        guard: What was opened before; the message is added to it.

    Raises:
        RefusedError: As :func:`open_envelope`.
    """
    raw = _read_front(source)
    front = Front.from_bytes(raw[len(MAGIC) + 4 :])
    if (front.keys or front.receivers) and identity.did not in front.receivers:
        raise RefusedError(
            Refusal.RECEIVER,
            f"a message is for {len(front.receivers)} others, not for {identity.did}",
        )
    if expected.sealed and not front.keys:
        raise RefusedError(
            Refusal.NOT_SEALED, "a message travelled unsealed; this step expects a sealed one"
        )
    key = _content_key(front, identity) if front.keys else b""
    body, (signature,) = unwrap(HEAD, _unlock_head(front, key) if key else front.head)
    head = Envelope.from_body(body)
    _check_outside(head, front)
    # Signature first: otherwise anybody could have it noted that somebody revoked sent something.
    sender = registry.find(head.sender)
    what = f"a message that names {head.sender} as its sender"
    check_signature(sender.algorithm, sender.public, body, signature, HEAD.context, what)
    registry.known(head.sender, now)
    if expected.role:
        registry.check_role(head.sender, expected.role)
    head.check(expected)
    guard.check(head.place.run, head.sender, head.id)
    if key:
        chunks = open_chunks(content_key(key, raw), source, head.length)
    else:
        chunks = plain_chunks(source, head.length)
    _copy(chunks, target, head)
    if source.read(1):
        raise RefusedError(Refusal.DAMAGED, "a message goes on after its end")
    guard.add(head.place.run, head.sender, head.id)
    return head


def _read_front(source: BinaryIO) -> bytes:
    start = read_exactly(source, len(MAGIC) + 4)
    if start[: len(MAGIC)] != MAGIC:
        raise RefusedError(
            Refusal.DAMAGED,
            f"not a signed message: it starts with {start[: len(MAGIC)]!r}, expected {MAGIC!r}",
        )
    (size,) = struct.unpack_from(">I", start, len(MAGIC))
    if size > MOST_FRONT_BYTES:
        raise RefusedError(
            Refusal.DAMAGED,
            f"a message claims a front of {size} bytes; at most {MOST_FRONT_BYTES} are read",
        )
    return start + read_exactly(source, size)


def _content_key(front: Front, identity: Identity) -> bytes:
    sealed = front.keys[front.receivers.index(identity.did)]
    try:
        key = identity.open(sealed, key_info(front.receivers, identity.did))
    except PayloadError:
        key = b""
    if len(key) != KEY_BYTES:
        raise RefusedError(
            Refusal.DAMAGED,
            "a message's key cannot be opened: it is damaged, or was sealed to somebody else",
        )
    return key


def _unlock_head(front: Front, key: bytes) -> bytes:
    try:
        bound = outside(front.receivers, front.keys)
        return AESGCM(head_key(key)).decrypt(NONCE, front.head, bound)
    except InvalidTag:
        raise RefusedError(
            Refusal.DAMAGED, "a message's head is damaged, or belongs to another message"
        ) from None


def _check_outside(head: Envelope, front: Front) -> None:
    if head.receivers != front.receivers:
        raise RefusedError(
            Refusal.RECEIVER,
            f"a message names {len(front.receivers)} receivers outside, but its sender signed "
            f"{len(head.receivers)} others: somebody sent it on",
        )
    if head.sealed != bool(front.keys):
        raise RefusedError(
            Refusal.NOT_SEALED, "a message was signed sealed and travels open, or the reverse"
        )


def _copy(chunks: Iterator[bytes], target: BinaryIO, head: Envelope) -> None:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
        target.write(chunk)
    if not hmac.compare_digest(digest.digest(), head.digest):
        raise RefusedError(Refusal.DAMAGED, "a message's payload is not the one that was signed")
