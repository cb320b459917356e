"""Runs the numbers of a tape through its plan, with gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qfl.errors import DataError
from qfl.quantum.compiled import Compiled
from qfl.quantum.engines import choose_engine
from qfl.quantum.plan import Expectations, Plan, Probabilities

_CPU = torch.device("cpu")


class Runner:
    """A plan, and where its inputs and weights stand among a tape's parameters.

    Args:
        compiled: Plan and engine.
        batched: Parameters of the tape, by number, whose entries are columns of the batch.
        shared: Parameters whose entries are weights.
        prepared: Wires of the state that the first parameter gives; none where there is none.
    """

    def __init__(
        self, compiled: Compiled, batched: list[int], shared: list[int], prepared: list[int]
    ) -> None:
        self.plan: Plan = compiled.plan
        self._compiled = compiled
        self._twice: Compiled | None = None
        self._batched = batched
        self._shared = shared
        self._state = _places(self.plan.n_wires, prepared) if prepared else None
        # Parameters that results can be differentiated by.
        self.angles = sorted([*batched, *shared, *([0] if prepared else [])])

    def __call__(self, parameters: Sequence[Any], twice: bool = False) -> tuple[Tensor, ...]:
        """Results of a tape.

        Args:
            parameters: Of its operations, one after the other: numbers, arrays or tensors.
            twice: Gradients of gradients will be asked for.

        Returns:
            One for each measurement; (batch, …) where a parameter has a batch. float32 (complex64)
            where all tensors among the parameters are, else float64 (complex128).

        Raises:
            ConfigError: The batch does not fit into memory.
            DataError: A parameter is infinite, complex or not a number, or batches differ in size.
        """
        dtype, device = _kind(parameters)
        columns = [_angle(parameters[number], dtype, device) for number in self._batched]
        entries = [_angle(parameters[number], dtype, device) for number in self._shared]
        given = None if self._state is None else _tensor(parameters[0], dtype, device)
        batch = _batch([*columns, given] if given is not None and given.ndim > 1 else columns)
        weights = _joined([entry.reshape(-1) for entry in entries], (0,), dtype, device)
        compiled = self._in_torch() if twice else self._compiled
        compiled.check_memory(1 if batch is None else batch, weights)
        parts = [column.reshape(len(column), -1) for column in columns]
        if given is not None and self._state is not None:
            rows = 1 if batch is None else batch
            parts.append(_amplitudes(given, self._state, self.plan.n_wires, rows))
        inputs = _joined(parts, (1, 0), dtype, device)
        outputs = compiled(inputs, weights)
        if batch is None:
            outputs = outputs[0]
        if isinstance(self.plan.measurement, Expectations):
            return outputs.unbind(-1)
        return (outputs,)

    def filled(self, parameters: Sequence[Any], angles: Sequence[Any]) -> list[Any]:
        """Parameters with others in place of those that results follow (``self.angles``)."""
        filled = list(parameters)
        for number, value in zip(self.angles, angles, strict=True):
            filled[number] = value
        return filled

    def vjp(
        self, parameters: Sequence[Any], trainable: Sequence[int], cotangents: Any
    ) -> tuple[Any, ...]:
        """Gradients of ``sum(results * cotangents)``, in float64.

        Args:
            parameters: As in a call.
            trainable: Numbers of the parameters to differentiate by, out of ``angles``.
            cotangents: One for each measurement, or the only one's own. Of complex results as
                autograd has them: the real part of ``cotangent * change`` is what the loss gains.

        Returns:
            One array for each trainable parameter, of its shape.
        """
        if not trainable:
            return ()
        leaves = _leaves(parameters, trainable)
        with torch.enable_grad():
            results = self(leaves)
        given = cotangents if isinstance(cotangents, tuple | list) else (cotangents,)
        upstream = [
            torch.as_tensor(np.asarray(one)).to(result.dtype).conj().expand(result.shape)
            for one, result in zip(given, results, strict=True)
        ]
        wanted = [leaves[number] for number in trainable]
        found = torch.autograd.grad(results, wanted, upstream, allow_unused=True)
        return tuple(
            np.zeros(leaf.shape) if gradient is None else gradient.conj().resolve_conj().numpy()
            for leaf, gradient in zip(wanted, found, strict=True)
        )

    def vjp_twice(
        self,
        parameters: Sequence[Any],
        trainable: Sequence[int],
        cotangents: Sequence[Any],
        upstream: Sequence[Any],
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Gradients of ``sum(vjp * upstream)`` by the cotangents and by the parameters.

        Args:
            parameters: As in a call.
            trainable: As in :meth:`vjp`.
            cotangents: One for each measurement.
            upstream: One array for each trainable parameter, of its shape.

        Returns:
            One array for each cotangent, and one for each trainable parameter.
        """
        leaves = _leaves(parameters, trainable)
        wanted = [leaves[number] for number in trainable]
        with torch.enable_grad():
            results = self(leaves, twice=True)
            given = [
                torch.as_tensor(np.asarray(one)).to(result.dtype).expand(result.shape)
                for one, result in zip(cotangents, results, strict=True)
            ]
            given = [one.clone().requires_grad_() for one in given]
            first = torch.autograd.grad(
                results,
                wanted,
                [one.conj() for one in given],
                create_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
            total = torch.stack(
                [
                    (gradient.conj() * torch.as_tensor(np.asarray(one))).real.sum()
                    for gradient, one in zip(first, upstream, strict=True)
                ]
            ).sum()
        second = torch.autograd.grad(
            total, [*given, *wanted], allow_unused=True, materialize_grads=True
        )
        arrays = tuple(gradient.conj().resolve_conj().numpy() for gradient in second)
        return arrays[: len(given)], arrays[len(given) :]

    def jacobian(self, parameters: Sequence[Any], trainable: Sequence[int]) -> Any:
        """Derivatives of every result by every trainable parameter, as PennyLane nests them.

        Returns:
            Arrays (*result, *parameter), in a tuple for each parameter, in one for each result;
            without a tuple of its own where there is only one.
        """
        leaves = _leaves(parameters, trainable)

        def results(*changed: Tensor) -> tuple[Tensor, ...]:
            given = list(leaves)
            for number, value in zip(trainable, changed, strict=True):
                given[number] = value
            found = self(given)
            return tuple(
                torch.view_as_real(r).movedim(-1, 0) if r.is_complex() else r for r in found
            )

        wanted = tuple(leaves[number].detach() for number in trainable)
        complex_results = not isinstance(self.plan.measurement, Expectations | Probabilities)
        rows = []
        found = torch.autograd.functional.jacobian(results, wanted)  # type: ignore[no-untyped-call]
        for by_parameter in found:
            row = [part.numpy()[()] for part in by_parameter]
            row = [part[0] + 1j * part[1] for part in row] if complex_results else row
            rows.append(row[0] if len(row) == 1 else tuple(row))
        return rows[0] if len(rows) == 1 else tuple(rows)

    def _in_torch(self) -> Compiled:
        if self._twice is None:
            self._twice = Compiled(self.plan, choose_engine(self.plan, "torch")[0], None)
        return self._twice


def _kind(parameters: Sequence[Any]) -> tuple[torch.dtype, torch.device]:
    tensors = [value for value in parameters if isinstance(value, Tensor)]
    dtypes = {tensor.dtype for tensor in tensors}
    device = next((tensor.device for tensor in tensors if not tensor.is_cpu), _CPU)
    double = {torch.float64, torch.complex128} & dtypes
    single = {torch.float32, torch.complex64} & dtypes
    return (torch.float32 if single and not double else torch.float64), device


def _tensor(value: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
    if not isinstance(value, Tensor):
        value = torch.from_numpy(np.asarray(value))
    if value.is_complex():
        dtype = dtype.to_complex()
    made: Tensor = value if value.dtype == dtype else value.to(dtype)
    return made if made.device == device else made.to(device)


def _angle(value: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
    angle = _tensor(value, dtype, device)
    if angle.is_complex():
        raise DataError("an angle of a circuit is complex: a gate takes real numbers")
    return angle


def _batch(columns: list[Tensor]) -> int | None:
    sizes = {len(column) for column in columns}
    if len(sizes) > 1:
        raise DataError(
            f"parameters of a circuit have batches of {' and '.join(map(str, sorted(sizes)))} "
            "samples: all must have as many"
        )
    return sizes.pop() if sizes else None


def _joined(
    parts: list[Tensor], empty: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> Tensor:
    if len(parts) == 1:
        return parts[0]
    return torch.cat(parts, dim=-1) if parts else torch.zeros(empty, dtype=dtype, device=device)


def _leaves(parameters: Sequence[Any], trainable: Sequence[int]) -> list[Any]:
    leaves = list(parameters)
    for number in trainable:
        leaf = _tensor(parameters[number], torch.float64, _CPU)
        leaves[number] = leaf.detach().clone().requires_grad_()
    return leaves


def _places(n_wires: int, prepared: list[int]) -> Tensor:
    """Basis states of all wires that belong to those of some, the others in |0>."""
    where = np.zeros(1, dtype=np.int64)
    for wire in prepared:
        where = np.stack([where, where + (1 << (n_wires - 1 - wire))], axis=1).reshape(-1)
    return torch.from_numpy(where)


def _amplitudes(given: Tensor, places: Tensor, n_wires: int, batch: int) -> Tensor:
    """(batch, 2 * 2**n): real parts, then imaginary parts."""
    rows = given.reshape(-1, given.shape[-1]).expand(batch, -1)
    parts = [rows.real, rows.imag] if rows.is_complex() else [rows, torch.zeros_like(rows)]
    empty = torch.zeros((batch, 1 << n_wires), dtype=parts[0].dtype, device=given.device)
    places = places.to(given.device)
    return torch.cat([empty.index_copy(1, places, part) for part in parts], dim=1)
