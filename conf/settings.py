"""How a schema's field says what it means and what it allows."""

from __future__ import annotations

from dataclasses import field
from typing import Any, TypeVar

T = TypeVar("T")


def setting(default: Any, meaning: str, **allowed: Any) -> Any:
    """A dataclass field with its meaning and what is allowed.

    Args:
        default: The value when nobody sets the field.
        meaning: One line for the reference.
        **allowed: ``ge``, ``gt``, ``le``, ``lt`` for numbers, ``choices`` for names.
    """
    return field(default=default, metadata={"meaning": meaning, **allowed})


def part(kind: type[T]) -> T:
    """A field that holds another schema."""
    made: T = field(default_factory=kind)
    return made
