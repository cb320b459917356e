"""Where a gate's parameters come from, as several recordings of a circuit tell.

Most are sums of multiples of inputs and weights and a constant, which the gradient suggests and
the other recordings confirm. The rest is traced as torch operations (``columns.py``), and confirmed
likewise, with its gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qfl.quantum.columns import TRACED_BATCH, Columns, trace
from qfl.quantum.lower import UnsupportedError
from qfl.quantum.plan import Angle
from qfl.quantum.probes import BATCH, RANGES, SIGNS, Circuit, Recording

_EXACT = 1e-10
Place = tuple[int, int]


class Parameters:
    """Parameters of gates: linear ones as they are, others as columns or entries of their own."""

    def __init__(
        self, circuit: Circuit, recordings: list[Recording], places: dict[Any, int]
    ) -> None:
        self.circuit = circuit
        self.recordings = recordings
        self.places = places
        # In order: the position of an entry is the number of its column, or of its weight.
        self.samples: dict[bytes, Place] = {}
        self.shared: dict[bytes, Place] = {}
        self.state: int | None = None

    def angles_of(self, position: int) -> Callable[[int], list[Angle]]:
        """Where the parameters of the operation at this position come from, by their number."""

        def angles(parameter: int) -> list[Angle]:
            return _linear(self.recordings, position, parameter) or [self._own(position, parameter)]

        return angles

    def _own(self, position: int, parameter: int) -> Angle:
        values = [recording.operations[position].data[parameter] for recording in self.recordings]
        if not isinstance(values[0], Tensor):
            raise UnsupportedError("an angle that is neither constant nor a torch number")
        # Equal values may differ in their gradients, where one of them is detached.
        first = self.recordings[0]
        alike = [*values, *(_slopes((values[0],), first) if values[0].requires_grad else ())]
        key = b"".join(value.detach().numpy().tobytes() for value in alike)
        per_sample = values[0].numel() == BATCH and values[0].ndim > 0
        known = self.samples if per_sample else self.shared
        known.setdefault(key, (position, parameter))
        number = list(known).index(key)
        if per_sample:
            return Angle("input", self.circuit.features + number)
        return Angle("weight", sum(self.circuit.sizes) + number)

    def add_state(self, position: int) -> None:
        """Take a state preparation as the initial state, where nothing has touched its wires."""
        operations = self.recordings[0].operations
        touched = {wire for earlier in operations[:position] for wire in earlier.wires}
        if self.state is not None or touched & set(operations[position].wires):
            raise UnsupportedError("a state prepared where gates have already acted")
        self.state = position

    def columns(self) -> Columns | None:
        """What has to be computed; None for nothing.

        Raises:
            UnsupportedError: It cannot be traced, or does something else for other data.
        """
        if not self.samples and not self.shared and self.state is None:
            return None
        source = torch.Generator().manual_seed(len(RANGES))
        drawn = self.circuit.draw(TRACED_BATCH, SIGNS, source)
        graph = trace(lambda inputs, weights: self._values(inputs, weights), *drawn)
        by_weights = mixes = False
        for recording in self.recordings:
            wanted = self._values(recording.inputs, recording.weights)
            try:
                found = graph(recording.inputs, recording.weights)
            except RuntimeError:
                raise UnsupportedError("an angle that cannot be traced for any batch") from None
            for ours, theirs in zip(found, wanted, strict=True):
                if ours.shape != theirs.shape or not _close(ours, theirs):
                    raise UnsupportedError("an angle that other data compute in another way")
            if not all(map(_close, _slopes(found, recording), _slopes(wanted, recording))):
                raise UnsupportedError("an angle with gradients of its own (no_grad, detach, …)")
            alone = graph(recording.inputs[:1], recording.weights)
            mixes |= not (_close(alone[0], found[0][:1]) and _close(alone[1], found[1]))
            features = self.circuit.features
            by_weights |= _follows(found[0][:, features:], recording.weights)
        n_inputs = self.circuit.features + len(self.samples)
        by_weights |= bool(self.shared)
        return Columns(graph, n_inputs, self.state is not None, by_weights, mixes)

    def _values(self, inputs: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        operations = self.circuit.record(inputs, weights).operations
        columns, entries = [inputs], [weights]
        for position, parameter in self.samples.values():
            columns.append(operations[position].data[parameter].reshape(-1, 1))
        for position, parameter in self.shared.values():
            entries.append(operations[position].data[parameter].reshape(1))
        if self.state is not None:
            prepared = operations[self.state]
            columns.append(self._amplitudes(prepared, inputs))
        return torch.cat(columns, dim=1), torch.cat(entries)

    def _amplitudes(self, prepared: Any, inputs: Tensor) -> Tensor:
        """(batch, 2 * 2**n): a state of some wires as one of all, the others in |0>."""
        given = torch.as_tensor(prepared.data[0])
        n, wires = len(self.places), [self.places[wire] for wire in prepared.wires]
        rows = given.reshape(-1, given.shape[-1]).expand(len(inputs), -1)
        where = np.zeros(1, dtype=np.int64)
        for wire in wires:
            where = np.stack([where, where + (1 << (n - 1 - wire))], axis=1).reshape(-1)
        parts = [rows.real, rows.imag] if rows.is_complex() else [rows, torch.zeros_like(rows)]
        if np.array_equal(where, np.arange(1 << n)):
            return torch.cat(parts, dim=1)
        empty = torch.zeros_like(inputs[:, :1]).expand(-1, 1 << n)
        places = torch.from_numpy(where)
        return torch.cat([empty.index_copy(1, places, part) for part in parts], dim=1)


def _close(ours: Tensor, theirs: Tensor) -> bool:
    return torch.allclose(ours, theirs, atol=_EXACT, equal_nan=True)


def _slopes(values: tuple[Tensor, ...], recording: Recording) -> tuple[Tensor, ...]:
    total = torch.stack(
        [
            (torch.linspace(1, 2, v.numel(), dtype=v.dtype).reshape(v.shape) * v).sum()
            for v in values
        ]
    ).sum()
    return torch.autograd.grad(
        total,
        (recording.inputs, recording.weights),
        retain_graph=True,
        allow_unused=True,
        materialize_grads=True,
    )


def _follows(values: Tensor, source: Tensor) -> bool:
    if not values.requires_grad:
        return False
    (found,) = torch.autograd.grad(values.sum(), source, retain_graph=True, allow_unused=True)
    return found is not None


def _linear(recordings: list[Recording], position: int, parameter: int) -> list[Angle]:
    """Where one parameter comes from, as the gradient says and the other probes confirm.

    Returns:
        Terms whose sum is the parameter, a single one for a constant; none where it is neither
        constant nor linear.
    """
    values = [recording.operations[position].data[parameter] for recording in recordings]
    terms = _linear_terms(recordings[0], values[0])
    offsets = []
    for recording, value in zip(recordings, values, strict=True):
        rest = torch.as_tensor(value, dtype=torch.float64).detach()
        for term in terms:
            source = recording.inputs.T if term.source == "input" else recording.weights
            rest = rest - term.scale * source[term.index].detach()
        offsets.append(rest.reshape(-1))
    found = torch.cat(offsets)
    # Not so either where a probe lies outside of a function's domain.
    if not float(found.max() - found.min()) <= _EXACT * max(1.0, float(found.abs().max())):
        return []
    offset = float(found[0])
    if not terms:
        return [Angle("constant", offset=offset)]
    return [replace(terms[0], offset=offset if abs(offset) > _EXACT else 0.0), *terms[1:]]


def _linear_terms(recording: Recording, value: Any) -> list[Angle]:
    """The inputs and weights that a parameter follows, with their slopes at the probe."""
    if not isinstance(value, Tensor) or not value.requires_grad:
        return []
    by_input, by_weight = torch.autograd.grad(
        value.sum(), (recording.inputs, recording.weights), retain_graph=True, allow_unused=True
    )
    terms = []
    if by_input is not None:
        # A parameter of one sample may follow that sample's inputs only, all in the same way.
        slopes = by_input[0]
        terms += [
            Angle("input", index, float(slopes[index]))
            for index in torch.nonzero(slopes.abs() > _EXACT).flatten().tolist()
        ]
    if by_weight is not None:
        slopes = by_weight / value.numel()
        terms += [
            Angle("weight", index, float(slopes[index]))
            for index in torch.nonzero(slopes.abs() > _EXACT).flatten().tolist()
        ]
    return terms
