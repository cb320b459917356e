"""Each sample's own gradients by a circuit's weights, out of the one backward pass that there is.

Autograd sums gradients by weights over the batch; DP-SGD needs them apart. The sweep that gives
gradients by the inputs has every sample's gradients by the weights at hand, and hands them over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor

Found = Callable[[Tensor], None]
"""Takes (batch, n_weights), or (copies, batch, n_weights)."""


class PerSampleEngine(Protocol):
    """An engine that gives gradients of one sample and another apart."""

    def __call__(self, inputs: Tensor, weights: Tensor, copies: int | None = None) -> Tensor:
        """Outputs."""

    def per_sample_gradients(
        self, inputs: Tensor, weights: Tensor, grad_outputs: Tensor, copies: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Gradients by inputs, and each sample's own by weights."""


def together(
    engine: PerSampleEngine, inputs: Tensor, weights: Tensor, copies: int | None, found: Found
) -> Tensor:
    """Outputs of an engine, whose backward pass calls ``found`` with the gradients by weights."""
    return cast(Tensor, _Together.apply(inputs, weights, engine, copies, found))  # type: ignore[no-untyped-call]


def apart(
    run: Callable[[Tensor], Tensor],
    backward: Callable[[Tensor, Tensor], None],
    inputs: Tensor,
    weights: Sequence[Tensor],
) -> Tensor:
    """The same where gradients by weights need a pass of their own.

    Args:
        run: Inputs to outputs, by autograd.
        backward: Gets the inputs and the gradients by the outputs.
        inputs: Of the circuit.
        weights: What ``run`` uses besides; they get no gradients.
    """
    return cast(Tensor, _Apart.apply(run, backward, inputs, *weights))  # type: ignore[no-untyped-call]


class _Together(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        weights: Tensor,
        engine: PerSampleEngine,
        copies: int | None,
        found: Found,
    ) -> Tensor:
        ctx.save_for_backward(inputs, weights)
        ctx.engine, ctx.copies, ctx.found = engine, copies, found
        return engine(inputs, weights, copies)

    @staticmethod
    def backward(ctx: Any, grad_outputs: Tensor) -> tuple[Tensor, None, None, None, None]:
        inputs, weights = ctx.saved_tensors
        by_inputs, by_weights = ctx.engine.per_sample_gradients(
            inputs, weights, grad_outputs, ctx.copies
        )
        ctx.found(by_weights)
        return by_inputs, None, None, None, None


class _Apart(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        run: Callable[[Tensor], Tensor],
        backward: Callable[[Tensor, Tensor], None],
        inputs: Tensor,
        *weights: Tensor,
    ) -> Tensor:
        with torch.enable_grad():
            ctx.inputs = inputs.detach().requires_grad_()
            ctx.outputs = run(ctx.inputs)
        ctx.found = backward
        return cast(Tensor, ctx.outputs.detach())

    @staticmethod
    def backward(ctx: Any, grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        ctx.found(ctx.inputs.detach(), grad_outputs)
        by_inputs = None
        if ctx.needs_input_grad[2]:
            (by_inputs,) = torch.autograd.grad(
                ctx.outputs, ctx.inputs, grad_outputs, allow_unused=True
            )
        return None, None, by_inputs, *(None for _ in ctx.needs_input_grad[3:])
