"""What the torch engine measures, and λ, half the gradient by the state, where it turns back."""

from __future__ import annotations

from collections import defaultdict
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from qfl.quantum.affine import Kind
from qfl.quantum.plan import Expectations, Measurement, Probabilities
from qfl.quantum.signs import TABLE_WIRES, Signs, bits_of


class Readout(Protocol):
    """A measurement."""

    def values(self, state: Tensor) -> Tensor:
        """(copies, 1, 2**n_wires, batch) to (copies, batch, outputs)."""

    def start(self, state: Tensor, grad_outputs: Tensor) -> Tensor:
        """λ of a state, in its shape, from gradients by the values."""


def looks_through(measurement: Measurement, n_wires: int) -> bool:
    """Whether a measurement can be read from in front of a permutation, or of phases."""
    if isinstance(measurement, Expectations):
        words = (term.word for terms in measurement.observables for term in terms)
        return n_wires <= TABLE_WIRES and all(set(word) <= {"I", "Z"} for word in words)
    return isinstance(measurement, Probabilities)


def readout(
    kind: Kind, measurement: Measurement, n_wires: int, source: np.ndarray | None
) -> Readout:
    """How to measure.

    Args:
        kind: Of the gradients.
        measurement: What is measured.
        n_wires: Wires of the state.
        source: A last permutation that has been left out; see :func:`looks_through`.
    """
    if isinstance(measurement, Expectations):
        return _Words(kind, measurement, n_wires, source)
    if isinstance(measurement, Probabilities):
        return _Probabilities(kind, measurement, n_wires, source)
    return _State()


class _Words:
    """Expectations of sums of Pauli words.

    Words of Z are read off |ψ|². Others flip bits: those that flip the same are read together, off
    ψ* times ψ with these bits flipped; words with an odd number of Y off its imaginary part.
    """

    def __init__(
        self, kind: Kind, measured: Expectations, n_wires: int, source: np.ndarray | None
    ) -> None:
        outputs = len(measured.observables)
        found: dict[tuple[int, int], list[dict[int, float]]] = defaultdict(
            lambda: [defaultdict(float) for _ in range(outputs)]
        )
        for row, terms in enumerate(measured.observables):
            for term in terms:
                where = {
                    letter: bits_of([w for w, x in enumerate(term.word) if x == letter], n_wires)
                    for letter in "XYZ"
                }
                # (P ψ)[k] = (-i)**ys * (-1)**(set bits of k & signs) * ψ[k ^ flips]
                ys = term.word.count("Y")
                flips, signs = where["X"] | where["Y"], where["Z"] | where["Y"]
                factor = (1.0, 1.0, -1.0, -1.0)[ys % 4]
                found[flips, ys % 2][row][signs] += factor * term.coefficient
        self._outputs = outputs
        straight = found.pop((0, 0), None)
        self._straight = None if straight is None else Signs(kind, straight, n_wires, source)
        basis = np.arange(1 << n_wires)
        self._flipped = [
            (kind.tensor(basis ^ flips), odd, Signs(kind, rows, n_wires))
            for (flips, odd), rows in found.items()
        ]

    def values(self, state: Tensor) -> Tensor:
        """(copies, 1, 2**n_wires, batch) to (copies, batch, outputs)."""
        copies, _, states, batch = state.shape
        psi = state.select(1, 0)
        real = torch.view_as_real(psi)
        if self._straight is None:
            found = real.new_zeros((copies, self._outputs, batch))
        else:
            read = self._straight.read(real.square().reshape(copies, states, -1))
            found = read.reshape(copies, -1, batch, 2).sum(3)
        for flips, odd, signs in self._flipped:
            product = psi.conj() * psi.index_select(1, flips)
            found = found + signs.read(product.imag if odd else product.real)
        return found.mT

    def start(self, state: Tensor, grad_outputs: Tensor) -> Tensor:
        """λ of a state, in its shape, from gradients by the values."""
        psi, grads = state.select(1, 0), grad_outputs.mT
        if self._straight is None:
            lam = torch.zeros_like(psi)
        else:
            lam = psi * self._straight.spread(grads)
        for flips, odd, signs in self._flipped:
            part = psi.index_select(1, flips) * signs.spread(grads)
            lam = lam + (part * -1j if odd else part)
        return lam[:, None]


class _Probabilities:
    def __init__(
        self, kind: Kind, measured: Probabilities, n_wires: int, source: np.ndarray | None
    ) -> None:
        basis = np.arange(1 << n_wires)
        outcome = np.zeros_like(basis)
        for wire in measured.wires:
            outcome = outcome << 1 | basis >> (n_wires - 1 - wire) & 1
        if source is not None:
            outcome = outcome[np.argsort(source)]
        order = np.argsort(outcome, kind="stable")
        self._outcomes = 1 << len(measured.wires)
        self._in_order = np.array_equal(order, basis)
        self._order, self._outcome = kind.tensor(order), kind.tensor(outcome)

    def values(self, state: Tensor) -> Tensor:
        """(copies, 1, 2**n_wires, batch) to (copies, batch, outputs)."""
        real, imaginary = torch.view_as_real(state[:, 0]).unbind(-1)
        found = torch.addcmul(real * real, imaginary, imaginary)
        if not self._in_order:
            found = found.index_select(1, self._order)
        copies, _, batch = found.shape
        return found.reshape(copies, self._outcomes, -1, batch).sum(2).mT

    def start(self, state: Tensor, grad_outputs: Tensor) -> Tensor:
        """λ of a state, in its shape, from gradients by the values."""
        factor = grad_outputs.mT.index_select(1, self._outcome)
        return state * factor[:, None]


class _State:
    def values(self, state: Tensor) -> Tensor:
        """(copies, 1, 2**n_wires, batch) to (copies, batch, outputs)."""
        psi = state.select(1, 0).mT
        return torch.cat((psi.real, psi.imag), dim=-1)

    def start(self, state: Tensor, grad_outputs: Tensor) -> Tensor:
        """λ of a state, in its shape, from gradients by the values."""
        real, imaginary = (grad_outputs.mT / 2).chunk(2, dim=1)
        return torch.complex(real, imaginary)[:, None]
