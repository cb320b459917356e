"""A kit: all that one participant starts with, as a folder or sealed in one file.

| file | whose | what |
|---|---|---|
| see :mod:`qfl.identity.credential_files` | all | who it is, whom it knows, what it insists on |
| ``tls/ca.crt`` | all | whom to trust for the server's certificate |
| ``tls/server.crt``, ``tls/server.key`` | server | its certificate and key |
| ``node.key``, ``node.pub`` | others | key for Flower's node authentication |
| ``kit.json`` | all | whose kit it is, and where the server listens |
| ``manifest.cbor`` | all | digests of all of these, signed by the operator |
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from qfl.errors import ConfigError, StorageError
from qfl.federation.provision_commit import create, write_tree
from qfl.federation.provision_keys import certificate_pem, node_key
from qfl.federation.provision_office import Member, Office
from qfl.federation.provision_plan import Address
from qfl.identity.credential_files import save_credentials
from qfl.identity.credentials import Chain, Credentials, chain_from_bytes
from qfl.identity.floor import Floor
from qfl.identity.identity import Identity
from qfl.identity.key_file import load_identity
from qfl.identity.kit_manifest import KitManifest, sign_manifest
from qfl.identity.policy_rules import shown
from qfl.identity.private_file import read_private
from qfl.identity.refusal import Refusal, RefusedError
from qfl.identity.sealed_folder import MOST_BYTES, open_folder, seal_folder

FORMAT = 1
MANIFEST = "manifest.cbor"
LABEL = "kit.json"
_CREDENTIALS = ("identity.key", "unlock.key", "chain.cbor", "operator.cbor", "floor.json")
_NEWEST = ("policy.cbor", "revocations.cbor")
_TLS = ("tls/ca.crt", "tls/server.crt", "tls/server.key")
PATHS = frozenset({*_CREDENTIALS, *_NEWEST, *_TLS, "node.key", "node.pub", LABEL, MANIFEST})
_LABEL_KEYS = {"format", "federation", "name", "roles", "server", "did", "made"}
_MOST_FILES = 64
# Where there is one, keys that are only passing through touch no disk.
_MEMORY = Path("/dev/shm")  # noqa: S108
Files = dict[str, bytes]


def make_kit(
    office: Office, name: str, identity: Identity, chain: Chain, now: float
) -> tuple[Files, Member]:
    """A kit, and what the operator remembers of it.

    Args:
        office: The operator's, whose policy names the member.
        name: The member's.
        identity: Its present identity.
        chain: Its descriptions, from the first to the present one.
        now: Seconds since 1970 in UTC.
    """
    state, address = office.state, Address.of(office.state.server)
    registry = office.registry(now)
    registry.admit(chain)
    roles = office.policy.by_did[chain[0].did].roles
    floor = Floor() if "server" in roles else state.floor
    with passing({}) as folder:
        save_credentials(folder, Credentials(identity, chain, registry, floor))
        files = read_kit(folder)
    files["tls/ca.crt"] = certificate_pem(office.authority.certificate)
    serials: tuple[str, ...] = ()
    if "server" in roles:
        made = office.authority.certify(name, address.host, state.days, now)
        files["tls/server.crt"], files["tls/server.key"], serials = made[0], made[1], (made[2],)
    if set(roles) - {"server"}:
        files["node.key"], files["node.pub"] = node_key()
    label = {
        "format": FORMAT,
        "federation": state.federation,
        "name": name,
        "roles": list(roles),
        "server": state.server,
        "did": identity.did,
        "made": f"{datetime.fromtimestamp(now, UTC):%Y-%m-%dT%H:%M:%SZ}",
    }
    files[LABEL] = json.dumps(label, indent=2).encode() + b"\n"
    member = Member(
        roles=roles,
        dids=tuple(one.did for one in chain),
        node_key=files.get("node.pub", b"").decode().strip(),
        certificates=serials,
        made=int(now),
    )
    return signed(office, name, files, now), member


def signed(office: Office, name: str, files: Mapping[str, bytes], now: float) -> Files:
    """A kit with a new manifest."""
    rest = {path: data for path, data in files.items() if path != MANIFEST}
    manifest = sign_manifest(office.operator, office.state.federation, name, rest, now=now)
    return {**rest, MANIFEST: manifest.to_bytes()}


def with_newest(office: Office, name: str, files: Mapping[str, bytes], now: float) -> Files:
    """A kit with the operator's newest policy and revocations."""
    newest = {
        "policy.cbor": office.policy.to_bytes(),
        "revocations.cbor": office.revocations.to_bytes(),
    }
    return signed(office, name, {**files, **newest}, now)


def read_kit(folder: Path) -> Files:
    """All files of a folder, by path in it.

    Raises:
        StorageError: It is no folder, holds links or far too much, or cannot be read.
        RefusedError: Others may read a file in it.
    """
    if not folder.is_dir():
        raise StorageError(f"{folder} is no folder: give the folder of a kit")
    found: Files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            continue
        if path.is_symlink() or len(found) == _MOST_FILES:
            raise StorageError(f"{folder} is no kit: {path} is a link, or one file too many")
        found[path.relative_to(folder).as_posix()] = read_private(path, MOST_BYTES)
    return found


def label_of(files: Mapping[str, bytes]) -> dict[str, Any]:
    """What ``kit.json`` says.

    Raises:
        RefusedError: It is missing, damaged, or of another format.
    """
    try:
        found = json.loads(files.get(LABEL, b""))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or "format" not in found:
        raise RefusedError(Refusal.DAMAGED, f"{LABEL} is missing or damaged")
    if found["format"] != FORMAT:
        raise RefusedError(
            Refusal.VERSION,
            f"{LABEL} has format {shown(str(found['format']))}; this qfl reads format {FORMAT}",
        )
    texts = [value for key, value in found.items() if key not in ("format", "roles")]
    roles = found.get("roles")
    listed = isinstance(roles, list) and all(isinstance(role, str) for role in roles)
    if found.keys() != _LABEL_KEYS or not listed or not all(isinstance(one, str) for one in texts):
        raise RefusedError(Refusal.DAMAGED, f"{LABEL} is damaged: it has other fields than it must")
    return found


def verified(office: Office, name: str, files: Mapping[str, bytes], where: Path) -> Files:
    """Make sure that a kit is as the operator made it.

    Raises:
        RefusedError: It is not.
    """
    manifest = KitManifest.from_bytes(files.get(MANIFEST, b""))
    manifest.verify(office.operator.description)
    wrong = manifest.differences({path: one for path, one in files.items() if path != MANIFEST})
    if (manifest.federation, manifest.name) != (office.state.federation, name):
        wrong.append(f"it is the kit of {manifest.name} in {manifest.federation}")
    if wrong:
        raise RefusedError(
            Refusal.DAMAGED,
            f"{where} is not as it was made: {'; '.join(wrong)}. Bring back a copy, or revoke "
            f"{name} and add another member",
        )
    return dict(files)


def sealed_at(kits: Path, name: str) -> Path:
    """Where a kit lies that is sealed in a file."""
    return kits / f"{name}.kit"


def find_kit(office: Office, kits: Path, name: str, encrypt: str | None) -> tuple[Files, bool]:
    """A member's kit among the kits, verified, and whether it is sealed.

    Args:
        office: The operator's.
        kits: Where.
        name: The member's.
        encrypt: The passphrase of sealed kits.

    Raises:
        ConfigError: It is sealed, and no passphrase was given.
        StorageError: It is not there, or there twice.
        RefusedError: It is not as the operator made it, or the passphrase is wrong.
    """
    folder, file = kits / name, sealed_at(kits, name)
    if folder.exists() == file.exists():
        both = "are both there: move one away" if folder.exists() else "are both missing"
        raise StorageError(
            f"{folder} and {file} {both}; {name}'s kit has to be there, since it is changed"
        )
    if folder.exists():
        return verified(office, name, read_kit(folder), folder), False
    if encrypt is None:
        raise ConfigError(f"{file} is sealed: give its passphrase with --encrypt FILE")
    files = open_folder(read_private(file, MOST_BYTES), encrypt, str(file))
    return verified(office, name, files, file), True


def placed(name: str, files: Files, encrypt: str | None) -> Files:
    """A kit's bytes by path among the kits: a folder, or one file sealed under a passphrase."""
    if encrypt is not None:
        return {sealed_at(Path(), name).as_posix(): seal_folder(files, encrypt)}
    return {f"{name}/{path}": data for path, data in files.items()}


def unpack(file: Path, folder: Path, passphrase: str) -> Files:
    """Open a sealed kit into a new folder.

    Raises:
        RefusedError: The passphrase is wrong, or it holds no kit.
        StorageError: The file cannot be read, or something is in the folder's place.
    """
    files = open_folder(read_private(file, MOST_BYTES), passphrase, str(file))
    if not files.keys() <= PATHS or MANIFEST not in files:
        raise RefusedError(Refusal.DAMAGED, f"{file} holds something else than a kit")
    create(folder, files)
    return files


def identity_in(files: Mapping[str, bytes]) -> tuple[Identity, Chain]:
    """Who a kit is of, with the secret keys.

    Raises:
        RefusedError: They are damaged.
    """
    with passing({path: files[path] for path in ("identity.key", "unlock.key")}) as folder:
        identity = load_identity(folder / "identity.key", key_file=folder / "unlock.key")
    return identity, chain_from_bytes(files["chain.cbor"])


def served(office: Office, kits: Path, encrypt: str | None, now: float) -> Files:
    """The server's kit with the newest policy and revocations, by path among the kits."""
    changed: Files = {}
    for name in office.state.servers:
        files, sealed = find_kit(office, kits, name, encrypt)
        fresh = with_newest(office, name, files, now)
        if sealed:
            changed |= placed(name, fresh, encrypt)
        else:
            changed |= placed(name, {path: fresh[path] for path in (*_NEWEST, MANIFEST)}, None)
    return changed


@contextlib.contextmanager
def passing(files: Mapping[str, bytes]) -> Iterator[Path]:
    """A folder that is gone afterwards, with files in it."""
    where = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    with contextlib.ExitStack() as stack:
        try:
            made = tempfile.TemporaryDirectory(prefix="qfl-", dir=where)
            folder = Path(stack.enter_context(made))
            write_tree(folder, files)
        except OSError as error:
            raise StorageError(
                f"cannot write to {where or tempfile.gettempdir()}: {error.strerror or error}"
            ) from None
        yield folder
