"""Members that come, go, or get new keys; the kits of all others stay as they are.

What changes for others is what the operator signs, and the server brings it to them: so a change
writes the operator's folder and the server's kit, and nobody else's but the member's own. Each one
renews the revocation list, which is good for as many days as all that is made.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from qfl.errors import ConfigError, unknown_name
from qfl.federation.provision_commit import check_absent, commit, locked
from qfl.federation.provision_kit import (
    Files,
    find_kit,
    identity_in,
    make_kit,
    placed,
    sealed_at,
    served,
)
from qfl.federation.provision_office import OFFICE, Office, check_office, load_office
from qfl.federation.provision_plan import check_members
from qfl.identity.identity import Identity
from qfl.identity.policy import Enrolled, sign_policy
from qfl.identity.revocation import REASONS, Revoked, revoke
from qfl.identity.rotation import rotate


@dataclass(frozen=True)
class Changed:
    """What a change did.

    Attributes:
        office: What the operator works with from now on.
        written: Paths among the kits that are new or other than before.
        dropped: Permissions that were granted to a revoked member by name, and are gone.
    """

    office: Office
    written: tuple[str, ...]
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False)
class Keys:
    """What opens the folders.

    Attributes:
        passphrase: Of the operator's folder, where it has one.
        encrypt: Of sealed kits; with it a new kit is sealed too.
    """

    passphrase: str | None = None
    encrypt: str | None = None


def add_member(
    kits: Path, name: str, roles: Iterable[str], keys: Keys = Keys(), *, now: float | None = None
) -> Changed:
    """Enrol another member, and make its kit.

    Args:
        kits: From :func:`qfl.federation.provision.provision`.
        name: Its name.
        roles: Its roles; ``server`` only where the last server was revoked.
        keys: What opens the folders.
        now: Seconds since 1970 in UTC; unset, the clock's.

    Raises:
        ConfigError: There is such a member, or none can be so.
        StorageError: A folder cannot be used, or something is where the kit belongs.
        RefusedError: A passphrase is wrong, or the server's kit was altered.
    """
    now = time.time() if now is None else now
    ordered = tuple(sorted(set(roles)))
    with _opened(kits, keys) as office:
        state = office.state
        if name in state.members:
            raise ConfigError(f"member {name} is there already; qfl provision rotate renews it")
        every = {one: member.roles for one, member in state.members.items()}
        check_members(state.federation, {**every, name: ordered}, office.policy.permissions)
        if "server" in ordered and state.servers:
            raise ConfigError(
                f"{state.servers[0]} is the server, and a federation has one: revoke it first"
            )
        for path in (kits / name, sealed_at(kits, name)):
            check_absent(path)
        identity = Identity.create(ordered, days=state.days, now=now)
        enrolled = [*office.policy.members, Enrolled(name, identity.did, ordered)]
        # The server that is, not the one that comes, is brought up to date.
        office = _signed(office, now, enrolled)
        updated = served(office, kits, keys.encrypt, now)
        kit, member = make_kit(office, name, identity, (identity.description,), now)
        state = replace(office.state, members={**office.state.members, name: member})
        return _commit(
            kits, replace(office, state=state), updated | placed(name, kit, keys.encrypt)
        )


def revoke_member(
    kits: Path, name: str, reason: str, keys: Keys = Keys(), *, now: float | None = None
) -> Changed:
    """Leave a member out of the policy, and revoke all its identifiers.

    Args:
        kits: From :func:`qfl.federation.provision.provision`.
        name: Whom; its kit is left where it is.
        reason: One of :data:`qfl.identity.revocation.REASONS`.
        keys: What opens the folders.
        now: Seconds since 1970 in UTC; unset, the clock's.

    Raises:
        ConfigError: There is no such member or reason.
        StorageError: A folder cannot be used.
        RefusedError: A passphrase is wrong, or the server's kit was altered.
    """
    if reason not in REASONS:
        raise ConfigError(unknown_name("reason", reason, REASONS))
    now = time.time() if now is None else now
    with _opened(kits, keys) as office:
        member = office.state.members[_known(office, name)]
        entries = [Revoked(did, int(now), reason) for did in member.dids]
        left = [one for one in office.policy.members if one.name != name]
        before = office.policy.permissions
        permissions = {one: tuple(t for t in to if t != name) for one, to in before.items()}
        dropped = tuple(one for one, to in permissions.items() if to != before[one])
        office = _signed(office, now, left, permissions, entries)
        former = {
            "name": name,
            "roles": list(member.roles),
            "dids": list(member.dids),
            "reason": reason,
            "since": int(now),
        }
        members = {one: kept for one, kept in office.state.members.items() if one != name}
        state = replace(office.state, members=members, revoked=(*office.state.revoked, former))
        office = replace(office, state=state)
        return _commit(kits, office, served(office, kits, keys.encrypt, now), dropped)


def rotate_member(
    kits: Path, name: str, keys: Keys = Keys(), *, now: float | None = None
) -> Changed:
    """Give a member new keys, which its old ones vouch for, and a new key for TLS or its node.

    Args:
        kits: From :func:`qfl.federation.provision.provision`; the member's kit has to be there.
        name: Whose.
        keys: What opens the folders.
        now: Seconds since 1970 in UTC; unset, the clock's.

    Raises:
        ConfigError: There is no such member.
        StorageError: A folder cannot be used, or the kit is not there.
        RefusedError: A passphrase is wrong, a kit was altered, or the old keys have run out.
    """
    now = time.time() if now is None else now
    with _opened(kits, keys) as office:
        known = office.state.members[_known(office, name)]
        files, sealed = find_kit(office, kits, name, keys.encrypt)
        identity, chain = identity_in(files)
        fresh = rotate(identity, days=office.state.days, now=now)
        office = _signed(office, now)
        updated = {} if "server" in known.roles else served(office, kits, keys.encrypt, now)
        kit, member = make_kit(office, name, fresh, (*chain, fresh.description), now)
        serials = (*known.certificates, *member.certificates)
        members = {**office.state.members, name: replace(member, certificates=serials)}
        office = replace(office, state=replace(office.state, members=members))
        own = placed(name, kit, keys.encrypt if sealed else None)
        return _commit(kits, office, updated | own)


@contextlib.contextmanager
def _opened(kits: Path, keys: Keys) -> Iterator[Office]:
    check_office(kits)
    with locked(kits):
        yield load_office(kits, keys.passphrase)


def _known(office: Office, name: str) -> str:
    if name == OFFICE:
        raise ConfigError(
            "the operator's own keys are neither revoked nor rotated: provision the federation anew"
        )
    if name not in office.state.members:
        former = [one["reason"] for one in office.state.revoked if one["name"] == name]
        said = f"; it was revoked ({former[-1]})" if former else ""
        raise ConfigError(unknown_name("member", name, office.state.members) + said)
    return name


def _signed(
    office: Office,
    now: float,
    members: Iterable[Enrolled] | None = None,
    permissions: dict[str, tuple[str, ...]] | None = None,
    entries: Iterable[Revoked] = (),
) -> Office:
    """The office with the next list; and the next policy, where members are given."""
    policy, state = office.policy, office.state
    if members is not None:
        granted = policy.permissions if permissions is None else permissions
        policy = sign_policy(
            office.operator, state.federation, members, granted, before=policy, now=now
        )
    fresh = revoke(office.operator, office.revocations, entries, days=state.days, now=now)
    state = replace(state, policy=policy.sequence, revocations=fresh.sequence)
    return replace(office, policy=policy, revocations=fresh, state=state)


def _commit(kits: Path, office: Office, changes: Files, dropped: tuple[str, ...] = ()) -> Changed:
    commit(kits, {**changes, **office.files()})
    return Changed(office, tuple(sorted(changes)), dropped)
