"""What people write, in YAML or JSON: maps, lists and texts, and nothing else."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import yaml  # type: ignore[import-untyped, unused-ignore]

from qfl.errors import ConfigError, unknown_name
from qfl.identity.policy_rules import shown


class _Strict(yaml.BaseLoader):  # type: ignore[misc, unused-ignore]
    """``no`` and ``7`` are names like others. A key stands once."""

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


def read_written(text: str, what: str) -> object:
    """What was written.

    Args:
        text: YAML or JSON.
        what: Its name in messages.

    Raises:
        ConfigError: It cannot be read, or a key is there twice.

    Example:
        >>> read_written("{no: [7]}", "the list")
        {'no': ['7']}
    """
    try:
        found: object = _Strict(text).get_single_data()
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise ConfigError(f"{what} cannot be read: {' '.join(str(error).split())}") from None
    return found


def map_in(
    value: object, what: str, keys: Collection[str] = (), optional: Collection[str] = ()
) -> dict[str, Any]:
    """A map; where keys are named, with all of them, and no others but the optional ones.

    Raises:
        ConfigError: It is something else, or a key is unknown or missing.
    """
    if not isinstance(value, dict):
        raise ConfigError(f"{what} must be a map, not {_kind(value)}")
    known = (*keys, *optional)
    for key in value if known else ():
        if key not in known:
            raise ConfigError(unknown_name(f"key of {what}", shown(key), known))
    for key in keys:
        if key not in value:
            raise ConfigError(f"{what} has no key '{key}'")
    return value


def texts_in(value: object, what: str) -> tuple[str, ...]:
    """A list of texts, in order.

    Raises:
        ConfigError: It is something else.
    """
    if not isinstance(value, list):
        raise ConfigError(f"{what} must be a list, not {_kind(value)}")
    return tuple(sorted(text_in(one, f"each of {what}") for one in value))


def text_in(value: object, what: str) -> str:
    """A text.

    Raises:
        ConfigError: It is something else.
    """
    if not isinstance(value, str):
        raise ConfigError(f"{what} must be a text, not {_kind(value)}")
    return value


def _kind(value: object) -> str:
    kinds: Collection[tuple[type, str]] = ((dict, "a map"), (list, "a list"), (str, "a text"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "nothing")
