"""A captured circuit, ready to run: computed columns in front of an engine, states behind it."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

from qfl.errors import ConfigError
from qfl.quantum.columns import Columns, eager_on_cpu
from qfl.quantum.engines import Engine
from qfl.quantum.kernel_engine import KernelEngine, check_finite
from qfl.quantum.memory import check_free
from qfl.quantum.plan import Angle, Plan, Rotation, StateVector
from qfl.quantum.private import Found, together
from qfl.quantum.torch_engine import TorchEngine


class Compiled:
    """A plan on an engine.

    Args:
        plan: What runs.
        engine: What runs it.
        columns: What the circuit computes from its inputs and weights first; None for nothing.
    """

    def __init__(self, plan: Plan, engine: Engine, columns: Columns | None) -> None:
        self.plan = plan
        self.engine = engine
        self._columns = columns
        self._in_torch: TorchEngine | None = None
        self._is_state = isinstance(plan.measurement, StateVector)
        self._gives_all = (
            isinstance(engine, KernelEngine | TorchEngine)
            and not self._is_state
            and (columns is None or not (columns.mixes or columns.by_weights))
        )

    def __call__(
        self,
        inputs: Tensor,
        weights: Tensor,
        copies: int | None = None,
        found: Found | None = None,
    ) -> Tensor:
        """Outputs of the circuit.

        Args:
            inputs: (batch, features).
            weights: All trainable numbers, in any shape; the copies' ones after each other.
            copies: As engines take it.
            found: Where :meth:`gives_all`: the backward pass calls it with each sample's own
                gradient, (batch, n_weights) or (copies, batch, n_weights), and gives ``weights``
                none.

        Returns:
            (batch, outputs) or (copies, batch, outputs); complex where the state is measured.

        Raises:
            DataError: On a CPU, a number is infinite or none, or a row is no direction of a state.
        """
        columns = self._columns
        if columns is not None and copies is not None and columns.by_weights:
            rows = weights.reshape(copies, -1)
            return torch.stack([self(inputs, row) for row in rows])
        if columns is not None:
            inputs, weights = self._extended(inputs, weights, copies)
        engine = self._engine_for(inputs, weights)
        # The kernel looks itself; on a GPU looking would stop the queue.
        if engine.name != "kernel" and eager_on_cpu(inputs, weights):
            check_finite(inputs, weights)
        if isinstance(engine, KernelEngine) and found is not None:
            return engine(inputs, weights, copies, found)
        if isinstance(engine, TorchEngine) and found is not None:
            return together(engine, inputs, weights, copies, found)
        outputs = engine(inputs, weights, copies)
        return self._state(outputs, inputs, weights, copies) if self._is_state else outputs

    def gives_all(self, inputs: Tensor) -> bool:
        """Whether one backward pass gives gradients by inputs and each sample's own by weights."""
        return self._gives_all and len(inputs) > 0

    def per_sample_gradients(
        self, inputs: Tensor, weights: Tensor, grad_outputs: Tensor, copies: int | None = None
    ) -> Tensor | None:
        """Each sample's own gradient by the weights; None where no engine gives them at once.

        Returns:
            (batch, n_weights) or (copies, batch, n_weights).

        Raises:
            ConfigError: The circuit computes one sample's angles from other samples.
        """
        if self._columns is not None and self._columns.mixes:
            raise ConfigError(
                "this circuit computes a sample's angles from other samples too, so that none has "
                "gradients of its own: compute them outside of the circuit, or take no mean over "
                "the batch"
            )
        columns, engine = self._columns, self._engine_for(inputs, weights, grad_outputs)
        if grad_outputs.is_complex() or not isinstance(engine, KernelEngine | TorchEngine):
            return None
        if not len(inputs):
            leading = () if copies is None else (copies,)
            return weights.new_zeros((*leading, 0, weights.numel() // (copies or 1)))
        if columns is None:
            return engine.per_sample_gradients(inputs, weights, grad_outputs, copies)[1]
        if not columns.by_weights:
            inputs, weights = self._extended(inputs, weights, copies)
            return engine.per_sample_gradients(inputs, weights, grad_outputs, copies)[1]
        rows, upstream = (
            weights.reshape(copies or 1, -1),
            grad_outputs.reshape(copies or 1, *grad_outputs.shape[-2:]),
        )
        found = [
            self._through_columns(engine, columns, inputs, *pair)
            for pair in zip(rows, upstream, strict=True)
        ]
        return found[0] if copies is None else torch.stack(found)

    @staticmethod
    def _through_columns(
        engine: KernelEngine | TorchEngine,
        columns: Columns,
        inputs: Tensor,
        weights: Tensor,
        grad_outputs: Tensor,
    ) -> Tensor:
        gradients = engine.per_sample_gradients(*columns(inputs, weights), grad_outputs)

        def one(sample: Tensor, by_columns: Tensor, by_entries: Tensor) -> Tensor:
            pull = torch.func.vjp(lambda entries: columns(sample[None], entries), weights)[1]
            by_weights: Tensor = pull((by_columns[None], by_entries))[0]
            return by_weights

        found: Tensor = torch.func.vmap(one)(inputs, *gradients)
        return found

    def check_memory(self, batch: int, like: Tensor, copies: int | None = None) -> None:
        """Refuse a batch that does not fit.

        Raises:
            ConfigError: Says how much it would need and how much there is.
        """
        needed = self.engine.bytes_needed(batch, like.dtype) * (copies or 1)
        check_free(needed, self.plan.n_wires, batch, like)

    def describe(self, batch: int) -> list[str]:
        """Size, gates, depth and memory, in words."""
        plan = self.plan
        counts = Counter(type(operation).__name__ for operation in plan.operations)
        gates = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
        computed = "" if self._columns is None else ", some computed by torch first"
        needed = self.engine.bytes_needed(batch, torch.float32)
        return [
            f"{plan.n_wires} wires, {plan.columns} columns{computed}, {plan.n_weights} weights, "
            f"{plan.outputs} outputs",
            f"{len(plan.operations)} operations ({gates}), depth {depth(plan)}",
            f"about {needed / 2**20:,.1f} MiB for values and gradients of a batch of {batch}",
        ]

    def _extended(
        self, inputs: Tensor, weights: Tensor, copies: int | None
    ) -> tuple[Tensor, Tensor]:
        assert self._columns is not None
        if copies is None:
            return self._columns(inputs, weights.reshape(-1))
        extended, _ = self._columns(inputs, weights.reshape(copies, -1)[0])
        return extended, weights

    def _engine_for(self, *tensors: Tensor) -> Engine:
        if self.engine.name != "kernel" or eager_on_cpu(*tensors):
            return self.engine
        if self._in_torch is None:
            self._in_torch = TorchEngine(self.plan)
        return self._in_torch

    def _state(
        self, outputs: Tensor, inputs: Tensor, weights: Tensor, copies: int | None
    ) -> Tensor:
        state = torch.complex(*outputs.chunk(2, dim=-1))
        assert isinstance(self.plan.measurement, StateVector)
        phase = self.plan.measurement.phase
        if not phase:
            return state
        rows = weights.reshape(1 if copies is None else copies, -1)
        turn = torch.stack([_sum(phase, inputs, row) for row in rows])
        turn = turn if copies is not None else turn[0]
        return state * torch.polar(torch.ones_like(turn), turn)[..., None]


def _sum(angles: tuple[Angle, ...], inputs: Tensor, weights: Tensor) -> Tensor:
    total = inputs.new_zeros(len(inputs))
    for angle in angles:
        if angle.source == "input":
            total = total + angle.scale * inputs[:, angle.index]
        elif angle.source == "weight":
            total = total + angle.scale * weights[angle.index]
        total = total + angle.offset
    return total


def depth(plan: Plan) -> int:
    """Operations on the longest path from a first to a last one."""
    reached = [0] * plan.n_wires
    for operation in plan.operations:
        wires = (operation.wire,) if isinstance(operation, Rotation) else operation.wires
        after = 1 + max(reached[wire] for wire in wires)
        for wire in wires:
            reached[wire] = after
    return max(reached)
