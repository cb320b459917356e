"""Processes in which sums are measured: ours and the peers', on one core, taking turns."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from aggregation_round import Case, Figures

HERE = Path(__file__).parent
PEERS_PYTHON = HERE.parent / ".venv-peers-aggregation" / "bin" / "python"
OURS, OTHERS = "aggregation_ours", "aggregation_others"
START_S = 120.0
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class LeftOutError(Exception):
    """A contender does not take part; the message says why."""


@dataclass
class Worker:
    """One process.

    Args:
        module: :data:`OURS` or :data:`OTHERS`.
        core: Where it stays.
    """

    module: str
    core: int
    versions: dict[str, str] = field(default_factory=dict)
    contenders: list[str] = field(default_factory=list)
    _process: subprocess.Popen[str] | None = None
    _log: Any = None

    def start(self) -> None:
        """Start it.

        Raises:
            LeftOutError: It does not run.
        """
        ours = self.module == OURS
        if not ours and not PEERS_PYTHON.exists():
            raise LeftOutError("no environment of peers: make bench-aggregation-peers makes it")
        python = sys.executable if ours else str(PEERS_PYTHON)
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(  # noqa: S603
            [python, str(HERE / "aggregation_worker.py"), self.module, str(self.core)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, **ONE_THREAD},
        )
        answer = self.ask(START_S, do="hello")
        self.versions, self.contenders = answer["versions"], answer["contenders"]

    def prepare(self, name: str, case: Case, limit: float) -> str:
        """Keys for a case.

        Returns:
            Parameters, in words.

        Raises:
            LeftOutError: It failed, took longer than ``limit`` seconds, or sums other numbers.
        """
        answer = self.ask(limit, do="prepare", name=name, case=asdict(case))
        if answer["digest"] != case.digest():
            raise LeftOutError("its random numbers are not ours")
        return str(answer["settings"])

    def turn(
        self, name: str, case: Case, seconds: float, limit: float
    ) -> tuple[Figures, dict[str, float]]:
        """Rounds for so many seconds, and what else the contender measures.

        Raises:
            LeftOutError: It failed or took longer than ``limit`` seconds.
        """
        answer = self.ask(limit, do="turn", name=name, case=asdict(case), seconds=seconds)
        more = answer.pop("more")
        return Figures(**answer), more

    def memory(self, name: str, case: Case, limit: float) -> dict[str, int]:
        """Most bytes that each role holds, by role.

        Raises:
            LeftOutError: It failed or took longer than ``limit`` seconds.
        """
        answer = self.ask(limit, do="memory", name=name, case=asdict(case))
        return {role: int(size) for role, size in answer["bytes"].items()}

    def forget(self) -> None:
        """Give the cases' memory back."""
        if self._process is not None:
            self.ask(START_S, do="forget")

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def ask(self, limit: float, **request: Any) -> dict[str, Any]:
        """One request, one answer.

        Raises:
            LeftOutError: There is none within ``limit`` seconds, or it is a failure.
        """
        if self._process is None:
            self.start()
        assert self._process is not None
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the answer, which does not come, says why
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(limit):
                self.stop()
                raise LeftOutError(f"takes more than {limit:g} s")
        line = self._process.stdout.readline()
        if not line:
            self.stop()
            raise LeftOutError(f"its process ended: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise LeftOutError(answer["failed"])
        return answer

    def _last_words(self) -> str:
        self._log.seek(0)
        said = [words.strip() for words in self._log.read().splitlines() if words.strip()]
        return said[-1][:200] if said else "without a word"
