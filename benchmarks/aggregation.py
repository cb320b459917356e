"""Secure sums of updates: our schemes beside NVFlare's classes, Paillier and plain float32.

The same numbers everywhere, one core; ours and the peers' rounds take turns, each side in a process
of its own; figures are medians of processor time, which other load disturbs least. Protecting holds
weighing, rounding and writing bytes; the server's time holds reading bytes; opening ends with the
mean as an array. ``make bench-aggregation-peers`` installs the peers.

Every client of NVFlare holds the key that opens: ``shared`` is what compares like with like;
``key_holder`` gives nobody but one holder that power, and costs more.

Prints what it measures, and writes ``results/aggregation`` as .json, .md, .png and .svg.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import asdict
from pathlib import Path

from aggregation_figure import draw
from aggregation_floor import Speeds, speeds
from aggregation_measure import Measured, Plan, measure
from aggregation_ours import BY_NAME
from aggregation_round import Case
from aggregation_rows import MILLION, Judged, rows_of
from aggregation_scaling import Scale, growth, scale
from aggregation_table import (
    Table,
    case_table,
    envelope_table,
    floor_table,
    memory_table,
    scaling_table,
    settings_table,
    target_table,
)
from aggregation_workers import OTHERS, OURS, LeftOutError, Worker
from common import RESULTS, processor, write

CASES = (
    Case(200),
    Case(200, tensors=4),
    Case(10_000, tensors=4),
    Case(MILLION, tensors=10),
    Case(10 * MILLION, tensors=20),
)
QUICK = (Case(200, tensors=4), Case(10_000, tensors=4), Case(100_000, tensors=10))
TURNS, QUICK_TURNS = (5, 0.3), (3, 0.05)  # how many, of how many seconds
SLOW_PEER = "Paillier (phe)"


def main() -> None:
    """Measure, print, write."""
    options = _options()
    started = time.perf_counter()
    notes = [
        f"{processor()}, {os.cpu_count()} cores; {_load()} as it began",
        "NVFlare's clients all hold the key: shared is like for like, key_holder trusts less",
    ]
    core = sorted(os.sched_getaffinity(0))[-1] if hasattr(os, "sched_getaffinity") else 0
    workers = _workers(options, core, notes)
    contenders = [
        (name, worker)
        for worker in workers
        for name in worker.contenders
        if _wanted(name, options, notes)
    ]
    turns, seconds = QUICK_TURNS if options.quick else TURNS
    results: list[Measured] = []
    scales: list[Scale] = []
    pace: dict[str, float] = {}
    try:
        for case in _cases(options):
            memory = options.memory and case.length <= MILLION
            plan = Plan(options.turns or turns, seconds, options.limit, memory)
            results.append(measure(case, contenders, plan, pace))
            _progress(results[-1])
        if not options.quick and not options.sizes:
            names = [name for name, _ in contenders if name in BY_NAME and not BY_NAME[name].label]
            scales = scale(names, workers[0], MILLION, options.limit, notes)
    finally:
        for worker in workers:
            worker.stop()
    notes.append(f"{(time.perf_counter() - started) / 60:.1f} minutes; {_load()} as it ended")
    versions = {name: text for worker in workers for name, text in worker.versions.items()}
    _finish(results, scales, speeds(), versions, notes, options.output)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--quick", action="store_true", help="small sizes, fewer turns, no Paillier; a minute")
    add(
        "--only", metavar="SCHEME,…", help="these schemes of ours and no others, such as ckks,plain"
    )
    add("--sizes", metavar="N,…", help="these numbers of parameters and no others")
    add("--turns", type=int, metavar="N", help="turns of each contender (default: 5)")
    add("--peers", action=argparse.BooleanOptionalAction, default=True, help="with the peers")
    add(
        "--memory",
        action="store_true",
        help="the most memory of every role, up to a million values",
    )
    limit = "leave out what takes longer for a round (default: 900)"
    add("--limit", type=float, default=900, metavar="S", help=limit)
    add("--output", type=Path, metavar="FILE", help="draw the figure here as well")
    return parser.parse_args()


def _cases(options: argparse.Namespace) -> list[Case]:
    if options.sizes:
        sizes = {int(text) for text in options.sizes.split(",")}
        known = [case for case in (*CASES, QUICK[-1]) if case.length in sizes]
        return known + [Case(size) for size in sorted(sizes - {case.length for case in known})]
    return list(QUICK if options.quick else CASES)


def _workers(options: argparse.Namespace, core: int, notes: list[str]) -> list[Worker]:
    ready = []
    for module in (OURS, OTHERS) if options.peers else (OURS,):
        worker = Worker(module, core)
        try:
            worker.start()
        except LeftOutError as reason:
            worker.stop()
            notes.append(f"{module} is left out: {reason}")
            continue
        ready.append(worker)
        words = ", ".join(f"{package} {text}" for package, text in worker.versions.items())
        notes.append(f"{'ours' if module == OURS else 'peers'}: {words}")
    return ready


def _wanted(name: str, options: argparse.Namespace, notes: list[str]) -> bool:
    if name in BY_NAME:
        return not options.only or BY_NAME[name].scheme in options.only.split(",")
    if name == SLOW_PEER and options.quick:
        notes.append(f"{name} is left out by --quick: a round of 200 values takes it a minute")
        return False
    return True


def _load() -> str:
    return f"load {os.getloadavg()[0]:.1f}"


def _progress(measured: Measured) -> None:
    case_table(measured).show()
    for name, why in measured.left_out.items():
        print(f"{name} is left out: {why}", flush=True)
    print(flush=True)


def _finish(
    results: list[Measured],
    scales: list[Scale],
    speed: Speeds,
    versions: dict[str, str],
    notes: list[str],
    output: Path | None,
) -> None:
    judged: list[Judged] = [row for measured in results for row in rows_of(measured)]
    judged += growth(scales)
    targets = target_table(judged)
    tables = [targets, *(case_table(measured) for measured in results)]
    more = [floor_table(results, speed), envelope_table(results)]
    if any(measured.memory for measured in results):
        more.insert(0, memory_table(results))
    if scales:
        more.insert(0, scaling_table(scales))
    for table in [*more, targets]:
        table.show()
    notes += speed.notes
    print("\n".join(notes))
    write(
        "aggregation",
        [row for row, _ in judged],
        versions,
        {
            "speeds": asdict(speed),
            "notes": notes,
            "missed": [
                f"{row.case}, {row.metric}, {row.peer}" for row, met in judged if met is False
            ],
            "cases": [asdict(measured) for measured in results],
            "scaling": [asdict(found) for found in scales],
        },
    )
    parts = [*tables, *more, *(settings_table(measured) for measured in results)]
    _page(parts, results, notes)
    pictures = [RESULTS / "aggregation.png", RESULTS / "aggregation.svg"]
    draw(results, pictures + ([output] if output else []))
    print(f"Written: {RESULTS / 'aggregation'}.json, .md, .png, .svg")


def _page(tables: list[Table], results: list[Measured], notes: list[str]) -> None:
    left_out = [
        f"- {name}, {measured.case}: {why}"
        for measured in results
        for name, why in measured.left_out.items()
    ]
    parts = [
        "# Secure sums beside their peers\n",
        "\n".join(__doc__.splitlines()[2:10]) + "\n",
        "In brackets: how many times better than NVFlare. `make bench-aggregation` makes this page."
        "\n\n![Time and bytes over the number of parameters](aggregation.svg)\n",
        "\n".join(f"- {note}" for note in notes) + "\n",
        *(table.markdown() for table in tables),
        "### Left out\n",
        "\n".join(left_out) or "Nothing.",
    ]
    (RESULTS / "aggregation.md").write_text("\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
