"""What every benchmark shares: the machine, the table, the result file."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

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
    print(f"{'case':34} {'metric':12} {'ours':>10} {'peer':>11} {'':>10} {'ratio':>7}  target")
    for row, reached in zip(rows, met, strict=True):
        peer = "" if row.peer_value is None else f"{row.peer_value:.4g}"
        ratio = "" if row.ratio is None else f"{row.ratio:.1f}x"
        mark = "" if reached else "  MISSED"
        print(
            f"{row.case:34} {row.metric:12} {row.ours:>10.4g} {row.peer:>11} {peer:>10} "
            f"{ratio:>7}  "
            f"{row.target}{mark}"
        )
    RESULTS.mkdir(exist_ok=True)
    content = {
        "machine": {"processor": platform.machine(), "cores": os.cpu_count()},
        "versions": {package: _version(package) for package in ("qfl", "flwr", "ray", "torch")},
        "rows": [{**asdict(row), "ratio": row.ratio} for row in rows],
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
