"""Takes turns among contenders: blocks of steps, one contender after the other, medians."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from quantum_case import Case
from quantum_peers import Contender, LeftOutError, Prepared

# Steps that take so many seconds are measured less often.
FEWER = ((5.0, 2), (0.5, 3))
TOLERANCE = 1e-4


@dataclass
class Measured:
    """Figures of one case, by contender."""

    case: Case
    ms: dict[str, float] = field(default_factory=dict)
    first_s: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def measure(
    case: Case, contenders: Sequence[Contender], reference: str, blocks: int, block_s: float
) -> Measured:
    """Median milliseconds of processor time of a step, for every contender that takes part.

    Args:
        case: What is computed.
        contenders: Who takes turns.
        reference: Whose values and gradients the others' must be.
        blocks: How often it is each one's turn.
        block_s: Seconds of one block, if a step takes less.

    A contender that computes something else is left out, with these words.
    """
    found = Measured(case)
    prepared: dict[str, Prepared] = {}
    for contender in contenders:
        contender.begin(case)
    for contender in contenders:
        try:
            prepared[contender.name] = contender.prepare(case)
        except LeftOutError as reason:
            found.left_out[contender.name] = str(reason)
    for name, first in prepared.items():
        wrong = _difference(first, prepared[reference])
        if wrong is None:
            found.first_s[name] = first.first_s
        else:
            found.left_out[name] = f"computes something else: {wrong}"
    _take_turns([c for c in contenders if c.name in found.first_s], blocks, block_s, found)
    for contender in contenders:
        contender.finish()
    return found


def _take_turns(contenders: list[Contender], blocks: int, block_s: float, found: Measured) -> None:
    taken: dict[str, list[float]] = {}
    times: dict[str, int] = {}
    for contender in contenders:
        try:
            once = contender.run(1)
            if once < block_s:
                once = contender.run(3) / 3
        except LeftOutError as reason:
            found.left_out[contender.name] = str(reason)
            continue
        times[contender.name] = max(1, int(block_s / max(once, 1e-6)))
        taken[contender.name] = [once] if once > FEWER[-1][0] else []
    for _ in range(blocks):
        for contender in contenders:
            done = taken.get(contender.name)
            if done is None or len(done) >= _enough(done, blocks):
                continue
            count = times[contender.name]
            try:
                done.append(contender.run(count) / count)
            except LeftOutError as reason:
                found.left_out[contender.name] = str(reason)
                del taken[contender.name]
    for name, values in taken.items():
        found.ms[name] = statistics.median(values) * 1e3


def _enough(done: list[float], blocks: int) -> int:
    once = statistics.median(done) if done else 0.0
    return next((count for seconds, count in FEWER if once > seconds), blocks)


def _difference(prepared: Prepared, reference: Prepared) -> str | None:
    """What is not the same, in words; None where everything is."""
    names = ("outputs", "gradients by inputs", "gradients by weights")
    for what, right, given in zip(names, reference.arrays, prepared.arrays, strict=False):
        error = float(np.abs(right - given).max())
        if not error <= TOLERANCE * max(1.0, float(np.abs(right).max())):
            return f"{what} differ by {error:.2g}"
    return None
