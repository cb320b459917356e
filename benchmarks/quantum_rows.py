"""What the figures are held against: targets, and rows for the result file."""

from __future__ import annotations

from common import Row
from quantum_case import Case
from quantum_floor import COSINES, FLOORS, floor_ms
from quantum_measure import Measured

# (n, batch) at depth 2: times faster than TorchLayer, and than the best peer there.
TARGETS = {
    (4, 32): (120, 1.7),
    (8, 32): (150, 8),
    (8, 256): (80, 12),
    (12, 256): (60, 40),
    (4, 1): (140, 1),
}
TORCH_TARGET = 10
FLOOR_TARGET = 2.5
SMALLEST_AT_FLOOR = (8, 256)

Judged = tuple[Row, bool | None]  # None: there is no target


def rows_of(measured: Measured) -> list[Judged]:
    """Ours beside every peer, and beside the best one; those with a target first."""
    case, ms = measured.case, measured.ms
    peers = {name: value for name, value in ms.items() if name in PEER_NAMES}
    wanted = TARGETS.get((case.n, case.batch)) if case.depth == 2 else None
    judged: list[Judged] = []

    def add(ours: str, peer: str, least: float | None, note: str = "") -> None:
        row = Row(
            f"{case}, {ours}",
            "fwd + bwd",
            "ms",
            ms[ours],
            peer + note,
            peers[peer],
            "" if least is None else f">= {least:g}x",
        )
        judged.append((row, None if least is None else peers[peer] >= least * ms[ours]))

    best = min(peers, key=peers.__getitem__, default="")
    if "kernel" in ms and peers:
        if "TorchLayer" in peers:
            add("kernel", "TorchLayer", wanted and wanted[0])
        # Without JAX the best peer is another one: the target does not apply.
        jax = any("jax" in name for name in peers)
        add("kernel", best, wanted[1] if wanted and jax else None, " (best)")
        if (case.n, case.batch) == (4, 1):
            add("kernel, direct", best, 1 if wanted and jax else None, " (best)")
    if "TorchLayer" in peers:
        add("torch engine", "TorchLayer", TORCH_TARGET if wanted else None)
    shown = {(row.case, row.peer.removesuffix(" (best)")) for row, _ in judged}
    for ours in ("kernel", "torch engine"):
        for peer in peers:
            if ours in ms and (f"{case}, {ours}", peer) not in shown:
                add(ours, peer, None)
    return judged


PEER_NAMES = (
    *("TorchLayer", "lightning adjoint", "TorchQuantum"),
    *("PennyLane jax.jit", "TensorCircuit jax.jit"),
)


def floor_rows(measured: Measured, speeds: dict[str, float]) -> list[Judged]:
    """How far the kernel, without the bridge to torch, is from the least arithmetic.

    The target was set for rotations with cosine and sine and for AVX2; what tangents and the
    widest instructions would allow stands beside it.
    """
    case = measured.case
    ours = measured.ms.get("kernel, direct")
    if ours is None:
        return []
    judged: list[Judged] = []
    held = case.n >= SMALLEST_AT_FLOOR[0] and case.batch >= SMALLEST_AT_FLOOR[1]
    for rotation, width, words in FLOORS:
        least = floor_ms(case, rotation, speeds[width])
        target = held and rotation == COSINES
        row = Row(
            f"{case}, kernel, direct",
            "fwd + bwd",
            "ms",
            ours,
            words,
            least,
            f"at most {FLOOR_TARGET:g}x the floor; is {ours / least:.2f}x" if target else "",
        )
        judged.append((row, ours <= FLOOR_TARGET * least if target else None))
    return judged


def distance(measured: Measured, rotation: int, speed: float) -> float | None:
    """The kernel's time over the floor's."""
    ours = measured.ms.get("kernel, direct")
    return None if ours is None else ours / floor_ms(measured.case, rotation, speed)


def targets_of(case: Case) -> bool:
    """Whether a case has targets."""
    return case.depth == 2 and (case.n, case.batch) in TARGETS
