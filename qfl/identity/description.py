"""A node's description of itself: keys, roles and validity, signed by the key that it names.

The decentralized identifier (DID) is a digest of the signing key: whoever knows it can check any
description of that key, and needs nobody in between. What it does not say is whose key it is; that
is what pinning (:mod:`qfl.identity.registry`) is for.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property

from qfl.crypto.sealing import PUBLIC_BYTES
from qfl.errors import unknown_name
from qfl.identity.canonical import Fields, decode, encode
from qfl.identity.refusal import Refusal, RefusedError
from qfl.identity.signed import Kind, check_algorithm, check_signature, unwrap, wrap

ROLES = ("client", "key_holder", "operator", "server")
DESCRIPTION = Kind("description", 1, at_most=1 << 18, signatures=2)
ROTATION_CONTEXT = b"qfl rotation 1"
PREFIX = "did:qfl:"
# 256 bits are 51 characters of 5 bits and one more bit, so the last is "a" or "q".
_DID = re.compile(r"did:qfl:[a-z2-7]{51}[aq]", re.ASCII)
_KEYS = frozenset(
    {"did", "algorithm", "public", "sealing", "roles", "not_before", "not_after"},
)


def did_of(algorithm: str, public: bytes) -> str:
    """The identifier of a signing key, 60 characters, none of them upper case.

    SHA-256 over algorithm and key, so that no key counts as one of another algorithm, in base32
    (RFC 4648), where no two identifiers differ by case alone.

    Example:
        >>> did_of("ML-DSA-65", bytes(1952))
        'did:qfl:ya7jp2ipr7bl7tszhuu5dpp7vxyuxivq5k56cr3wxuvocn7m7jwq'
    """
    digest = hashlib.sha256(encode(["qfl did", algorithm, public])).digest()
    return PREFIX + base64.b32encode(digest).decode().rstrip("=").lower()


def check_did(did: str) -> None:
    """Make sure that a text has the form of an identifier.

    Raises:
        RefusedError: It has not.
    """
    if not _DID.fullmatch(did):
        raise RefusedError(
            Refusal.DID,
            f"{did[:80]!a} is no identifier; expected {PREFIX} and 52 characters of a-z and 2-7",
        )


def moment(seconds: float) -> str:
    """A time as people read it, in UTC."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"second {seconds:.0f} since 1970"


@dataclass(frozen=True)
class Description:
    """Who a node is.

    Attributes:
        algorithm: Of the signing key.
        public: The signing key's public half.
        sealing: Public sealing key (:mod:`qfl.crypto.sealing`), 1,216 bytes.
        roles: Some of :data:`ROLES`, in order.
        not_before: First second of validity, since 1970 in UTC.
        not_after: The second at which validity ends.
        previous: The identifier that this one replaces; empty where it replaces none.
        signature: By the key in it.
        rotation: By the key that it replaces; empty where it replaces none.

    Raises:
        RefusedError: A field cannot be so.
    """

    algorithm: str
    public: bytes
    sealing: bytes
    roles: tuple[str, ...]
    not_before: int
    not_after: int
    previous: str = ""
    signature: bytes = b""
    rotation: bytes = b""

    def __post_init__(self) -> None:
        if len(self.sealing) != PUBLIC_BYTES:
            raise RefusedError(
                Refusal.DAMAGED,
                f"a sealing key of {len(self.sealing)} bytes was given; expected {PUBLIC_BYTES}",
            )
        for role in self.roles:
            if role not in ROLES:
                raise RefusedError(
                    Refusal.ROLE, unknown_name("role", ascii(role[:40])[1:-1], ROLES)
                )
        if list(self.roles) != sorted(set(self.roles)) or not self.roles:
            raise RefusedError(
                Refusal.ROLE, f"roles {list(self.roles)} must be at least one, in order, each once"
            )
        if self.not_before >= self.not_after:
            raise RefusedError(
                Refusal.EXPIRED,
                f"a validity from {moment(self.not_before)} to {moment(self.not_after)} is empty",
            )
        if self.previous:
            check_did(self.previous)

    def __repr__(self) -> str:
        return f"Description(did={self.did!r}, roles={self.roles!r})"

    @cached_property
    def did(self) -> str:
        """The identifier of the signing key."""
        return did_of(self.algorithm, self.public)

    @cached_property
    def body(self) -> bytes:
        """What is signed."""
        previous = {"previous": self.previous} if self.previous else {}
        return encode(
            {
                "did": self.did,
                "algorithm": self.algorithm,
                "public": self.public,
                "sealing": self.sealing,
                "roles": list(self.roles),
                "not_before": self.not_before,
                "not_after": self.not_after,
                **previous,
            }
        )

    def signed(self, signature: bytes, rotation: bytes = b"") -> Description:
        """The same description with signatures."""
        return replace(self, signature=signature, rotation=rotation)

    def to_bytes(self) -> bytes:
        """Its one encoding, about 6.7 kB with ML-DSA-65."""
        rotation = (self.rotation,) if self.previous else ()
        return wrap(DESCRIPTION, self.body, (self.signature, *rotation))

    @staticmethod
    def from_bytes(data: bytes) -> Description:
        """The inverse of :meth:`to_bytes`; signatures and validity are for :meth:`verify`.

        Raises:
            RefusedError: The bytes are damaged, of another version, not signed, or name another
                identifier than their key's.
        """
        body, signatures = unwrap(DESCRIPTION, data)
        value = decode(body, "a description", DESCRIPTION.at_most)
        fields = Fields(value, "a description", _KEYS, {"previous"})
        if len(signatures) != 1 + ("previous" in fields):
            raise RefusedError(
                Refusal.NOT_SIGNED,
                f"a description has {len(signatures)} signatures; expected one by its own key, and "
                "a second by the key that it replaces where it replaces one",
            )
        found = Description(
            algorithm=fields.text("algorithm"),
            public=fields.octets("public"),
            sealing=fields.octets("sealing"),
            roles=fields.texts("roles", len(ROLES)),
            not_before=fields.number("not_before"),
            not_after=fields.number("not_after"),
            previous=fields.text("previous") if "previous" in fields else "",
            signature=signatures[0],
            rotation=signatures[1] if "previous" in fields else b"",
        )
        if fields.text("did") != found.did:
            raise RefusedError(
                Refusal.DID,
                f"a description names {fields.text('did')[:80]!a}, but its key's identifier is "
                f"{found.did}",
            )
        if found.body != body:
            raise RefusedError(Refusal.DAMAGED, "a description is not in its one form")
        return found

    def verify(self, now: float) -> None:
        """Make sure that it is signed by its own key, and valid.

        Whether the key that it replaces agreed is for :func:`qfl.identity.rotation.verify_chain`.

        Args:
            now: Seconds since 1970 in UTC.

        Raises:
            RefusedError: It is not.
        """
        self.check_signature()
        self.check_valid(now)

    def check_signature(self) -> None:
        """Make sure that it is signed by its own key.

        Raises:
            RefusedError: It is not signed, the algorithm is not taken, or the signature is wrong.
        """
        check_algorithm(self.algorithm)
        if not self.signature:
            raise RefusedError(Refusal.NOT_SIGNED, f"the description of {self.did} is not signed")
        what = f"the description of {self.did}"
        context = DESCRIPTION.context
        check_signature(self.algorithm, self.public, self.body, self.signature, context, what)

    def check_valid(self, now: float) -> None:
        """Make sure that it is valid at a time.

        Raises:
            RefusedError: It is not yet, or no longer.
        """
        # So written, a time that is no number is refused.
        if not now >= self.not_before:
            raise RefusedError(
                Refusal.NOT_YET_VALID,
                f"{self.did} is valid from {moment(self.not_before)}, and it is {moment(now)}; is "
                "the clock right?",
            )
        if not now < self.not_after:
            raise RefusedError(
                Refusal.EXPIRED,
                f"{self.did} was valid until {moment(self.not_after)}, and it is {moment(now)}; "
                "its holder must rotate it, or be provisioned anew",
            )
