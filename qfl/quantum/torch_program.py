"""Cuts a plan into what the torch engine does one after the other.

A plan becomes layers: on each wire a chain of one-wire gates, then the gates on several wires. An
operation goes into the earliest layer that its wires allow. The chains of the first layer meet
|0…0>, and become a product of vectors; those of others become matrices on groups of neighbouring
wires. What a measurement of probabilities does not see at the end is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from qfl.quantum.chains import Chain, sources
from qfl.quantum.plan import Monomial, MultiRZ, Plan, Rotation, Unitary
from qfl.quantum.torch_orders import Order
from qfl.quantum.torch_readout import looks_through

# Larger groups mean fewer passes over large states, and more work on small ones.
_SMALL_GROUP, _LARGE_GROUP = 4, 5
_MANY_WIRES = 10


@dataclass(frozen=True)
class Group:
    """Chains of neighbouring wires.

    Attributes:
        chains: One for each wire, padded in front to the number of wires of the largest group.
        wires: How many there are.
        right: How many wires follow.
    """

    chains: list[Chain]
    wires: int
    right: int

    def follows(self, source: str) -> bool:
        """Whether any angle comes from there."""
        return any(source in sources(chain) for chain in self.chains)


Part = Group | Order | tuple[MultiRZ, ...] | Unitary


@dataclass(frozen=True)
class TorchProgram:
    """A plan in parts.

    Attributes:
        plan: Where it comes from.
        head: The groups of the first layer; None where the initial state is given.
        parts: In the order of application.
        source: A permutation at the end that the measurement has to look through, or None.
        width: Wires of the largest group.
    """

    plan: Plan
    head: list[Group] | None
    parts: list[Part]
    source: np.ndarray | None
    width: int

    def bytes_needed(self, batch: int, real: int) -> int:
        """Upper estimate of memory for values and gradients.

        Args:
            batch: Samples.
            real: Bytes of a real number.
        """
        groups = [part for part in self.parts if isinstance(part, Group)]
        own = [g for g in groups if g.follows("input")]
        common = [g for g in groups if g.follows("weight") and not g.follows("input")]
        head = self.head or []
        own_head = any(g.follows("input") for g in head)
        # States: ψ at the end, then ψ and λ in front of and behind a step, and what it works with.
        numbers = batch * ((16 if own else 14) << self.plan.n_wires)
        numbers += batch * 20 * self._gates(own)
        for groups, samples in ((head, batch if own_head else 1), (common, 1)):
            numbers += samples * 32 * self._gates(groups)
        # Matrices of groups, of each sample for one group after the other, of the head's together.
        matrices = max(8 * bool(own), 4 * len(head) * own_head)
        numbers += (batch * matrices + 4 * len(common)) << 2 * self.width
        orders = {id(part) for part in self.parts if isinstance(part, Order)}
        return numbers * real + (len(orders) * (16 + 2 * real) << self.plan.n_wires)

    def _gates(self, groups: Sequence[Group]) -> int:
        """Gates in chains that are padded to one length."""
        longest = max((len(chain) for group in groups for chain in group.chains), default=0)
        return len(groups) * self.width * (1 << max(0, longest - 1).bit_length())


@dataclass
class Layer:
    """Chains of one-wire gates, wire by wire, then gates on several wires."""

    chains: list[Chain]
    ends: list[Monomial | MultiRZ | Unitary] = field(default_factory=list)


def cut(plan: Plan) -> TorchProgram:
    """A plan in parts."""
    head: list[Group] | None = None
    parts: list[Part] = []
    for number, layer in enumerate(layers(plan)):
        groups = _groups(layer.chains)
        if number == 0 and not plan.amplitudes:
            head = groups
        else:
            parts += [group for group in groups if any(group.chains)]
        parts += _ends(plan.n_wires, layer.ends)
    source = _leave_out_last(parts) if looks_through(plan.measurement, plan.n_wires) else None
    return TorchProgram(plan, head, _without_twins(parts), source, max(_sizes(plan.n_wires)))


def layers(plan: Plan) -> list[Layer]:
    """Each operation in the earliest layer that its wires allow."""
    found: list[Layer] = []

    def layer(number: int) -> Layer:
        while len(found) <= number:
            found.append(Layer([[] for _ in range(plan.n_wires)]))
        return found[number]

    # Twice the layer that a wire has reached, plus one if it is past the chains there.
    reached = [0] * plan.n_wires
    layer(0)
    for operation in plan.operations:
        wires = (operation.wire,) if isinstance(operation, Rotation) else operation.wires
        if isinstance(operation, MultiRZ) and len(wires) == 1:
            operation = Rotation(wires[0], 2, operation.angle)
        number = max(reached[wire] for wire in wires)
        if isinstance(operation, Rotation) or (isinstance(operation, Unitary) and len(wires) == 1):
            number += number % 2
            layer(number // 2).chains[wires[0]].append(operation)
        else:
            number |= 1
            layer(number // 2).ends.append(operation)
        for wire in wires:
            reached[wire] = number
    return found


def _sizes(n_wires: int) -> list[int]:
    """Wires of each group: as few groups as possible, of nearly equal size."""
    count = -(-n_wires // (_SMALL_GROUP if n_wires < _MANY_WIRES else _LARGE_GROUP))
    return [n_wires // count + (number < n_wires % count) for number in range(count)]


def _groups(chains: list[Chain]) -> list[Group]:
    groups, end, sizes = [], 0, _sizes(len(chains))
    for wires in sizes:
        start, end = end, end + wires
        padding: list[Chain] = [[] for _ in range(max(sizes) - wires)]
        groups.append(Group(padding + chains[start:end], wires, len(chains) - end))
    return groups


def _ends(n_wires: int, operations: Sequence[Monomial | MultiRZ | Unitary]) -> list[Part]:
    """Gates on several wires; runs of monomials and of phases become one each."""
    parts: list[Part] = []
    for operation in operations:
        last = parts[-1] if parts else None
        if isinstance(operation, Monomial):
            order, phases = operation.expanded(n_wires)
            source = None if np.array_equal(order, np.arange(1 << n_wires)) else order
            if isinstance(last, Order):
                parts[-1] = last.then(source, phases)
            else:
                parts.append(Order(source, phases))
        elif isinstance(operation, MultiRZ):
            if isinstance(last, tuple):
                parts[-1] = (*last, operation)
            else:
                parts.append((operation,))
        else:
            parts.append(operation)
    return parts


def _leave_out_last(parts: list[Part]) -> np.ndarray | None:
    """Drop what only changes order and phases at the end; the permutation that this was."""
    last = Order(None, None)
    while parts and isinstance(parts[-1], Order | tuple):
        part = parts.pop()
        if isinstance(part, Order):
            last = part.then(last.source, None)
    return last.source


def _without_twins(parts: list[Part]) -> list[Part]:
    """The same parts; permutations that are equal become the same one."""
    kept: list[Order] = []
    found: list[Part] = []
    for part in parts:
        if isinstance(part, Order):
            twin = next((order for order in kept if order.equals(part)), None)
            if twin is None:
                kept.append(part)
            else:
                part = twin
        found.append(part)
    return found
