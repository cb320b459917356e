"""Sums of ciphertexts, coefficient by coefficient; one accumulator whatever the number of clients.

Coefficients are added in 64 bits and reduced modulo the prime only when the next one might not
fit: of primes of b bits, 2**(64 - b) fit. Second polynomials that came as seeds are expanded and
added by SEAL: a seed is data, everything around it is ours.
"""

from __future__ import annotations

import weakref
from itertools import islice
from typing import Any

import numpy as np

from qfl.crypto.rlwe_bits import Coefficients
from qfl.crypto.rlwe_ring import SealRing
from qfl.crypto.rlwe_wire import Form, Writer
from qfl.crypto.scheme import WholeSum
from qfl.crypto.seal_objects import SealFile
from qfl.errors import PayloadError

_SEED_KEPT = 16  # octets by which repeated seeds are known


class CiphertextSum(WholeSum):
    """The sum of up to ``most`` contributions.

    Args:
        ring: Ring of the ciphertexts.
        contribution: What clients send.
        total: What is opened.
        most: Number of additions that the parameters are sound for.
    """

    def __init__(self, ring: SealRing, contribution: Form, total: Form, most: int) -> None:
        self._ring, self._contribution, self._total, self._most = ring, contribution, total, most
        shape = (contribution.rows, ring.degree)
        self._sums = [np.zeros(shape, np.uint64) for _ in contribution.sections]
        self._seconds = _SeededSum(ring) if contribution.seeded else None
        self._room = 2 ** (64 - ring.prime.bit_length())
        self._unreduced = self._added = 0

    def add(self, body: bytes) -> None:
        """Add a contribution, or leave the sum as it was.

        Raises:
            PayloadError: It is malformed, holds a seed of another one, or is one too many.
        """
        if self._added >= self._most:
            raise PayloadError(
                f"more than {self._most} contributions: these parameters are not sound for "
                "another one"
            )
        form = self._contribution
        form.check(body)
        if self._seconds is not None:
            self._seconds.check(form.seeds(body))
        if self._unreduced + 1 > self._room:
            for found in self._sums:
                _reduce(found, self._ring.prime)
            self._unreduced = 1
        done = 0
        try:
            for start, stop in form.blocks():
                for total, read in zip(self._sums, form.read(body, start, stop), strict=True):
                    total[start:stop] += read
                done += 1
        except PayloadError:
            for start, stop in islice(form.blocks(), done):
                for total, read in zip(self._sums, form.read(body, start, stop), strict=True):
                    total[start:stop] -= read
            raise
        if self._seconds is not None:
            self._seconds.add(form.seeds(body))
        self._unreduced += 1
        self._added += 1

    def result(self) -> bytes:
        """Both polynomials of every ciphertext of the sum."""
        writer = Writer(self._total)
        with SealFile() as file:
            for row in range(self._total.rows):
                found = [total[row].copy() for total in self._sums]
                for polynomial in found:
                    _reduce(polynomial, self._ring.prime)
                if self._seconds is not None:
                    found.append(self._seconds.polynomial(row, file))
                writer.add(tuple(found))
        return writer.body()


class _SeededSum:
    """The sum of second polynomials, each of which came as a seed."""

    def __init__(self, ring: SealRing) -> None:
        import tenseal.sealapi as seal

        self._ring = ring
        self._evaluator = seal.Evaluator(ring.context)
        self._sums: list[Any] = []
        # Everything but the seed stays in the file from one ciphertext to the next.
        self._file = SealFile()
        self._file.write(ring.seeded.head, bytes(8 * ring.degree), ring.seeded.tail)
        weakref.finalize(self, self._file.close)
        self._seen: set[bytes] = set()

    def check(self, seeds: list[bytes]) -> None:
        """Refuse a seed that comes a second time.

        Two ciphertexts of one seed under one key differ by their messages and small errors alone.

        Raises:
            PayloadError: Says so.
        """
        new = {seed[:_SEED_KEPT] for seed in seeds}
        if len(new) < len(seeds) or not self._seen.isdisjoint(new):
            raise PayloadError(
                "a seed comes twice in one sum, which gives away the difference of two updates: "
                "the same contribution again, or a client whose randomness repeats"
            )

    def add(self, seeds: list[bytes]) -> None:
        """Expand and add."""
        import tenseal.sealapi as seal

        ring, found = self._ring, seal.Ciphertext()
        first_time = not self._sums
        for row, seed in enumerate(seeds):
            self._file.write(seed, start=ring.seeded.seed_place)
            found.load(ring.context, self._file.path)
            if first_time:
                self._sums.append(found)
                found = seal.Ciphertext()
            else:
                self._evaluator.add_inplace(self._sums[row], found)
        self._seen.update(seed[:_SEED_KEPT] for seed in seeds)

    def polynomial(self, row: int, file: SealFile) -> Coefficients:
        """The second polynomial of one ciphertext of the sum; zero before anything was added."""
        if not self._sums:
            return np.zeros(self._ring.degree, np.uint64)
        values = self._ring.ciphertext.values(file.save(self._sums[row]))
        return values[self._ring.degree :]


def _reduce(values: Coefficients, prime: int) -> None:
    # Several times as fast as numpy's remainder.
    values -= values // np.uint64(prime) * np.uint64(prime)
