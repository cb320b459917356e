"""Models: plain torch modules, built from a configuration and the shape of the data."""

from __future__ import annotations

from qfl.models.build import (
    DataShape,
    build_model,
    count_parameters,
    initial_model,
    register_model,
)
from qfl.models.twin import twin_of

__all__ = [
    "DataShape",
    "build_model",
    "count_parameters",
    "initial_model",
    "register_model",
    "twin_of",
]
