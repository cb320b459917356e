"""Data sets, partitioning and preprocessing, usable on their own.

scikit-learn, scipy and pyarrow are imported when a data set asks for them, not before.
"""

from __future__ import annotations

from qfl.data.datasets import load_dataset, register_dataset
from qfl.data.examples import Dataset, Examples
from qfl.data.partition import partition
from qfl.data.preprocess import (
    Moments,
    Statistics,
    fit_statistics,
    moments,
    public_statistics,
)
from qfl.data.split import hold_out

__all__ = [
    "Dataset",
    "Examples",
    "Moments",
    "Statistics",
    "fit_statistics",
    "hold_out",
    "load_dataset",
    "moments",
    "partition",
    "public_statistics",
    "register_dataset",
]
