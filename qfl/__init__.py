"""Quantum federated learning from edge devices to cloud servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "load_config", "simulate"]

if TYPE_CHECKING:
    from qfl.federation.compose import load_config as load_config
    from qfl.federation.simulate import simulate as simulate

_HOMES = {"load_config": "qfl.federation.compose", "simulate": "qfl.federation.simulate"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'qfl' has no attribute '{name}'")
