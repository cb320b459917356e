"""What a registry knows at one moment, so that readers in other threads see one story."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from qfl.identity.description import Description
from qfl.identity.policy import Policy
from qfl.identity.policy_rules import DEFAULT_PERMISSIONS, NEVER_THE_SERVERS, granted
from qfl.identity.refusal import Refusal, RefusedError
from qfl.identity.revocation import RevocationList


@dataclass(frozen=True)
class Known:
    """All that is known at one moment; never changed, only replaced by another.

    Attributes:
        pinned: First identifiers, and the roles that each may take.
        chains: Descriptions by first identifier; those of who is pinned no longer stay, so that
            who comes back goes on where its chain ends.
        first: The first identifier by any.
        revocations: The newest revocation list.
        policy: The newest policy.
    """

    pinned: Mapping[str, frozenset[str]]
    chains: Mapping[str, tuple[Description, ...]] = field(default_factory=dict)
    first: Mapping[str, str] = field(default_factory=dict)
    revocations: RevocationList | None = None
    policy: Policy | None = None

    def first_of(self, did: str) -> str:
        """The first identifier of a node, by any that it ever had.

        Raises:
            RefusedError: It is not known.
        """
        first = self.first.get(did, "")
        if first not in self.pinned:
            raise RefusedError(
                Refusal.UNKNOWN_SENDER, f"{did[:80]!a} is none of the identities known here"
            )
        return first

    def check_not_revoked(self, chain: Sequence[Description]) -> None:
        """Make sure that no identifier of a node was revoked.

        Raises:
            RefusedError: One was.
        """
        revoked = {} if self.revocations is None else self.revocations.by_did
        for one in chain:
            if one.did in revoked:
                entry = revoked[one.did]
                raise RefusedError(
                    Refusal.REVOKED,
                    f"{one.did} was revoked ({entry.reason}); its holder must be provisioned anew",
                )

    def check_permitted(self, did: str, permission: str) -> None:
        """Make sure that a node may do something; see :meth:`Registry.permit`.

        Raises:
            RefusedError: It is not known, or may not.
        """
        first = self.first_of(did)
        roles = self.pinned[first] & set(self.chains[first][-1].roles)
        grants: Mapping[str, Collection[str]] = DEFAULT_PERMISSIONS
        granter, name = "what counts without a policy", ""
        if self.policy is not None:
            member = self.policy.by_did.get(first)
            grants, granter = self.policy.grants, f"policy {self.policy.sequence}"
            name = member.name if member else ""
            roles &= set(member.roles if member else ())
        # Pins by hand may make a server of whom a policy enrols as something else.
        if permission in NEVER_THE_SERVERS and "server" in self.pinned[first]:
            why = "it is pinned as a server, which must not open what it sums"
        elif granted(grants, permission, name, roles):
            return
        elif self.policy is not None and not name:
            why = f"{granter} does not name it"
        else:
            why = f"{granter} grants it neither by name nor to roles {sorted(roles)}"
        who = f"{name} ({did})" if name else did
        raise RefusedError(
            Refusal.PERMISSION,
            f"{who} has no permission {permission} here: {why}; ask the operator",
        )


def check_newer(
    fresh: RevocationList | Policy, known: RevocationList | Policy | None, what: str
) -> None:
    """Make sure that numbered lists and policies go forward only.

    Raises:
        RefusedError: A newer one is known, or another of the same number.
    """
    if known is None:
        return
    if fresh.sequence < known.sequence:
        raise RefusedError(
            Refusal.SEQUENCE,
            f"{what} {fresh.sequence} is older than {what} {known.sequence}, which is known",
        )
    if fresh.sequence == known.sequence and fresh.body != known.body:
        raise RefusedError(Refusal.SEQUENCE, f"another {what} {fresh.sequence} is known")
