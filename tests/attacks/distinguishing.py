"""Telling two federations apart whose sums are equal, from all that a server holds of a round.

In world 0 one client's update is moved by +d and another's by -d; in world 1 the other way round.
The attacker knows both clients' updates in either world. It takes each of the two contributions,
their difference and what was opened, reads the bytes as numbers of every kind at every offset, and
looks for the candidates in them; beside that it looks at sizes and at statistics of bytes. Which of
these marks tell the worlds apart it learns from rounds whose world it knows; then it guesses.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
FORMS = ("<i1", "<i2", "<i4", "<f4", "<f8")


@dataclass(frozen=True)
class Round:
    """What the server holds of one round.

    Attributes:
        contributions: Of the two clients that differ between the worlds.
        others: What else came but other clients' contributions: what was opened above all.
    """

    contributions: tuple[bytes, bytes]
    others: list[bytes]


@dataclass(frozen=True)
class Candidates:
    """What a vector may be, in world 0 and in world 1."""

    zero: Numbers
    one: Numbers

    def __sub__(self, other: Candidates) -> Candidates:
        return Candidates(self.zero - other.zero, self.one - other.one)


def marks(seen: Round, first: Candidates, second: Candidates) -> Numbers:
    """All marks of a round, as numbers that may differ between the worlds.

    Args:
        seen: The server's.
        first: The first client's update.
        second: The second client's.
    """
    one, other = seen.contributions
    size = min(len(one), len(other))
    octets = np.frombuffer(one[:size], "u1") - np.frombuffer(other[:size], "u1")
    found = [len(one) - len(other)]
    found += [a - b for a, b in zip(_statistics(one), _statistics(other), strict=True)]
    found += [*_likeness(one, first), *_likeness(other, second)]
    found += [
        *_likeness(octets.tobytes(), first - second),
        *_differences(one, other, first - second),
    ]
    found += list(_likeness(b"".join(seen.others), first))
    return np.array(found, dtype=np.float64)


def _statistics(data: bytes) -> Iterator[float]:
    octets = np.frombuffer(data, "u1").astype(np.float64)
    yield from (octets.mean(), octets.var(), float((octets == 0).mean()))
    yield len(zlib.compress(data, 1))


def _likeness(data: bytes, candidates: Candidates) -> Iterator[float]:
    """How much more one candidate is found than the other, for each reading of the bytes."""
    for form in FORMS:
        width = np.dtype(form).itemsize
        for offset in range(width):
            values = _read(data, form, offset)
            yield _found(_tame(values) if "f" in form else values, candidates)


def _differences(first: bytes, second: bytes, candidates: Candidates) -> Iterator[float]:
    """As :func:`_likeness`, of the difference of numbers, which a common mask does not survive."""
    size = min(len(first), len(second))
    for offset in range(4):
        pair = [_read(data[-size:], "<u4", offset) for data in (first, second)]
        yield _found((pair[0] - pair[1]).view("<i4"), candidates)


def _read(data: bytes, form: str, offset: int) -> NDArray[Any]:
    """Bytes as numbers; offsets count from the end, because headers differ in length."""
    end = len(data) - offset
    return np.frombuffer(data[end % np.dtype(form).itemsize : end], form)


def _tame(values: NDArray[Any]) -> Numbers:
    """Small numbers as they are, huge ones as their logarithm: random bytes are any."""
    with np.errstate(invalid="ignore"):
        return np.arcsinh(np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0))


def _found(values: NDArray[Any], candidates: Candidates) -> float:
    """Largest correlation of a stretch with one candidate, less largest with the other."""
    size = candidates.zero.size
    if values.size < size:
        return 0.0
    wide, zero = values.astype(np.float64), np.zeros(1)
    sums = np.concatenate([zero, np.cumsum(wide)])
    squares = np.concatenate([zero, np.cumsum(wide * wide)])
    inside, around = (all_[size:] - all_[:-size] for all_ in (sums, squares))
    norms = np.sqrt(np.maximum(around - inside * inside / size, 1e-9 * (1 + around)))
    best = []
    for candidate in (candidates.zero, candidates.one):
        centred = candidate - candidate.mean()
        at = np.correlate(wide, centred / np.linalg.norm(centred), "valid") / norms
        best.append(float(at.max()))
    return best[0] - best[1]


@dataclass(frozen=True)
class Guesser:
    """Guesses by the one mark that differed most between the worlds where they were known.

    Attributes:
        mark: Which.
        middle: Half way between the worlds.
        sign: World 0 is above (1) or below (-1).
    """

    mark: int
    middle: float
    sign: int

    @staticmethod
    def learn(known: Numbers, worlds: NDArray[np.int64]) -> Guesser:
        """From the marks of some rounds, (rounds, marks), and their worlds."""
        zero, one = known[worlds == 0], known[worlds == 1]
        between = zero.mean(axis=0) - one.mean(axis=0)
        spread = zero.std(axis=0) + one.std(axis=0) + 1e-9
        best = int(np.abs(between / spread).argmax())
        middle = (zero[:, best].mean() + one[:, best].mean()) / 2
        return Guesser(best, float(middle), 1 if between[best] > 0 else -1)

    def guess(self, marks: Numbers) -> NDArray[np.int64]:
        """The world of each round, from (rounds, marks)."""
        above = marks[:, self.mark] > self.middle
        return np.where(above == (self.sign > 0), 0, 1)
