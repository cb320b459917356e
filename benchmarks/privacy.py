"""What differential privacy costs: a step of DP-SGD, noise, the ledger, one account.

Steps are measured beside plain ones and beside Opacus', noise beside numpy's, in one run and on one
core; see :mod:`privacy_step` and :mod:`privacy_noise`.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import privacy_noise
import privacy_step
from common import Row, report

from qfl.privacy import Budget, Charge, Entry, Ledger, epsilon_of, noise_multiplier_for

CLIENTS, ROUNDS = 10, 20
LEDGER_TARGET = 5.0  # ms a round, of one client


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer cases, in about a minute")
    quick = parser.parse_args().quick
    found, met = privacy_step.rows(quick)
    noise = privacy_noise.rows(3 if quick else privacy_noise.TURNS)
    found, met = [*found, *noise], [*met, *privacy_noise.met(noise)]
    for row, reached in (ledger_row(), account_row(), calibration_row()):
        found.append(row)
        met.append(reached)
    report("privacy", found, met)


def ledger_row() -> tuple[Row, bool]:
    """Milliseconds for which a client waits in each round, the check of its budget included.

    The first round, in which the budget is worked out, is in none of them: it is that of
    :func:`account_row`.
    """
    charge = Charge("gaussian", noise_multiplier=1.5, sample_rate=0.2, steps=5)
    budget, taken = Budget(epsilon=20.0, delta=1e-5), []
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "ledger.sqlite")
        for round in range(ROUNDS):
            for client in range(CLIENTS):
                entry = Entry(f"{client:064x}", str(client), "benchmark", round, 0, charge)
                began = time.perf_counter()
                ledger.spend(entry, budget)
                if round:
                    taken.append(1000 * (time.perf_counter() - began))
    median = statistics.median(taken)
    target = f"< {LEDGER_TARGET:g} ms"
    row = Row("ledger, one client's entry", "wall time", "ms", median, "", None, target)
    return row, median < LEDGER_TARGET


def account_row() -> tuple[Row, bool]:
    """Milliseconds of one account by PRV, beside Opacus' own for the same number."""
    from opacus.accountants import PRVAccountant

    ours, theirs = [], []
    for turn in range(5):
        noise = 1.5 + turn / 100  # another each time: accounts are kept
        began = time.process_time()
        epsilon = epsilon_of([Charge("gaussian", noise, sample_rate=0.2, steps=100)], 1e-5)
        ours.append(1000 * (time.process_time() - began))
        accountant = PRVAccountant()
        accountant.history = [(noise, 0.2, 100)]
        began = time.process_time()
        beside = accountant.get_epsilon(1e-5)
        theirs.append(1000 * (time.process_time() - began))
        assert abs(epsilon - beside) < 0.02
    row = Row(
        "account of 100 sampled releases",
        "CPU time",
        "ms",
        statistics.median(ours),
        "Opacus' PRVAccountant",
        statistics.median(theirs),
        "",
    )
    return row, True


def calibration_row() -> tuple[Row, bool]:
    """Milliseconds in which a client finds the noise that a budget takes; once for each rate."""
    taken = []
    for turn in range(5):
        rate = 0.22 + turn / 1000  # another each time: accounts are kept
        began = time.process_time()
        noise_multiplier_for(
            8.0, 1e-5, lambda z, q=rate: [Charge("gaussian", z, sample_rate=q, steps=80)]
        )
        taken.append(1000 * (time.process_time() - began))
    return Row("noise for a budget", "CPU time", "ms", statistics.median(taken), "", None, ""), True


if __name__ == "__main__":
    main()
