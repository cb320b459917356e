"""Forward plus backward of a quantum layer, with respect to inputs and weights.

Ours beside PennyLane's TorchLayer, lightning.qubit, PennyLane and TensorCircuit-NG under jax.jit
and TorchQuantum: the same circuit, the same numbers, single precision, one core. Every peer runs
in a process of its own on that core; blocks take turns; figures are medians of processor time,
which other load disturbs least. ``make bench-peers`` installs the peers.

Prints what it measures, and writes ``results/quantum_layers`` as .json, .md, .png and .svg.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from pathlib import Path

import torch
from common import RESULTS, processor, show, write
from quantum_case import Case
from quantum_extras import per_sample, qlstm, threads
from quantum_figure import draw
from quantum_floor import speeds
from quantum_measure import Measured, measure
from quantum_ours import OURS, Local
from quantum_page import page
from quantum_peers import JAX_PEERS, PEERS_PYTHON, TORCH_PEERS, LeftOutError, Limits, Peer
from quantum_rows import TARGETS, Judged, floor_rows, rows_of

SIZES = [(n, batch) for n in (4, 6, 8, 10, 12, 14) for batch in (1, 32, 256)]
QUICK = [(4, 1), (4, 32), (8, 32), (8, 256)]
DEPTHS = (2, 6)
BLOCKS, QUICK_BLOCKS = (5, 0.05), (3, 0.02)  # how many, of how many seconds


def main() -> None:
    """Measure, print, write."""
    options = _options()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    core, compile_cores = _pin()
    started = time.perf_counter()
    notes = [f"{processor()}, {os.cpu_count()} cores; {_load()} as it began"]
    versions: dict[str, str] = {}
    peers = _peers(options, core, compile_cores, versions, notes)
    contenders = [*(Local(name) for name in OURS), *peers]
    names = [contender.name for contender in contenders]
    print("ms of a step".ljust(30) + "".join(f"{name:>23}" for name in names))
    judged = _extras(options, notes)
    results = []
    try:
        for case in _cases(options):
            found = measure(
                case, contenders, "torch engine", *(QUICK_BLOCKS if options.quick else BLOCKS)
            )
            results.append(found)
            _progress(found, names)
    finally:
        for peer in peers:
            peer.stop()

    speed = speeds()
    judged = [
        row for found in results for row in rows_of(found) + floor_rows(found, speed)
    ] + judged
    notes.append(f"{(time.perf_counter() - started) / 60:.1f} minutes; {_load()} as it ended")
    targets = [(row, met) for row, met in judged if met is not None]
    print()
    show([row for row, _ in targets], [met for _, met in targets])
    print("\n".join(notes))
    _write(options, results, judged, speed, versions, notes)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick",
        action="store_true",
        help="four sizes, depth 2, without JAX, which takes minutes to compile",
    )
    parser.add_argument("--peers", action="store_true", help="with JAX even in --quick")
    parser.add_argument(
        "--only",
        action="append",
        metavar="N,BATCH,DEPTH",
        help="this case and no others; may be given several times",
    )
    parser.add_argument(
        "--step-limit",
        type=float,
        default=20,
        metavar="S",
        help="leave a peer out of cases where a step takes longer (default: 20)",
    )
    parser.add_argument(
        "--compile-limit",
        type=float,
        default=45,
        metavar="S",
        help="leave a peer out of cases that it compiles for longer (default: 45)",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="draw the figure here as well")
    return parser.parse_args()


def _cases(options: argparse.Namespace) -> list[Case]:
    if options.only:
        return [Case(*(int(part) for part in text.split(","))) for text in options.only]
    if options.quick:
        return [Case(n, batch, 2) for n, batch in QUICK]
    return [Case(n, batch, depth) for depth in DEPTHS for n, batch in SIZES]


def _pin() -> tuple[int, list[int]]:
    """The core of all measurements, and the cores to compile on."""
    if not hasattr(os, "sched_setaffinity"):
        return 0, [0]
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[:1])
    return cores[0], cores


def _load() -> str:
    return f"load {os.getloadavg()[0]:.1f}"


def _peers(
    options: argparse.Namespace,
    core: int,
    compile_cores: list[int],
    versions: dict[str, str],
    notes: list[str],
) -> list[Peer]:
    limits = Limits(options.step_limit, options.compile_limit)
    names = TORCH_PEERS + JAX_PEERS
    if options.quick and not options.peers:
        names = TORCH_PEERS
        notes.append(f"left out by --quick, and back with --peers: {', '.join(JAX_PEERS)}")
    if not PEERS_PYTHON.exists():
        notes.append("no environment of peers: make bench-peers makes it")
    peers = []
    for number, name in enumerate(names):
        peer = Peer(name, core, compile_cores[number % len(compile_cores)], limits)
        try:
            peer.hello()
        except (LeftOutError, TimeoutError) as reason:
            peer.stop()
            notes.append(f"{name} is left out: {str(reason) or 'it does not answer'}")
            continue
        versions.update(peer.versions)
        words = ", ".join(f"{package} {number}" for package, number in peer.versions.items())
        notes.append(f"{name}: {words}")
        peers.append(peer)
    return peers


def _progress(found: Measured, names: list[str]) -> None:
    figures = (f"{found.ms[name]:.4g}" if name in found.ms else "left out" for name in names)
    print(str(found.case).ljust(30) + "".join(f"{figure:>23}" for figure in figures), flush=True)
    for name, why in found.left_out.items():
        print(f"    {name} left out: {why}", flush=True)


def _extras(options: argparse.Namespace, notes: list[str]) -> list[Judged]:
    if options.only:
        return []
    judged: list[Judged] = []
    for n, batch in TARGETS:
        if not options.quick or (n, batch) in QUICK:
            judged += per_sample(Case(n, batch, 2))
    judged.append(qlstm())
    if not options.quick:
        row, met, busy = threads(Case(12, 256, 2))
        judged.append((row, met))
        notes.append(f"two threads: other work kept {busy} of the cores' time meanwhile")
    return judged


def _write(
    options: argparse.Namespace,
    results: list[Measured],
    judged: list[Judged],
    speed: dict[str, float],
    versions: dict[str, str],
    notes: list[str],
) -> None:
    more = {
        "multiply_adds_per_second": speed,
        "notes": notes,
        "missed": [f"{row.case}, {row.peer}" for row, met in judged if met is False],
        "cases": [
            {
                **{"n": found.case.n, "batch": found.case.batch, "depth": found.case.depth},
                **{"ms": found.ms, "first_s": found.first_s, "left_out": found.left_out},
            }
            for found in results
        ],
    }
    write("quantum_layers", [row for row, _ in judged], versions, more)
    (RESULTS / "quantum_layers.md").write_text(page(results, judged, speed, notes))
    pictures = [RESULTS / "quantum_layers.png", RESULTS / "quantum_layers.svg"]
    draw(results, pictures + ([options.output] if options.output else []))
    print(f"Written: {RESULTS / 'quantum_layers'}.json, .md, .png, .svg")


if __name__ == "__main__":
    main()
