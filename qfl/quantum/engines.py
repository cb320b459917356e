"""The engines that run plans, and which one a plan gets."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from qfl.errors import ConfigError, unknown_name
from qfl.quantum.plan import Plan
from qfl.quantum.torch_engine import TorchEngine

ENGINES = ("auto", "kernel", "torch", "pennylane")


class Engine(Protocol):
    """Runs one plan."""

    @property
    def name(self) -> str:
        """Name in the configuration."""

    def __call__(self, inputs: Tensor, weights: Tensor, copies: int | None = None) -> Tensor:
        """(batch, columns) and n_weights to (batch, outputs), in the type of ``inputs``.

        With ``copies``: (copies, n_weights) to (copies, batch, outputs), on the same inputs.
        """

    def bytes_needed(self, batch: int, dtype: torch.dtype) -> int:
        """Upper estimate of memory for values and gradients of a batch."""


def check_engine(wanted: str) -> None:
    """Refuse an unknown engine.

    Raises:
        ConfigError: The name is not one of :data:`ENGINES`.
    """
    if wanted not in ENGINES:
        raise ConfigError(unknown_name("engine", wanted, ENGINES))


def choose_engine(plan: Plan, wanted: str, threads: int = 1) -> tuple[Engine, str]:
    """An engine for a plan, and why it is this one.

    Args:
        plan: What is to run.
        wanted: ``auto`` takes the kernel where it is built and runs the plan, else torch.
        threads: The kernel's threads.

    Raises:
        ConfigError: The engine that is asked for by name cannot run this.
    """
    if wanted == "torch":
        return TorchEngine(plan), "asked for"
    reason = kernel_refuses(plan)
    if reason is None:
        from qfl.quantum.kernel_engine import KernelEngine

        why = "asked for" if wanted == "kernel" else "the fastest here"
        return KernelEngine(plan, threads), why
    if wanted == "kernel":
        raise ConfigError(f"quantum.engine=kernel cannot run this circuit: {reason}")
    return TorchEngine(plan), f"the kernel cannot be used: {reason}"


def kernel_refuses(plan: Plan) -> str | None:
    """Why the kernel cannot run a plan; None where it can."""
    from qfl.quantum.kernel_engine import KernelEngine

    return KernelEngine.available() or KernelEngine.refuses(plan)
