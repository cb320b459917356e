"""New keys for a node that is known already: the old key signs the new description.

Whoever pinned the first identifier follows the chain to the present one. Expired links stay good as
links: what counts is that the next began while they were valid. A link that was revoked is none,
because whoever has a stolen key can write any time into what it signs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from qfl.crypto.sealing import SealingKey
from qfl.crypto.signatures import generate_signing_key
from qfl.identity.description import ROTATION_CONTEXT, Description
from qfl.identity.identity import Identity, describe
from qfl.identity.refusal import Refusal, RefusedError
from qfl.identity.signed import check_algorithm, check_signature

MOST_LINKS = 64


def rotate(
    old: Identity,
    *,
    roles: Iterable[str] | None = None,
    algorithm: str | None = None,
    provider: str = "auto",
    days: float = 365,
    now: float | None = None,
) -> Identity:
    """New signing and sealing keys, vouched for by the old signing key.

    Args:
        old: The identity that is replaced; it must be valid still.
        roles: Some of the old one's; unset, all.
        algorithm: Of the new signing key; unset, the old one's.
        provider: Who makes it.
        days: Validity of the new one.
        now: Seconds since 1970 in UTC; unset, the clock's.

    Raises:
        CryptoError: The old identity is not valid, a role is not among its own, or an algorithm
            is not known.

    Example:
        >>> first = Identity.create(["client"])
        >>> second = rotate(first)
        >>> chain = [first.description, second.description]
        >>> verify_chain(chain, first.did, second.description.not_before).did == second.did
        True
    """
    check_algorithm(algorithm or old.algorithm)
    signing = generate_signing_key(algorithm or old.algorithm, provider)
    sealing = SealingKey()
    fresh = describe(
        signing,
        sealing,
        old.description.roles if roles is None else roles,
        days=days,
        now=now,
        previous=old.did,
    )
    _check_step(old.description, fresh)
    rotation = old.sign(fresh.body, ROTATION_CONTEXT)
    return Identity(signing, sealing, fresh.signed(fresh.signature, rotation))


def verify_chain(chain: Sequence[Description], first: str, now: float) -> Description:
    """Follow rotations from a pinned identifier to the present description.

    Args:
        chain: Every description since the first, in order.
        first: The pinned identifier.
        now: Seconds since 1970 in UTC; the last must be valid then.

    Returns:
        The last.

    Raises:
        RefusedError: The chain starts elsewhere, breaks, or its end is not valid.
    """
    last = check_links(chain, first)
    last.check_valid(now)
    return last


def check_links(chain: Sequence[Description], first: str) -> Description:
    """As :func:`verify_chain`, at no time in particular.

    Raises:
        RefusedError: The chain starts elsewhere or breaks.
    """
    if not 1 <= len(chain) <= MOST_LINKS:
        raise RefusedError(
            Refusal.ROTATION,
            f"a chain of {len(chain)} descriptions was given; expected 1 to {MOST_LINKS}",
        )
    if chain[0].did != first:
        raise RefusedError(
            Refusal.ROTATION, f"a chain starts at {chain[0].did}, but {first} is pinned"
        )
    if len({one.did for one in chain}) != len(chain):
        raise RefusedError(Refusal.ROTATION, "a chain comes back to an identifier that it left")
    chain[0].check_signature()
    for old, new in pairwise(chain):
        if new.previous != old.did:
            raise RefusedError(
                Refusal.ROTATION,
                f"{new.did} replaces {new.previous or 'nothing'}, but follows {old.did}",
            )
        new.check_signature()
        if not new.rotation:
            raise RefusedError(
                Refusal.NOT_SIGNED, f"{new.did} is not signed by {old.did}, which it replaces"
            )
        what = f"the rotation from {old.did} to {new.did}"
        check_signature(old.algorithm, old.public, new.body, new.rotation, ROTATION_CONTEXT, what)
        _check_step(old, new)
    return chain[-1]


def _check_step(old: Description, new: Description) -> None:
    if not set(new.roles) <= set(old.roles):
        raise RefusedError(
            Refusal.ROLE,
            f"{new.did} takes roles {list(new.roles)}, but {old.did}, which it replaces, has "
            f"{list(old.roles)}; a rotation adds none",
        )
    if not old.not_before <= new.not_before < old.not_after:
        raise RefusedError(
            Refusal.ROTATION,
            f"{new.did} begins outside the validity of {old.did}, which it replaces; an identity "
            "that has run out cannot be rotated, its holder must be provisioned anew",
        )
