"""What participants vouch for to each other, over the head of the server.

A server could make up clients, replace the key that updates are encrypted under, or have a sum
opened that nobody contributed to. So a node signs by its identity the keys that it made for a run,
and each contribution; whoever relies on them checks who signed, and whether that node may.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress

from qfl.crypto import Header, Member, Roster, Step
from qfl.crypto.members import MOST_MEMBERS
from qfl.identity.canonical import Value, decode, decode_parts, encode
from qfl.identity.credentials import Credentials
from qfl.identity.envelope import Place
from qfl.identity.refusal import Refusal, RefusedError
from qfl.identity.statement import read_statement, state

UNSEEN = ("ckks", "packed")
"""Schemes under which who opens cannot tell contributors from the sum, so that they sign for it."""
_MOST_STATEMENT = 1 << 16


def vouch_for_member(member: Member, step: Step, credentials: Credentials) -> bytes:
    """Say that keys of a run are this node's."""
    return state(member.to_bytes(), _member_place(step), credentials)


def check_member(
    member: Member, statement: bytes, step: Step, credentials: Credentials, did: str = ""
) -> str:
    """Whose keys of a run these are.

    Args:
        member: The keys.
        statement: From :func:`vouch_for_member`.
        step: Of the run.
        credentials: Of whoever checks.
        did: Whose they must be; empty for anybody who is known.

    Returns:
        The identifier of their owner.

    Raises:
        RefusedError: Nobody who is known vouches for them.
    """
    sender, payload = read_statement(statement, _member_place(step), credentials, did)
    if payload != member.to_bytes():
        raise RefusedError(Refusal.KEY, f"{sender} vouches for other keys than {member.name}")
    return sender


def check_roster(
    roster: Roster, statements: Sequence[bytes], step: Step, credentials: Credentials
) -> dict[str, str]:
    """Who stands behind each name on a roster.

    Args:
        roster: The run's.
        statements: One for each member, in the roster's order.
        step: Of the run.
        credentials: Of whoever checks.

    Returns:
        Identifiers by name on the roster.

    Raises:
        RefusedError: Somebody is not known, may neither train nor hold keys, or is there twice.
    """
    if len(statements) != len(roster.names):
        raise RefusedError(
            Refusal.NOT_SIGNED,
            f"{len(statements)} statements came for {len(roster.names)} members of run {step.run}: "
            "each must vouch for its keys",
        )
    found: dict[str, str] = {}
    for name, statement in zip(roster.names, statements, strict=True):
        did = check_member(roster.member(name), statement, step, credentials)
        if did in found.values():
            raise RefusedError(
                Refusal.SENDER, f"{did} stands twice on the roster of run {step.run}"
            )
        _check_takes_part(did, credentials)
        found[name] = did
    return found


def able(dids: Mapping[str, str], permission: str, credentials: Credentials) -> list[str]:
    """Those of a roster who may do something now.

    Args:
        dids: Identifiers by name on the roster, from :func:`check_roster`.
        permission: What.
        credentials: Of whoever checks.
    """
    names = []
    for name, did in dids.items():
        with suppress(RefusedError):
            credentials.permit(credentials.registry.present(did), permission)
            names.append(name)
    return names


def _check_takes_part(did: str, credentials: Credentials) -> None:
    try:
        credentials.permit(did, "train")
    except RefusedError as error:
        if error.reason != Refusal.PERMISSION:
            raise
        credentials.permit(did, "hold_keys")


def vouch_for_keys(public: bytes, box: bytes, step: Step, credentials: Credentials) -> bytes:
    """As who made the keys of a run, say which they are.

    Args:
        public: What clients protect with.
        box: What was sealed to the members of the run; empty where nothing was.
        step: Of the run.
        credentials: Of who made them.
    """
    return state(_keys_digest(public, box, step), _keys_place(public, step), credentials)


def check_keys(
    public: bytes, box: bytes, statement: bytes, step: Step, credentials: Credentials
) -> str:
    """Who made the keys of a run.

    Raises:
        RefusedError: Nobody who is known and may hold keys and open vouches for them.
    """
    did, payload = read_statement(statement, _keys_place(public, step), credentials)
    if payload != _keys_digest(public, box, step):
        raise RefusedError(
            Refusal.KEY,
            f"{did} vouches for other keys of run {step.run}, or made them for other terms than "
            f"{step.terms}",
        )
    check_may_open(did, credentials)
    return did


def check_may_open(did: str, credentials: Credentials) -> None:
    """Make sure that a node may hold keys and open sums.

    Raises:
        RefusedError: It may not.
    """
    for permission in ("hold_keys", "open"):
        credentials.permit(did, permission)


def vouch_for_contribution(header: Header, body: bytes, credentials: Credentials) -> bytes:
    """Say what this node contributes to a sum.

    Args:
        header: Of its payload.
        body: The protected vector.
        credentials: Its own.
    """
    payload = encode(_contribution(header, hashlib.sha256(body).digest()))
    return state(payload, _contribution_place(header), credentials)


def check_contribution(
    header: Header, statement: bytes, credentials: Credentials, did: str = "", body: bytes = b""
) -> str:
    """Who contributes to a sum.

    Args:
        header: What each contribution to it must have, but for the digest.
        statement: From :func:`vouch_for_contribution`.
        credentials: Of whoever checks.
        did: Who it must be; empty for anybody who is known.
        body: What must have been contributed; empty where that is not at hand.

    Returns:
        The contributor's identifier.

    Raises:
        RefusedError: It is of another sum, other bytes, or of a node that may not train.
    """
    if len(statement) > _MOST_STATEMENT:
        raise RefusedError(
            Refusal.DAMAGED,
            f"a statement has {len(statement)} bytes; at most {_MOST_STATEMENT} are read",
        )
    sender, payload = read_statement(statement, _contribution_place(header), credentials, did)
    value = decode(payload, "a contribution", _MOST_STATEMENT)
    digest = value.get("digest") if isinstance(value, dict) else None
    if not isinstance(digest, bytes) or value != _contribution(header, digest):
        raise RefusedError(Refusal.STEP, f"{sender} contributed to another sum than {header.place}")
    if body and digest != hashlib.sha256(body).digest():
        raise RefusedError(Refusal.DAMAGED, f"{sender} vouches for other bytes than were sent")
    credentials.permit(sender, "train")
    return sender


def check_contributions(
    header: Header, statements: Sequence[bytes], least: int, credentials: Credentials
) -> list[str]:
    """Who contributed to a sum that is to be opened.

    Args:
        header: The sum's.
        statements: One for each contribution.
        least: Fewest contributors.
        credentials: Of who opens.

    Raises:
        RefusedError: They are fewer than the sum claims or ``least``, not of this sum, of nodes
            that may not train, or two of one node.
    """
    if len(statements) != header.contributions or len(statements) < least:
        raise RefusedError(
            Refusal.NOT_SIGNED,
            f"{len(statements)} signed contributions came with a sum of {header.contributions}; "
            f"each must be signed by its contributor, and at least {least} are needed",
        )
    dids = [check_contribution(header, one, credentials) for one in statements]
    if len({credentials.registry.first_of(did) for did in dids}) != len(dids):
        raise RefusedError(
            Refusal.REPLAYED, f"somebody contributed twice to the sum for {header.place}"
        )
    return dids


def statements_to_bytes(statements: Sequence[bytes]) -> bytes:
    """Several statements as bytes."""
    return encode(list(statements))


def statements_from_bytes(data: bytes) -> list[bytes]:
    """The inverse of :func:`statements_to_bytes`.

    Raises:
        RefusedError: The bytes are damaged, or hold something else.
    """
    return decode_parts(data, "signed statements", MOST_MEMBERS, _MOST_STATEMENT)


def _contribution(header: Header, digest: bytes) -> Value:
    return {"length": header.length, "terms": header.terms, "digest": digest}


def _contribution_place(header: Header) -> Place:
    return Place(
        header.run,
        header.round,
        f"vouch contribution {header.step}",
        header.attempt,
        header.scheme,
        header.key_id,
    )


def _member_place(step: Step) -> Place:
    return Place(step.run, 0, "vouch member", scheme=step.scheme)


def _keys_place(public: bytes, step: Step) -> Place:
    key_id = hashlib.sha256(public).hexdigest()[:16]
    return Place(step.run, 0, "vouch keys", scheme=step.scheme, key_id=key_id)


def _keys_digest(public: bytes, box: bytes, step: Step) -> bytes:
    """Of the keys, and of the terms that they were made for."""
    parts = (public, box, step.terms.encode())
    return b"".join(hashlib.sha256(part).digest() for part in parts)
