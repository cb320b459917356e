from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from qfl.data import Examples
from qfl.errors import DataError


def test_take_keeps_the_order_and_copies() -> None:
    examples = Examples(np.arange(6, dtype=np.float32).reshape(3, 2), np.array([5, 6, 7]))
    taken = examples.take(np.array([2, 0]))
    assert taken.x.tolist() == [[4.0, 5.0], [0.0, 1.0]]
    assert taken.y.tolist() == [7, 5]
    taken.x[0, 0] = 100
    assert examples.x[2, 0] == 4


def test_take_of_nothing_is_empty() -> None:
    examples = Examples(np.zeros((3, 2), np.float32), np.zeros(3, np.int64))
    assert len(examples.take([])) == 0
    assert examples.take([]).x.shape == (0, 2)


def test_different_lengths_are_refused() -> None:
    with pytest.raises(DataError, match="x has 3 examples and y has 2"):
        Examples(np.zeros((3, 2), np.float32), np.zeros(2, np.int64))


def test_importing_the_package_imports_nothing_heavy() -> None:
    heavy = "('sklearn', 'scipy', 'pyarrow', 'torch', 'pandas')"
    code = f"import sys, qfl.data; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
