"""``docs/configuration.md``, written from the schemas: ``python -m qfl.conf.reference``."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from qfl.conf.checks import describe_allowed
from qfl.conf.schema import MODEL_CONFIGS, ExperimentConfig, ModelConfig

_HEAD = """\
# Configuration

Every key that an experiment can set. Written from the schemas in `conf/schema.py` by
`make configuration-reference`; a test keeps it current.

Keys go on the command line (`qfl simulate experiment=demo client.lr=0.02`) or into an experiment
file. A group's options are files in `conf/GROUP/`: `dataset=iris`, `strategy=plain`. A misspelt
key, a wrong type and a value out of range are refused before anything starts, with the field, the
value and what is allowed.
"""


def reference() -> str:
    """The page, as Markdown."""
    sections = [_HEAD, "\n".join(_table("Experiment", ExperimentConfig, ""))]
    for item in fields(ExperimentConfig):
        kind = get_type_hints(ExperimentConfig)[item.name]
        if kind is ModelConfig:
            for name, model in MODEL_CONFIGS.items():
                title = f"`model={name}`"
                sections.append("\n".join(_table(title, model, "model.")))
        elif is_dataclass(kind):
            sections.append("\n".join(_tables(f"`{item.name}`", kind, f"{item.name}.")))
    return "\n\n".join(section.rstrip() for section in sections) + "\n"


def _tables(title: str, kind: Any, prefix: str) -> Iterator[str]:
    yield from _table(title, kind, prefix)
    for name, hint in get_type_hints(kind).items():
        if is_dataclass(hint):
            yield ""
            yield from _tables(f"`{prefix}{name}`", hint, f"{prefix}{name}.")


def _table(title: str, kind: Any, prefix: str) -> Iterator[str]:
    yield f"## {title}"
    yield ""
    yield (kind.__doc__ or "").splitlines()[0].replace("``", "`")
    yield ""
    options = _options(prefix.rstrip("."))
    if options:
        yield f"Options: {', '.join(f'`{option}`' for option in options)}."
        yield ""
    yield "| key | type | default | allowed | meaning |"
    yield "|---|---|---|---|---|"
    hints = get_type_hints(kind)
    for item in fields(kind):
        hint = hints[item.name]
        if is_dataclass(hint):
            continue
        allowed = describe_allowed(item.metadata).replace("|", "\\|")
        meaning = item.metadata["meaning"]
        default = json.dumps(_default(item))
        yield f"| `{prefix}{item.name}` | {_type(hint)} | `{default}` | {allowed} | {meaning} |"


def _options(group: str) -> list[str]:
    folder = Path(__file__).parent / group
    return sorted(path.stem for path in folder.glob("*.yaml")) if group else []


def _default(item: Field[Any]) -> Any:
    return None if item.default is MISSING else item.default


def _type(hint: Any) -> str:
    if get_origin(hint) in (Union, types.UnionType):
        names = [_type(part) for part in get_args(hint) if part is not type(None)]
        return " or ".join([*names, "null"])
    return {"str": "text", "float": "number", "int": "integer", "bool": "true, false"}[
        hint.__name__
    ]


if __name__ == "__main__":
    sys.stdout.write(reference())
