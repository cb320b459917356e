"""A node's identity: what it signs with, what others seal to, and its description of itself.

The signing key is ML-DSA-65 (FIPS 204) unless told otherwise; the sealing key is ML-KEM-768 with
X25519 (:mod:`qfl.crypto.sealing`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import NoReturn

from qfl.crypto.sealing import SealingKey
from qfl.crypto.signatures import SigningKey, generate_signing_key
from qfl.errors import PayloadError
from qfl.identity.description import DESCRIPTION, Description
from qfl.identity.signed import check_algorithm

DAY = 86_400
LEEWAY = 300
"""Seconds that validity starts before a key is made, for receivers whose clocks run behind."""


class Identity:
    """The secret half: keys and the description that belongs to them.

    Args:
        signing: The signing key.
        sealing: The sealing key.
        description: Of these keys.

    Raises:
        PayloadError: The description is of other keys.

    Example:
        >>> node = Identity.create(["client"])
        >>> node.description.verify(time.time())
        >>> node.did == node.description.did and node.did.startswith("did:qfl:")
        True
    """

    def __init__(self, signing: SigningKey, sealing: SealingKey, description: Description) -> None:
        if (description.algorithm, description.public, description.sealing) != (
            signing.algorithm,
            signing.public,
            sealing.public,
        ):
            raise PayloadError(f"the description of {description.did} is not of these keys")
        self.signing = signing
        self.sealing = sealing
        self.description = description

    @staticmethod
    def create(
        roles: Iterable[str],
        *,
        algorithm: str = "ML-DSA-65",
        provider: str = "auto",
        days: float = 365,
        now: float | None = None,
    ) -> Identity:
        """New keys, and a description of them.

        Args:
            roles: Some of :data:`qfl.identity.description.ROLES`.
            algorithm: Of the signing key.
            provider: Who makes it.
            days: Validity; it starts five minutes before now.
            now: Seconds since 1970 in UTC; unset, the clock's.

        Raises:
            CryptoError: An algorithm or role is not known, or the validity is empty.
        """
        check_algorithm(algorithm)
        signing, sealing = generate_signing_key(algorithm, provider), SealingKey()
        description = describe(signing, sealing, roles, days=days, now=now)
        return Identity(signing, sealing, description)

    def __repr__(self) -> str:
        return f"Identity(did={self.did!r})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            "an identity holds secret keys and is neither pickled nor copied; save it with "
            "qfl.identity.save_identity"
        )

    @property
    def did(self) -> str:
        """The identifier of the signing key."""
        return self.description.did

    @property
    def algorithm(self) -> str:
        """Of the signing key."""
        return self.signing.algorithm

    @property
    def public(self) -> bytes:
        """The signing key's public half."""
        return self.description.public

    def sign(self, message: bytes, context: bytes) -> bytes:
        """A signature, bound to what it is for.

        Args:
            message: What is signed.
            context: At most 255 bytes, different for each kind of message.
        """
        return self.signing.sign(message, context)

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """What was sealed to this identity.

        Raises:
            PayloadError: It cannot be opened.
        """
        return self.sealing.open(sealed, info)


def describe(
    signing: SigningKey,
    sealing: SealingKey,
    roles: Iterable[str],
    *,
    days: float = 365,
    now: float | None = None,
    previous: str = "",
) -> Description:
    """A description of keys, signed by them.

    Args:
        signing: Signs it.
        sealing: Its public half is described.
        roles: In any order.
        days: Validity from now.
        now: Seconds since 1970 in UTC; unset, the clock's.
        previous: The identifier that this one replaces.

    Raises:
        RefusedError: A role is not known, or the validity is empty.
    """
    start = int(time.time() if now is None else now)
    description = Description(
        algorithm=signing.algorithm,
        public=signing.public,
        sealing=sealing.public,
        roles=tuple(sorted(set(roles))),
        not_before=start - LEEWAY,
        not_after=start + int(days * DAY),
        previous=previous,
    )
    return description.signed(signing.sign(description.body, DESCRIPTION.context))
