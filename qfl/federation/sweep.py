"""The table at the end of a ``--multirun``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback


class SweepSummary(Callback):
    """Reads every job's summary and prints one table; Hydra calls it."""

    def on_multirun_end(self, config: Any, **kwargs: Any) -> None:
        """Print the table."""
        from rich.console import Console

        folder = Path(config.hydra.sweep.dir)
        rows = read_sweep(folder)
        if rows:
            print_sweep(rows, Console(), folder)


def read_sweep(folder: Path) -> list[dict[str, Any]]:
    """One row per finished job: its number, overrides and summary."""
    import yaml

    rows = []
    for path in sorted(folder.glob("*/summary.json"), key=lambda p: (len(p.parent.name), p)):
        overrides = path.parent / ".hydra" / "overrides.yaml"
        rows.append(
            {
                "job": path.parent.name,
                "overrides": yaml.safe_load(overrides.read_text()) if overrides.exists() else [],
                "summary": json.loads(path.read_text()),
            }
        )
    return rows


def print_sweep(rows: list[dict[str, Any]], console: Any, folder: Path) -> None:
    """Jobs side by side."""
    from rich.markup import escape
    from rich.table import Table

    from qfl.federation.display import human_bytes

    common = set.intersection(*(set(row["overrides"]) for row in rows)) if len(rows) > 1 else set()
    metric = "accuracy" if rows[0]["summary"]["task"] == "classification" else "rmse"
    table = Table(box=None, pad_edge=False)
    for name in ("job", "overrides"):
        table.add_column(name)
    for name in ("status", "loss", metric, "up / client", "s / round"):
        table.add_column(name, justify="right")
    for row in rows:
        summary = row["summary"]
        metrics = summary["metrics"]
        table.add_row(
            row["job"],
            escape(" ".join(entry for entry in row["overrides"] if entry not in common)),
            summary["status"],
            _number(metrics.get("loss")),
            _number(metrics.get(metric)),
            human_bytes(summary["aggregation"]["upload_bytes_per_client"]),
            f"{summary['seconds']['per_round']:.2f}",
        )
    console.print(f"{len(rows)} jobs in {folder}", markup=False, soft_wrap=True)
    console.print(table)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
