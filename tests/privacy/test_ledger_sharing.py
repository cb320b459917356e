"""One ledger for several threads and processes, of which some are killed."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from qfl.errors import BudgetSpentError, PrivacyError
from qfl.privacy.accounting import epsilon_of
from qfl.privacy.charge import Charge
from qfl.privacy.ledger import Budget, Entry, Ledger

ROOT = Path(__file__).parents[2]
DATASET = "5" * 64
CHARGE = Charge("gaussian", 5.0)
LIMITLESS = Budget(epsilon=None, delta=1e-5)
PROLOGUE = f"""
import sys
from qfl.errors import BudgetSpentError
from qfl.privacy.charge import Charge
from qfl.privacy.ledger import Budget, Entry, Ledger

def entry(round):
    return Entry("{DATASET}", "3", "demo", round, 0, Charge("gaussian", 5.0))

ledger = Ledger(sys.argv[1])
"""


def enough_for(count: int) -> Budget:
    """A budget that ``count`` charges fit into and one more does not."""
    within, beyond = (epsilon_of([CHARGE] * n, 1e-5) for n in (count, count + 1))
    return Budget((within + beyond) / 2, 1e-5)


def start(code: str, path: Path, *arguments: str) -> subprocess.Popen[str]:
    search = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-c", PROLOGUE + code, str(path), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": search},
    )


def entry(round: int = 1, attempt: int = 0) -> Entry:
    return Entry(DATASET, "3", "demo", round, attempt, CHARGE)


def test_a_round_killed_before_its_work_stays_spent(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    code = """
ledger.spend(entry(1), Budget(None, 1e-5))
print("paid", flush=True)
sys.stdin.read()  # the work that was paid for
"""
    with start(code, path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "paid\n"
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    ledger = Ledger(path)
    assert [(one.round, one.charge) for one in ledger.entries()] == [(1, CHARGE)]
    ledger.spend(entry(1, attempt=1), enough_for(2))
    with pytest.raises(BudgetSpentError):
        ledger.spend(entry(1, attempt=2), enough_for(2))


def test_one_killed_while_it_writes_leaves_no_half_entry(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    code = """
round = 0
while True:
    round += 1
    ledger.spend(entry(round), Budget(None, 1e-5))
    print(round, flush=True)
"""
    told = 0
    for _ in range(2):
        with start(code, path) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(20)]
            process.send_signal(signal.SIGKILL)
            lines += process.communicate(timeout=60)[0].splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]
        assert len(whole) >= 20
        told += len(whole)
        # The entry that was being written may be there or not; none that was told is missing.
        assert told <= Ledger(path).count <= told + 1
        told = Ledger(path).count


def test_processes_together_spend_no_more_than_the_budget(tmp_path: Path) -> None:
    path, budget = tmp_path / "ledger.sqlite", enough_for(30)
    code = """
done = 0
print("ready", flush=True)
sys.stdin.readline()
for round in range(40):
    try:
        ledger.spend(entry(round), Budget(float(sys.argv[2]), 1e-5))
        done += 1
    except BudgetSpentError:
        break
print(done)
"""
    processes = [start(code, path, repr(budget.epsilon)) for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", process.communicate()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    done = [int(process.communicate(timeout=120)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    ledger = Ledger(path)
    assert sum(done) == ledger.count == 30
    assert ledger.epsilon(DATASET, 1e-5) <= (budget.epsilon or 0)


@pytest.mark.parametrize("shared", [True, False])
def test_threads_together_spend_no_more_than_the_budget(tmp_path: Path, shared: bool) -> None:
    path, budget = tmp_path / "ledger.sqlite", enough_for(20)
    one = Ledger(path)

    def spend(thread: int) -> int:
        ledger, done = one if shared else Ledger(path), 0
        for round in range(10):
            try:
                ledger.spend(Entry(DATASET, str(thread), "demo", round, 0, CHARGE), budget)
                done += 1
            except BudgetSpentError:
                pass
        return done

    with ThreadPoolExecutor(6) as pool:
        done = sum(pool.map(spend, range(6)))
    assert done == one.count == 20
    assert len(Ledger(path).entries()) == 20


def test_objects_that_are_made_at_once_make_one_file(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"

    def spend(thread: int) -> None:
        Ledger(path).spend(entry(thread), LIMITLESS)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(spend, range(8)))
    assert Ledger(path).count == 8
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_a_pickled_ledger_is_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    first = Ledger("ledger.sqlite")
    first.spend(entry(1), LIMITLESS)
    raw = pickle.dumps(first, protocol)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    copy: Ledger = pickle.loads(raw)
    with pytest.raises(BudgetSpentError):
        copy.spend(entry(2), enough_for(1))
    copy.spend(entry(2), enough_for(2))
    assert first.count == copy.count == 2
    (tmp_path / "ledger.sqlite").unlink()
    late: Ledger = pickle.loads(raw)
    with pytest.raises(PrivacyError, match="check that it exists"):
        late.spend(entry(3), LIMITLESS)


def test_a_fork_spends_on(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.spend(entry(1), LIMITLESS)
    child = os.fork()
    if not child:
        os._exit(_code(lambda: ledger.spend(entry(2), LIMITLESS)))
    assert os.waitpid(child, 0)[1] == 0
    ledger.spend(entry(3), LIMITLESS)
    assert [one.round for one in ledger.entries()] == [1, 2, 3]


def _code(act: Callable[[], None]) -> int:
    try:
        act()
    except BaseException:
        return 1
    return 0
