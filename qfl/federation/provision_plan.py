"""What a federation shall be, as its operator writes it: YAML or JSON.

```yaml
federation: clinics
server: fl.example.org:9092
members:
  hub: [server]
  clinic-1: [client]
```
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass

from qfl.errors import ConfigError, RefusedError, unknown_name
from qfl.identity.description import did_of
from qfl.identity.floor import Floor
from qfl.identity.policy_rules import DEFAULT_PERMISSIONS, Enrolled, check_rules, shown
from qfl.identity.written import map_in, read_written, text_in, texts_in

OPERATOR = "operator"
ROLES = ("client", "key_holder", "server")
DAYS = 365
MOST_DAYS = 825
"""The longest validity of a server's certificate that TLS clients commonly take."""
_WHAT = "the federation file"
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)


@dataclass(frozen=True)
class Address:
    """Where the server listens.

    Attributes:
        host: A host name in lower case, or an IP address.
        port: 1 to 65535.
    """

    host: str
    port: int

    @staticmethod
    def of(text: str) -> Address:
        """Read ``host:port``; an IPv6 address stands in brackets.

        Raises:
            ConfigError: It is none, or no address at which others reach a server.

        Example:
            >>> Address.of("FL.example.org:9092"), str(Address.of("[::1]:9092"))
            (Address(host='fl.example.org', port=9092), '[::1]:9092')
        """
        wrong = f"server '{shown(text)}' is no address; expected host:port, as fl.example.org:9092"
        host, colon, port = text.rpartition(":")
        if not colon or not re.fullmatch("[0-9]{1,5}", port, re.ASCII):
            raise ConfigError(wrong)
        if not 1 <= int(port) <= 65535:
            raise ConfigError(f"server: port {int(port)} must be from 1 to 65535")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ConfigError(f"{wrong}; an IPv6 address stands in brackets, as [::1]:9092")
        try:
            number = ipaddress.ip_address(host)
        except ValueError:
            labels = host.lower().split(".")
            named = all(map(_LABEL.fullmatch, labels)) and len(host) <= 253
            # Browsers and resolvers take a name that ends in a number for an IP address.
            if not named or labels[-1].isdigit():
                raise ConfigError(wrong) from None
            return Address(host.lower(), int(port))
        if number.is_unspecified or number.is_multicast or getattr(number, "scope_id", None):
            raise ConfigError(
                f"server: nobody reaches a server at {number}; give the address that clients use"
            )
        return Address(str(number), int(port))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True)
class Plan:
    """A federation to be.

    Attributes:
        federation: Its name.
        server: Where its server listens.
        members: Roles by name, in order.
        permissions: To whom each permission is granted.
        floor: The weakest terms on which clients and key holders take part.
        days: How long identities, the server's certificate and revocation lists are good.
    """

    federation: str
    server: Address
    members: Mapping[str, tuple[str, ...]]
    permissions: Mapping[str, tuple[str, ...]]
    floor: Floor
    days: int


def read_plan(text: str) -> Plan:
    """What an operator wrote.

    Args:
        text: A map of ``federation``, ``server`` and ``members`` (lists of roles by name); and if
            wanted ``permissions``, ``floor`` and ``days``.

    Raises:
        ConfigError: It cannot be read, a key is twice, missing or unknown, something is of a
            wrong type, or no federation can be so.

    Example:
        >>> plan = read_plan(
        ...     "{federation: clinics, server: '10.0.0.7:9092', members: {hub: [server]}}"
        ... )
        >>> plan.server.host, plan.members, plan.days
        ('10.0.0.7', {'hub': ('server',)}, 365)
    """
    data = read_written(text, _WHAT)
    needed = ("federation", "server", "members")
    top = map_in(data, _WHAT, needed, ("permissions", "floor", "days"))
    members = {
        name: texts_in(roles, f"roles of member '{shown(name)}'")
        for name, roles in sorted(map_in(top["members"], "members").items())
    }
    permissions = (
        {
            name: texts_in(to, f"permission '{shown(name)}'")
            for name, to in map_in(top["permissions"], "permissions").items()
        }
        if "permissions" in top
        else dict(DEFAULT_PERMISSIONS)
    )
    federation = text_in(top["federation"], "federation")
    check_members(federation, members, permissions)
    servers = [name for name, roles in members.items() if "server" in roles]
    if len(servers) != 1:
        raise ConfigError(
            f"members: a federation has one server, not {len(servers)}"
            + (f" ({', '.join(servers)})" if servers else "; give one member role server")
        )
    return Plan(
        federation=federation,
        server=Address.of(text_in(top["server"], "server")),
        members=members,
        permissions=permissions,
        floor=_floor(top.get("floor", {})),
        days=_days(top.get("days", str(DAYS))),
    )


def check_members(
    federation: str,
    members: Mapping[str, tuple[str, ...]],
    permissions: Mapping[str, tuple[str, ...]],
) -> None:
    """Make sure that a policy may say this, before any keys are made.

    Raises:
        ConfigError: It may not.
    """
    for name, roles in members.items():
        if name == OPERATOR:
            raise ConfigError("members: 'operator' is who provisions, and is no member's name")
        for role in roles:
            if role not in ROLES:
                raise ConfigError(
                    f"member {shown(name)}: " + unknown_name("role", shown(role), ROLES)
                )
    every = {**members, OPERATOR: (OPERATOR,)}
    try:
        enrolled = [
            Enrolled(name, did_of("", name.encode()), roles) for name, roles in every.items()
        ]
        check_rules(federation, tuple(sorted(enrolled)), permissions)
    except RefusedError as error:
        raise ConfigError(f"the policy cannot be signed: {error}") from None


def _floor(given: object) -> Floor:
    values = dict(map_in(given, "floor"))
    for name, number in (("min_clients", int), ("clear", float)):
        text = values.get(name)
        if isinstance(text, str):
            try:
                values[name] = number(text)
            except ValueError:
                raise ConfigError(f"floor: {name} '{shown(text)}' must be a number") from None
    return Floor.from_dict(values)


def _days(given: object) -> int:
    text = text_in(given, "days")
    if not re.fullmatch("[0-9]{1,4}", text, re.ASCII) or not 1 <= int(text) <= MOST_DAYS:
        raise ConfigError(f"days '{shown(text)}' must be a whole number from 1 to {MOST_DAYS}")
    return int(text)
