"""A run's report: one self-contained HTML page made from the run's records."""

from __future__ import annotations

from qfl.federation.report.page import write_report as write_report

__all__ = ["write_report"]
