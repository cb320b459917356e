"""What every benchmark shares: the machine, the table, the result file."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """One measured figure beside its peer's; ``ratio`` above 1 means that ours is better."""

    case: str
    metric: str
    unit: str
    ours: float
    peer: str
    peer_value: float | None
    target: str

    @property
    def ratio(self) -> float | None:
        """How many times better ours is, for figures where less is better."""
        return None if self.peer_value is None else self.peer_value / self.ours


def report(name: str, rows: list[Row], met: list[bool]) -> None:
    """Print a table and write ``results/NAME.json``; a missed target is printed as missed."""
    show(rows, met)
    write(name, rows)


def show(rows: list[Row], met: list[bool]) -> None:
    """Print a table; a missed target is printed as missed."""
    case, metric, peer = (
        max(len(name), *(len(getattr(row, name)) for row in rows), 0)
        for name in ("case", "metric", "peer")
    )
    print(
        f"{'case':{case}} {'metric':{metric}} {'ours':>10} {'peer':>{peer}} {'':>10} "
        f"{'ratio':>7}  target"
    )
    for row, reached in zip(rows, met, strict=True):
        value = "" if row.peer_value is None else f"{row.peer_value:.4g}"
        ratio = "" if row.ratio is None else f"{row.ratio:.3g}x"
        mark = "" if reached else "  MISSED"
        print(
            f"{row.case:{case}} {row.metric:{metric}} {row.ours:>10.4g} {row.peer:>{peer}} "
            f"{value:>10} {ratio:>7}  {row.target}{mark}"
        )


def write(
    name: str,
    rows: list[Row],
    versions: Mapping[str, str] | None = None,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Write ``results/NAME.json``.

    Args:
        name: Of the file.
        rows: What was measured.
        versions: Of the peers' packages, beside the usual ones.
        more: Further entries of the file.
    """
    RESULTS.mkdir(exist_ok=True)
    usual = {package: _version(package) for package in ("qfl", "flwr", "ray", "torch")}
    content = {
        "machine": {"processor": processor(), "cores": os.cpu_count()},
        "versions": {**usual, **(versions or {})},
        "rows": [{**asdict(row), "ratio": row.ratio} for row in rows],
        **(more or {}),
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")


def processor() -> str:
    """Name of the processor, as far as the machine tells."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
