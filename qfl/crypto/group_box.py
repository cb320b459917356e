"""One secret for several members: sealed once, opened by each of them and by nobody between.

A fresh key of 32 bytes locks the content (AES-256-GCM); the key is sealed to every member.
"""

from __future__ import annotations

import secrets
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from qfl.crypto.members import NAME_BYTES, MemberKeys, Roster
from qfl.errors import PayloadError

KEY_BYTES = 32
_NONCE_BYTES = 12
_TAG_BYTES = 16
# ML-KEM's ciphertext, X25519's share, the key and a tag.
_SEALED_BYTES = 1088 + 32 + KEY_BYTES + _TAG_BYTES
_ENTRY_BYTES = NAME_BYTES + _SEALED_BYTES
_MAGIC = b"qflg"


def lock(key: bytes, plain: bytes, info: bytes) -> bytes:
    """Encrypt under a key that a group shares.

    Args:
        key: 32 secret bytes.
        plain: What only the group may read.
        info: What the content belongs to; unlocking needs the same.

    Example:
        >>> key = secrets.token_bytes(32)
        >>> unlock(key, lock(key, b"model", b"round 1"), b"round 1")
        b'model'
    """
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, info)


def unlock(key: bytes, locked: bytes, info: bytes) -> bytes:
    """The inverse of :func:`lock`.

    Raises:
        PayloadError: It is damaged, under another key, or bound to something else.
    """
    nonce, rest = locked[:_NONCE_BYTES], locked[_NONCE_BYTES:]
    if len(rest) < _TAG_BYTES:
        raise PayloadError(f"locked content of {len(locked)} bytes is too short to be any")
    try:
        return AESGCM(key).decrypt(nonce, rest, info)
    except InvalidTag:
        raise PayloadError(
            "locked content cannot be opened: it is damaged, under another key, or belongs to "
            "another place"
        ) from None


def box_for(roster: Roster, plain: bytes, info: bytes) -> bytes:
    """Seal one secret to every member of a roster.

    Example:
        >>> keys = MemberKeys()
        >>> box = box_for(Roster([keys.member]), b"secret", b"run 1")
        >>> open_box(box, keys, b"run 1")
        b'secret'
    """
    key = secrets.token_bytes(KEY_BYTES)
    names = roster.names
    entries = b"".join(bytes.fromhex(name) + roster.member(name).seal(key, info) for name in names)
    return _MAGIC + struct.pack("<I", len(names)) + entries + lock(key, plain, info)


def open_box(box: bytes, keys: MemberKeys, info: bytes) -> bytes:
    """The secret in a box, for one of its members.

    Raises:
        PayloadError: The bytes are no box, or not for this member.
    """
    if box[:4] != _MAGIC or len(box) < 8:
        raise PayloadError(f"not a sealed box: it starts with {box[:4]!r}, expected {_MAGIC!r}")
    (count,) = struct.unpack_from("<I", box, 4)
    end = 8 + count * _ENTRY_BYTES
    if len(box) < end:
        raise PayloadError(f"a sealed box of {len(box)} bytes claims {count} receivers")
    own = bytes.fromhex(keys.name)
    for at in range(8, end, _ENTRY_BYTES):
        if box[at : at + NAME_BYTES] == own:
            key = keys.open(box[at + NAME_BYTES : at + _ENTRY_BYTES], info)
            return unlock(key, box[end:], info)
    raise PayloadError(f"a sealed box for {count} receivers holds nothing for member {keys.name}")
