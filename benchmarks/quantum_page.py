"""The results as a page of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from quantum_floor import FLOORS
from quantum_measure import Measured
from quantum_rows import PEER_NAMES, Judged, distance

SHOWN = ("kernel", "torch engine", *PEER_NAMES)


def page(
    results: Sequence[Measured],
    judged: Sequence[Judged],
    speeds: dict[str, float],
    notes: Sequence[str],
) -> str:
    """Everything that was measured, and what was not and why."""
    parts = [
        "# Quantum layers: forward and backward\n",
        "Angle embedding, strongly entangling layers, <Z> on every wire; gradients by inputs and "
        "weights; single precision; one core; medians of processor time of blocks that take "
        "turns. `make bench-quantum` makes this page.\n",
        "\n".join(f"- {note}" for note in notes) + "\n",
        "## Targets\n",
        _table(
            ("case", "ours, ms", "beside", "ms", "times faster", "target", ""),
            (
                (
                    row.case + ("" if row.metric == "fwd + bwd" else f" ({row.metric})"),
                    _number(row.ours),
                    row.peer,
                    _number(row.peer_value),
                    _number(row.ratio),
                    row.target,
                    "reached" if met else "**missed**",
                )
                for row, met in judged
                if met is not None
            ),
        ),
    ]
    for depth in sorted({found.case.depth for found in results}):
        chosen = [found for found in results if found.case.depth == depth]
        parts += [
            f"## Milliseconds of a step, depth {depth}\n",
            _table(
                ("n, batch", *SHOWN),
                (
                    (
                        f"{found.case.n}, {found.case.batch}",
                        *(_number(found.ms.get(name)) for name in SHOWN),
                    )
                    for found in chosen
                ),
            ),
        ]
    parts += [
        "## Compiling\n",
        "Seconds of processor time of the first call under `jax.jit`, for every shape anew; not "
        "in the figures above. Two are compiled at a time, each on one core.\n",
        _compiling(results),
        "## The kernel without the bridge\n",
        "`direct` calls the kernel's two passes on tensors; `bridge alone` is a training step "
        "through an autograd function that computes nothing. The floor is the least arithmetic of "
        f"the method (`benchmarks/quantum_floor.py`) at {speeds['AVX2'] / 1e9:.0f} thousand "
        "million multiply-adds a second with AVX2, and at "
        f"{speeds['widest'] / 1e9:.0f} with the widest instructions, which a product of matrices "
        "in the cache reaches here. Rotations take two operations a number with cosine and sine, "
        "one with tangents; the target was set for cosines and AVX2, the kernel has tangents and "
        "AVX-512. Blocks of up to sixteen samples: a batch of 1 leaves lanes idle.\n",
        _bridge(results, speeds),
        "## Left out\n",
        _left_out(results),
    ]
    return "\n".join(parts)


def _compiling(results: Sequence[Measured]) -> str:
    names = [name for name in PEER_NAMES if "jax" in name]
    rows = [
        (str(found.case), *(_number(found.first_s.get(name)) for name in names))
        for found in results
        if any(name in found.first_s for name in names)
    ]
    return _table(("case", *names), rows) if rows else "Nothing was compiled in this run.\n"


def _bridge(results: Sequence[Measured], speeds: dict[str, float]) -> str:
    names = ("kernel", "kernel, direct", "bridge alone")
    return _table(
        (
            "case",
            *(f"{name}, ms" for name in names),
            *(f"over the {name}" for _, _, name in FLOORS),
        ),
        (
            (
                str(found.case),
                *(_number(found.ms.get(name)) for name in names),
                *(
                    _number(distance(found, rotation, speeds[width]), "x")
                    for rotation, width, _ in FLOORS
                ),
            )
            for found in results
            if "kernel, direct" in found.ms
        ),
    )


def _left_out(results: Sequence[Measured]) -> str:
    lines = [
        f"- {name}, {found.case}: {why}"
        for found in results
        for name, why in found.left_out.items()
    ]
    return ("\n".join(lines) or "Nothing.") + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _number(value: float | None, unit: str = "") -> str:
    if value is None:
        return "–"
    return (f"{value:,.0f}" if value >= 1000 else f"{value:.3g}") + unit
