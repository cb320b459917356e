"""A circuit forward and backward through the steps of ``torch_steps.py``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qfl.quantum.affine import Collect, Kind
from qfl.quantum.chains import Chain, Chains, product, sources
from qfl.quantum.plan import Complex, Unitary
from qfl.quantum.torch_orders import Order, Permute, Phases
from qfl.quantum.torch_product import PauliTable, Product
from qfl.quantum.torch_program import Part, TorchProgram
from qfl.quantum.torch_readout import readout
from qfl.quantum.torch_steps import (
    BatchedTurn,
    Dense,
    FixedTurn,
    Given,
    SharedTurn,
    Step,
    kron,
)


@dataclass(frozen=True)
class Kept:
    """What a forward pass leaves for the backward pass.

    Attributes:
        given: Arguments and matrices.
        state: The final state, (copies, 1, 2**n_wires, batch).
        vectors: Where the state began, (copies, batch or 1, groups, longest); None where it was
            given.
    """

    given: Given
    state: Tensor
    vectors: Tensor | None


class Sweep:
    """A program for tensors of one kind.

    Args:
        program: What to run.
        kind: Of inputs and weights.
    """

    def __init__(self, program: TorchProgram, kind: Kind) -> None:
        self._plan, self._width = program.plan, program.width
        head = program.head or []
        shared: list[Chain] = []
        batched: list[Chain] = []
        # Equal permutations are one part, whose tables need no place twice.
        made: dict[int, Step] = {}
        self._steps: list[Step] = []
        for part in program.parts:
            if id(part) not in made:
                made[id(part)] = self._step(kind, part, shared, batched)
            self._steps.append(made[id(part)])
        self._head = None
        if program.head is not None:
            self._head = Chains(kind, [chain for group in head for chain in group.chains])
        self._product = Product([1 << group.wires for group in head])
        self._shared = Chains(kind, shared) if shared else None
        self._batched = Chains(kind, batched) if batched else None
        self._readout = readout(kind, self._plan.measurement, self._plan.n_wires, program.source)
        self._pauli = PauliTable(kind, self._width)
        with_angles = [
            number
            for number, step in enumerate(self._steps)
            if isinstance(step, SharedTurn | BatchedTurn | Phases)
        ]
        # In front of the first of them ψ is not needed any more.
        self._first = min(with_angles, default=len(self._steps))
        self._collect(kind)

    def _step(self, kind: Kind, part: Part, shared: list[Chain], batched: list[Chain]) -> Step:
        """The step of a part; chains with angles are added to those that they belong to."""
        if isinstance(part, Order):
            return Permute(kind, part)
        if isinstance(part, tuple):
            return Phases(kind, self._plan.n_wires, part)
        if isinstance(part, Unitary):
            return Dense(kind, self._plan.n_wires, part)
        size, right = 1 << part.wires, 1 << part.right
        seen = set[str]().union(*map(sources, part.chains))
        if "input" in seen:
            batched += part.chains
            return BatchedTurn(len(batched) // self._width - 1, size, right)
        if "weight" in seen:
            shared += part.chains
            return SharedTurn(len(shared) // self._width - 1, size, right)
        own = part.chains[self._width - part.wires :]
        matrix: Complex = np.eye(1, dtype=np.complex128)
        for chain in own:
            matrix = np.kron(matrix, product(chain)).astype(np.complex128, copy=False)
        return FixedTurn(kind, matrix, right)

    def _collect(self, kind: Kind) -> None:
        """Where each input and weight finds its gradients in what is pulled back."""
        phases = [step for step in self._steps if isinstance(step, Phases)]
        parts = [part for part in (self._head, self._shared, self._batched, *phases) if part]
        self._per_sample = [part.per_sample for part in parts]
        uses: dict[str, list[tuple[int, int, float]]] = {"input": [], "weight": []}
        by_input = by_weight = 0
        for part in parts:
            for angle, place in part.uses():
                if angle.source != "constant":
                    start = by_input if angle.source == "input" else by_weight
                    uses[angle.source].append((angle.index, start + place, angle.scale))
            by_input += part.places if part.per_sample else 0
            by_weight += part.places
        self._to_inputs = Collect(kind, self._plan.n_inputs, uses["input"])
        self._to_weights = Collect(kind, self._plan.n_weights, uses["weight"])

    def forward(self, inputs: Tensor, weights: Tensor) -> tuple[Tensor, Kept]:
        """Outputs, and what :meth:`backward` needs; differentiable by torch's autograd too.

        Args:
            inputs: (1 or copies, batch, columns).
            weights: (copies, n_weights).

        Returns:
            (copies, batch, outputs), and what to keep.
        """
        copies, batch = len(weights), inputs.shape[1]
        shared: tuple[Tensor, ...] = ()
        batched: tuple[Tensor, ...] = ()
        vectors = None
        if self._shared is not None:
            found = self._shared.matrices(inputs, weights)
            matrices = kron(found.reshape(-1, self._width, 2, 2))
            shared = matrices.reshape(copies, -1, *matrices.shape[1:]).unbind(1)
        if self._batched is not None:
            found = self._batched.matrices(inputs, weights)
            batched = found.reshape(copies, batch, -1, self._width, 2, 2).unbind(2)
        given = Given(inputs, weights, shared, batched)
        if self._head is None:
            real, imaginary = inputs[..., self._plan.n_inputs :].mT.chunk(2, dim=1)
            state = torch.complex(real, imaginary)[:, None].expand(copies, -1, -1, -1)
        else:
            columns = self._head.matrices(inputs, weights).select(2, 0)
            found = kron(columns.reshape(-1, self._width, 2, 1))
            vectors = found.reshape(
                copies, batch if self._head.per_sample else 1, -1, found.shape[1]
            )
            state = self._product.state(vectors, batch)
        for step in self._steps:
            state = step.apply(state, given)
        return self._readout.values(state), Kept(given, state, vectors)

    def backward(
        self, kept: Kept, grad_outputs: Tensor, wanted: Sequence[bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Gradients by inputs and weights, in their shapes; None for what is not wanted."""
        given, inputs, weights = kept.given, kept.given.inputs, kept.given.weights
        states = self._readout.start(kept.state, grad_outputs)
        if self._first < len(self._steps):
            states = torch.cat((kept.state, states), dim=1)
        to_the_start = self._head is not None or wanted[0]
        shared: list[Tensor] = []
        batched: list[Tensor] = []
        phases: list[Tensor] = []
        for number in reversed(range(len(self._steps))):
            step = self._steps[number]
            if isinstance(step, SharedTurn):
                shared.append(self._pauli.padded(step.pull(states)))
            elif isinstance(step, BatchedTurn):
                batched.append(self._pauli(step.pull(states)))
            elif isinstance(step, Phases):
                phases.append(step.pull(states))
            if number <= self._first:
                if not to_the_start:
                    break
                states = states.narrow(1, states.shape[1] - 1, 1)
            states = step.undo(states, given)
        pulled: list[Tensor] = []
        if self._head is not None and kept.vectors is not None:
            t = self._pauli(self._product.pull(states, kept.vectors))
            pulled.append(self._head.pull(t, inputs, weights))
        if self._shared is not None:
            t = self._pauli(torch.stack(shared[::-1], dim=1))
            pulled.append(self._shared.pull(t[:, None], inputs, weights))
        if self._batched is not None:
            t = torch.stack(batched[::-1], dim=2)
            pulled.append(self._batched.pull(t, inputs, weights))
        pulled += phases[::-1]
        return (
            self._by_inputs(pulled, given, states) if wanted[0] else None,
            self._by_weights(pulled, given) if wanted[1] else None,
        )

    def _by_inputs(self, pulled: Sequence[Tensor], given: Given, states: Tensor) -> Tensor:
        (runs, batch, _), copies = given.inputs.shape, len(given.weights)
        parts = [part for part, own in zip(pulled, self._per_sample, strict=True) if own]
        if parts:
            found = self._to_inputs(_joined(parts, 2))
        else:
            found = given.inputs.new_zeros((copies, batch, self._plan.n_inputs))
        if self._head is None:
            by_amplitudes = 2 * states[:, 0].mT
            found = torch.cat((found, by_amplitudes.real, by_amplitudes.imag), dim=2)
        return found if runs == copies else found.sum(0, keepdim=True)

    def _by_weights(self, pulled: Sequence[Tensor], given: Given) -> Tensor:
        parts = [
            part.sum(1) if own else part[:, 0]
            for part, own in zip(pulled, self._per_sample, strict=True)
        ]
        return self._to_weights(_joined(parts, 1)) if parts else torch.zeros_like(given.weights)


def _joined(parts: list[Tensor], axis: int) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=axis)
