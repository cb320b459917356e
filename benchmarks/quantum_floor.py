"""The least arithmetic that a step of this circuit takes, at the speed of this machine's own.

Counted are multiply-adds on one lane, each as one operation; so are a multiplication or an
addition alone. N = 2**n amplitudes, L layers, r operations that a real rotation takes for each of
the numbers it turns: 2 with cosine and sine (c x - s y), 1 with tangents (x - t y, and the product
of the cosines goes into a table). For each sample:

    forward       4 N                the first rotations of all wires: a product of two halves
                + (L - 1) (4 N       phases of a layer: one complex product
                + 2 r n N)           rotations about Y of n wires, on 2 N real numbers
                + 4 N                squares of the amplitudes; sums with signs for all wires
    backward      forward without the last line, then
                  4 N                signs of all wires spread, times the state
                + (L - 1) (2 r n N   rotations undone on lambda
                + 2 n N              Im<lambda|Y|psi> of every wire
                + 4 N                Im(conj(lambda) psi); sums with signs for all wires
                + 4 N)               phases undone on lambda
                + 8 N                lambda contracted with either half of the product

Loads, stores, permutations, angles, tables and everything of Python are left out. The speed is
that of a product of matrices in single precision that lie in the cache, on one core: with AVX2 and
with the widest instructions that the library picks (AVX-512 where there is). The target was set
for cosines and AVX2; the kernel turns by tangents and has code for AVX-512: that floor stands
beside it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from quantum_case import Case

COSINES, TANGENTS = 2, 1
# A floor: operations of a rotation, width of the instructions, name.
FLOORS = (
    (COSINES, "AVX2", "floor, cosines, AVX2"),
    (TANGENTS, "widest", "floor, tangents, widest"),
)


def operations(case: Case, rotation: int) -> int:
    """Operations of a step.

    Args:
        case: What is computed.
        rotation: :data:`COSINES` or :data:`TANGENTS`.
    """
    turns, more = 2 * rotation * case.n, case.depth - 1
    state = 4 + more * (4 + turns)
    forward = state + 4
    backward = state + 4 + more * (turns + 2 * case.n + 4 + 4) + 8
    return (forward + backward) * case.batch << case.n


def floor_ms(case: Case, rotation: int, speed: float) -> float:
    """Milliseconds of a step at so many operations a second."""
    return operations(case, rotation) / speed * 1e3


def speeds() -> dict[str, float]:
    """Multiply-adds a second on one core, by the width of the instructions."""
    return {"AVX2": _speed({"MKL_ENABLE_INSTRUCTIONS": "AVX2"}), "widest": _speed({})}


def _speed(environment: dict[str, str]) -> float:
    # In a process of its own: the library chooses its instructions when it is first used.
    done = subprocess.run(  # noqa: S603
        [sys.executable, __file__],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def _main() -> None:
    import torch

    torch.set_num_threads(1)
    size, times, best = 256, 10, float("inf")
    left, right, out = (torch.ones(size, size) for _ in range(3))
    for _ in range(100):
        started = time.process_time()
        for _ in range(times):
            torch.mm(left, right, out=out)
        best = min(best, (time.process_time() - started) / times)
    print(size**3 / best)


if __name__ == "__main__":
    _main()
