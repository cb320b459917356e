"""Keys of ``ckks`` and ``packed`` as bytes of exact length, and what SEAL makes of them.

A key begins with what it is and the parameters that it belongs to; numbers at exact width follow.
Under trust ``shared`` nobody encrypts with a public key: the public part is a descriptor, the
SHA-256 of the secret, which tells runs apart and says nothing else.
"""

from __future__ import annotations

import hashlib
import struct
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from qfl.crypto.rlwe_bits import Coefficients, pack_bits, packed_bytes, unpack_bits
from qfl.crypto.rlwe_ring import Ring, SealRing, seal_ring
from qfl.crypto.scheme import KeyPair
from qfl.crypto.seal_objects import SealFile, Template
from qfl.errors import PayloadError

_DESCRIPTOR_BYTES = 32


class Parameters(Protocol):
    """What keys need to know; the repr of parameters stands at the head of their keys."""

    @property
    def ring(self) -> Ring:
        """Degree and primes."""

    @property
    def trust(self) -> str:
        """``key_holder`` or ``shared``."""

    def __hash__(self) -> int:
        """Equal parameters, equal hash."""


def make_keys(parameters: Parameters) -> KeyPair:
    """New keys, from the operating system's randomness."""
    import tenseal.sealapi as seal

    ring = seal_ring(parameters.ring)
    generator = seal.KeyGenerator(ring.context)
    secret = _pack(generator.secret_key(), ring.secret, ring, _head("secret", parameters))
    if parameters.trust == "shared":
        public = _head("descriptor", parameters) + hashlib.sha256(secret).digest()
    else:
        made = seal.PublicKey()
        generator.create_public_key(made)
        public = _pack(made, ring.public, ring, _head("public", parameters))
    return KeyPair(public, secret, hashlib.sha256(public).hexdigest()[:16])


def check_public(key: bytes, parameters: Parameters) -> None:
    """Refuse what is no public part of these parameters' keys, by its first octets and length.

    Raises:
        PayloadError: Names both sides.
    """
    if parameters.trust == "shared":
        _check(key, "descriptor", parameters, _DESCRIPTOR_BYTES)
    else:
        _check(key, "public", parameters, _polynomials_bytes(2, seal_ring(parameters.ring)))


def encryptor(key: bytes, parameters: Parameters) -> Any:
    """SEAL's ``Encryptor``: with the public key, or under trust ``shared`` with the secret one.

    Raises:
        PayloadError: The key is of another kind, of other parameters, or malformed.
    """
    if parameters.trust == "key_holder":
        return _public_encryptor(key, parameters)
    import tenseal.sealapi as seal

    # Not cached: a secret key must not outlive its use.
    return seal.Encryptor(seal_ring(parameters.ring).context, _secret(key, parameters))


def decryptor(key: bytes, parameters: Parameters) -> Any:
    """SEAL's ``Decryptor``.

    Raises:
        PayloadError: The key is no secret key of these parameters.
    """
    import tenseal.sealapi as seal

    return seal.Decryptor(seal_ring(parameters.ring).context, _secret(key, parameters))


@lru_cache(maxsize=8)
def _public_encryptor(key: bytes, parameters: Parameters) -> Any:
    import tenseal.sealapi as seal

    check_public(key, parameters)
    ring, made = seal_ring(parameters.ring), seal.PublicKey()
    _load(made, key[len(_head("public", parameters)) :], ring.public, ring)
    return seal.Encryptor(ring.context, made)


def _secret(key: bytes, parameters: Parameters) -> Any:
    import tenseal.sealapi as seal

    ring, made = seal_ring(parameters.ring), seal.SecretKey()
    _check(key, "secret", parameters, _polynomials_bytes(1, ring))
    _load(made, key[len(_head("secret", parameters)) :], ring.secret, ring)
    return made


def _head(kind: str, parameters: Parameters) -> bytes:
    text = repr(parameters).encode()
    return _kind_bytes(kind) + struct.pack("<H", len(text)) + text


def _kind_bytes(kind: str) -> bytes:
    return b"qfl " + kind.encode().ljust(12)


def _check(key: bytes, kind: str, parameters: Parameters, size: int) -> None:
    named = "descriptor of a shared key" if kind == "descriptor" else f"{kind} key"
    if not key.startswith(_kind_bytes(kind)):
        hint = {
            "secret": "it opens nothing, and encrypts nothing under trust 'shared'",
            "public": "if it is a secret key, it must never leave its holder",
            "descriptor": "if it is a secret key, it must never leave its holders",
        }[kind]
        raise PayloadError(f"not a {named}; {hint}")
    head = _head(kind, parameters)
    if not key.startswith(head):
        claimed = key[18 : 18 + struct.unpack("<H", key[16:18].ljust(2, b"\0"))[0]][:300]
        found = claimed.decode("ascii", "replace")
        found = found if found.isprintable() else repr(claimed)
        raise PayloadError(f"the {named} is of {found}; this run expects {parameters}")
    if len(key) != len(head) + size:
        raise PayloadError(
            f"the {named} has {len(key)} bytes; these parameters need {len(head) + size}"
        )


def _polynomials_bytes(count: int, ring: SealRing) -> int:
    return sum(packed_bytes(count, ring.degree, prime.bit_length()) for prime in ring.primes)


def _pack(thing: Any, template: Template, ring: SealRing, head: bytes) -> bytes:
    with SealFile() as file:
        values = template.values(file.save(thing)).reshape(-1, len(ring.primes), ring.degree)
    parts = [pack_bits(values[:, at], p.bit_length()) for at, p in enumerate(ring.primes)]
    return head + b"".join(parts)


def _load(thing: Any, body: bytes, template: Template, ring: SealRing) -> None:
    count = template.count // (ring.degree * len(ring.primes))
    values: Coefficients = np.empty((count, len(ring.primes), ring.degree), np.uint64)
    start = 0
    for at, prime in enumerate(ring.primes):
        size = packed_bytes(count, ring.degree, prime.bit_length())
        part = memoryview(body)[start : start + size]
        values[:, at] = unpack_bits(part, count, ring.degree, prime.bit_length())
        if (values[:, at] >= prime).any():
            raise PayloadError(f"a number in a key is past the prime {prime}: damaged")
        start += size
    with SealFile() as file:
        template.load(thing, ring.context, file, values)
