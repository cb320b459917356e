"""What a federation starts with: the operator's folder, and a kit for every member."""

from __future__ import annotations

import secrets
import time
from dataclasses import replace
from pathlib import Path

from qfl.federation.provision_commit import check_absent, create
from qfl.federation.provision_keys import AUTHORITY_DAYS, Authority
from qfl.federation.provision_kit import Files, make_kit, passing, placed
from qfl.federation.provision_office import OFFICE, Office, State, authority_files
from qfl.federation.provision_plan import Plan
from qfl.identity.identity import Identity
from qfl.identity.key_file import save_identity
from qfl.identity.policy import Enrolled, sign_policy
from qfl.identity.revocation import revoke

_UNLOCK_BYTES = 32
_COST = 15


def provision(
    plan: Plan,
    kits: Path,
    *,
    passphrase: str | None = None,
    encrypt: str | None = None,
    now: float | None = None,
) -> Office:
    """Make keys, certificates and what the operator signs, into a new folder.

    Args:
        plan: The federation.
        kits: A folder that is not there yet, or empty; it appears whole or not at all.
        passphrase: Encrypts the operator's keys; unset, a file beside them does, so that whoever
            reads the folder has them.
        encrypt: Passphrase under which each kit is sealed in one file; unset, kits are folders.
        now: Seconds since 1970 in UTC; unset, the clock's.

    Returns:
        What the operator works with.

    Raises:
        StorageError: Something is there already, or it cannot be written.
        PayloadError: A passphrase is too short.
    """
    check_absent(kits)
    now = time.time() if now is None else now
    operator = Identity.create(["operator"], days=AUTHORITY_DAYS, now=now)
    identities = {
        name: Identity.create(roles, days=plan.days, now=now)
        for name, roles in plan.members.items()
    }
    enrolled = [Enrolled(name, one.did, plan.members[name]) for name, one in identities.items()]
    own = Enrolled(OFFICE, operator.did, ("operator",))
    policy = sign_policy(operator, plan.federation, [own, *enrolled], plan.permissions, now=now)
    revocations = revoke(operator, None, days=plan.days, now=now)
    state = State(
        federation=plan.federation,
        server=str(plan.server),
        days=plan.days,
        floor=plan.floor,
        policy=policy.sequence,
        revocations=revocations.sequence,
    )
    authority = Authority.create(plan.federation, now)
    office = Office(operator, authority, state, policy, revocations)
    files = _operators(office, passphrase)
    members = {}
    for name, one in identities.items():
        kit, members[name] = make_kit(office, name, one, (one.description,), now)
        files |= placed(name, kit, encrypt)
    office = replace(office, state=replace(state, members=members))
    create(kits, {**files, **office.files()})
    return office


def _operators(office: Office, passphrase: str | None) -> Files:
    """The keys in the operator's folder, which no change changes."""
    files = authority_files(office.authority, passphrase)
    unlock = {} if passphrase is not None else {"unlock.key": secrets.token_bytes(_UNLOCK_BYTES)}
    with passing(unlock) as folder:
        key = folder / "identity.key"
        save_identity(
            key,
            office.operator,
            passphrase=passphrase,
            key_file=folder / "unlock.key" if unlock else None,
            cost=_COST if unlock else 17,
        )
        files[f"{OFFICE}/identity.key"] = key.read_bytes()
    return files | {f"{OFFICE}/{name}": data for name, data in unlock.items()}
