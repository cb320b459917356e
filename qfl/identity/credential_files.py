"""A node's credentials in a folder.

| file | what |
|---|---|
| ``identity.key`` | its keys, encrypted |
| ``unlock.key`` | 32 random bytes that decrypt them; missing where a passphrase does |
| ``chain.cbor`` | its descriptions, from the pinned one to the present one |
| ``operator.cbor`` | the operator's, whose first identifier is pinned |
| ``policy.cbor``, ``revocations.cbor`` | what the operator signed |
| ``floor.json`` | the weakest terms on which it takes part |
"""

from __future__ import annotations

import json
import secrets
import time
from pathlib import Path

from qfl.errors import StorageError
from qfl.identity.credentials import Credentials, chain_from_bytes, chain_to_bytes
from qfl.identity.floor import Floor
from qfl.identity.key_file import load_identity, save_identity
from qfl.identity.policy import Policy
from qfl.identity.private_file import write_private
from qfl.identity.registry import Registry
from qfl.identity.revocation import RevocationList

_UNLOCK_BYTES = 32
_COST = 15


def save_credentials(
    folder: Path, credentials: Credentials, *, passphrase: str | None = None
) -> None:
    """Write a node's credentials into a new folder that nobody else may read.

    Args:
        folder: Made with all that leads to it.
        credentials: Whose registry has an operator.
        passphrase: Encrypts the keys; unset, a file of random bytes beside them does, so that
            whoever reads the folder has them.

    Raises:
        StorageError: It cannot be written, or something is there already.
    """
    registry = credentials.registry
    if registry.operator == "":
        raise StorageError(
            "credentials without an operator cannot be saved: nobody could add or revoke a member"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StorageError(f"cannot write to {folder}: {error.strerror or error}") from None
    unlock = None
    if passphrase is None:
        unlock = folder / "unlock.key"
        write_private(unlock, secrets.token_bytes(_UNLOCK_BYTES), replace=False)
    save_identity(
        folder / "identity.key",
        credentials.identity,
        passphrase=passphrase,
        key_file=unlock,
        cost=_COST if unlock else 17,
    )
    files = {
        "chain.cbor": chain_to_bytes(credentials.chain),
        "operator.cbor": chain_to_bytes(registry.chain_of(registry.operator)),
        "floor.json": json.dumps(credentials.floor.to_dict(), indent=2).encode() + b"\n",
    }
    if registry.policy is not None:
        files["policy.cbor"] = registry.policy.to_bytes()
    if registry.revocations is not None:
        files["revocations.cbor"] = registry.revocations.to_bytes()
    for name, data in files.items():
        write_private(folder / name, data, replace=False)


def load_credentials(folder: Path, *, passphrase: str | None = None) -> Credentials:
    """Read what :func:`save_credentials` wrote.

    Raises:
        StorageError: A file is missing or cannot be read.
        RefusedError: A file is damaged, not the operator's, or no longer valid.
        ConfigError: The floor is none.
    """
    unlock = None if passphrase is not None else folder / "unlock.key"
    identity = load_identity(folder / "identity.key", passphrase=passphrase, key_file=unlock)
    chain = chain_from_bytes(_read(folder / "chain.cbor"))
    operator = chain_from_bytes(_read(folder / "operator.cbor"))
    registry = Registry({operator[0].did: ["operator"]}, operator[0].did)
    registry.admit(operator)
    now = time.time()
    if (folder / "revocations.cbor").exists():
        registry.update(RevocationList.from_bytes(_read(folder / "revocations.cbor")), now)
    if (folder / "policy.cbor").exists():
        registry.enrol(Policy.from_bytes(_read(folder / "policy.cbor")), now)
    registry.admit(chain)
    try:
        floor = Floor.from_dict(json.loads(_read(folder / "floor.json")))
    except ValueError as error:
        raise StorageError(f"{folder / 'floor.json'} is no JSON: {error}") from None
    return Credentials(identity, chain, registry, floor)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from None
