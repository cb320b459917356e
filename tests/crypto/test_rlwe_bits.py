"""Integers at an exact number of bits come back, at every width."""

from __future__ import annotations

import numpy as np
import pytest

from qfl.crypto.rlwe_bits import pack_bits, packed_bytes, padded, unpack_bits


@pytest.mark.parametrize("width", range(1, 65))
def test_what_is_packed_comes_back_at_the_size_that_was_promised(width: int) -> None:
    rng = np.random.default_rng(width)
    for rows, count in ((1, 0), (1, 1), (2, 77), (3, 256)):
        values = rng.integers(0, 2**width - 1, (rows, count), dtype=np.uint64, endpoint=True)
        values[:, :2] = [[0, 2**width - 1]] * rows if count > 1 else values[:, :2]
        packed = pack_bits(values, width)
        assert len(packed) == packed_bytes(rows, count, width)
        assert (unpack_bits(packed, rows, count, width) == values).all()


@pytest.mark.parametrize("width", [3, 27, 40, 57, 60, 64])
def test_bits_stand_where_the_module_says(width: int) -> None:
    """As one big integer for each column of words: line i begins at bit i * width."""
    lines, columns = padded(1, width), 5
    values = np.random.default_rng(0).integers(
        0, 2**width - 1, (lines, columns), dtype=np.uint64, endpoint=True
    )
    words = np.frombuffer(pack_bits(values.reshape(1, -1), width), "<u8").reshape(-1, columns)
    for column in range(columns):
        joined = sum(int(word) << (64 * place) for place, word in enumerate(words[:, column]))
        line = values[:, column].tolist()
        assert joined == sum(value << (width * place) for place, value in enumerate(line))


def test_at_most_a_column_is_wasted() -> None:
    assert padded(1, 48) == 4 and padded(5, 48) == 8 and padded(64, 57) == 64
    assert packed_bytes(2, 2048, 40) == 2 * 2048 * 5
