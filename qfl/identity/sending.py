"""Signing a message, and sealing it to its receivers."""

from __future__ import annotations

import hashlib
import io
import secrets
from collections.abc import Sequence
from typing import BinaryIO

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from qfl.crypto.sealing import derive, seal
from qfl.errors import PayloadError
from qfl.identity.canonical import encode
from qfl.identity.description import Description
from qfl.identity.envelope import (
    HEAD,
    ID_BYTES,
    MOST_RECEIVERS,
    VERSION,
    Envelope,
    Front,
    Place,
    key_info,
)
from qfl.identity.identity import Identity
from qfl.identity.signed import wrap
from qfl.identity.streaming import (
    CHUNK,
    LONGEST,
    plain_chunks,
    room_for,
    seal_chunks,
    sealed_length,
)

KEY_BYTES = 32
NONCE = bytes(12)
"""Each key made here serves one encryption, so that its nonce may be zero."""
_FRONT_BYTES = 1 << 13
"""More than a front takes, and more than each receiver adds."""


def seal_envelope(
    payload: bytes,
    sender: Identity,
    place: Place,
    receivers: Sequence[Description],
    *,
    sealed: bool = True,
) -> bytes:
    """A signed message as bytes.

    Args:
        payload: What is sent.
        sender: Signs it.
        place: Where it belongs.
        receivers: Whom it is for, as :meth:`qfl.identity.registry.Registry.known` gave them: they
            are not checked again. None for everybody, which cannot be sealed.
        sealed: Whether only the receivers may read it.

    Raises:
        PayloadError: Receivers are missing, too many or named twice.

    Example:
        >>> from qfl.identity.opening import open_envelope
        >>> from qfl.identity.envelope import Expected
        >>> from qfl.identity.registry import Registry
        >>> from qfl.identity.replay import ReplayGuard
        >>> node, server = Identity.create(["client"]), Identity.create(["server"])
        >>> place = Place("run", 1, "train")
        >>> message = seal_envelope(b"update", node, place, [server.description])
        >>> registry = Registry({node.did: ["client"]})
        >>> registry.admit([node.description])
        >>> now = node.description.not_before
        >>> head, payload = open_envelope(
        ...     message, Expected(place, role="client"), registry, now,
        ...     identity=server, guard=ReplayGuard(),
        ... )
        >>> payload, head.sender == node.did
        (b'update', True)
    """
    return seal_message(payload, sender, place, receivers, sealed=sealed)[1]


def seal_message(
    payload: bytes,
    sender: Identity,
    place: Place,
    receivers: Sequence[Description],
    *,
    sealed: bool = True,
) -> tuple[Envelope, bytes]:
    """As :func:`seal_envelope`, with what was signed beside the message."""
    source = io.BytesIO(payload)
    target = room_for(sealed_length(len(payload)) + _FRONT_BYTES * (1 + len(receivers)))
    head = write_envelope(source, target, sender, place, receivers, sealed=sealed)
    target.truncate()
    return head, target.getvalue()


def write_envelope(
    source: BinaryIO,
    target: BinaryIO,
    sender: Identity,
    place: Place,
    receivers: Sequence[Description],
    *,
    sealed: bool = True,
) -> Envelope:
    """A signed message from stream to stream, in the memory of one chunk.

    Args:
        source: The payload from its present position; it is read twice, so it must seek.
        target: Where the message is written.
        sender: Signs it.
        place: Where it belongs.
        receivers: Whom it is for, as :meth:`qfl.identity.registry.Registry.known` gave them: they
            are not checked again. None for everybody, which cannot be sealed.
        sealed: Whether only the receivers may read it.

    Returns:
        What was signed.

    Raises:
        PayloadError: Receivers are missing, too many or named twice, or the payload is too long.
    """
    ordered = sorted(receivers, key=lambda one: one.did)
    names = tuple(one.did for one in ordered)
    if len(set(names)) != len(names) or len(names) > MOST_RECEIVERS:
        raise PayloadError(
            f"{len(names)} receivers were given; at most {MOST_RECEIVERS} are allowed, each once"
        )
    if sealed and not names:
        raise PayloadError("a message to everybody cannot be sealed; name its receivers")
    start = source.tell()
    length, digest = _measure(source)
    source.seek(start)
    head = Envelope(
        id=secrets.token_bytes(ID_BYTES),
        sender=sender.did,
        receivers=names,
        place=place,
        sealed=sealed,
        length=length,
        digest=digest,
    )
    body = head.to_body()
    signed = wrap(HEAD, body, (sender.sign(body, HEAD.context),))
    if not sealed:
        target.write(Front(names, (), signed).to_bytes())
        target.writelines(plain_chunks(source, length))
        return head
    key = secrets.token_bytes(KEY_BYTES)
    keys = tuple(seal(key, one.sealing, key_info(names, one.did)) for one in ordered)
    locked = AESGCM(head_key(key)).encrypt(NONCE, signed, outside(names, keys))
    front = Front(names, keys, locked).to_bytes()
    target.write(front)
    target.writelines(seal_chunks(content_key(key, front), source, length))
    return head


def head_key(key: bytes) -> bytes:
    """What the signed head is sealed under."""
    return derive(key, b"qfl envelope 1 head", KEY_BYTES)


def content_key(key: bytes, front: bytes) -> bytes:
    """What the content is sealed under: of this key, after this front, and no other."""
    return derive(key, b"qfl envelope 1 content" + hashlib.sha256(front).digest(), KEY_BYTES)


def outside(receivers: tuple[str, ...], keys: tuple[bytes, ...]) -> bytes:
    """What stands outside and the sealed head is bound to."""
    return encode(["qfl envelope head", VERSION, list(receivers), list(keys)])


def _measure(source: BinaryIO) -> tuple[int, bytes]:
    length, digest = 0, hashlib.sha256()
    while part := source.read(CHUNK):
        length += len(part)
        digest.update(part)
    if length > LONGEST:
        raise PayloadError(f"a payload of {length} bytes was given; at most {LONGEST} are sent")
    return length, digest.digest()
