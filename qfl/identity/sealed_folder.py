"""A whole folder of files in one, encrypted under a passphrase, to be sent or carried.

As :mod:`qfl.identity.key_file`: the key is scrypt's (RFC 7914) of the passphrase and 16 bytes of
salt; it encrypts by AES-256-GCM, with all that stands before as associated data.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from qfl.errors import PayloadError
from qfl.identity.canonical import Fields, Value, decode, encode
from qfl.identity.key_file import LEAST_PASSPHRASE
from qfl.identity.refusal import Refusal, RefusedError
from qfl.identity.stretching import COSTS, passphrase_bytes, stretch

VERSION = 1
KIND = "sealed folder"
MOST_BYTES = 1 << 24
_SALT_BYTES, _NONCE_BYTES = 16, 12
_KEYS = frozenset({"kind", "version", "cost", "salt", "nonce"})


def seal_folder(files: Mapping[str, bytes], passphrase: str, *, cost: int = 17) -> bytes:
    """Encrypt files.

    Args:
        files: Their bytes, by path in the folder.
        passphrase: At least 12 characters.
        cost: Base-2 logarithm of scrypt's N, 15 to 17: how much memory guessing costs, 32 to
            128 MiB. Sealing and opening need as much.

    Raises:
        PayloadError: The passphrase is too short or no text, or there is too much to seal.

    Example:
        >>> sealed = seal_folder({"a.txt": b"1"}, "correct horse battery", cost=15)
        >>> open_folder(sealed, "correct horse battery")
        {'a.txt': b'1'}
    """
    secret = passphrase_bytes(passphrase)
    if len(passphrase) < LEAST_PASSPHRASE:
        raise PayloadError(f"a passphrase needs at least {LEAST_PASSPHRASE} characters")
    if cost not in COSTS:
        raise PayloadError(f"cost={cost} was given; allowed are {COSTS[0]} to {COSTS[-1]}")
    salt, nonce = secrets.token_bytes(_SALT_BYTES), secrets.token_bytes(_NONCE_BYTES)
    header = encode({"kind": KIND, "version": VERSION, "cost": cost, "salt": salt, "nonce": nonce})
    plain = encode(dict(files))
    locked = AESGCM(stretch(secret, salt, cost)).encrypt(nonce, plain, header)
    made = encode([header, locked])
    if len(made) > MOST_BYTES:
        raise PayloadError(f"{len(made)} bytes would be sealed; at most {MOST_BYTES} are read")
    return made


def open_folder(data: bytes, passphrase: str, what: str = "a sealed folder") -> dict[str, bytes]:
    """The inverse of :func:`seal_folder`; what paths are good for is the caller's to check.

    Args:
        data: From anybody.
        passphrase: As it was sealed with.
        what: Its name in messages.

    Raises:
        RefusedError: ``reason`` says why: it is no sealed folder (damaged), of another version;
            or passphrase, for a wrong passphrase or changed bytes, which cannot be told apart.
        PayloadError: The passphrase is no text.
    """
    secret = passphrase_bytes(passphrase)
    match decode(data, what, MOST_BYTES):
        case [bytes() as header, bytes() as locked]:
            pass
        case _:
            raise RefusedError(Refusal.DAMAGED, f"{what} is no sealed folder, or damaged")
    fields = _header(decode(header, what, MOST_BYTES), what)
    key = stretch(secret, fields.octets("salt", _SALT_BYTES), fields.number("cost"))
    try:
        plain = AESGCM(key).decrypt(fields.octets("nonce", _NONCE_BYTES), locked, header)
    except InvalidTag:
        raise RefusedError(
            Refusal.PASSPHRASE, f"the passphrase is wrong, or {what} was changed or damaged"
        ) from None
    files = decode(plain, what, MOST_BYTES)
    found = files if isinstance(files, dict) else {}
    made = {path: one for path, one in found.items() if isinstance(one, bytes)}
    if not made or len(made) != len(found):
        raise RefusedError(Refusal.DAMAGED, f"{what} does not hold files")
    return made


def _header(value: Value, what: str) -> Fields:
    if not isinstance(value, dict) or value.get("kind") != KIND:
        raise RefusedError(Refusal.DAMAGED, f"{what} is no sealed folder, or damaged")
    if value.get("version") != VERSION:
        raise RefusedError(
            Refusal.VERSION,
            f"{what} is of version {value.get('version')!a}; this qfl reads version {VERSION}",
        )
    fields = Fields(value, what, _KEYS)
    # Checked before it is used: the cost says how much memory the derivation takes.
    if fields.number("cost") not in COSTS:
        raise RefusedError(
            Refusal.DAMAGED,
            f"{what} asks for cost={fields.number('cost')}; allowed are {COSTS[0]} to {COSTS[-1]}",
        )
    return fields
