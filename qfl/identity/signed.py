"""What every signed thing looks like: its kind, its version, the bytes signed, the signatures.

Kind and version are part of what is signed (the context of FIPS 204), so that a signature under
one kind of thing says nothing under another.
"""

from __future__ import annotations

from dataclasses import dataclass

from qfl.crypto.algorithms import SIGNATURES, refuse
from qfl.crypto.signatures import verify
from qfl.errors import ConfigError, MissingDependencyError, PayloadError, SignatureError
from qfl.identity.canonical import Fields, decode, encode
from qfl.identity.refusal import Refusal, RefusedError

_KEYS = frozenset({"kind", "version", "body", "signatures"})
_NAME_BYTES = 64


@dataclass(frozen=True)
class Kind:
    """One kind of signed thing.

    Attributes:
        name: Such as ``description``.
        version: The one version that is written and read.
        at_most: Most bytes of one.
        signatures: Most signatures on one.
    """

    name: str
    version: int
    at_most: int
    signatures: int = 1

    @property
    def context(self) -> bytes:
        """What its signatures are bound to."""
        return f"qfl {self.name} {self.version}".encode()


def wrap(kind: Kind, body: bytes, signatures: tuple[bytes, ...]) -> bytes:
    """The bytes of a signed thing."""
    return encode(
        {
            "kind": kind.name,
            "version": kind.version,
            "body": body,
            "signatures": list(signatures),
        }
    )


def unwrap(kind: Kind, data: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """What was signed, and the signatures, which are not checked yet.

    Raises:
        RefusedError: The bytes are damaged, of another kind or version, or not signed.

    Example:
        >>> note = Kind("note", 1, 100)
        >>> unwrap(note, wrap(note, b"body", (b"signature",)))
        (b'body', (b'signature',))
    """
    fields = Fields(decode(data, f"a {kind.name}", kind.at_most), f"a {kind.name}", _KEYS)
    name, version = fields.text("kind", _NAME_BYTES), fields.number("version")
    if name != kind.name:
        raise RefusedError(Refusal.DAMAGED, f"a {name!a} was given; expected a {kind.name}")
    if version != kind.version:
        raise RefusedError(
            Refusal.VERSION,
            f"a {kind.name} of version {version} was given; this qfl reads version {kind.version}",
        )
    signatures = fields.byte_strings("signatures", kind.signatures)
    if not signatures or not all(signatures):
        raise RefusedError(Refusal.NOT_SIGNED, f"a {kind.name} is not signed")
    return fields.octets("body"), signatures


def check_algorithm(name: str) -> None:
    """Make sure that a signature algorithm is a final standard of those that qfl has.

    Raises:
        RefusedError: It is not.
    """
    allowed = [known for known, algorithm in SIGNATURES.items() if algorithm.standard]
    if name not in allowed:
        raise RefusedError(
            Refusal.ALGORITHM, refuse(ascii(name)[1:-1], "signature algorithm", allowed)
        )


def check_signature(
    algorithm: str, public: bytes, body: bytes, signature: bytes, context: bytes, what: str
) -> None:
    """Make sure that one key signed.

    Args:
        algorithm: Of the key.
        public: The public key.
        body: What must have been signed.
        signature: The signature.
        context: What it is bound to.
        what: What was signed and by whom, for the message.

    Raises:
        RefusedError: The algorithm is not taken, or the signature is wrong.
    """
    check_algorithm(algorithm)
    try:
        verify(algorithm, public, body, signature, context)
    except (ConfigError, MissingDependencyError) as error:
        raise RefusedError(
            Refusal.ALGORITHM, f"the signature on {what} cannot be checked here: {error}"
        ) from None
    except (SignatureError, PayloadError):
        raise RefusedError(
            Refusal.SIGNATURE,
            f"the signature on {what} is wrong: it was changed, or signed by another key",
        ) from None
