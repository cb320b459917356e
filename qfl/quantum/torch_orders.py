"""Steps of the torch engine that permute basis states and multiply them by phases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qfl.quantum.affine import Affine, Kind
from qfl.quantum.plan import Angle, Complex, MultiRZ
from qfl.quantum.signs import Signs, bits_of
from qfl.quantum.torch_steps import Given


@dataclass(frozen=True, eq=False)
class Order:
    """Basis states in another order, ``new[k] = phases[k] * old[source[k]]``; None for neither."""

    source: np.ndarray | None
    phases: Complex | None

    def equals(self, other: Order) -> bool:
        """Whether both do the same."""
        return _same(self.source, other.source) and _same(self.phases, other.phases)

    def then(self, source: np.ndarray | None, phases: Complex | None) -> Order:
        """Another one after this, as one."""
        before = self.phases
        if source is None:
            source = self.source
        else:
            before = None if before is None else before[source]
            source = source if self.source is None else self.source[source]
        if before is not None:
            phases = before if phases is None else before * phases
        return Order(source, phases)


class Permute:
    """Brings basis states into another order."""

    def __init__(self, kind: Kind, order: Order) -> None:
        source, phases = order.source, order.phases
        self._source = None if source is None else kind.tensor(source)
        self._inverse = None if source is None else kind.tensor(np.argsort(source))
        self._phases = None if phases is None else kind.tensor(phases[:, None])

    def apply(self, state: Tensor, given: Given) -> Tensor:
        """The state after this step."""
        if self._source is not None:
            state = state.index_select(2, self._source)
        return state if self._phases is None else state * self._phases

    def undo(self, states: Tensor, given: Given) -> Tensor:
        """States before this step."""
        if self._phases is not None:
            states = states * self._phases.conj()
        return states if self._inverse is None else states.index_select(2, self._inverse)


class Phases:
    """Rotations about words of Z: phases of the basis states.

    Attributes:
        places: Numbers that :meth:`pull` returns for a sample.
        per_sample: Whether any angle follows the inputs.
    """

    def __init__(self, kind: Kind, n_wires: int, gates: Sequence[MultiRZ]) -> None:
        self._gates = tuple(gates)
        self._angles = Affine(kind, [gate.angle for gate in gates])
        self.places, self.per_sample = len(gates), self._angles.per_sample
        self._signs = Signs(kind, [{bits_of(gate.wires, n_wires): 1.0} for gate in gates], n_wires)

    def apply(self, state: Tensor, given: Given) -> Tensor:
        """The state after this step."""
        turn = self._turn(given)
        return state * torch.complex(torch.cos(turn), -torch.sin(turn))

    def undo(self, states: Tensor, given: Given) -> Tensor:
        """States before this step."""
        turn = self._turn(given)
        return states * torch.complex(torch.cos(turn), torch.sin(turn))

    def pull(self, pair: Tensor) -> Tensor:
        """Im<λ|Z…Z|ψ>, (copies, batch, gates); their sum where the angles are the same for all."""
        psi, lam = pair.unbind(1)
        product = (torch.conj_physical(lam) * psi).imag
        if not self.per_sample:
            product = product.sum(2, keepdim=True)
        return self._signs.read(product).mT

    def uses(self) -> Iterator[tuple[Angle, int]]:
        """Each angle with its place in what :meth:`pull` returns."""
        for place, gate in enumerate(self._gates):
            yield gate.angle, place

    def _turn(self, given: Given) -> Tensor:
        """(copies, 1, 2**n_wires, batch or 1)."""
        halves = self._angles(given.inputs, given.weights) / 2
        return self._signs.spread(halves.mT)[:, None]


def _same(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    return one is other or (one is not None and other is not None and np.array_equal(one, other))
