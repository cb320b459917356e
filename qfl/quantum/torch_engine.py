"""The engine without a compiler: plans in plain torch, on any device, differentiable repeatedly.

Three ideas make it fast. All rotations of a wire between two other gates are multiplied into one
2x2 matrix first. Neighbouring wires are treated together, as one matrix of up to 2^3 rows. The
first matrices meet |0…0>, so their result is a product of columns and needs no multiplication
with the state.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qfl.quantum.chains import Chain, Chains, complex_type, constant, follows_inputs
from qfl.quantum.plan import (
    Angle,
    Expectations,
    Monomial,
    MultiRZ,
    PauliTerm,
    Plan,
    Probabilities,
    Rotation,
    Unitary,
)

_LARGEST_GROUP = 4


@dataclass
class _Layer:
    """Chains of one-wire gates, wire by wire, and the gate that ends the layer."""

    chains: list[Chain]
    end: Monomial | MultiRZ | Unitary | None = None


class TorchEngine:
    """Runs a plan with torch operations.

    Args:
        plan: What to run.

    Example:
        >>> plan = Plan(1, (Rotation(0, 1, Angle("weight")),),
        ...             Expectations(((PauliTerm(1.0, "Z"),),)), 0, 1)
        >>> TorchEngine(plan)(torch.zeros(2, 0), torch.tensor([torch.pi])).tolist()
        [[-1.0], [-1.0]]
    """

    name = "torch"

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._layers = _layers(plan)
        self._groups = _even_parts(plan.n_wires)
        chains = {
            (number, wire): chain
            for number, layer in enumerate(self._layers)
            for wire, chain in enumerate(layer.chains)
            if chain
        }
        self._shared = Chains({k: c for k, c in chains.items() if not follows_inputs(c)})
        self._batched = Chains({k: c for k, c in chains.items() if follows_inputs(c)})
        self._constants: dict[tuple[str, torch.device, torch.dtype], Tensor] = {}

    def __call__(self, inputs: Tensor, weights: Tensor) -> Tensor:
        """Outputs of the circuit.

        Args:
            inputs: (batch, n_inputs), float32 or float64.
            weights: n_weights in any shape, of the same type.

        Returns:
            (batch, outputs), of the same type.
        """
        return self.read(self.state(inputs, weights.reshape(-1)))

    def state(self, inputs: Tensor, weights: Tensor) -> Tensor:
        """The final state, (batch, 2**n_wires), complex."""
        plan, kind = self.plan, complex_type(inputs.dtype)
        shared = self._shared.matrices(weights[None], inputs)[0].unbind(0)
        batched = self._batched.matrices(inputs, inputs, weights).unbind(1)
        state: Tensor | None = None
        for number, layer in enumerate(self._layers):
            matrices = [
                None
                if not chain
                else shared[self._shared.place[number, wire]]
                if (number, wire) in self._shared.place
                else batched[self._batched.place[number, wire]]
                for wire, chain in enumerate(layer.chains)
            ]
            if state is None:
                zero = self._constant("zero", [1.0, 0.0], inputs, kind)
                columns = [zero if m is None else m[..., :, 0] for m in matrices]
                state = _outer([column.expand(len(inputs), 2) for column in columns])
            else:
                state = self._apply_chains(state, matrices)
            end = layer.end
            if isinstance(end, Monomial):
                source = self._constant(f"source{number}", end.source, inputs, torch.int64)
                state = state.index_select(1, source)
                if end.phases is not None:
                    state = state * self._constant(f"phases{number}", end.phases, inputs, kind)
            elif isinstance(end, MultiRZ):
                signs = _parity(plan.n_wires, end.wires)
                table = self._constant(f"parity{number}", signs, inputs, inputs.dtype)
                half = _angle(end.angle, inputs, weights) / 2
                turn = half.reshape(-1, 1) * table
                state = state * torch.complex(torch.cos(turn), -torch.sin(turn))
            elif isinstance(end, Unitary):
                matrix = self._constant(f"unitary{number}", end.matrix, inputs, kind)
                state = _apply_two(state, matrix, end.wires, plan.n_wires)
        assert state is not None
        return state

    def read(self, state: Tensor) -> Tensor:
        """The measurement of a state."""
        measurement, n = self.plan.measurement, self.plan.n_wires
        if isinstance(measurement, Expectations):
            return self._expectations(state, measurement)
        if isinstance(measurement, Probabilities):
            grid = _probabilities(state).reshape(-1, *[2] * n)
            kept = [wire + 1 for wire in measurement.wires]
            dropped = [wire + 1 for wire in range(n) if wire not in measurement.wires]
            ordered = grid.permute(0, *kept, *dropped)
            return ordered.reshape(len(state), 1 << len(kept), -1).sum(-1)
        return state

    def _expectations(self, state: Tensor, measurement: Expectations) -> Tensor:
        n = self.plan.n_wires
        real = state.real.dtype
        diagonal = np.zeros((len(measurement.observables), 1 << n))
        others: list[tuple[int, PauliTerm]] = []
        for row, terms in enumerate(measurement.observables):
            for term in terms:
                if set(term.word) <= {"I", "Z"}:
                    wires = tuple(w for w, letter in enumerate(term.word) if letter == "Z")
                    diagonal[row] += term.coefficient * _parity(n, wires)
                else:
                    others.append((row, term))
        table = self._constant("diagonal", diagonal.T, state, real)
        found = _probabilities(state) @ table
        if not others:
            return found
        columns = list(found.unbind(1))
        for number, (row, term) in enumerate(others):
            source, phases = _pauli_word(term.word)
            index = self._constant(f"word{number}", source, state, torch.int64)
            phase = self._constant(f"wordphase{number}", phases, state, state.dtype)
            image = state.index_select(1, index) * phase
            value = (state.conj() * image).sum(1).real
            columns[row] = columns[row] + term.coefficient * value
        return torch.stack(columns, dim=1)

    def _apply_chains(self, state: Tensor, matrices: list[Tensor | None]) -> Tensor:
        """All chains of a layer; wires come to the front group by group and go to the back."""
        batch, start = len(state), 0
        for size in self._groups:
            group = matrices[start : start + size]
            block = state.reshape(batch, 1 << size, -1).transpose(1, 2)
            if any(matrix is not None for matrix in group):
                identity = self._constant("identity", np.eye(2), state, state.dtype)
                matrix = _kron([identity if entry is None else entry for entry in group])
                block = block @ matrix.transpose(-1, -2)
            state = block.reshape(batch, -1)
            start += size
        return state

    def _constant(self, key: str, value: object, like: Tensor, dtype: torch.dtype) -> Tensor:
        full = (key, like.device, dtype)
        if full not in self._constants:
            self._constants[full] = constant(value, like.device, dtype)
        return self._constants[full]


def _layers(plan: Plan) -> list[_Layer]:
    """Cut a plan into layers: chains of one-wire gates, each closed by one other gate."""
    layers = [_Layer([[] for _ in range(plan.n_wires)])]
    for operation in plan.operations:
        if isinstance(operation, Rotation):
            layers[-1].chains[operation.wire].append(operation)
        elif isinstance(operation, Unitary) and len(operation.wires) == 1:
            layers[-1].chains[operation.wires[0]].append(operation)
        elif isinstance(operation, MultiRZ) and len(operation.wires) == 1:
            turn = Rotation(operation.wires[0], 2, operation.angle)
            layers[-1].chains[turn.wire].append(turn)
        else:
            layers[-1].end = operation
            layers.append(_Layer([[] for _ in range(plan.n_wires)]))
    return _merged(layers)


def _merged(layers: list[_Layer]) -> list[_Layer]:
    """Join runs of monomials with nothing between them."""
    merged: list[_Layer] = []
    for layer in layers:
        before = merged[-1] if merged else None
        if (
            before is not None
            and not any(layer.chains)
            and isinstance(layer.end, Monomial)
            and isinstance(before.end, Monomial)
        ):
            before.end = _compose(before.end, layer.end)
        elif any(layer.chains) or layer.end is not None or not merged:
            merged.append(layer)
    return merged


def _compose(first: Monomial, second: Monomial) -> Monomial:
    """``second`` after ``first``, as one."""
    source = first.source[second.source]
    phases = None
    if first.phases is not None or second.phases is not None:
        one = np.ones(len(source), dtype=np.complex128)
        inner = one if first.phases is None else first.phases
        outer = one if second.phases is None else second.phases
        phases = outer * inner[second.source]
    return Monomial(source, phases)


def _even_parts(n_wires: int) -> list[int]:
    """Wires that are treated together: as few groups as possible, of nearly equal size."""
    count = -(-n_wires // _LARGEST_GROUP)
    return [n_wires // count + (number < n_wires % count) for number in range(count)]


def _angle(angle: Angle, inputs: Tensor, weights: Tensor) -> Tensor:
    if angle.source == "constant":
        return inputs.new_tensor(angle.offset)
    value = inputs[:, angle.index] if angle.source == "input" else weights[angle.index]
    if angle.scale != 1.0:
        value = value * angle.scale
    return value + angle.offset if angle.offset else value


def _outer(columns: list[Tensor]) -> Tensor:
    """Product state of columns (batch, 2), balanced so that large tensors are few."""
    if len(columns) == 1:
        return columns[0]
    half = len(columns) // 2
    left, right = _outer(columns[:half]), _outer(columns[half:])
    return (left[:, :, None] * right[:, None, :]).flatten(1)


def _kron(matrices: list[Tensor]) -> Tensor:
    product = matrices[0]
    for matrix in matrices[1:]:
        joined = product[..., :, None, :, None] * matrix[..., None, :, None, :]
        product = joined.flatten(-4, -3).flatten(-2, -1)
    return product


def _apply_two(state: Tensor, matrix: Tensor, wires: tuple[int, ...], n: int) -> Tensor:
    batch = len(state)
    grid = state.reshape(batch, *[2] * n)
    axes = [wire + 1 for wire in wires]
    rest = [axis for axis in range(1, n + 1) if axis not in axes]
    moved = grid.permute(0, *axes, *rest)
    result = torch.matmul(matrix, moved.reshape(batch, 4, -1)).reshape(moved.shape)
    back = [0] * (n + 1)
    for position, axis in enumerate([0, *axes, *rest]):
        back[axis] = position
    return result.permute(*back).reshape(batch, -1)


def _probabilities(state: Tensor) -> Tensor:
    return state.real**2 + state.imag**2


def _parity(n: int, wires: tuple[int, ...]) -> np.ndarray:
    """+1 or -1 per basis state: the eigenvalue of Z on ``wires``."""
    basis = np.arange(1 << n)
    odd = np.zeros_like(basis)
    for wire in wires:
        odd ^= (basis >> (n - 1 - wire)) & 1
    return 1.0 - 2.0 * odd


def _pauli_word(word: str) -> tuple[np.ndarray, np.ndarray]:
    """``(P psi)[k] = phases[k] * psi[source[k]]``."""
    n = len(word)
    basis = np.arange(1 << n)
    source, phases = basis.copy(), np.ones(1 << n, dtype=np.complex128)
    for wire, letter in enumerate(word):
        bit = (basis >> (n - 1 - wire)) & 1
        if letter in "XY":
            source ^= 1 << (n - 1 - wire)
        if letter == "Z":
            phases *= 1 - 2 * bit
        elif letter == "Y":
            phases *= np.where(bit == 0, -1j, 1j)
    return source, phases
