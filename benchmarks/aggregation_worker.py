"""Runs contenders in a process of its own, told by lines of JSON what to do.

``aggregation_worker.py MODULE`` finds the contenders in a module beside this file, reads requests
from standard input and answers each with one line on standard output. It is run by the Python
that has the module's packages installed; the peers' need not have qfl.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from aggregation_round import OPENER, SERVER, Case, Contender, middle, one_round, round_with

# Cases of so few parameters run once before they are measured.
WARM_UP = 100_000


class Worker:
    """Holds the contenders that are set up, by name and case."""

    def __init__(self, module: str) -> None:
        self.module = importlib.import_module(module)
        self.ready: dict[tuple[str, Case], Contender] = {}

    def hello(self) -> dict[str, Any]:
        """Versions of the packages, and who can be measured."""
        versions = {package: version(package) for package in self.module.PACKAGES}
        return {"versions": versions, "contenders": list(self.module.CONTENDERS)}

    def prepare(self, name: str, case: dict[str, int]) -> dict[str, Any]:
        """Make keys; say which numbers are summed, and in which parameters."""
        found = Case(**case)
        contender = self.module.CONTENDERS[name](found)
        self.ready[name, found] = contender
        if found.length <= WARM_UP and getattr(contender, "warm_up", True):
            one_round(contender, found)
        return {"digest": found.digest(), "settings": str(getattr(contender, "settings", ""))}

    def turn(self, name: str, case: dict[str, int], seconds: float) -> dict[str, Any]:
        """Rounds for so many seconds, at least one; their medians."""
        found = Case(**case)
        contender, until = self.ready[name, found], time.perf_counter() + seconds
        rounds = [one_round(contender, found)]
        while time.perf_counter() < until:
            rounds.append(one_round(contender, found))
        more = {name: value() for name, value in getattr(contender, "more", {}).items()}
        return {**asdict(middle(rounds)), "more": more}

    def memory(self, name: str, case: dict[str, int]) -> dict[str, Any]:
        """Most bytes that each role held at a time, over one round.

        All roles share this process: of each piece of work it counts what it held beyond what was
        there, with what the server kept from earlier ones and with what it was handed.
        """
        found = Case(**case)
        most, kept, handed, last = dict[str, int](), 0, 0, SERVER

        def run(role: int, work: Callable[[], Any]) -> Any:
            nonlocal kept, handed, last
            _trim()
            # 5 sets the peak back to what is held now.
            Path("/proc/self/clear_refs").write_text("5")
            before = _status("VmRSS")
            done = work()
            peak = _status("VmHWM") - before
            if role == SERVER:
                peak += kept
            if (role == SERVER) != (last == SERVER) and role < 0:
                peak += handed
            _trim()
            handed, last = max(0, _status("VmRSS") - before), role
            kept += handed if role == SERVER else 0
            name = {SERVER: "server", OPENER: "open"}.get(role, "protect")
            most[name] = max(most.get(name, 0), peak)
            return done

        round_with(self.ready[name, found], found, run)
        return {"bytes": most}

    def forget(self) -> dict[str, Any]:
        """Give the cases' memory back."""
        self.ready.clear()
        _trim()
        return {}


def _trim() -> None:
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"this system does not tell {field}")


def main() -> None:
    """Answer requests until there are no more."""
    # What the libraries print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(sys.argv[2])})
    worker = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            worker = worker or Worker(sys.argv[1])
            answer = getattr(worker, request.pop("do"))(**request)
        except Exception as error:
            words = str(error) or type(error).__name__
            answer = {"failed": f"{type(error).__name__}: {words.strip().splitlines()[0][:200]}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
