"""How ring keys reach whoever opens, for each kind of trust.

A ring key is 2048 small integers. It is sealed, not homomorphically encrypted: whoever opens gets
the keys one by one and adds them itself, which it could do under any encryption, since it holds
the secret. Sealing (HPKE) adds what a homomorphic scheme cannot give: nobody can turn a sealed key
into another one, so a dishonest client cannot send a multiple of somebody else's key as its own;
a key out of range is seen and named; decryption never fails; it is a tenth of the size.

| trust | clients hold | a ring key goes |
|---|---|---|
| ``key_holder`` | a public sealing key | sealed to the key holder |
| ``shared`` | the secret key | locked under it (AES-256-GCM) |
| ``committee`` | the committee | in shares, one sealed to each member |

Every sealed key is bound to the identity of the public key, the contributor and the place.
"""

from __future__ import annotations

import hashlib
import secrets
from functools import lru_cache

import numpy as np

from qfl.crypto.committee import SHARE_BYTES, Committee
from qfl.crypto.contribution import VOUCHER_BYTES
from qfl.crypto.discrete_gaussian import tables_of
from qfl.crypto.encoding import IntVector
from qfl.crypto.group_box import lock, unlock
from qfl.crypto.hybrid_parameters import SIGMA
from qfl.crypto.ring import DEGREE
from qfl.crypto.scheme import KeyPair
from qfl.crypto.sealing import PUBLIC_BYTES, SEED_BYTES, SealingKey, seal
from qfl.errors import ConfigError, PayloadError

_PUBLIC, _SECRET = b"qhp1", b"qhs1"
_SHARED_NAME, _SHARED_SECRET = b"qhn1", b"qhk1"
_SEAL_BYTES = 1088 + 32 + 16  # ML-KEM's ciphertext, X25519's share, a tag
_LOCK_BYTES = 12 + 16


def new_keys(trust: str) -> KeyPair:
    """Keys of one run, from the operating system's randomness.

    Raises:
        ConfigError: Under trust ``committee`` there are none: each member has its own.
    """
    if trust == "committee":
        raise ConfigError(
            "trust=committee has no key that one party could make: members make their own, and "
            "clients protect with the committee itself"
        )
    if trust == "shared":
        secret = _SHARED_SECRET + secrets.token_bytes(SEED_BYTES)
    else:
        secret = _SECRET + secrets.token_bytes(SEED_BYTES)
    public = public_of(secret)
    return KeyPair(public, secret, identity_of(public).hex()[:16])


def public_of(secret: bytes) -> bytes:
    """The public part of a secret key; under ``shared`` only a name for it.

    Raises:
        PayloadError: It is no secret key.
    """
    seed = secret[4:]
    if len(seed) == SEED_BYTES and secret[:4] == _SECRET:
        return _PUBLIC + SealingKey(seed).public
    if len(seed) == SEED_BYTES and secret[:4] == _SHARED_SECRET:
        return _SHARED_NAME + hashlib.sha256(b"qfl hybrid shared key" + seed).digest()
    raise PayloadError("not a secret key of scheme hybrid")


def identity_of(public: bytes) -> bytes:
    """32 bytes that stand for a public key or a committee."""
    return hashlib.sha256(public).digest()


def check_public(public: bytes, trust: str) -> None:
    """Refuse what is no public key for this trust.

    Raises:
        PayloadError: Says what is expected.
    """
    if trust == "committee":
        committee_of(public)
        return
    magic, size = {
        "key_holder": (_PUBLIC, PUBLIC_BYTES),
        "shared": (_SHARED_NAME, 32),
    }[trust]
    if public[:4] in (_SECRET, _SHARED_SECRET):
        raise PayloadError("this is a secret key: it must never leave its holder")
    if public[:4] != magic or len(public) != 4 + size:
        raise PayloadError(
            f"not a public key of scheme hybrid with trust {trust}: {len(public)} bytes, expected "
            f"{4 + size} that start with {magic!r}"
        )


def protecting_public(key: bytes, trust: str) -> bytes:
    """The public part of what a client protects with.

    Raises:
        PayloadError: The key is not one to protect with under this trust.
    """
    if trust != "shared":
        check_public(key, trust)
        return key
    if key[:4] != _SHARED_SECRET:
        raise PayloadError("with trust shared, clients protect with the secret key; this is none")
    return public_of(key)


@lru_cache(maxsize=4)
def committee_of(public: bytes) -> Committee:
    """The committee that clients protect for; checked once."""
    return Committee.from_bytes(public)


def info_of(identity: bytes, name: str, place: str) -> bytes:
    """What a sealed key is bound to."""
    return b"qfl hybrid key" + identity + bytes.fromhex(name) + place.encode()


def seal_key(ring_key: IntVector, key: bytes, trust: str, info: bytes) -> list[bytes]:
    """A ring key for whoever opens: one part for each receiver.

    Args:
        ring_key: 2048 integers, each within int8.
        key: What the client protects with.
        trust: Who opens.
        info: From :func:`info_of`.
    """
    if trust == "committee":
        committee = committee_of(key)
        shares = zip(committee.names, committee.deal(ring_key), strict=True)
        return [committee.roster.member(name).seal(share, info) for name, share in shares]
    plain = ring_key.astype(np.int8).tobytes()
    if trust == "shared":
        return [lock(key[4:], plain, info)]
    return [seal(plain, key[4:], info)]


class KeyOpener:
    """Opens the ring keys of clients.

    Args:
        secret: The secret key.

    Raises:
        PayloadError: It is none of scheme ``hybrid``.
    """

    def __init__(self, secret: bytes) -> None:
        self.identity = identity_of(public_of(secret))
        self._shared = secret[4:] if secret[:4] == _SHARED_SECRET else b""
        self._sealing = None if self._shared else SealingKey(secret[4:])

    def __repr__(self) -> str:
        return f"KeyOpener(identity={self.identity.hex()[:16]!r})"

    def open(self, sealed: bytes, info: bytes) -> IntVector:
        """A client's ring key.

        Args:
            sealed: From :func:`seal_key`.
            info: What it must be bound to.

        Raises:
            PayloadError: It is damaged, sealed to somebody else, bound to another contributor or
                place, or no key that a client draws.
        """
        if self._sealing is None:
            plain = unlock(self._shared, sealed, info)
        else:
            plain = self._sealing.open(sealed, info)
        ring_key = np.frombuffer(plain, dtype=np.int8).astype(np.int64)
        largest = tables_of(SIGMA).largest
        if ring_key.size != DEGREE or int(np.abs(ring_key).max()) > largest:
            raise PayloadError(
                f"a ring key is not {DEGREE} integers from -{largest} to {largest}: its client "
                "does not follow the protocol"
            )
        return ring_key


def receivers_of(public: bytes, trust: str) -> int:
    """Parts that a key is sealed in."""
    return len(committee_of(public).names) if trust == "committee" else 1


def record_bytes(receivers: int, trust: str) -> int:
    """Bytes of a contribution's record."""
    if trust == "committee":
        return VOUCHER_BYTES + receivers * (SHARE_BYTES + _SEAL_BYTES)
    return VOUCHER_BYTES + DEGREE + (_LOCK_BYTES if trust == "shared" else _SEAL_BYTES)
