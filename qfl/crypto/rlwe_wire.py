"""How ciphertexts travel: their polynomials at an exact number of bits, or a seed for the second.

A ciphertext is two polynomials (c0, c1) that open to c0 + c1 s. Every size is fixed by the number
of values, and every coefficient is checked against its prime. Low bits that noise hides anyway
need not travel: of a coefficient c the number c >> drop is sent, and read as the middle of what
it stands for, off by at most 2**(drop - 1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from qfl.crypto.rlwe_bits import Coefficients, pack_bits, packed_bytes, unpack_bits
from qfl.crypto.seal_objects import SEED_BYTES
from qfl.errors import PayloadError

# Coefficients that are worked on at once: they stay in the processor's cache.
_AT_ONCE = 2**15


@dataclass(frozen=True)
class Section:
    """One polynomial of each ciphertext.

    Attributes:
        rows: Ciphertexts.
        degree: Coefficients of a polynomial.
        last: How many of the last polynomial's coefficients travel.
        prime: Coefficients are below it.
        drop: Low bits that do not travel.
    """

    rows: int
    degree: int
    last: int
    prime: int
    drop: int = 0

    @property
    def width(self) -> int:
        """Bits of a coefficient that travel."""
        return self.prime.bit_length() - self.drop

    @property
    def row_bytes(self) -> int:
        """Octets of a whole polynomial."""
        return packed_bytes(1, self.degree, self.width)

    @property
    def size(self) -> int:
        """Octets in all."""
        return (self.rows - 1) * self.row_bytes + packed_bytes(1, self.last, self.width)

    def pack(self, values: Coefficients, stop: int) -> bytes:
        """Polynomials, shape (rows, degree), of which the last is the one before row ``stop``."""
        kept = values >> np.uint64(self.drop) if self.drop else values
        if stop < self.rows or self.last == self.degree:
            return pack_bits(kept, self.width)
        whole = pack_bits(kept[:-1], self.width) if len(kept) > 1 else b""
        return whole + pack_bits(kept[-1:, : self.last], self.width)

    def read(self, data: memoryview, start: int, stop: int) -> Coefficients:
        """Polynomials ``start`` to ``stop``, shape (stop - start, degree).

        Raises:
            PayloadError: A coefficient is past the prime.
        """
        cut = stop == self.rows and self.last < self.degree
        whole = stop - cut
        part = data[start * self.row_bytes : whole * self.row_bytes]
        if whole > start:
            found = unpack_bits(part, whole - start, self.degree, self.width)
        if cut:
            rest = unpack_bits(data[whole * self.row_bytes :], 1, self.last, self.width)
            full = np.zeros((stop - start, self.degree), np.uint64)
            if whole > start:
                full[:-1] = found
            full[-1, : self.last] = rest
            found = full
        largest = int(found.max())
        if largest > (self.prime - 1) >> self.drop:
            raise PayloadError(
                f"a coefficient is {largest << self.drop}, past the prime {self.prime}: damaged, "
                "or of other parameters"
            )
        return found

    def widen(self, found: Coefficients) -> Coefficients:
        """Coefficients as they were, but for the bits that did not travel; in place."""
        if self.drop:
            found <<= np.uint64(self.drop)
            found |= np.uint64(1 << (self.drop - 1))
            # The middle of what was cut may lie past the prime; SEAL takes no such coefficient.
            np.minimum(found, np.uint64(self.prime - 1), out=found)
        return found


@dataclass(frozen=True)
class Form:
    """A body: both polynomials of each ciphertext, or the first ones and a seed for each second.

    Attributes:
        values: Numbers in the vector, for messages.
        sections: First polynomials, and second ones where they travel.
        seeded: Whether seeds stand in place of the second ones.
    """

    values: int
    sections: tuple[Section, ...]
    seeded: bool = False

    @property
    def rows(self) -> int:
        """Ciphertexts."""
        return self.sections[0].rows

    @property
    def size(self) -> int:
        """Octets of a body."""
        return sum(s.size for s in self.sections) + self.seeded * SEED_BYTES * self.rows

    def check(self, body: bytes) -> None:
        """Refuse bodies of another size.

        Raises:
            PayloadError: Names both sizes.
        """
        if len(body) != self.size:
            raise PayloadError(
                f"{self.values} values need {self.size} bytes in {self.rows} ciphertexts; found "
                f"{len(body)} bytes"
            )

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Ranges of ciphertexts to work on at once."""
        step = max(1, _AT_ONCE // self.sections[0].degree)
        for start in range(0, self.rows, step):
            yield start, min(start + step, self.rows)

    def read(self, body: bytes, start: int, stop: int) -> list[Coefficients]:
        """Polynomials of ciphertexts ``start`` to ``stop``, by section.

        Raises:
            PayloadError: A coefficient is past its prime, or nothing is encrypted.
        """
        found, place, view = [], 0, memoryview(body)
        for number, section in enumerate(self.sections):
            read = section.read(view[place : place + section.size], start, stop)
            if number == 1 and not read.any(axis=1).all():
                raise PayloadError("a ciphertext is not encrypted: its second half is zero")
            found.append(section.widen(read))
            place += section.size
        return found

    def seeds(self, body: bytes) -> list[bytes]:
        """One for each ciphertext."""
        start = len(body) - self.rows * SEED_BYTES
        return [body[at : at + SEED_BYTES] for at in range(start, len(body), SEED_BYTES)]


class Writer:
    """Puts a body together, ciphertext by ciphertext."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._parts: list[list[bytes]] = [[] for _ in form.sections]
        self._seeds: list[bytes] = []
        self._blocks = form.blocks()
        self._start, self._stop = next(self._blocks)
        shape = (self._stop, form.sections[0].degree)
        self._buffers = [np.empty(shape, np.uint64) for _ in form.sections]
        self._next = 0

    def add(self, polynomials: tuple[Coefficients, ...], seed: bytes = b"") -> None:
        """The next ciphertext; each polynomial has ``degree`` coefficients."""
        for buffer, polynomial in zip(self._buffers, polynomials, strict=True):
            buffer[self._next - self._start] = polynomial
        self._seeds.append(seed)
        self._next += 1
        if self._next == self._stop:
            rows = self._stop - self._start
            for section, parts, buffer in zip(
                self._form.sections, self._parts, self._buffers, strict=True
            ):
                parts.append(section.pack(buffer[:rows], self._stop))
            self._start, self._stop = next(self._blocks, (self._stop, 0))

    def body(self) -> bytes:
        """All of it."""
        return b"".join([part for parts in self._parts for part in parts] + self._seeds)
