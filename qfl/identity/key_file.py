"""An identity on disk: encrypted under a passphrase or a key file.

The key is scrypt's (RFC 7914) of the passphrase, or of the key file's bytes, and 16 bytes of salt;
it encrypts by AES-256-GCM, with all that stands before as associated data. A key belongs to the
provider that made it, so the file names it.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from qfl.crypto.sealing import SEED_BYTES, SealingKey
from qfl.crypto.signatures import load_signing_key
from qfl.errors import ConfigError, CryptoError, MissingDependencyError, PayloadError
from qfl.identity.canonical import Fields, Value, decode, encode
from qfl.identity.description import Description, check_did
from qfl.identity.identity import Identity
from qfl.identity.private_file import read_private, write_private
from qfl.identity.refusal import Refusal, RefusedError
from qfl.identity.stretching import COSTS, passphrase_bytes, stretch

VERSION = 1
KIND = "identity key file"
LEAST_PASSPHRASE = 12
LEAST_KEY_FILE, MOST_KEY_FILE = 32, 4096
MOST_BYTES = 1 << 20
_SALT_BYTES, _NONCE_BYTES = 16, 12
_HEADER_KEYS = frozenset(
    {"kind", "version", "unlock", "cost", "salt", "nonce", "did", "algorithm", "provider"}
)
_SECRET_KEYS = frozenset({"signing", "sealing", "description"})


def save_identity(
    path: Path,
    identity: Identity,
    *,
    passphrase: str | None = None,
    key_file: Path | None = None,
    replace: bool = False,
    cost: int = 17,
) -> None:
    """Write an identity, encrypted, to a file of mode 0600; it is there whole or not at all.

    Args:
        path: Where; its folder must exist.
        identity: What.
        passphrase: At least 12 characters; or
        key_file: a file of 32 to 4,096 random bytes that nobody but its owner may read.
        replace: Whether a file that is there may be replaced.
        cost: Base-2 logarithm of scrypt's N, 15 to 17: how much memory guessing costs, 32 to
            128 MiB. Saving and loading need as much.

    Raises:
        PayloadError: The passphrase is too short, or not exactly one of both is given.
        StorageError: A file is there and may not be replaced, or it cannot be written.
        RefusedError: Others may read the key file.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "node.key"
        >>> node = Identity.create(["client"])
        >>> save_identity(path, node, passphrase="correct horse battery", cost=15)
        >>> load_identity(path, passphrase="correct horse battery").did == node.did
        True
    """
    unlock, secret = _secret(passphrase, key_file)
    if len(passphrase or secret) < (LEAST_PASSPHRASE if key_file is None else LEAST_KEY_FILE):
        raise PayloadError(
            f"a passphrase needs at least {LEAST_PASSPHRASE} characters, a key file "
            f"{LEAST_KEY_FILE} random bytes"
        )
    if cost not in COSTS:
        raise PayloadError(f"cost={cost} was given; allowed are {COSTS[0]} to {COSTS[-1]}")
    salt, nonce = secrets.token_bytes(_SALT_BYTES), secrets.token_bytes(_NONCE_BYTES)
    header = encode(
        {
            "kind": KIND,
            "version": VERSION,
            "unlock": unlock,
            "cost": cost,
            "salt": salt,
            "nonce": nonce,
            "did": identity.did,
            "algorithm": identity.algorithm,
            "provider": identity.signing.provider,
        }
    )
    plain = encode(
        {
            "signing": identity.signing.secret,
            "sealing": identity.sealing.seed,
            "description": identity.description.to_bytes(),
        }
    )
    locked = AESGCM(stretch(secret, salt, cost)).encrypt(nonce, plain, header)
    write_private(path, encode([header, locked]), replace=replace)


def load_identity(
    path: Path, *, passphrase: str | None = None, key_file: Path | None = None
) -> Identity:
    """Read what :func:`save_identity` wrote.

    Args:
        path: Where.
        passphrase: As it was saved with; or
        key_file: the key file.

    Raises:
        StorageError: It cannot be read.
        RefusedError: ``reason`` says why: others may read it (mode), it is no key file (damaged),
            of another version, or made by a provider that is not here; or passphrase, for a wrong
            passphrase or a changed file, which cannot be told apart.
        PayloadError: Not exactly one of both is given.
    """
    unlock, secret = _secret(passphrase, key_file)
    header, locked = _split(decode(read_private(path, MOST_BYTES), str(path), MOST_BYTES), path)
    fields = _header(header, path)
    if fields.text("unlock") != unlock:
        raise RefusedError(
            Refusal.PASSPHRASE,
            f"{path} is opened by a {fields.text('unlock')!a}, not by a {unlock}",
        )
    key = stretch(secret, fields.octets("salt"), fields.number("cost"))
    try:
        plain = AESGCM(key).decrypt(fields.octets("nonce"), locked, header)
    except InvalidTag:
        raise RefusedError(
            Refusal.PASSPHRASE, f"the {unlock} is wrong, or {path} was changed or damaged"
        ) from None
    read = Fields(decode(plain, str(path), MOST_BYTES), str(path), _SECRET_KEYS)
    algorithm, provider = fields.text("algorithm"), fields.text("provider")
    try:
        signing = load_signing_key(algorithm, provider, read.octets("signing"))
    except (ConfigError, MissingDependencyError) as error:
        raise RefusedError(
            Refusal.PROVIDER,
            f"{path} holds a key of {algorithm} that provider {provider} made, and only it can "
            f"load: {error}",
        ) from None
    description = Description.from_bytes(read.octets("description"))
    description.check_signature()
    try:
        return Identity(signing, SealingKey(read.octets("sealing", SEED_BYTES)), description)
    except CryptoError:
        raise RefusedError(
            Refusal.DAMAGED, f"the description in {path} is not of the keys in it"
        ) from None


def read_did(path: Path) -> str:
    """Whose file it is, which needs no passphrase; not checked before it is loaded.

    Raises:
        StorageError: It cannot be read.
        RefusedError: Others may read it, or it is no key file.
    """
    header, _ = _split(decode(read_private(path, MOST_BYTES), str(path), MOST_BYTES), path)
    return _header(header, path).text("did")


def _split(value: Value, path: Path) -> tuple[bytes, bytes]:
    match value:
        case [bytes() as header, bytes() as locked]:
            return header, locked
    raise RefusedError(Refusal.DAMAGED, f"{path} is no key file of an identity, or damaged")


def _header(header: bytes, path: Path) -> Fields:
    value = decode(header, str(path), MOST_BYTES)
    if not isinstance(value, dict) or value.get("kind") != KIND:
        raise RefusedError(Refusal.DAMAGED, f"{path} is no key file of an identity, or damaged")
    if value.get("version") != VERSION:
        raise RefusedError(
            Refusal.VERSION,
            f"{path} is a key file of version {value.get('version')!a}; this qfl reads version "
            f"{VERSION}",
        )
    fields = Fields(value, str(path), _HEADER_KEYS)
    check_did(fields.text("did"))
    fields.octets("salt", _SALT_BYTES)
    fields.octets("nonce", _NONCE_BYTES)
    # Checked before it is used: the cost says how much memory the derivation takes.
    if fields.number("cost") not in COSTS:
        raise RefusedError(
            Refusal.DAMAGED,
            f"{path} asks for cost={fields.number('cost')}; allowed are {COSTS[0]} to {COSTS[-1]}",
        )
    return fields


def _secret(passphrase: str | None, key_file: Path | None) -> tuple[str, bytes]:
    if (passphrase is None) == (key_file is None):
        raise PayloadError("give a passphrase or a key file, and not both")
    if key_file is not None:
        return "key file", read_private(key_file, MOST_KEY_FILE)
    return "passphrase", passphrase_bytes(passphrase or "")
