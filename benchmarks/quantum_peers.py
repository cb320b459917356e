"""Peers in processes of their own, driven over pipes so that their blocks take turns with ours."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, Protocol

import numpy as np
from quantum_case import Case, Floats

HERE = Path(__file__).parent
PEERS_PYTHON = HERE.parent / ".venv-peers" / "bin" / "python"
TORCH_PEERS = ("TorchLayer", "lightning adjoint", "TorchQuantum")
JAX_PEERS = ("PennyLane jax.jit", "TensorCircuit jax.jit")
# Of the memory that is free, so much may be filled.
MEMORY_SHARE = 0.7
# A busy machine may keep a peer waiting so many times longer than it works.
PATIENCE = 5
# A step of so many seconds grows with the batch.
WORK_DECIDES = 0.5
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


class LeftOutError(Exception):
    """A contender does not take part in a case; the message says why."""


@dataclass
class Prepared:
    """What the first step gave: outputs, gradients by inputs and by weights; seconds it took."""

    arrays: list[Floats]
    first_s: float


class Contender(Protocol):
    """Something that is measured."""

    name: str

    def begin(self, case: Case) -> None:
        """Start whatever takes long and need not be waited for."""

    def prepare(self, case: Case) -> Prepared:
        """First step; raises :class:`LeftOutError`."""

    def run(self, times: int) -> float:
        """Seconds of processor time for so many steps; raises :class:`LeftOutError`."""

    def finish(self) -> None:
        """Give the memory back."""


@dataclass
class Limits:
    """Seconds after which a peer is stopped."""

    step: float
    compile: float


@dataclass
class Peer:
    """One peer and the process that it runs in.

    Args:
        name: One of :data:`TORCH_PEERS` or :data:`JAX_PEERS`.
        core: Where everything is measured.
        compile_core: Where the first call runs.
        limits: Seconds after which it is stopped.
    """

    name: str
    core: int
    compile_core: int
    limits: Limits
    versions: dict[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[str] | None = None
    _log: Any = None
    _said: str = ""
    _begun: Case | None = None
    _refused: list[tuple[Case, bool, str]] = field(default_factory=list)
    _base_bytes: int = 0
    _used: list[tuple[int, int]] = field(default_factory=list)  # work, bytes
    _long: list[tuple[Case, float]] = field(default_factory=list)  # seconds of a step

    @property
    def compiles(self) -> bool:
        """Whether the first call is a compilation."""
        return self.name in JAX_PEERS

    def hello(self) -> None:
        """Start the process.

        Raises:
            LeftOutError: The peer is not installed, or does not run.
        """
        python = PEERS_PYTHON if PEERS_PYTHON.exists() else Path(sys.executable)
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(  # noqa: S603
            [str(python), str(HERE / "peer_worker.py"), self.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, **ONE_THREAD},
        )
        answer = self._ask({"do": "hello"}, 120)
        self.versions, self._base_bytes = answer["versions"], answer["peak_bytes"]

    def begin(self, case: Case) -> None:
        """Let JAX compile while others prepare."""
        self._begun = None
        if self.compiles and self._reason_against(case) is None:
            self._send_prepare(case)

    def prepare(self, case: Case) -> Prepared:
        """The first step.

        Raises:
            LeftOutError: It takes too long or too much memory, or it failed.
        """
        reason = self._reason_against(case)
        if reason is not None:
            raise LeftOutError(reason)
        if self._begun != case:
            self._send_prepare(case)
        limit = self.limits.compile if self.compiles else 2 * self.limits.step
        try:
            answer = self._answer(limit)
        except TimeoutError:
            words = "compiling took" if self.compiles else "the first step took"
            self._refuse(case, f"{words} more than {limit:g} s", compiling=self.compiles)
        self._used.append((case.work, max(0, answer["peak_bytes"] - self._base_bytes)))
        arrays = [np.reshape(values, shape).astype("f4") for shape, values in answer["arrays"]]
        return Prepared(arrays, answer["first_s"])

    def run(self, times: int) -> float:
        """Seconds of processor time for so many steps.

        Raises:
            LeftOutError: One step took longer than the limit.
        """
        try:
            seconds: float = self._ask({"do": "run", "times": times}, 3 * self.limits.step)[
                "seconds"
            ]
        except TimeoutError:
            seconds = 3 * self.limits.step
        if seconds / times > self.limits.step:
            assert self._begun is not None
            self._refuse(self._begun, f"a step takes more than {self.limits.step:g} s")
        if seconds / times > WORK_DECIDES and self._begun is not None:
            self._long.append((self._begun, seconds / times))
        return seconds

    def finish(self) -> None:
        """Give the case's memory back."""
        self._begun = None
        if self._process is not None:
            with contextlib.suppress(LeftOutError, TimeoutError):
                self._ask({"do": "forget"}, 60)

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self._said = self._last_words()

    def _last_words(self) -> str:
        with self._log as log:
            log.seek(0)
            said = [words.strip() for words in log.read().splitlines() if words.strip()]
        return said[-1][:200] if said else "without a word"

    def _send_prepare(self, case: Case) -> None:
        if self._process is None:
            self.hello()
        cores = [[self.compile_core], [self.core]]
        self._send(
            {"do": "prepare", "n": case.n, "batch": case.batch, "depth": case.depth, "cores": cores}
        )
        self._begun = case

    def _reason_against(self, case: Case) -> str | None:
        for smaller, compiling, why in self._refused:
            at_one_batch = Case(smaller.n, 1, smaller.depth) if compiling else smaller
            if at_one_batch.within(case):
                return why if smaller == case else f"{why} at {smaller}"
        for smaller, seconds in self._long:
            alike = (smaller.n, smaller.depth) == (case.n, case.depth)
            expected = seconds * case.batch / smaller.batch
            if alike and smaller.within(case) and expected > self.limits.step:
                return f"a step would take about {expected:.0f} s"
        if self._used:
            # Small cases tell nothing about large ones: the largest so far does.
            work, used = max(self._used)
            needed, free = self._base_bytes + used * case.work // work, free_memory()
            if case.work > work and needed > MEMORY_SHARE * free:
                return (
                    f"would need about {needed / 2**30:.0f} GiB of memory; "
                    f"{free / 2**30:.0f} GiB are free"
                )
        return None

    def _refuse(self, case: Case, why: str, compiling: bool = False) -> NoReturn:
        self._refused.append((case, compiling, why))
        self.stop()
        raise LeftOutError(why)

    def _ask(self, request: dict[str, Any], limit: float) -> dict[str, Any]:
        self._send(request)
        return self._answer(limit)

    def _send(self, request: dict[str, Any]) -> None:
        assert self._process is not None and self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the answer, which does not come, says why

    def _answer(self, limit: float) -> dict[str, Any]:
        assert self._process is not None and self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            started, before = time.perf_counter(), processor_seconds(self._process.pid)
            while not selector.select(1):
                waited = time.perf_counter() - started
                taken = processor_seconds(self._process.pid) - before
                # Its own time counts, not the time that others keep the core from it.
                if max(taken, waited / PATIENCE) > limit:
                    self.stop()
                    raise TimeoutError
        line = self._process.stdout.readline()
        if not line:
            self.stop()
            raise LeftOutError(f"its process ended: {self._said}")
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise LeftOutError(answer["failed"])
        return answer


def processor_seconds(process: int) -> float:
    """Processor time of a process so far; 0 where the system does not tell."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_memory() -> int:
    """Bytes of memory that this machine can still give."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
