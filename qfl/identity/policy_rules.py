"""What any policy must keep to: its names, its members, and what may be granted to whom."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from qfl.errors import unknown_name
from qfl.identity.description import ROLES, check_did
from qfl.identity.refusal import Refusal, RefusedError

PERMISSIONS = ("train", "hold_keys", "open", "release", "serve", "submit")
"""What a member may do. ``train``: contribute updates and numbers; ``hold_keys``: make the keys of
a run, or be of its committee; ``open``: open sums; ``release``: learn what is opened; ``serve``:
coordinate runs; ``submit``: submit, stop and resume runs, pardon and expel."""
DEFAULT_PERMISSIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "train": ("role:client",),
        "hold_keys": ("role:key_holder",),
        "open": ("role:key_holder",),
        "release": ("role:server",),
        "serve": ("role:server",),
        "submit": ("role:operator",),
    }
)
NEVER_THE_SERVERS = ("hold_keys", "open")
"""What is granted to no server: it must not open what it sums."""
MOST_MEMBERS = 20_000
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)
_MOST_LISTED = 50


def check_name(name: str, what: str = "member") -> None:
    """Make sure that a name is one: 1 to 64 of a-z, 0-9, ``.``, ``_`` and ``-``.

    It can be a file's name, and no two differ by upper and lower case alone.

    Raises:
        RefusedError: It is not.
    """
    if not _NAME.fullmatch(name):
        raise RefusedError(
            Refusal.DAMAGED,
            f"'{shown(name)}' is no name of a {what}; expected 1 to 64 of a-z, 0-9, '.', '_' and "
            "'-', the first a letter or digit",
        )


@dataclass(frozen=True, order=True)
class Enrolled:
    """One member.

    Attributes:
        name: What people call it; see :func:`check_name`.
        did: Its first identifier, which rotations lead back to.
        roles: Some of :data:`qfl.identity.description.ROLES`, in order.

    Raises:
        RefusedError: A field cannot be so, or the roles are of two that must not be one.
    """

    name: str
    did: str
    roles: tuple[str, ...]

    def __post_init__(self) -> None:
        check_name(self.name)
        check_did(self.did)
        for role in self.roles:
            if role not in ROLES:
                raise RefusedError(
                    Refusal.ROLE,
                    f"member {self.name}: " + unknown_name("role", shown(role), ROLES),
                )
        if list(self.roles) != sorted(set(self.roles)) or not self.roles:
            raise RefusedError(
                Refusal.ROLE,
                f"member {self.name}: roles {list(self.roles)} must be at least one, in order, "
                "each once",
            )
        if {"server", "key_holder"} <= set(self.roles):
            raise RefusedError(
                Refusal.ROLE,
                f"member {self.name} cannot be both server and key_holder: the server must not "
                "open what it sums",
            )


def granted(
    permissions: Mapping[str, Collection[str]], permission: str, name: str, roles: Iterable[str]
) -> bool:
    """Whether a permission is granted to a name, or to one of some roles.

    Example:
        >>> granted(DEFAULT_PERMISSIONS, "open", "clinic-1", ["client"])
        False
    """
    grantees = permissions.get(permission, ())
    return name in grantees or any(f"role:{role}" in grantees for role in roles)


def check_rules(
    federation: str, members: tuple[Enrolled, ...], permissions: Mapping[str, tuple[str, ...]]
) -> None:
    """Make sure that a policy may say this.

    Args:
        federation: Its name.
        members: In order of their names.
        permissions: Grantees of each permission, in order.

    Raises:
        RefusedError: Members or grantees are not in order, twice, unknown or too many, or a server
            could open sums.
    """
    check_name(federation, "federation")
    names = [one.name for one in members]
    if names != sorted(set(names)) or len(names) > MOST_MEMBERS:
        raise RefusedError(
            Refusal.DAMAGED,
            f"a policy of {len(names)} members must name each once, in order, and at most "
            f"{MOST_MEMBERS}",
        )
    seen: dict[str, str] = {}
    for one in members:
        if (other := seen.setdefault(one.did, one.name)) != one.name:
            raise RefusedError(
                Refusal.DAMAGED, f"members {other} and {one.name} have one identifier, {one.did}"
            )
    known = {f"role:{role}" for role in ROLES} | set(names)
    for permission, grantees in permissions.items():
        if permission not in PERMISSIONS:
            raise RefusedError(
                Refusal.PERMISSION, unknown_name("permission", shown(permission), PERMISSIONS)
            )
        if list(grantees) != sorted(set(grantees)):
            raise RefusedError(
                Refusal.DAMAGED,
                f"permission {permission} must name each grantee once, in order",
            )
        for strange in (one for one in grantees if one not in known):
            raise RefusedError(
                Refusal.PERMISSION, f"permission {permission}: " + _unknown_grantee(strange, names)
            )
    for permission in NEVER_THE_SERVERS:
        _check_not_the_server(permission, frozenset(permissions.get(permission, ())), members)


def _check_not_the_server(
    permission: str, grantees: frozenset[str], members: tuple[Enrolled, ...]
) -> None:
    why = "the server must not open what it sums"
    if "role:server" in grantees:
        raise RefusedError(
            Refusal.PERMISSION, f"permission {permission} cannot be granted to role:server: {why}"
        )
    for one in members:
        if "server" in one.roles and granted({"": grantees}, "", one.name, one.roles):
            raise RefusedError(
                Refusal.PERMISSION,
                f"permission {permission} cannot be granted to member {one.name}, by name or by "
                f"one of its roles {list(one.roles)}: {why}",
            )


def _unknown_grantee(given: str, names: list[str]) -> str:
    if given.startswith("role:"):
        return unknown_name("role", shown(given.removeprefix("role:")), ROLES)
    if len(names) > _MOST_LISTED:
        return f"'{shown(given)}' is none of the {len(names)} members; all in a role are role:NAME"
    return unknown_name("member", shown(given), names) + "; all in a role are role:NAME"


def shown(text: str) -> str:
    """The start of a text from anybody, fit for a message."""
    return ascii(text[:40])[1:-1]
