"""The stream that all noise comes from."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from qfl.privacy.randomness import Stream

# AES-256 of a block of zeros under a key of zeros, from NIST's known answers (AESAVS).
ZEROS = bytes.fromhex("dc95c078a2408989ad48a21492842087")


def test_the_stream_is_aes_256_in_counter_mode() -> None:
    assert Stream(bytes(32)).bytes(16) == ZEROS


@pytest.mark.parametrize("counts", [[1, 2, 3], [0, 5], [32_768, 1], [100_001, 70_000]])
def test_words_are_the_bytes_of_the_stream_one_after_the_other(counts: list[int]) -> None:
    stream, other = Stream(b"k" * 32), Stream(b"k" * 32)
    words = np.concatenate([stream.words(count) for count in counts])
    assert words.dtype == np.uint64 and words.size == sum(counts)
    assert words.astype("<u8").tobytes() == other.bytes(8 * sum(counts))


def test_streams_without_a_key_differ() -> None:
    assert Stream().bytes(32) != Stream().bytes(32)


def test_uniform_numbers() -> None:
    drawn = Stream(b"u" * 32).uniform(100_000)
    assert drawn.min() >= 0 and drawn.max() < 1
    assert np.all(drawn * 2.0**53 == np.floor(drawn * 2.0**53))
    assert stats.kstest(drawn, "uniform", method="asymp").pvalue > 1e-3


def test_nothing_of_the_key_is_shown() -> None:
    assert repr(Stream(b"secret key" + bytes(22))) == "Stream()"
