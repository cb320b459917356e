"""Who is known: pinned identifiers, their descriptions, and what the operator revoked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from qfl.errors import unknown_name
from qfl.identity.description import ROLES, Description, check_did
from qfl.identity.refusal import Refusal, RefusedError
from qfl.identity.revocation import RevocationList
from qfl.identity.rotation import check_links


class Registry:
    """What one node knows of the others.

    A description says what roles a node takes; the registry says which it may take. Both must name
    a role. Once an operator is named, nobody is taken at his word without a current revocation
    list.

    Args:
        pinned: First identifier of each node, and the roles that it may take.
        operator: First identifier of who revokes, which must be pinned with role ``operator``;
            empty where nobody does.

    Raises:
        RefusedError: An identifier is malformed, a role not known, or the operator not pinned.

    Example:
        >>> from qfl.identity.identity import Identity
        >>> node = Identity.create(["client"])
        >>> registry = Registry({node.did: ["client"]})
        >>> registry.admit([node.description])
        >>> registry.known(node.did, node.description.not_before).did == node.did
        True
    """

    def __init__(self, pinned: Mapping[str, Iterable[str]], operator: str = "") -> None:
        self._pinned = {did: frozenset(roles) for did, roles in pinned.items()}
        for did, roles in self._pinned.items():
            check_did(did)
            for role in sorted(roles - set(ROLES)):
                raise RefusedError(Refusal.ROLE, unknown_name("role", role, ROLES))
        if operator and "operator" not in self._pinned.get(operator, ()):
            raise RefusedError(
                Refusal.ISSUER, f"{operator} revokes, but is not pinned with role operator"
            )
        self._operator = operator
        self._chains: dict[str, tuple[Description, ...]] = {}
        self._first: dict[str, str] = {}
        self._list: RevocationList | None = None

    @property
    def revocations(self) -> RevocationList | None:
        """The newest revocation list; keep its bytes, so that it counts after a restart."""
        return self._list

    def admit(self, chain: Sequence[Description]) -> None:
        """Learn a node's description, or its rotation.

        Args:
            chain: Its descriptions from the pinned one to the present one.

        Raises:
            RefusedError: It is not pinned, the chain breaks, or it tells another story than an
                earlier one.
        """
        first = chain[0].did if chain else ""
        if first not in self._pinned:
            raise RefusedError(
                Refusal.UNKNOWN_SENDER,
                f"{first or 'nobody'} is none of the {len(self._pinned)} pinned identities",
            )
        check_links(chain, first)
        self._check_not_revoked(chain)
        known = self._chains.get(first, ())
        for before, now in zip(known, chain, strict=False):
            # Signatures may differ: what one key signed of itself must not.
            if before.body != now.body:
                raise RefusedError(
                    Refusal.ROTATION,
                    f"{first} was described in another way before, at {before.did}; a key "
                    "describes itself once",
                )
        for one in chain[1:]:
            if one.did in self._pinned or self._first.get(one.did, first) != first:
                raise RefusedError(
                    Refusal.ROTATION,
                    f"{first} cannot become {one.did}, which is another node's identity",
                )
        if len(chain) > len(known):
            self._chains[first] = tuple(chain)
            self._first |= {one.did: first for one in chain}

    def update(self, fresh: RevocationList, now: float) -> None:
        """Take a newer revocation list.

        Args:
            fresh: The list.
            now: Seconds since 1970 in UTC.

        Raises:
            RefusedError: Nobody may revoke here, somebody else issued it, it has run out, or a
                newer one is known.
        """
        if not self._operator:
            raise RefusedError(
                Refusal.ISSUER, f"{fresh.issuer} revokes, but no operator is pinned here"
            )
        chain = self._chains.get(self._operator)
        if chain is None:
            raise RefusedError(
                Refusal.ISSUER, f"the operator {self._operator} has not been described yet"
            )
        operator = chain[-1]
        operator.check_valid(now)
        fresh.verify(operator, now)
        if self._list is not None:
            if fresh.sequence < self._list.sequence:
                raise RefusedError(
                    Refusal.SEQUENCE,
                    f"revocation list {fresh.sequence} is older than list {self._list.sequence}, "
                    "which is known",
                )
            if fresh.sequence == self._list.sequence and fresh.body != self._list.body:
                raise RefusedError(
                    Refusal.SEQUENCE, f"there are two revocation lists {fresh.sequence}"
                )
        self._list = fresh

    def find(self, did: str) -> Description:
        """The description of a node, whether or not it counts still.

        Raises:
            RefusedError: It is not known.
        """
        first = self._first.get(did)
        if first is None:
            raise RefusedError(
                Refusal.UNKNOWN_SENDER, f"{did[:80]!a} is none of the identities known here"
            )
        return next(one for one in self._chains[first] if one.did == did)

    def known(self, did: str, now: float) -> Description:
        """The description of a node that counts now.

        Args:
            did: Its present identifier.
            now: Seconds since 1970 in UTC.

        Raises:
            RefusedError: It is not known, revoked, replaced, expired or not yet valid, or the
                revocation list has run out.
        """
        found = self.find(did)
        chain = self._chains[self._first[did]]
        if self._operator:
            if self._list is None:
                raise RefusedError(
                    Refusal.STALE, "no revocation list is known; ask the operator for one"
                )
            self._list.check_current(now)
        self._check_not_revoked(chain)
        if chain[-1].did != did:
            raise RefusedError(Refusal.SUPERSEDED, f"{did} was replaced by {chain[-1].did}")
        found.check_valid(now)
        return found

    def check_role(self, did: str, role: str) -> None:
        """Make sure that a known node may act in a role, and says that it does.

        Raises:
            RefusedError: It may not, or does not.
        """
        first = self._first[did]
        if role not in self._pinned[first] or role not in self._chains[first][-1].roles:
            raise RefusedError(Refusal.ROLE, f"{did} does not act as {role} here")

    def _check_not_revoked(self, chain: Sequence[Description]) -> None:
        revoked = {} if self._list is None else self._list.by_did
        for one in chain:
            if one.did in revoked:
                entry = revoked[one.did]
                raise RefusedError(
                    Refusal.REVOKED,
                    f"{one.did} was revoked ({entry.reason}); its holder must be provisioned anew",
                )
