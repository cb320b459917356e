"""The list of identities that count no longer, signed by the operator.

A list has a number that may not go back and an end of its own, so that whoever carries lists around
can neither show an old one again nor hold new ones back for longer than one list lasts. An operator
with nothing to revoke signs an empty list.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from qfl.errors import PayloadError, unknown_name
from qfl.identity.canonical import Fields, check_containers, decode, encode
from qfl.identity.description import Description, check_did, moment
from qfl.identity.identity import DAY, Identity
from qfl.identity.issued import check_issued
from qfl.identity.refusal import Refusal, RefusedError
from qfl.identity.signed import Kind, unwrap, wrap

REASONS = ("compromised", "left", "lost", "replaced")
MOST_REVOKED = 20_000
LIST = Kind("revocation list", 1, at_most=1 << 22)
_KEYS = frozenset({"issuer", "sequence", "issued", "not_after", "revoked"})


@dataclass(frozen=True, order=True)
class Revoked:
    """One identity that counts no longer.

    Attributes:
        did: Its identifier.
        since: When it was revoked, in seconds since 1970 in UTC.
        reason: One of :data:`REASONS`.

    Raises:
        RefusedError: The identifier is none, or the reason is not known.
    """

    did: str
    since: int
    reason: str

    def __post_init__(self) -> None:
        check_did(self.did)
        if self.reason not in REASONS:
            raise RefusedError(
                Refusal.DAMAGED, unknown_name("reason", ascii(self.reason[:40])[1:-1], REASONS)
            )


@dataclass(frozen=True)
class RevocationList:
    """What an operator has revoked so far.

    Attributes:
        issuer: The operator's identifier.
        sequence: Number of this list, one more for each.
        issued: When it was signed, in seconds since 1970 in UTC.
        not_after: The second from which a newer list is needed.
        revoked: In order, each identifier once.
        signature: The operator's.

    Raises:
        RefusedError: The entries are not in order, too many, or the list never counts.
    """

    issuer: str
    sequence: int
    issued: int
    not_after: int
    revoked: tuple[Revoked, ...]
    signature: bytes = b""

    def __post_init__(self) -> None:
        check_did(self.issuer)
        dids = [one.did for one in self.revoked]
        if dids != sorted(set(dids)) or len(dids) > MOST_REVOKED:
            raise RefusedError(
                Refusal.DAMAGED,
                f"a revocation list of {len(dids)} entries must name each identifier once, in "
                f"order, and at most {MOST_REVOKED}",
            )
        if self.issued >= self.not_after:
            raise RefusedError(Refusal.STALE, "a revocation list ends before it begins")

    @cached_property
    def body(self) -> bytes:
        """What is signed."""
        return encode(
            {
                "issuer": self.issuer,
                "sequence": self.sequence,
                "issued": self.issued,
                "not_after": self.not_after,
                "revoked": [[one.did, one.since, one.reason] for one in self.revoked],
            }
        )

    @cached_property
    def by_did(self) -> dict[str, Revoked]:
        """The entries by identifier."""
        return {one.did: one for one in self.revoked}

    def to_bytes(self) -> bytes:
        """Its one encoding."""
        return wrap(LIST, self.body, (self.signature,))

    @staticmethod
    def from_bytes(data: bytes) -> RevocationList:
        """The inverse of :meth:`to_bytes`; the signature is for :meth:`verify`.

        Raises:
            RefusedError: The bytes are damaged, of another version, or not signed.
        """
        check_containers(data, "a revocation list")
        body, (signature,) = unwrap(LIST, data)
        fields = Fields(decode(body, "a revocation list", LIST.at_most), "a revocation list", _KEYS)
        revoked = []
        for entry in fields.values("revoked", MOST_REVOKED):
            match entry:
                case [str() as did, int() as since, str() as reason]:
                    revoked.append(Revoked(did, since, reason))
                case _:
                    raise RefusedError(
                        Refusal.DAMAGED,
                        "an entry of a revocation list is not identifier, time and reason",
                    )
        return RevocationList(
            issuer=fields.text("issuer"),
            sequence=fields.number("sequence"),
            issued=fields.number("issued"),
            not_after=fields.number("not_after"),
            revoked=tuple(revoked),
            signature=signature,
        )

    def verify(self, operator: Description, now: float) -> None:
        """Make sure that the operator signed it, and that it has not run out.

        Args:
            operator: Whom the receiver knows as the operator.
            now: Seconds since 1970 in UTC.

        Raises:
            RefusedError: Somebody else issued it, its signature is wrong, or it has run out.
        """
        what = f"revocation list {self.sequence}"
        check_issued(LIST, what, self.issuer, self.body, self.signature, operator)
        self.check_current(now)

    def check_current(self, now: float) -> None:
        """Make sure that no newer list is due.

        Raises:
            RefusedError: One is.
        """
        if not now < self.not_after:
            raise RefusedError(
                Refusal.STALE,
                f"revocation list {self.sequence} ran out on {moment(self.not_after)}, and it is "
                f"{moment(now)}; ask the operator for a newer one",
            )


def revoke(
    operator: Identity,
    before: RevocationList | None,
    revoked: Iterable[Revoked] = (),
    *,
    days: float = 30,
    now: float | None = None,
) -> RevocationList:
    """The next list: everything on the last one, and more.

    Args:
        operator: Signs it.
        before: The last list; None for the first.
        revoked: Entries to add. Who is on the list already stays as it is.
        days: How long the list counts.
        now: Seconds since 1970 in UTC; unset, the clock's.

    Raises:
        PayloadError: The identity is no operator's, or the last list is another's.

    Example:
        >>> operator = Identity.create(["operator"])
        >>> node = Identity.create(["client"])
        >>> empty = revoke(operator, None)
        >>> full = revoke(operator, empty, [Revoked(node.did, empty.issued, "lost")])
        >>> full.sequence, node.did in full.by_did
        (2, True)
    """
    if "operator" not in operator.description.roles:
        raise PayloadError(f"{operator.did} has no role operator and cannot revoke")
    entries = {one.did: one for one in revoked}
    if before is not None:
        entries |= before.by_did
    issued = int(time.time() if now is None else now)
    fresh = RevocationList(
        issuer=operator.did,
        sequence=1 if before is None else before.sequence + 1,
        issued=issued,
        not_after=issued + int(days * DAY),
        revoked=tuple(sorted(entries.values())),
    )
    return replace(fresh, signature=operator.sign(fresh.body, LIST.context))
