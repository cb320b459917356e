"""The federation's policy: who is a member, in which roles, and who may do what.

One small file, signed by the operator. What it does not grant is denied.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from qfl.errors import PayloadError
from qfl.identity.canonical import Fields, Value, check_containers, decode, encode
from qfl.identity.description import ROLES, Description, check_did, moment
from qfl.identity.identity import LEEWAY, Identity
from qfl.identity.issued import check_issued
from qfl.identity.policy_file import Draft, read_policy
from qfl.identity.policy_rules import (
    DEFAULT_PERMISSIONS,
    MOST_MEMBERS,
    PERMISSIONS,
    Enrolled,
    check_rules,
    granted,
)
from qfl.identity.refusal import Refusal, RefusedError
from qfl.identity.signed import Kind, unwrap, wrap

__all__ = [
    "DEFAULT_PERMISSIONS",
    "MOST_MEMBERS",
    "PERMISSIONS",
    "POLICY",
    "Draft",
    "Enrolled",
    "Policy",
    "read_policy",
    "sign_policy",
]

POLICY = Kind("policy", 1, at_most=1 << 22)
_KEYS = frozenset({"federation", "issuer", "sequence", "issued", "members", "permissions"})


@dataclass(frozen=True)
class Policy:
    """Who belongs to a federation, and who may do what there.

    Attributes:
        federation: Its name.
        issuer: The operator's present identifier.
        sequence: Number of this policy, one more for each.
        issued: When it was signed, in seconds since 1970 in UTC.
        members: In order of their names.
        permissions: For each of :data:`PERMISSIONS` to whom it is granted, in order: ``role:NAME``
            for all members in that role, or a member's name. One left out is granted to nobody.
        signature: The operator's.

    Raises:
        RefusedError: Members are not in order, twice or too many, a name is not known, or a
            server could open sums.
    """

    federation: str
    issuer: str
    sequence: int
    issued: int
    members: tuple[Enrolled, ...]
    permissions: Mapping[str, tuple[str, ...]] = field(hash=False)
    signature: bytes = b""

    def __post_init__(self) -> None:
        object.__setattr__(self, "permissions", dict(self.permissions))
        check_did(self.issuer)
        check_rules(self.federation, self.members, self.permissions)
        issuer = self.by_did.get(self.issuer)
        if issuer is not None and "operator" not in issuer.roles:
            raise RefusedError(
                Refusal.ISSUER,
                f"member {issuer.name} issues the policy, but has no role operator in it",
            )

    @cached_property
    def body(self) -> bytes:
        """What is signed."""
        members: list[Value] = [[one.name, one.did, list(one.roles)] for one in self.members]
        granted: list[Value] = [[name, list(to)] for name, to in sorted(self.permissions.items())]
        return encode(
            {
                "federation": self.federation,
                "issuer": self.issuer,
                "sequence": self.sequence,
                "issued": self.issued,
                "members": members,
                "permissions": granted,
            }
        )

    @cached_property
    def by_did(self) -> dict[str, Enrolled]:
        """The members by first identifier."""
        return {one.did: one for one in self.members}

    @cached_property
    def grants(self) -> dict[str, frozenset[str]]:
        """To whom each permission is granted."""
        return {permission: frozenset(to) for permission, to in self.permissions.items()}

    def may(self, did: str, permission: str) -> bool:
        """Whether a member may do something; who is none may do nothing.

        Args:
            did: Its first identifier.
            permission: One of :data:`PERMISSIONS`.
        """
        member = self.by_did.get(did)
        return member is not None and granted(self.grants, permission, member.name, member.roles)

    def name_of(self, did: str) -> str:
        """A member's name by its first identifier; of others, the identifier itself."""
        member = self.by_did.get(did)
        return did if member is None else member.name

    def to_bytes(self) -> bytes:
        """Its one encoding, about 100 bytes a member."""
        return wrap(POLICY, self.body, (self.signature,))

    @staticmethod
    def from_bytes(data: bytes) -> Policy:
        """The inverse of :meth:`to_bytes`; the signature is for :meth:`verify`.

        Raises:
            RefusedError: The bytes are damaged, of another version, or not signed.
        """
        check_containers(data, "a policy")
        body, (signature,) = unwrap(POLICY, data)
        fields = Fields(decode(body, "a policy", POLICY.at_most), "a policy", _KEYS)
        members = []
        for entry in fields.values("members", MOST_MEMBERS):
            match entry:
                case [str() as name, str() as did, list() as roles] if len(roles) <= len(ROLES):
                    members.append(Enrolled(name, did, _texts(roles)))
                case _:
                    raise RefusedError(
                        Refusal.DAMAGED, "a member in a policy is not name, identifier and roles"
                    )
        permissions = {}
        for entry in fields.values("permissions", len(PERMISSIONS)):
            match entry:
                case [str() as permission, list() as grantees]:
                    permissions[permission] = _texts(grantees)
                case _:
                    raise RefusedError(
                        Refusal.DAMAGED, "a permission in a policy is not name and grantees"
                    )
        found = Policy(
            federation=fields.text("federation"),
            issuer=fields.text("issuer"),
            sequence=fields.number("sequence"),
            issued=fields.number("issued"),
            members=tuple(members),
            permissions=permissions,
            signature=signature,
        )
        if found.body != body:
            raise RefusedError(Refusal.DAMAGED, "a policy is not in its one form")
        return found

    def verify(self, operator: Description, now: float) -> None:
        """Make sure that the operator signed it, and not in the future.

        Args:
            operator: Whom the receiver knows as the operator.
            now: Seconds since 1970 in UTC.

        Raises:
            RefusedError: Somebody else issued it, its signature is wrong, or its time is to come.
        """
        what = f"policy {self.sequence}"
        check_issued(POLICY, what, self.issuer, self.body, self.signature, operator)
        # So written, a time that is no number is refused.
        if not now >= self.issued - LEEWAY:
            raise RefusedError(
                Refusal.NOT_YET_VALID,
                f"{what} was signed on {moment(self.issued)}, and it is {moment(now)}; is the "
                "clock right?",
            )


def sign_policy(
    operator: Identity,
    federation: str,
    members: Iterable[Enrolled],
    permissions: Mapping[str, Iterable[str]] = DEFAULT_PERMISSIONS,
    *,
    before: Policy | None = None,
    now: float | None = None,
) -> Policy:
    """The next policy.

    Args:
        operator: Signs it.
        federation: Its name.
        members: In any order.
        permissions: To whom each permission is granted, in any order.
        before: The last policy; None for the first.
        now: Seconds since 1970 in UTC; unset, the clock's.

    Raises:
        PayloadError: The identity is no operator's, the last policy is another federation's, or
            there are so many names in it that nobody would read it.
        RefusedError: As :class:`Policy`.

    Example:
        >>> operator, node = Identity.create(["operator"]), Identity.create(["client"])
        >>> policy = sign_policy(operator, "clinics", [Enrolled("clinic-1", node.did, ("client",))])
        >>> policy.may(node.did, "train"), policy.may(node.did, "open")
        (True, False)
    """
    if "operator" not in operator.description.roles:
        raise PayloadError(f"{operator.did} has no role operator and cannot sign a policy")
    if before is not None and before.federation != federation:
        raise PayloadError(
            f"the last policy is federation '{before.federation}'s; a policy of '{federation}' "
            "was asked for"
        )
    fresh = Policy(
        federation=federation,
        issuer=operator.did,
        sequence=1 if before is None else before.sequence + 1,
        issued=int(time.time() if now is None else now),
        members=tuple(sorted(members)),
        permissions={name: tuple(sorted(set(to))) for name, to in permissions.items()},
    )
    made = replace(fresh, signature=operator.sign(fresh.body, POLICY.context))
    if (size := len(made.to_bytes())) > POLICY.at_most:
        raise PayloadError(
            f"a policy of {size} bytes was asked for; at most {POLICY.at_most} are read: grant "
            "permissions to roles instead of names"
        )
    return made


def _texts(values: list[Value]) -> tuple[str, ...]:
    texts = tuple(one for one in values if isinstance(one, str))
    if len(texts) != len(values):
        raise RefusedError(Refusal.DAMAGED, "a role or grantee in a policy is no text")
    return texts
