"""``qfl privacy ledger``: what a ledger says was spent on each data set."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qfl.errors import ConfigError, PrivacyError, StorageError
from qfl.federation.privacy_plan import epsilon_text, finite

if TYPE_CHECKING:
    from qfl.privacy.ledger import Entry
    from qfl.privacy.ledger_file import Place

_LEDGER = "ledger.sqlite"
_DELTA = 1e-5


def show_ledger(rest: Sequence[str]) -> None:
    """Check a ledger and print what was spent.

    Raises:
        ConfigError: A value on the command line is not allowed.
        PrivacyError: The ledger cannot be trusted, or the run kept none.
        StorageError: There is no such file or run folder.
    """
    parser = argparse.ArgumentParser(prog="qfl privacy ledger", add_help=False, allow_abbrev=False)
    parser.add_argument("path", type=Path)
    parser.add_argument("--delta", type=float)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(rest)
    if options.delta is not None and not 0 < options.delta < 1:
        raise ConfigError(f"--delta {options.delta:g} is not allowed: must be > 0 and < 1")
    path = _ledger_at(options.path)
    delta = options.delta or _delta_of(options.path)
    from qfl.privacy.ledger import Ledger

    ledger = Ledger(path)
    place = ledger.place
    by_dataset: dict[str, list[Entry]] = {}
    for entry in ledger.entries()[: place.count]:  # without what was written since
        by_dataset.setdefault(entry.dataset, []).append(entry)
    rows = [_row(entries, delta) for entries in by_dataset.values()]
    if options.json:
        print(
            json.dumps(
                {
                    "ledger": str(path),
                    "delta": delta,
                    "entries": place.count,
                    "digest": place.digest,
                    "datasets": rows,
                },
                indent=2,
            )
        )
    else:
        _print_ledger(path, rows, place, delta)


def _ledger_at(path: Path) -> Path:
    if not path.exists():
        raise StorageError(f"{path} does not exist: name a ledger file, or the folder of a run")
    if not path.is_dir():
        return path
    if (path / _LEDGER).exists():
        return path / _LEDGER
    if (path / "config.yaml").exists():
        raise PrivacyError(
            f"{path} holds no {_LEDGER}: this run was not private, or its clients keep their "
            "ledgers themselves; privacy=dpsgd, central, distributed or local makes a run private"
        )
    raise StorageError(f"{path} is no run folder: it holds neither {_LEDGER} nor config.yaml")


def _delta_of(path: Path) -> float:
    """The delta of the run whose folder this is; else the usual one."""
    if not (path / "config.yaml").exists():
        return _DELTA
    from qfl.federation.run_folder import RunFolder

    return RunFolder.open(path)[1].privacy.delta


def _row(entries: Sequence[Entry], delta: float) -> dict[str, Any]:
    from qfl.privacy.accounting import epsilon_of

    noise = [one.charge.noise_multiplier for one in entries]
    return {
        "dataset": entries[0].dataset,
        "clients": len({one.client for one in entries}),
        "runs": len({one.run for one in entries}),
        "rounds": len({(one.run, one.round) for one in entries}),
        "entries": len(entries),
        "mechanisms": sorted({one.charge.mechanism for one in entries}),
        "noise_multiplier": [min(noise), max(noise)],
        "epsilon": finite(epsilon_of([one.charge for one in entries], delta)),
        "first": entries[0].time,
        "last": entries[-1].time,
    }


def _print_ledger(path: Path, rows: Sequence[dict[str, Any]], place: Place, delta: float) -> None:
    from rich.console import Console
    from rich.table import Table

    from qfl.privacy.ledger_entry import short_name

    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("data set", min_width=12, overflow="fold")
    for name in ("clients", "runs", "rounds", "entries"):
        table.add_column(name, justify="right")
    table.add_column("mechanism")
    for name in ("noise", "epsilon"):
        table.add_column(name, justify="right")
    for row in rows:
        low, high = row["noise_multiplier"]
        table.add_row(
            short_name(row["dataset"]),
            *(str(row[name]) for name in ("clients", "runs", "rounds", "entries")),
            ", ".join(row["mechanisms"]),
            f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}",
            epsilon_text(math.inf if row["epsilon"] is None else row["epsilon"]),
        )
    console.print(
        f"Ledger {path}; noise as a multiplier, epsilon at delta {delta:g}",
        markup=False,
        soft_wrap=True,
    )
    if rows:
        console.print(table)
    for line in (
        f"Entries: {place.count}, data sets: {len(rows)}; none changed, dropped or moved.",
        f"The last has digest {place.digest}. Whether any after it were cut off, the file cannot "
        "tell: keep count and digest elsewhere.",
    ):
        console.print(line, markup=False, soft_wrap=True)
