"""One round of a secure sum, measured; and the numbers that everybody sums.

Shared by ours and the peers, each in a process of its own, so it needs nothing but numpy.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
T = TypeVar("T")
SERVER, OPENER = -1, -2

LARGEST = 0.1


@dataclass(frozen=True)
class Case:
    """What is summed.

    Attributes:
        length: Parameters of an update.
        clients: Updates in a sum; each weighs 1 / ``clients``.
        tensors: Arrays that the parameters lie in, for peers that protect them one by one.
    """

    length: int
    clients: int = 10
    tensors: int = 1

    def __str__(self) -> str:
        split = f" in {self.tensors} tensors" if self.tensors > 1 else ""
        return f"{self.length:,}{split}, {self.clients} clients"

    def update(self, client: int) -> Floats:
        """A client's update, within +-0.1; the same everywhere."""
        rng = np.random.default_rng((self.length, client))
        return (2 * LARGEST * (rng.random(self.length, dtype=np.float32) - 0.5)).astype("f4")

    def digest(self) -> str:
        """Stands for the first update, so that two processes can see that they sum the same."""
        return hashlib.sha256(self.update(0).astype("<f4").tobytes()).hexdigest()

    def sizes(self) -> list[int]:
        """Parameters in each tensor: dense layers that double in width, each with its bias."""
        if self.tensors == 1:
            return [self.length]
        layers = self.tensors // 2
        unit = self.length / sum(4.0**layer for layer in range(layers))
        sizes = []
        for layer in range(layers):
            whole = int(unit * 4.0**layer)
            bias = max(1, round(whole**0.5))
            sizes += [max(1, whole - bias), bias]
        sizes[-2] += self.length - sum(sizes)
        return sizes


class Timer(Protocol):
    """Runs one piece of work of one role: of client 0, 1, …, of the server or the opener."""

    def __call__(self, role: int, work: Callable[[], T]) -> T:
        """What the work gives."""


class Contender(Protocol):
    """A way to sum, set up for one case.

    One that takes more steps has a method ``round`` in the place of these, which does what
    :func:`one_after_the_other` does.
    """

    def protect(self, client: int, update: Floats) -> bytes:
        """What a client does: an update becomes the bytes that travel."""

    def start(self) -> None:
        """A new sum."""

    def add(self, body: bytes) -> None:
        """What the server does with each client's bytes."""

    def result(self) -> bytes:
        """What the server sends to whoever opens."""

    def open(self, body: bytes) -> NDArray[Any]:
        """From these bytes to the mean, as one array."""


@dataclass(frozen=True)
class Figures:
    """One round.

    Attributes:
        protect_ms: Of one client; the median of all.
        server_ms: All clients' bytes added, and the sum given out.
        open_ms: From the sum's bytes to the mean.
        up_bytes: From one client.
        down_bytes: What whoever opens gets.
        error: Largest difference to the mean in double precision.
        rms_error: The root of the mean square of the differences.
    """

    protect_ms: float
    server_ms: float
    open_ms: float
    up_bytes: int
    down_bytes: int
    error: float
    rms_error: float


@dataclass(frozen=True)
class Outcome:
    """What a round gives.

    Attributes:
        mean: In double precision, in the clear.
        opened: As the contender has it.
        up_bytes: From one client.
        down_bytes: What whoever opens gets.
    """

    mean: NDArray[np.float64]
    opened: NDArray[Any]
    up_bytes: int
    down_bytes: int


def one_round(contender: Contender, case: Case) -> Figures:
    """A round, and the processor time that each role took."""
    taken: dict[int, float] = {}

    def run(role: int, work: Callable[[], T]) -> T:
        started = time.process_time()
        done = work()
        taken[role] = taken.get(role, 0.0) + (time.process_time() - started) * 1e3
        return done

    outcome = round_with(contender, case, run)
    off = outcome.opened - outcome.mean
    return Figures(
        protect_ms=median(taken[client] for client in range(case.clients)),
        server_ms=taken[SERVER],
        open_ms=taken[OPENER],
        up_bytes=outcome.up_bytes,
        down_bytes=outcome.down_bytes,
        error=float(np.abs(off).max()),
        rms_error=float(np.sqrt(np.square(off).mean())),
    )


def round_with(contender: Contender, case: Case, run: Timer) -> Outcome:
    """A round, its pieces of work run by ``run``."""
    own = getattr(contender, "round", None)
    outcome: Outcome = own(run) if own else one_after_the_other(contender, case, run)
    return outcome


def one_after_the_other(contender: Contender, case: Case, run: Timer) -> Outcome:
    """Protect, add, open; client after client, so that one update is held at a time."""
    mean, up = np.zeros(case.length), 0
    run(SERVER, contender.start)
    for client in range(case.clients):
        update = case.update(client)
        mean += update.astype(np.float64) / case.clients
        body = run(client, partial(contender.protect, client, update))
        up = len(body)
        run(SERVER, partial(contender.add, body))
        del body, update
    sent = run(SERVER, contender.result)
    opened = run(OPENER, lambda: contender.open(sent))
    return Outcome(mean, np.asarray(opened).reshape(case.length), up, len(sent))


def middle(rounds: list[Figures]) -> Figures:
    """Medians of several rounds; of errors the largest."""
    return Figures(
        protect_ms=median(each.protect_ms for each in rounds),
        server_ms=median(each.server_ms for each in rounds),
        open_ms=median(each.open_ms for each in rounds),
        up_bytes=int(median(each.up_bytes for each in rounds)),
        down_bytes=int(median(each.down_bytes for each in rounds)),
        error=max(each.error for each in rounds),
        rms_error=max(each.rms_error for each in rounds),
    )
