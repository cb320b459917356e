"""Equations for the points of a CKKS key, and ways to solve many of them (Li and Micciancio 2021).

A ciphertext (c0, c1) opens to m = c0 + c1 s modulo q. Decoded slots tell the real part of m: at an
evaluation point z of the ring, and at its conjugate 1/z,

    c1(z) s(z) + c1(1/z) s(1/z) = 2 Re m(z) - c0(z) - c0(1/z).

The two unknowns of each z are the same in every sum that is opened with one key. Modulo q an error
of one coefficient is an error of any size at every z: there is no "nearly", and least squares are
the normal equations modulo q.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from modular import Integers, inverse, product, reduced, total


@dataclass(frozen=True)
class Equations:
    """here * s(z) + there * s(1/z) = right modulo the prime.

    Attributes:
        right: Each array has shape (equations, degree), by sum and point z.
        here: Values of c1 at z.
        there: Values of c1 at 1/z.
        prime: q.
    """

    right: Integers
    here: Integers
    there: Integers
    prime: int

    def rows(self, which: slice) -> Equations:
        """Some of them."""
        return Equations(self.right[which], self.here[which], self.there[which], self.prime)

    def __sub__(self, other: Equations) -> Equations:
        pairs = zip(self._sides, other._sides, strict=True)
        return self._with(*(reduced(ours - theirs, self.prime) for ours, theirs in pairs))

    def total(self) -> Equations:
        """All of them added up: one equation."""
        return self._with(*(total(side, self.prime)[None] for side in self._sides))

    def times(self, factor: Integers) -> Equations:
        """Each multiplied by a factor of its own at each point."""
        return self._with(*(product(side, factor, self.prime) for side in self._sides))

    @property
    def _sides(self) -> tuple[Integers, Integers, Integers]:
        return self.right, self.here, self.there

    def _with(self, right: Integers, here: Integers, there: Integers) -> Equations:
        return Equations(right, here, there, self.prime)


Pair = tuple[Equations, Equations]


def two_at_a_time(equations: Equations) -> Pair:
    """Each two sums by themselves: what all of them agree on, if anything, is among what they say.

    A sum has two ciphertexts here, so that one release has two equations.
    """
    return equations.rows(slice(0, None, 2)), equations.rows(slice(1, None, 2))


def differences(equations: Equations) -> Pair:
    """Each release less the one before it: what is the same in both cancels."""
    return two_at_a_time(equations.rows(slice(2, None)) - equations.rows(slice(0, -2)))


def averages(equations: Equations) -> Pair:
    """All first ciphertexts added up, and all second ones."""
    first, second = two_at_a_time(equations)
    return first.total(), second.total()


def least_squares(equations: Equations) -> Pair:
    """The normal equations of all."""
    return (
        equations.times(equations.here).total(),
        equations.times(equations.there).total(),
    )


WAYS: dict[str, Callable[[Equations], Pair]] = {
    "two at a time": two_at_a_time,
    "differences": differences,
    "averages": averages,
    "least squares": least_squares,
}


def solved(pair: Pair) -> Integers:
    """s(z) of each two equations, shape (pairs, degree); anything where these are dependent."""
    first, second = pair
    q = first.prime
    determinant = _cross(first.here, second.there, second.here, first.there, q)
    found = _cross(first.right, second.there, second.right, first.there, q)
    return product(found, inverse(np.where(determinant, determinant, 1), q), q)


def _cross(a: Integers, b: Integers, c: Integers, d: Integers, q: int) -> Integers:
    return reduced(product(a, b, q) - product(c, d, q), q)
