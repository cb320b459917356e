"""From Hydra's world to ours: register the schemas, compose, translate errors."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qfl.conf import schema
from qfl.conf.checks import from_dict
from qfl.conf.schema import MODEL_CONFIGS, ExperimentConfig
from qfl.errors import ConfigError, QflError, unknown_name

CONFIG_NAME = "config"
VERSION_BASE = "1.3"


def register_schemas() -> None:
    """Tell Hydra about the schemas; model schemas of your own included."""
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    store = ConfigStore.instance()
    whole = OmegaConf.structured(ExperimentConfig)
    whole.model = "???"  # comes from the group, whose schemas differ
    store.store(group="schema", name="experiment", package="_global_", node=whole)
    for name, node in {
        "dataset": schema.DatasetConfig,
        "partition": schema.PartitionConfig,
        "quantum": schema.QuantumConfig,
        "client": schema.ClientConfig,
        "strategy": schema.StrategyConfig,
        "privacy": schema.PrivacyConfig,
        "identity": schema.IdentityConfig,
        **MODEL_CONFIGS,
    }.items():
        store.store(group="schema", name=name, node=node)


def typed(composed: Any) -> ExperimentConfig:
    """A composed configuration as dataclasses, checked.

    Raises:
        ConfigError: Names the field, the value and what is allowed.
    """
    from omegaconf import OmegaConf

    ours = OmegaConf.masked_copy(composed, [key for key in composed if key != "hydra"])
    plain = OmegaConf.to_container(ours, resolve=True)
    assert isinstance(plain, dict)
    return from_dict({str(key): value for key, value in plain.items()})


def load_config(
    overrides: Sequence[str] = (), config_dir: str | Path | None = None
) -> ExperimentConfig:
    """Compose an experiment as the command line does.

    Args:
        overrides: Such as ``["experiment=demo", "rounds=3"]``.
        config_dir: Folder with configuration files of your own.

    Raises:
        ConfigError: Something in it is not allowed.

    Example:
        >>> load_config(["experiment=demo", "rounds=3"]).rounds
        3
    """
    from hydra import compose, initialize_config_module
    from hydra.core.global_hydra import GlobalHydra

    register_schemas()
    extra = [f"hydra.searchpath=[file://{Path(config_dir).absolute()}]"] if config_dir else []
    GlobalHydra.instance().clear()
    try:
        with initialize_config_module("qfl.conf", version_base=VERSION_BASE):
            composed = compose(CONFIG_NAME, [*extra, *overrides], return_hydra_config=True)
        choices = composed.hydra.runtime.choices
        composed.name = str(choices.get("experiment")) if _is_choice(composed) else composed.name
        return typed(composed)
    except Exception as error:
        raise translate(error) from None


def _is_choice(composed: Any) -> bool:
    raw = composed._get_node("name")._value()
    return isinstance(raw, str) and "runtime.choices" in raw


def translate(error: BaseException) -> QflError:
    """One clear sentence for what Hydra or OmegaConf refused; other errors come back as they are.

    Returns:
        A :class:`ConfigError`, or the error itself where it is ours.

    Raises:
        BaseException: The error, where it has nothing to do with configuration.
    """
    if isinstance(error, QflError):
        return error
    from hydra.errors import HydraException, MissingConfigException, OverrideParseException
    from omegaconf.errors import ConfigKeyError, OmegaConfBaseException, ValidationError

    chain = list(_causes(error))
    for link in chain:
        if isinstance(link, ConfigKeyError | AttributeError) and hasattr(link, "full_key"):
            return ConfigError(_unknown_key(link))
        if isinstance(link, ValidationError):
            first = str(link).splitlines()[0].rstrip(".")
            return ConfigError(f"{getattr(link, 'full_key', None) or 'configuration'}: {first}")
        if isinstance(link, OverrideParseException):
            what = str(link).splitlines()[0]
            return ConfigError(f"cannot read '{link.override}': {what}; an override is KEY=VALUE")
        if isinstance(link, MissingConfigException) and link.missing_cfg_file:
            group, _, name = str(link.missing_cfg_file).rpartition("/")
            return ConfigError(unknown_name(group or "configuration", name, link.options or []))
    if any(isinstance(link, HydraException | OmegaConfBaseException) for link in chain):
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return ConfigError("; ".join(lines[:3]))
    raise error


def _unknown_key(error: Any) -> str:
    full = str(error.full_key or error.key)
    prefix, _, key = full.rpartition(".")
    kind = getattr(error, "object_type", None)
    known = getattr(kind, "__dataclass_fields__", None)
    if known is None:
        match = re.search(r"Key '([^']+)' not in '(\w+)'", str(error))
        kind = getattr(schema, match.group(2), None) if match else None
        known = getattr(kind, "__dataclass_fields__", {})
        key = match.group(1) if match else key
    where = f"{prefix}." if prefix else ""
    return unknown_name("key", f"{where}{key}", [f"{where}{name}" for name in known])


def _causes(error: BaseException | None) -> Any:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
