"""The policy as an operator writes it, before it is signed: YAML or JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from qfl.errors import ConfigError, RefusedError
from qfl.identity.policy_rules import Enrolled, check_rules, shown
from qfl.identity.written import map_in, read_written, text_in, texts_in


class Draft(NamedTuple):
    """What a policy will say: ``sign_policy(operator, *draft)``."""

    federation: str
    members: tuple[Enrolled, ...]
    permissions: Mapping[str, tuple[str, ...]]


def read_policy(text: str) -> Draft:
    """What an operator wrote, in YAML or JSON, and is going to sign.

    Args:
        text: A map of ``federation``, ``members`` (by name, ``did`` and ``roles``) and
            ``permissions`` (lists of grantees).

    Raises:
        ConfigError: It cannot be read, a key is twice, missing or unknown, something is of a
            wrong type, or no policy can say that.

    Example:
        >>> print(read_policy("{federation: clinics, members: {}, permissions: {train: []}}"))
        Draft(federation='clinics', members=(), permissions={'train': ()})
    """
    data = read_written(text, "the policy file")
    top = map_in(data, "the policy file", ("federation", "members", "permissions"))
    given = map_in(top["members"], "members")
    granted_to = map_in(top["permissions"], "permissions")
    try:
        members = []
        for name, entry in given.items():
            one = map_in(entry, f"member '{shown(name)}'", ("did", "roles"))
            did, roles = one["did"], texts_in(one["roles"], f"roles of member '{shown(name)}'")
            members.append(Enrolled(name, text_in(did, f"did of member '{shown(name)}'"), roles))
        draft = Draft(
            text_in(top["federation"], "federation"),
            tuple(sorted(members)),
            {key: texts_in(to, f"permission '{shown(key)}'") for key, to in granted_to.items()},
        )
        check_rules(*draft)
    except RefusedError as error:
        raise ConfigError(f"the policy file cannot be signed: {error}") from None
    return draft
