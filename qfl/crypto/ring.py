"""Products in Z[X] / (X^2048 + 1) modulo 2^32 of a public stream with one short element.

The stream is cut into chunks of 2048 integers modulo 2^32; each is multiplied by the same short
element. A complex transform of half the length does it: at the roots w of X^2048 + 1 with
w^1024 = i, a polynomial is sum_j (a_j + i a_(j+1024)) w^j. In memory, coefficients j and j + 1024
stand side by side, in chunks as in short elements and products, so that two numbers in memory are
one complex number and nothing has to be moved. Where coefficients stand is a matter of naming:
whoever masks and whoever unmasks do the same.

Is float64 enough? Rounding errors of a transform are tiny, many, and all but independent; their
sum is nearly Gaussian (this is the usual model, no proof). Its standard deviation grows with the
2-norms of both factors: measured, 3.9 * 2^-53 * rms(a) * |s| for a coefficient, and a test holds it
below 5. A stream derived by a hash has rms 2^31 / sqrt(3), nobody can choose it. So with
|s| <= 2^15.1 the standard deviation is below 1/40: a product is rounded wrong at more than 20
standard deviations, with probability below 2^-292 (2^-255 for all of 2^37 coefficients). Larger
elements are refused. The absolute size stays below 2^51, which the rounding needs.

For one client's key (|s| about 290) the standard deviation is 2^-12, and even the largest input
that has the format, all of a at -2^31 and s at its largest magnitude, comes out exact.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from qfl.crypto.keystream import keystream
from qfl.errors import RangeError

DEGREE = 2048
LARGEST_NORM = 35_000.0
_HALF = DEGREE // 2
_CHUNKS = 32  # in a block: half a megabyte of complex numbers, which stays in a core's cache
_BLOCK = _CHUNKS * DEGREE
# In long double, so that rounding of the angle does not show where it has more bits than float64.
_ANGLES = np.arange(_HALF) * (np.arccos(np.longdouble(-1)) / DEGREE)
_TWIST = (np.cos(_ANGLES) + 1j * np.sin(_ANGLES)).astype(np.complex128)
_UNTWIST = _TWIST.conj()
# Added to a float64 below 2^51 it leaves the nearest integer in the lowest bits.
_ROUND = 1.5 * 2.0**52

Words = NDArray[np.uint32]


def multiply(chunks: NDArray[np.int32], element: NDArray[np.int64]) -> Words:
    """Products of chunks with one short element.

    Args:
        chunks: Shape (m, 2048), integers modulo 2^32 as signed ones.
        element: Shape (2048,), small integers.

    Returns:
        Shape (m, 2048), modulo 2^32.

    Raises:
        RangeError: The element's 2-norm exceeds :data:`LARGEST_NORM`.

    Example:
        >>> x, chunk = np.zeros(DEGREE, np.int64), np.zeros((1, DEGREE), np.int32)
        >>> x[2] = 1  # X: coefficients 0, 1024, 1, 1025 and so on follow each other
        >>> chunk[0, 2045] = 7  # 7 X^2046
        >>> multiply(chunk, x)[0, 2044:].tolist()  # 7 X^2047
        [0, 0, 0, 7]
    """
    return _times(chunks.astype(np.float64), _transformed(element)).astype(np.uint32)


def products(key: bytes, element: NDArray[np.int64], length: int) -> Iterator[tuple[int, Words]]:
    """Products of the stream of a key with one short element, block by block.

    Args:
        key: 32 public bytes.
        element: As for :func:`multiply`.
        length: Values in all; the last chunk is cut there.

    Yields:
        Where the block begins, and its values. The same memory is used for the next block.

    Raises:
        RangeError: The element's 2-norm exceeds :data:`LARGEST_NORM`.
    """
    transformed = _transformed(element)
    stream = keystream(key, bytes(16))
    chunks = min(_CHUNKS, -(-length // DEGREE))
    drawn = bytearray(4 * chunks * DEGREE)
    zeros = bytes(len(drawn))
    public = np.frombuffer(drawn, dtype="<i4")
    block = np.empty((chunks, DEGREE), dtype=np.float64)
    out = np.empty(public.size, dtype=np.uint32)
    for start in range(0, length, _BLOCK):
        stream.update_into(zeros, drawn)
        block.reshape(-1)[:] = public
        out[:] = _times(block, transformed).ravel()
        yield start, out[: length - start]


def _transformed(element: NDArray[np.int64]) -> NDArray[np.complex128]:
    norm = float(np.sqrt(np.square(element.astype(np.float64)).sum()))
    if not norm <= LARGEST_NORM:
        raise RangeError(
            f"a ring element of norm {norm:.0f} was given; float64 multiplies up to "
            f"{LARGEST_NORM:.0f} exactly: use fewer clients, or the sum of keys is wrong"
        )
    values = element.astype(np.float64).view(np.complex128) * _TWIST
    transformed: NDArray[np.complex128] = np.fft.ifft(values, norm="forward")
    return transformed


def _times(block: NDArray[np.float64], transformed: NDArray[np.complex128]) -> NDArray[np.int64]:
    """Rounded products, of which the lowest 32 bits count; uses the block's memory."""
    _multiply_unrounded(block, transformed)
    block += _ROUND
    return block.view(np.int64)


def _multiply_unrounded(block: NDArray[np.float64], transformed: NDArray[np.complex128]) -> None:
    values = block.view(np.complex128)
    values *= _TWIST
    np.fft.ifft(values, axis=1, norm="forward", out=values)
    values *= transformed
    np.fft.fft(values, axis=1, norm="forward", out=values)
    values *= _UNTWIST
