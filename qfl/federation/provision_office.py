"""The operator's own folder: its identity, the authority, and who belongs to the federation.

| file | what |
|---|---|
| ``identity.key`` | the operator's keys, encrypted |
| ``unlock.key`` | decrypts them; missing where a passphrase does |
| ``ca.crt``, ``ca.key`` | the certificate authority; under a passphrase ``ca.key.sealed`` |
| ``federation.json`` | members, identifiers, sequence numbers, node keys, certificates |
| ``policy.cbor``, ``revocations.cbor`` | the newest of what the operator signed |
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from qfl.errors import ConfigError, RefusedError, StorageError
from qfl.federation.provision_keys import Authority, certificate_pem, private_pem
from qfl.identity.floor import Floor
from qfl.identity.identity import Identity
from qfl.identity.key_file import load_identity
from qfl.identity.policy import Policy
from qfl.identity.private_file import read_private
from qfl.identity.registry import Registry
from qfl.identity.revocation import RevocationList
from qfl.identity.sealed_folder import open_folder, seal_folder

FORMAT = 1
OFFICE = "operator"
_MOST_BYTES = 1 << 24
_CA_KEY, _SEALED = "ca.key", "ca.key.sealed"


@dataclass(frozen=True)
class Member:
    """One member, as the operator remembers it.

    Attributes:
        roles: In order.
        dids: Its identifiers, from the one in the policy to the present one.
        node_key: Public key for Flower's node authentication; empty for a mere server.
        certificates: Serial numbers of its TLS certificates, hexadecimal.
        made: When its kit was made, in seconds since 1970 in UTC.
    """

    roles: tuple[str, ...]
    dids: tuple[str, ...]
    node_key: str
    certificates: tuple[str, ...]
    made: int


@dataclass(frozen=True)
class State:
    """``federation.json``.

    Attributes:
        federation: Its name.
        server: Where its server listens, as ``host:port``.
        days: Validity of what is made.
        floor: Of clients and key holders.
        policy: Number of the newest policy.
        revocations: Number of the newest revocation list.
        members: By name.
        revoked: Former members, the last one last: name, roles, dids, reason and since.
    """

    federation: str
    server: str
    days: int
    floor: Floor
    policy: int
    revocations: int
    members: Mapping[str, Member] = field(default_factory=dict)
    revoked: tuple[Mapping[str, Any], ...] = ()

    def to_bytes(self) -> bytes:
        """As JSON for people to read."""
        data = {"format": FORMAT, **asdict(self), "floor": self.floor.to_dict()}
        return json.dumps(data, indent=2).encode() + b"\n"

    @staticmethod
    def from_bytes(data: bytes, path: Path) -> State:
        """The inverse of :meth:`to_bytes`.

        Raises:
            StorageError: It is damaged, or of another format.
        """
        try:
            read = json.loads(data)
            if (given := read.pop("format")) != FORMAT:
                raise StorageError(f"{path} has format {given!r}; this qfl reads format {FORMAT}")
            members = {
                name: Member(
                    roles=tuple(one["roles"]),
                    dids=tuple(one["dids"]),
                    node_key=one["node_key"],
                    certificates=tuple(one["certificates"]),
                    made=one["made"],
                )
                for name, one in read.pop("members").items()
            }
            floor, revoked = Floor.from_dict(read.pop("floor")), tuple(read.pop("revoked"))
            return State(members=members, floor=floor, revoked=revoked, **read)
        except (ValueError, KeyError, TypeError, AttributeError, ConfigError) as error:
            raise StorageError(
                f"{path} is damaged ({type(error).__name__}): bring back a copy of the operator's "
                "folder"
            ) from None

    @property
    def servers(self) -> list[str]:
        """Who is the server: one name, or none after it was revoked."""
        return [name for name, one in self.members.items() if "server" in one.roles]


@dataclass(frozen=True, repr=False)
class Office:
    """What an operator works with.

    Attributes:
        operator: Its identity.
        authority: Its certificate authority.
        state: What it remembers.
        policy: The newest.
        revocations: The newest.
    """

    operator: Identity
    authority: Authority
    state: State
    policy: Policy
    revocations: RevocationList

    def registry(self, now: float) -> Registry:
        """What a node knows of the others at first."""
        operator = self.operator
        registry = Registry({operator.did: ["operator"]}, operator.did)
        registry.admit([operator.description])
        registry.update(self.revocations, now)
        registry.enrol(self.policy, now)
        return registry

    def files(self) -> dict[str, bytes]:
        """What a change of the federation changes in the folder, by path among the kits."""
        made = {
            "federation.json": self.state.to_bytes(),
            "policy.cbor": self.policy.to_bytes(),
            "revocations.cbor": self.revocations.to_bytes(),
        }
        return {f"{OFFICE}/{name}": data for name, data in made.items()}


def authority_files(authority: Authority, passphrase: str | None) -> dict[str, bytes]:
    """The authority's, by path among the kits; its key sealed where there is a passphrase."""
    key = private_pem(authority.key)
    secret = {_CA_KEY: key}
    if passphrase is not None:
        secret = {_SEALED: seal_folder({_CA_KEY: key}, passphrase)}
    made = {"ca.crt": certificate_pem(authority.certificate), **secret}
    return {f"{OFFICE}/{name}": data for name, data in made.items()}


def check_office(kits: Path) -> None:
    """Make sure that a folder holds kits and the operator's folder.

    Raises:
        StorageError: It does not.
    """
    if not (kits / OFFICE / "federation.json").is_file():
        raise StorageError(
            f"{kits} has no {OFFICE}/federation.json: give the folder that qfl provision made"
        )


def load_office(kits: Path, passphrase: str | None = None) -> Office:
    """Read the operator's folder.

    Args:
        kits: The folder in which it lies.
        passphrase: Where it was made with one.

    Raises:
        StorageError: A file is missing, damaged, or does not fit the others.
        RefusedError: The passphrase is wrong, others may read a file, or one is damaged.
    """
    folder = kits / OFFICE
    if passphrase is None and not (folder / "unlock.key").exists():
        raise ConfigError(f"{folder} is under a passphrase: give --passphrase-file FILE")
    unlock = folder / "unlock.key" if passphrase is None else None
    operator = load_identity(folder / "identity.key", passphrase=passphrase, key_file=unlock)

    def read(name: str) -> bytes:
        return read_private(folder / name, _MOST_BYTES)

    if passphrase is None:
        key = read(_CA_KEY)
    else:
        key = open_folder(read(_SEALED), passphrase, str(folder / _SEALED)).get(_CA_KEY, b"")
    office = Office(
        operator=operator,
        authority=Authority.from_pem(key, read("ca.crt")),
        state=State.from_bytes(read("federation.json"), folder / "federation.json"),
        policy=Policy.from_bytes(read("policy.cbor")),
        revocations=RevocationList.from_bytes(read("revocations.cbor")),
    )
    _check_whole(office, folder)
    return office


def _check_whole(office: Office, folder: Path) -> None:
    state, policy = office.state, office.policy
    now = time.time()
    try:
        office.operator.description.check_valid(now)
        policy.verify(office.operator.description, now)
        # At its beginning: a list that ran out is renewed by the next change.
        office.revocations.verify(office.operator.description, office.revocations.issued)
    except RefusedError as error:
        raise StorageError(f"{folder} cannot be used: {error}") from None
    remembered = {name: one.dids[0] for name, one in state.members.items()}
    enrolled = {one.name: one.did for one in policy.members if one.name != OFFICE}
    numbers = (policy.sequence, office.revocations.sequence)
    if numbers != (state.policy, state.revocations) or enrolled != remembered:
        raise StorageError(
            f"{folder}: federation.json, policy.cbor and revocations.cbor are of different times; "
            "bring back a copy in which they are of one"
        )
