"""Why an identity, a list or a message is refused: a word for programs, a message for people."""

from __future__ import annotations

from enum import StrEnum

from qfl.errors import RefusedError

__all__ = ["Refusal", "RefusedError"]


class Refusal(StrEnum):
    """The reasons, each the word that stands in an audit."""

    DAMAGED = "damaged"
    VERSION = "version"
    ALGORITHM = "algorithm"
    PROVIDER = "provider"
    DID = "did"
    NOT_SIGNED = "not signed"
    SIGNATURE = "signature"
    NOT_YET_VALID = "not yet valid"
    EXPIRED = "expired"
    ROTATION = "rotation"
    UNKNOWN_SENDER = "unknown sender"
    REVOKED = "revoked"
    SUPERSEDED = "superseded"
    ISSUER = "issuer"
    SEQUENCE = "sequence"
    STALE = "stale"
    SENDER = "sender"
    ROLE = "role"
    RECEIVER = "receiver"
    NOT_SEALED = "not sealed"
    RUN = "run"
    ROUND = "round"
    STEP = "step"
    ATTEMPT = "attempt"
    SCHEME = "scheme"
    KEY = "key"
    REPLAYED = "replayed"
    PASSPHRASE = "passphrase"  # noqa: S105
    MODE = "mode"
    PERMISSION = "permission"
    FLOOR = "floor"
    HEAD = "head"  # a server's audit record went back
    NODE = "node"  # a message for another node
    TYPE = "type"  # of another message type
    REQUEST = "request"  # an answer to another request
