"""What goes into a model: rows of the right width; and into its circuits: angles."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from qfl.errors import DataError


def check_width(x: Tensor, features: int) -> None:
    """Refuse rows that a model was not made for.

    Raises:
        DataError: The last dimension has another size.

    Example:
        >>> check_width(torch.zeros(5, 3), 4)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        qfl.errors.DataError: this model takes 4 features; an array of shape (5, 3) was given: ...
    """
    if x.ndim == 0 or x.shape[-1] != features:
        raise DataError(
            f"this model takes {features} features; an array of shape {tuple(x.shape)} was given: "
            f"its last dimension must be {features}"
        )


def largest_angle(encoding: str, n_qubits: int) -> float:
    """Bound of the angles that an encoding gets, in radians.

    A quarter turn to either side: over it <Z> = -sin(angle) never turns back. For ``iqp`` less on
    many wires: each wire's expectation holds a factor cos(x y) for each of the n - 1 others, and
    with full angles their product is next to nothing. Within (n - 1)^(-1/4) the squares of these
    n - 1 products of angles sum to at most 1. A narrow bandwidth is what keeps a quantum kernel
    from concentrating (Shaydulin, Wild 2022, "Importance of kernel bandwidth in quantum machine
    learning").

    Example:
        >>> round(largest_angle("angle", 8), 3), round(largest_angle("iqp", 8), 3)
        (1.571, 0.615)
    """
    if encoding == "iqp" and n_qubits > 1:
        return min(math.pi / 2, 1 / math.sqrt(math.sqrt(n_qubits - 1)))
    return math.pi / 2


def squash(x: Tensor, largest: float = math.pi / 2) -> Tensor:
    """Any numbers to angles between ``-largest`` and ``largest``."""
    return largest * torch.tanh(x)
