"""The engine without a compiler: plans in plain torch, on any device, differentiable repeatedly.

One-wire gates between two others are multiplied into one matrix first (``chains.py``), and
neighbouring wires are treated together (``torch_program.py``). Gradients come from one backward
sweep (adjoint, Jones and Gacon 2020) that undoes the steps of ``torch_steps.py``, so that memory
does not grow with depth. Second and forward-mode derivatives and ``torch.func`` go through the
same forward steps under torch's own autograd. On a GPU, shapes that come again are replayed as CUDA
graphs (``cuda_graph.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor
from torch._C import _functorch as functorch
from torch.autograd import forward_ad

from qfl.errors import ConfigError
from qfl.quantum.affine import Kind
from qfl.quantum.cuda_graph import Gradients, Recorded, Recordings, stream_of
from qfl.quantum.plan import Plan
from qfl.quantum.program import check
from qfl.quantum.torch_program import cut
from qfl.quantum.torch_sweep import Kept, Sweep

# Larger passes keep a GPU busy by themselves, and recorded ones hold their memory.
_LARGEST_RECORDED = 1 << 29


class TorchEngine:
    """Runs a plan with torch operations, on any device; float32 or float64.

    Args:
        plan: What to run.

    Raises:
        ConfigError: The plan is wrong in itself.

    Example:
        >>> from qfl.quantum.plan import Angle, Expectations, PauliTerm, Rotation
        >>> plan = Plan(1, (Rotation(0, 1, Angle("weight")),),
        ...             Expectations(((PauliTerm(1.0, "Z"),),)), 0, 1)
        >>> TorchEngine(plan)(torch.zeros(2, 0), torch.tensor([torch.pi])).tolist()
        [[-1.0], [-1.0]]
    """

    name = "torch"

    def __init__(self, plan: Plan) -> None:
        check(plan)
        self.plan = plan
        self._program = cut(plan)
        self._sweeps: dict[tuple[torch.device, torch.dtype], Sweep] = {}
        self._recordings = Recordings()

    def __call__(self, inputs: Tensor, weights: Tensor, copies: int | None = None) -> Tensor:
        """Outputs of the circuit, differentiable as often as wanted.

        Args:
            inputs: (batch, columns of the plan), float32 or float64.
            weights: n_weights in any shape, of the same type and device; or (copies, n_weights).
            copies: Run so many times on the same inputs, each time with weights of its own.

        Returns:
            (batch, outputs), or (copies, batch, outputs), of the same type.

        Raises:
            ConfigError: Shapes, types or devices are others.
        """
        self._check(inputs, weights, copies)
        if not len(inputs):
            leading = () if copies is None else (copies,)
            nothing = inputs.new_zeros((*leading, 0, self.plan.outputs))
            return nothing + 0 * (inputs.sum() + weights.sum())
        if _in_transform(inputs, weights):
            return self.run(inputs, weights, copies)[0]
        return cast(Tensor, _Run.apply(inputs, weights, self, copies))  # type: ignore[no-untyped-call]

    def per_sample_gradients(
        self, inputs: Tensor, weights: Tensor, grad_outputs: Tensor, copies: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Gradient of each sample's ``(outputs * grad_outputs).sum()`` by its inputs and weights.

        Args:
            inputs: (batch, columns of the plan).
            weights: (n_weights,), or (copies, n_weights).
            grad_outputs: (batch, outputs), or (copies, batch, outputs).
            copies: As in a call.

        Returns:
            (batch, columns), and (batch, n_weights) or (copies, batch, n_weights).

        Raises:
            ConfigError: Shapes, types or devices are others.
        """
        self._check(inputs, weights, copies)
        runs, batch, n_weights = copies or 1, len(inputs), self.plan.n_weights
        leading = (batch,) if copies is None else (copies, batch)
        if grad_outputs.shape != (*leading, self.plan.outputs):
            raise ConfigError(
                f"grad_outputs have shape {tuple(grad_outputs.shape)}: "
                f"{(*leading, self.plan.outputs)} is needed"
            )
        if not batch:
            return torch.zeros_like(inputs), weights.new_zeros((*leading, n_weights))
        with torch.no_grad(), _exact(inputs):
            # Every sample becomes a copy of its own, with a batch of one.
            own = inputs.repeat(runs, 1)[:, None]
            rows = weights.reshape(runs, n_weights).repeat_interleave(batch, dim=0)
            sweep = self._sweep(inputs)
            _, kept = sweep.forward(own, rows)
            grads = grad_outputs.reshape(runs * batch, 1, -1)
            by_inputs, by_weights = sweep.backward(kept, grads, (True, True))
            assert by_inputs is not None and by_weights is not None
        return (
            by_inputs.reshape(runs, *inputs.shape).sum(0),
            by_weights.reshape(*leading, n_weights),
        )

    def bytes_needed(self, batch: int, dtype: torch.dtype) -> int:
        """Upper estimate of memory for values and gradients of a batch."""
        return self._program.bytes_needed(batch, 8 if dtype == torch.float64 else 4)

    def run(self, inputs: Tensor, weights: Tensor, copies: int | None) -> tuple[Tensor, Kept]:
        """Outputs for arguments that have been checked, and what :meth:`pull` needs."""
        with _exact(inputs):
            rows = weights.reshape(copies or 1, self.plan.n_weights)
            outputs, kept = self._sweep(inputs).forward(inputs.unsqueeze(0), rows)
        return outputs.squeeze(0) if copies is None else outputs, kept

    def pull(
        self, kept: Kept, grad_outputs: Tensor, wanted: Sequence[bool], shape: torch.Size
    ) -> Gradients:
        """Gradients by inputs and by weights, which have this shape; None where not wanted."""
        inputs = kept.given.inputs
        with _exact(inputs):
            grads = grad_outputs.reshape(-1, *grad_outputs.shape[-2:])
            by_inputs, by_weights = self._sweep(inputs).backward(kept, grads, wanted)
        return (
            None if by_inputs is None else by_inputs.squeeze(0),
            None if by_weights is None else by_weights.reshape(shape),
        )

    def recorded(
        self, inputs: Tensor, weights: Tensor, copies: int | None, wanted: Sequence[bool]
    ) -> Recorded | None:
        """These passes as CUDA graphs, where they are worth it."""
        stream = stream_of(inputs.device)
        if stream is None:
            return None
        samples, shape = (copies or 1) * len(inputs), weights.shape

        def run(inputs: Tensor, weights: Tensor) -> tuple[Tensor, Kept]:
            return self.run(inputs, weights, copies)

        def pull(kept: Kept, grad_outputs: Tensor) -> Gradients:
            return self.pull(kept, grad_outputs, wanted, shape)

        def make() -> Recorded | None:
            if self.bytes_needed(samples, inputs.dtype) > _LARGEST_RECORDED:
                return None
            return Recorded(run, pull if any(wanted) else None, inputs, weights)

        key = inputs.device, stream, inputs.dtype, inputs.shape, shape, copies
        return self._recordings.find((*key, tuple(wanted)), make)

    def _sweep(self, like: Tensor) -> Sweep:
        key = (like.device, like.dtype)
        found = self._sweeps.get(key)
        if found is None:
            found = self._sweeps[key] = Sweep(self._program, Kind(*key))
        return found

    def _check(self, inputs: Tensor, weights: Tensor, copies: int | None) -> None:
        plan = self.plan
        if inputs.dim() != 2 or inputs.shape[1] != plan.columns:
            raise ConfigError(
                f"inputs have shape {tuple(inputs.shape)}: (batch, {plan.columns}) is needed"
            )
        if inputs.dtype not in (torch.float32, torch.float64):
            raise ConfigError(f"inputs are {inputs.dtype}: float32 or float64 is needed")
        if weights.numel() != (copies or 1) * plan.n_weights:
            raise ConfigError(
                f"weights have shape {tuple(weights.shape)}: {plan.n_weights} are needed"
                + ("" if copies is None else f" for each of {copies} copies")
            )
        if weights.dtype != inputs.dtype or weights.device != inputs.device:
            raise ConfigError(
                f"weights are {weights.dtype} on {weights.device} and inputs {inputs.dtype} on "
                f"{inputs.device}: make them equal"
            )


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weights: Tensor, engine: TorchEngine, copies: int | None
    ) -> Tensor:
        ctx.engine, ctx.copies = engine, copies
        ctx.recorded = engine.recorded(inputs, weights, copies, ctx.needs_input_grad[:2])
        if ctx.recorded is not None:
            ctx.save_for_backward(inputs, weights)
            outputs, ctx.token = ctx.recorded.forward(inputs, weights)
        else:
            outputs, kept = engine.run(inputs, weights, copies)
            ctx.given, ctx.vectors = kept.given, kept.vectors
            ctx.save_for_backward(inputs, weights, kept.state)
        return cast(Tensor, outputs)

    @staticmethod
    def backward(ctx: Any, grad_outputs: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        inputs, weights, *state = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:2]
        # Grad mode is on here only under create_graph=True.
        if torch.is_grad_enabled() or _in_transform(grad_outputs):
            found = _by_autograd(ctx.engine, inputs, weights, ctx.copies, grad_outputs, wanted)
        elif ctx.recorded is not None:
            found = ctx.recorded.backward(ctx.token, inputs, weights, grad_outputs)
        else:
            kept = Kept(ctx.given, state[0], ctx.vectors)
            found = ctx.engine.pull(kept, grad_outputs, wanted, weights.shape)
        return *found, None, None


def _by_autograd(
    engine: TorchEngine,
    inputs: Tensor,
    weights: Tensor,
    copies: int | None,
    grad_outputs: Tensor,
    wanted: Sequence[bool],
) -> Gradients:
    """Gradients that can be differentiated, or that ``torch.func`` can look into."""
    further = torch.is_grad_enabled()
    with torch.enable_grad():
        outputs, _ = engine.run(inputs, weights, copies)
        arguments = [argument for argument, by in zip((inputs, weights), wanted, strict=True) if by]
        found = torch.autograd.grad(
            outputs, arguments, grad_outputs, create_graph=further, allow_unused=True
        )
    by_each = iter(found)
    by_inputs, by_weights = (next(by_each) if by else None for by in wanted)
    return by_inputs, by_weights


def _in_transform(*tensors: Tensor) -> bool:
    """Whether forward-mode derivatives or ``torch.func`` look at tensors."""
    return forward_ad._current_level >= 0 or any(
        functorch.is_functorch_wrapped_tensor(tensor) or functorch.is_legacy_batchedtensor(tensor)
        for tensor in tensors
    )


def _exact(like: Tensor) -> AbstractContextManager[Any]:
    """Autocast would multiply phases and signs in half precision."""
    kind = like.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()
