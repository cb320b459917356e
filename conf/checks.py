"""Checks of a configuration: unknown keys, types, ranges, and what contradicts what.

Used on what Hydra composed and on what a client received over the wire alike; the second is
data from somebody else, so nothing here imports or instantiates a name found in it.
"""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

from qfl.conf.privacy_checks import check_privacy
from qfl.conf.schema import MODEL_CONFIGS, ExperimentConfig, ModelConfig, QuantumConfig
from qfl.conf.trust import check_fewest, check_release, check_trust
from qfl.errors import ConfigError, unknown_name


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as plain, JSON-ready data."""
    return asdict(config)


def from_dict(data: Mapping[str, Any]) -> ExperimentConfig:
    """Build and check an experiment from plain data, such as parsed JSON.

    Raises:
        ConfigError: A key is unknown, or a value has a wrong type or is out of range.

    Example:
        >>> from_dict({"rounds": 3}).rounds
        3
        >>> from_dict({"rounds": -1})
        Traceback (most recent call last):
        ...
        qfl.errors.ConfigError: rounds=-1 is not allowed: must be >= 1
    """
    config: ExperimentConfig = _build(ExperimentConfig, data, "")
    check(config)
    return config


def check(config: ExperimentConfig) -> None:
    """Check ranges and contradictions of a typed configuration.

    Raises:
        ConfigError: Names the field, the value and what is allowed.
    """
    _check_ranges(config, "")
    _check_together(config)


def describe_allowed(metadata: Mapping[str, Any]) -> str:
    """What a field allows, in words; empty when its type says it all."""
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    parts = [f"{sign} {metadata[key]}" for key, sign in signs.items() if key in metadata]
    if "choices" in metadata:
        parts.append("one of " + ", ".join(metadata["choices"]))
    return " and ".join(parts)


def _check_ranges(node: Any, prefix: str) -> None:
    for item in fields(node):
        value, where = getattr(node, item.name), f"{prefix}{item.name}"
        if is_dataclass(value):
            _check_ranges(value, f"{where}.")
        elif value is not None and not _within(value, item.metadata):
            raise ConfigError(
                f"{where}={value} is not allowed: must be {describe_allowed(item.metadata)}"
            )


def _within(value: Any, allowed: Mapping[str, Any]) -> bool:
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return (
        ("ge" not in allowed or value >= allowed["ge"])
        and ("gt" not in allowed or value > allowed["gt"])
        and ("le" not in allowed or value <= allowed["le"])
        and ("lt" not in allowed or value < allowed["lt"])
        and ("choices" not in allowed or value in allowed["choices"])
    )


def _check_together(config: ExperimentConfig) -> None:
    _check_quantum(config.quantum)
    strategy = config.strategy
    check_trust(strategy.scheme, strategy.trust, "strategy.")
    check_release(strategy.scheme, strategy.trust, strategy.release, "strategy.")
    needed = strategy.min_clients
    check_fewest(strategy.scheme, needed, "strategy.")
    _check_committee(config)
    check_privacy(config)
    if config.identity.name != "none" and strategy.selection.name == "by_size":
        raise ConfigError(
            f"strategy.selection=by_size is not possible with identity={config.identity.name}: no "
            "client tells its number of examples in the clear; use all, fraction or count"
        )
    if config.identity.name != "none" and needed < 2:
        raise ConfigError(
            f"strategy.min_clients={needed} is not allowed with identity={config.identity.name}: "
            "nobody lets a sum of one update be opened; must be >= 2"
        )
    if config.clients < needed:
        raise ConfigError(
            f"clients={config.clients} is fewer than strategy.min_clients={needed}: raise "
            "clients, or use strategy=plain with strategy.min_clients=1"
        )
    selection = strategy.selection
    chosen = {
        "all": config.clients,
        "fraction": math.ceil(selection.fraction * config.clients - 1e-9),
        "count": selection.count,
        "by_size": selection.count,
    }[selection.name]
    if not needed <= chosen <= config.clients:
        raise ConfigError(
            f"strategy.selection={selection.name} picks {chosen} clients; must be between "
            f"strategy.min_clients={needed} and clients={config.clients}"
        )
    if config.dataset.name in ("csv", "parquet", "npz"):
        for key in ("path", "target"):
            if getattr(config.dataset, key) is None:
                raise ConfigError(
                    f"dataset.{key} is not set and dataset={config.dataset.name} needs it: "
                    f"add dataset.{key}=…"
                )


def _check_committee(config: ExperimentConfig) -> None:
    strategy = config.strategy
    size, threshold = strategy.committee, strategy.threshold
    if strategy.trust != "committee":
        return
    if size > config.clients:
        raise ConfigError(
            f"strategy.committee={size} is not allowed: its members are among the "
            f"clients={config.clients}"
        )
    if not size / 2 < threshold <= size:
        raise ConfigError(
            f"strategy.threshold={threshold} of strategy.committee={size} is not allowed: more "
            "than half must open together, or two groups could open two sums; at most all"
        )


def _check_quantum(quantum: QuantumConfig) -> None:
    asked = {"shots": quantum.shots, "mitigation": quantum.mitigation}
    asked |= {f"noise.{key}": value for key, value in asdict(quantum.noise).items()}
    for key, value in asked.items():
        if quantum.engine in ("kernel", "torch") and value not in (None, "none", 0):
            raise ConfigError(
                f"quantum.{key}={value} is not possible with quantum.engine={quantum.engine}, "
                "which computes exact expectations: set quantum.engine=pennylane"
            )


def _build(kind: Any, data: Any, prefix: str) -> Any:
    if not isinstance(data, Mapping):
        raise ConfigError(f"{prefix.rstrip('.') or 'configuration'}={data!r}: must be a mapping")
    if kind is ModelConfig:
        name = data.get("name", "qnn")
        if not isinstance(name, str) or name not in MODEL_CONFIGS:
            raise ConfigError(unknown_name("model", str(name), MODEL_CONFIGS))
        kind = MODEL_CONFIGS[name]
    hints = get_type_hints(kind)
    known = {item.name for item in fields(kind)}
    for key in data:
        if key not in known:
            raise ConfigError(unknown_name("key", f"{prefix}{key}", (prefix + k for k in known)))
    values = {key: _convert(hints[key], value, f"{prefix}{key}") for key, value in data.items()}
    return kind(**values)


def _convert(hint: Any, value: Any, where: str) -> Any:
    if is_dataclass(hint):
        return _build(hint, value, f"{where}.")
    if get_origin(hint) in (Union, types.UnionType):
        if value is None:
            return None
        hint = next(arg for arg in get_args(hint) if arg is not type(None))
    if type(value) is int and not -(2**63) <= value < 2**63:
        raise ConfigError(f"{where} is not allowed: must fit 64 bits")
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise ConfigError(
            f"{where}={value!r} is not allowed: must be of type {hint.__name__}, "
            f"not {type(value).__name__}"
        )
    return value
