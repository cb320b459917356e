"""What belongs into a kit: the digest of every file, signed by the operator.

Whoever got a kit learns so that nothing in it was changed, dropped or put in since the operator
made it. That the operator is the right one, only its identifier tells, which travels another way.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from qfl.errors import PayloadError
from qfl.identity.canonical import Fields, Value, decode, encode
from qfl.identity.description import Description, check_did
from qfl.identity.identity import Identity
from qfl.identity.issued import check_issued
from qfl.identity.policy_rules import check_name, shown
from qfl.identity.refusal import Refusal, RefusedError
from qfl.identity.signed import Kind, unwrap, wrap

MANIFEST = Kind("kit manifest", 1, at_most=1 << 16)
MOST_FILES = 64
_KEYS = frozenset({"federation", "name", "issuer", "made", "files"})
_DIGEST_BYTES = 32
# A file, or one in a folder; no name leads out of the kit.
_PATH = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}(/[a-z0-9][a-z0-9._-]{0,63})?", re.ASCII)


@dataclass(frozen=True)
class KitManifest:
    """What an operator put into a kit.

    Attributes:
        federation: Its name.
        name: Whose kit it is.
        issuer: The operator's identifier.
        made: When it was signed, in seconds since 1970 in UTC.
        files: SHA-256 of every other file, by its path in the kit.
        signature: The operator's.

    Raises:
        RefusedError: A name, path or digest is none, or there are too many files.
    """

    federation: str
    name: str
    issuer: str
    made: int
    files: Mapping[str, bytes] = field(hash=False)
    signature: bytes = b""

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", dict(sorted(self.files.items())))
        check_name(self.federation, "federation")
        check_name(self.name)
        check_did(self.issuer)
        if len(self.files) > MOST_FILES:
            raise RefusedError(
                Refusal.DAMAGED,
                f"a manifest names {len(self.files)} files; a kit has at most {MOST_FILES}",
            )
        for path, digest in self.files.items():
            if not _PATH.fullmatch(path) or len(digest) != _DIGEST_BYTES:
                raise RefusedError(
                    Refusal.DAMAGED,
                    f"a manifest holds '{shown(path)}' with {len(digest)} bytes; expected a file "
                    f"of the kit and the {_DIGEST_BYTES} bytes of its SHA-256",
                )

    @cached_property
    def body(self) -> bytes:
        """What is signed."""
        files: list[Value] = [[path, digest] for path, digest in self.files.items()]
        return encode(
            {
                "federation": self.federation,
                "name": self.name,
                "issuer": self.issuer,
                "made": self.made,
                "files": files,
            }
        )

    def to_bytes(self) -> bytes:
        """Its one encoding, about 4 kB with ML-DSA-65."""
        return wrap(MANIFEST, self.body, (self.signature,))

    @staticmethod
    def from_bytes(data: bytes) -> KitManifest:
        """The inverse of :meth:`to_bytes`; the signature is for :meth:`verify`.

        Raises:
            RefusedError: The bytes are damaged, of another version, or not signed.
        """
        body, (signature,) = unwrap(MANIFEST, data)
        fields = Fields(decode(body, "a kit manifest", MANIFEST.at_most), "a kit manifest", _KEYS)
        files = {}
        for entry in fields.values("files", MOST_FILES):
            match entry:
                case [str() as path, bytes() as digest]:
                    files[path] = digest
                case _:
                    raise RefusedError(
                        Refusal.DAMAGED, "a file in a kit manifest is not path and digest"
                    )
        found = KitManifest(
            federation=fields.text("federation"),
            name=fields.text("name"),
            issuer=fields.text("issuer"),
            made=fields.number("made"),
            files=files,
            signature=signature,
        )
        if found.body != body:
            raise RefusedError(Refusal.DAMAGED, "a kit manifest is not in its one form")
        return found

    def verify(self, operator: Description) -> None:
        """Make sure that the operator signed it.

        Args:
            operator: Whom the reader knows as the operator.

        Raises:
            RefusedError: Somebody else issued it, or its signature is wrong.
        """
        what = f"the manifest of kit {self.name}"
        check_issued(MANIFEST, what, self.issuer, self.body, self.signature, operator)

    def differences(self, files: Mapping[str, bytes]) -> list[str]:
        """How files differ from those that were signed, one sentence each; empty where they do not.

        Args:
            files: The kit's, by path, without the manifest.
        """
        said = [f"{path} is missing" for path in self.files if path not in files]
        for path, data in sorted(files.items()):
            if path not in self.files:
                said.append(f"{shown(path)} does not belong to the kit")
            elif digest(data) != self.files[path]:
                said.append(f"{path} was changed")
        return said


def digest(data: bytes) -> bytes:
    """SHA-256."""
    return hashlib.sha256(data).digest()


def sign_manifest(
    operator: Identity,
    federation: str,
    name: str,
    files: Mapping[str, bytes],
    *,
    now: float | None = None,
) -> KitManifest:
    """The manifest of a kit.

    Args:
        operator: Signs it.
        federation: Its name.
        name: Whose kit it is.
        files: Its files by path, without the manifest.
        now: Seconds since 1970 in UTC; unset, the clock's.

    Raises:
        PayloadError: The identity is no operator's.
        RefusedError: As :class:`KitManifest`.

    Example:
        >>> operator = Identity.create(["operator"])
        >>> manifest = sign_manifest(operator, "clinics", "clinic-1", {"floor.json": b"{}"})
        >>> manifest.verify(operator.description)
        >>> manifest.differences({"floor.json": b"[]"})
        ['floor.json was changed']
    """
    if "operator" not in operator.description.roles:
        raise PayloadError(f"{operator.did} has no role operator and cannot sign a manifest")
    fresh = KitManifest(
        federation=federation,
        name=name,
        issuer=operator.did,
        made=int(time.time() if now is None else now),
        files={path: digest(data) for path, data in files.items()},
    )
    return replace(fresh, signature=operator.sign(fresh.body, MANIFEST.context))
