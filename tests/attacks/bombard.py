"""Sends malformed messages to everybody who receives any; a program, so that a crash is an exit.

Usage: ``bombard.py SCHEME MESSAGES SEED``. Prints what became of them as JSON. From the first good
message to everybody on, the program may take a quarter of a gigabyte more memory and no more.
"""

from __future__ import annotations

import faulthandler
import json
import resource
import sys
import time
import traceback
from collections import Counter, defaultdict
from pathlib import Path
from random import Random
from typing import Any

sys.path.append(str(Path(__file__).parent))

from receivers import TRUSTS, Receiver, receivers_of

from qfl.errors import CryptoError, PrivacyError

SCHEMES = (*TRUSTS, "masking", "records")
SPARE_BYTES = 2**28


def everybody(scheme: str) -> list[Receiver]:
    """Receivers of one scheme, or of ``records``, which are common to all."""
    if scheme == "masking":
        from receivers_masking import masking_receivers

        return masking_receivers()
    if scheme == "records":
        from receivers_records import record_receivers

        return record_receivers()
    return receivers_of(scheme)


def sent(receiver: Receiver, message: bytes) -> str:
    """What became of a message: taken in some way, or refused by an error of ours."""
    ours: tuple[type[Exception], ...] = (CryptoError, PrivacyError, *receiver.others)
    try:
        return receiver.take(message)
    except ours as error:
        str(error).encode()  # it goes into logs and replies
        return "refused"


def bombard(scheme: str, messages: int, seed: int) -> dict[str, Any]:
    """Send so many messages, to everybody in turn."""
    receivers, random = everybody(scheme), Random(seed)
    for receiver in receivers:
        assert sent(receiver, receiver.samples[0]) != "refused", f"{receiver.name} takes nothing"
    _limit_memory()
    before, slowest = _peak(), (0.0, "")
    became: defaultdict[str, Counter[str]] = defaultdict(Counter)
    failures: dict[str, str] = {}
    for number in range(messages):
        receiver = receivers[number % len(receivers)]
        message = receiver.change(*receiver.samples, random)
        started = time.perf_counter()
        try:
            became[receiver.name][sent(receiver, message)] += 1
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{receiver.name}: {type(error).__name__} in {last.filename}:{last.lineno}"
            failures.setdefault(where, f"{error!s:.300}; message {message[:1000].hex()}")
        slowest = max(slowest, (time.perf_counter() - started, receiver.name))
    return {
        "became": became,
        "failures": failures,
        "slowest": slowest,
        "grown_bytes": _peak() - before,
    }


def _peak() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + SPARE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    faulthandler.enable()
    print(json.dumps(bombard(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
