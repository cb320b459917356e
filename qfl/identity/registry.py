"""Who is known: pinned identifiers, their descriptions, the operator's policy and revocations."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from qfl.errors import unknown_name
from qfl.identity.description import ROLES, Description, check_did
from qfl.identity.known import Known, check_newer
from qfl.identity.policy import Policy
from qfl.identity.refusal import Refusal, RefusedError
from qfl.identity.revocation import RevocationList
from qfl.identity.rotation import check_links


class Registry:
    """What one node knows of the others. Threads may share it.

    A description says what roles a node takes; the registry says which it may take. Both must name
    a role. Once an operator is named, nobody is taken at his word without a current revocation
    list.

    Args:
        pinned: First identifier of each node, and the roles that it may take. A policy adds
            members; it changes and removes none of these.
        operator: First identifier of who revokes and signs policies, which must be pinned with
            role ``operator``; empty where nobody does.

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
        self._by_hand = {did: frozenset(roles) for did, roles in pinned.items()}
        for did, roles in self._by_hand.items():
            check_did(did)
            for role in sorted(roles - set(ROLES)):
                raise RefusedError(Refusal.ROLE, unknown_name("role", role, ROLES))
        if operator and "operator" not in self._by_hand.get(operator, ()):
            raise RefusedError(
                Refusal.ISSUER, f"{operator} revokes, but is not pinned with role operator"
            )
        self._operator = operator
        self._now = Known(self._by_hand)
        self._changing = threading.Lock()

    @property
    def operator(self) -> str:
        """First identifier of who revokes and signs policies; empty where nobody does."""
        return self._operator

    @property
    def revocations(self) -> RevocationList | None:
        """The newest revocation list; keep its bytes, so that it counts after a restart."""
        return self._now.revocations

    @property
    def policy(self) -> Policy | None:
        """The newest policy; keep its bytes, so that it counts after a restart."""
        return self._now.policy

    def admit(self, chain: Sequence[Description]) -> None:
        """Learn a node's description, or its rotation.

        Args:
            chain: Its descriptions from the pinned one to the present one.

        Raises:
            RefusedError: It is not pinned, the chain breaks, or it tells another story than an
                earlier one.
        """
        first = chain[0].did if chain else ""
        pinned = self._now.pinned
        if first not in pinned:
            raise RefusedError(
                Refusal.UNKNOWN_SENDER,
                f"{first or 'nobody'} is none of the {len(pinned)} pinned identities",
            )
        check_links(chain, first)
        with self._changing:
            now = self._now
            now.check_not_revoked(chain)
            known = now.chains.get(first, ())
            for before, again in zip(known, chain, strict=False):
                # Signatures may differ: what one key signed of itself must not.
                if before.body != again.body:
                    raise RefusedError(
                        Refusal.ROTATION,
                        f"{first} was described in another way before, at {before.did}; a key "
                        "describes itself once",
                    )
            for one in chain[1:]:
                if one.did in now.pinned or now.first.get(one.did, first) != first:
                    raise RefusedError(
                        Refusal.ROTATION,
                        f"{first} cannot become {one.did}, which is another node's identity",
                    )
            if len(chain) > len(known):
                chains = {**now.chains, first: tuple(chain)}
                firsts = {**now.first, **{one.did: first for one in chain}}
                self._now = replace(now, chains=chains, first=firsts)

    def update(self, fresh: RevocationList, now: float) -> None:
        """Take a newer revocation list.

        Args:
            fresh: The list.
            now: Seconds since 1970 in UTC.

        Raises:
            RefusedError: Nobody may revoke here, somebody else issued it, it has run out, or a
                newer one is known.
        """
        with self._changing:
            fresh.verify(self._described_operator(fresh.issuer, now)[-1], now)
            check_newer(fresh, self._now.revocations, "revocation list")
            self._now = replace(self._now, revocations=fresh)

    def enrol(self, policy: Policy, now: float) -> None:
        """Take a newer policy: its members count as pinned, beside those pinned by hand.

        Whom it no longer names is no longer known.

        Args:
            policy: The policy.
            now: Seconds since 1970 in UTC.

        Raises:
            RefusedError: Nobody may sign one here, somebody else issued it, the operator is
                revoked, a newer one is known, it is another federation's, or it names as a first
                identifier one that a member rotated to.
        """
        with self._changing:
            chain = self._described_operator(policy.issuer, now)
            self._now.check_not_revoked(chain)
            policy.verify(chain[-1], now)
            known = self._now.policy
            check_newer(policy, known, "policy")
            if known is not None and known.federation != policy.federation:
                raise RefusedError(
                    Refusal.SEQUENCE,
                    f"policy {policy.sequence} is of federation '{policy.federation}'; policies "
                    f"of '{known.federation}' are followed here",
                )
            members = {one.did: frozenset(one.roles) for one in policy.members}
            pinned = {**members, **self._by_hand}
            for first in pinned:
                for one in self._now.chains.get(first, ())[1:]:
                    if one.did in pinned:
                        raise RefusedError(
                            Refusal.ROTATION,
                            f"policy {policy.sequence} names {one.did}, to which {first} rotated; "
                            "name its first identifier alone",
                        )
            self._now = replace(self._now, pinned=pinned, policy=policy)

    def knows(self, did: str) -> bool:
        """Whether a node has been described here, whether or not it counts still."""
        return did in self._now.first

    def present(self, did: str) -> str:
        """The newest identifier of a node, by any that it ever had.

        Raises:
            RefusedError: It is not known.
        """
        return self.chain_of(did)[-1].did

    def find(self, did: str) -> Description:
        """The description of a node, whether or not it counts still.

        Raises:
            RefusedError: It is not known.
        """
        return next(one for one in self.chain_of(did) if one.did == did)

    def first_of(self, did: str) -> str:
        """The first identifier of a node, by any that it ever had.

        Raises:
            RefusedError: It is not known.
        """
        return self._now.first_of(did)

    def chain_of(self, did: str) -> tuple[Description, ...]:
        """A node's descriptions from the pinned one to the present one, by any identifier.

        Raises:
            RefusedError: It is not known.
        """
        known = self._now
        return known.chains[known.first_of(did)]

    def known(self, did: str, now: float) -> Description:
        """The description of a node that counts now.

        Args:
            did: Its present identifier.
            now: Seconds since 1970 in UTC.

        Raises:
            RefusedError: It is not known, revoked, replaced, expired or not yet valid, or the
                revocation list has run out.
        """
        return self._check_known(self._now, did, now)

    def check_role(self, did: str, role: str) -> None:
        """Make sure that a known node may act in a role, and says that it does.

        Raises:
            RefusedError: It may not, or does not.
        """
        known = self._now
        first = known.first_of(did)
        if role not in known.pinned[first] or role not in known.chains[first][-1].roles:
            raise RefusedError(Refusal.ROLE, f"{did} does not act as {role} here")

    def permit(self, did: str, permission: str, now: float) -> None:
        """Make sure that a node counts now, and may do something.

        It may if the policy grants it to the node by name, or to a role that the policy, the
        registry and the node's description all name. Without a policy the defaults count, for who
        is pinned by hand. Who is pinned as a server never holds keys or opens.

        Args:
            did: Its present identifier.
            permission: One of :data:`qfl.identity.policy.PERMISSIONS`.
            now: Seconds since 1970 in UTC.

        Raises:
            RefusedError: It does not count, as for :meth:`known`, or may not (permission).
        """
        known = self._now
        self._check_known(known, did, now)
        known.check_permitted(did, permission)

    def _check_known(self, known: Known, did: str, now: float) -> Description:
        chain = known.chains[known.first_of(did)]
        if self._operator:
            if known.revocations is None:
                raise RefusedError(
                    Refusal.STALE, "no revocation list is known; ask the operator for one"
                )
            known.revocations.check_current(now)
        known.check_not_revoked(chain)
        if chain[-1].did != did:
            raise RefusedError(Refusal.SUPERSEDED, f"{did} was replaced by {chain[-1].did}")
        chain[-1].check_valid(now)
        return chain[-1]

    def _described_operator(self, issuer: str, now: float) -> tuple[Description, ...]:
        if not self._operator:
            raise RefusedError(
                Refusal.ISSUER, f"{issuer} speaks as operator, but none is pinned here"
            )
        chain = self._now.chains.get(self._operator)
        if chain is None:
            raise RefusedError(
                Refusal.ISSUER, f"the operator {self._operator} has not been described yet"
            )
        chain[-1].check_valid(now)
        return chain
