"""The policy as an operator writes it, before it is signed: YAML or JSON."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import yaml  # type: ignore[import-untyped, unused-ignore]

from qfl.errors import ConfigError, RefusedError, unknown_name
from qfl.identity.policy_rules import Enrolled, check_rules, shown


class Draft(NamedTuple):
    """What a policy will say: ``sign_policy(operator, *draft)``."""

    federation: str
    members: tuple[Enrolled, ...]
    permissions: Mapping[str, tuple[str, ...]]


class _Strict(yaml.BaseLoader):  # type: ignore[misc, unused-ignore]
    """Reads maps, lists and texts: ``no`` and ``7`` are names like others. A key stands once."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[str, Any]:
        made: dict[str, Any] = super().construct_mapping(node, deep)
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key '{shown(key.value)}' stands there twice", key.start_mark
                )
            seen.add(key.value)
        return made


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
    try:
        data = _Strict(text).get_single_data()
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        said = " ".join(str(error).split())
        raise ConfigError(f"the policy file cannot be read: {said}") from None
    top = _map(data, "the policy file", ("federation", "members", "permissions"))
    given = _map(top["members"], "members")
    granted_to = _map(top["permissions"], "permissions")
    try:
        members = []
        for name, entry in given.items():
            one = _map(entry, f"member '{shown(name)}'", ("did", "roles"))
            did, roles = one["did"], _list(one["roles"], f"roles of member '{shown(name)}'")
            members.append(Enrolled(name, _text(did, f"did of member '{shown(name)}'"), roles))
        draft = Draft(
            _text(top["federation"], "federation"),
            tuple(sorted(members)),
            {key: _list(to, f"permission '{shown(key)}'") for key, to in granted_to.items()},
        )
        check_rules(*draft)
    except RefusedError as error:
        raise ConfigError(f"the policy file cannot be signed: {error}") from None
    return draft


def _map(value: object, what: str, keys: Collection[str] = ()) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{what} must be a map, not {_kind(value)}")
    for key in value if keys else ():
        if key not in keys:
            raise ConfigError(unknown_name(f"key of {what}", shown(key), keys))
    for key in keys:
        if key not in value:
            raise ConfigError(f"{what} has no key '{key}'")
    return value


def _list(value: object, what: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ConfigError(f"{what} must be a list, not {_kind(value)}")
    return tuple(sorted(_text(one, f"each of {what}") for one in value))


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{what} must be a text, not {_kind(value)}")
    return value


def _kind(value: object) -> str:
    match value:
        case dict():
            return "a map"
        case list():
            return "a list"
        case str():
            return "a text"
    return "nothing"
