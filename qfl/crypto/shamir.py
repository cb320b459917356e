"""Secret sharing after Shamir, "How to Share a Secret" (1979), over the field of 2^31 - 1.

A secret is a vector of field elements. Each becomes the constant term of a random polynomial of
degree ``threshold - 1``; a share is the vector of values at one point. ``threshold`` shares give
the secret back, fewer say nothing about it. Shares at the same point may be added modulo
:data:`PRIME`: the sum is a share of the sum of the secrets.

The prime is small enough that a product of two elements and one more element fit int64, so numpy
does the work.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qfl.errors import ConfigError, PayloadError, RangeError

PRIME = 2**31 - 1
LIMB_BYTES = 2  # of bytes as field elements: the largest whole number of bytes with room to spare

FieldVector = NDArray[np.int64]


def split(secret: FieldVector, threshold: int, points: Sequence[int]) -> FieldVector:
    """Share a secret.

    Args:
        secret: n integers within [0, :data:`PRIME`).
        threshold: Shares that are needed to get it back; at least 1, at most ``len(points)``.
        points: Where the shares lie: different integers within [1, :data:`PRIME`).

    Returns:
        One share per row, (``len(points)``, n), of integers within [0, :data:`PRIME`).

    Raises:
        ConfigError: The threshold is out of range.
        PayloadError: A point is out of range or repeated, or the secret is no vector of integers.
        RangeError: The secret holds something that is not in the field.

    Example:
        >>> shares = split(np.array([7, 11]), 2, [1, 2, 3])
        >>> combine(shares[[0, 2]], [1, 3]).tolist()
        [7, 11]
    """
    places = _checked_points(points)
    constant = _checked_elements(secret, 1, "a secret")
    if not 1 <= threshold <= len(places):
        raise ConfigError(
            f"threshold={threshold} is not allowed with {len(places)} shares: must be 1 to "
            f"{len(places)}"
        )
    coefficients = random_elements((threshold - 1, constant.size))
    shares = np.zeros((len(places), constant.size), dtype=np.int64)
    for coefficient in coefficients:
        shares = (shares + coefficient) * places[:, None] % PRIME
    return (shares + constant) % PRIME


def combine(shares: FieldVector, points: Sequence[int]) -> FieldVector:
    """The secret that shares belong to.

    Args:
        shares: One per row, (t, n), within [0, :data:`PRIME`). All must be of one secret, none
            wrong, and at least as many as its threshold; otherwise the result means nothing.
        points: Where they lie, in the same order.

    Returns:
        n integers within [0, :data:`PRIME`).

    Raises:
        PayloadError: A point is out of range or repeated, or the shares are no matrix of integers
            with a row for each point.
        RangeError: A share holds something that is not in the field.
    """
    return interpolate(shares, points, 0)


def interpolate(shares: FieldVector, points: Sequence[int], at: int) -> FieldVector:
    """As :func:`combine`, at any point: the share that somebody else must have.

    Args:
        shares: As in :func:`combine`.
        points: As in :func:`combine`.
        at: Within [0, :data:`PRIME`); the secret is at 0.

    Raises:
        PayloadError: As in :func:`combine`.
        RangeError: As in :func:`combine`.
    """
    places = _checked_points(points)
    rows = _checked_elements(shares, 2, "shares")
    if len(rows) != len(places):
        raise PayloadError(f"{len(rows)} shares were given for {len(places)} points")
    total = np.zeros(rows.shape[1], dtype=np.int64)
    for weight, row in zip(_lagrange(places, at).tolist(), rows, strict=True):
        total = (total + weight * row) % PRIME
    return total


def random_elements(shape: tuple[int, ...]) -> FieldVector:
    """Uniform field elements from the operating system's randomness."""
    count = int(np.prod(shape, dtype=np.int64))
    drawn = _random_31_bits(count)
    # Drawing again what falls outside keeps every element equally likely; a remainder would not.
    while (outside := np.flatnonzero(drawn == PRIME)).size:
        drawn[outside] = _random_31_bits(outside.size)
    return drawn.reshape(shape)


def elements_of(secret: bytes) -> FieldVector:
    """Bytes as field elements, 16 bits in each.

    Raises:
        PayloadError: The number of bytes is odd.

    Example:
        >>> elements_of(bytes([1, 0, 0, 255])).tolist()
        [1, 65280]
    """
    if len(secret) % LIMB_BYTES:
        raise PayloadError(f"a secret of {len(secret)} bytes was given; expected an even number")
    return np.frombuffer(secret, dtype="<u2").astype(np.int64)


def bytes_of(elements: FieldVector) -> bytes:
    """The inverse of :func:`elements_of`.

    Raises:
        PayloadError: An element has more than 16 bits, as nearly all do when a share was wrong.
    """
    if elements.size and not (elements.min() >= 0 and elements.max() < 1 << 8 * LIMB_BYTES):
        raise PayloadError("shares do not give a secret: one is wrong, or there are too few")
    return elements.astype("<u2").tobytes()


def _random_31_bits(count: int) -> FieldVector:
    return np.frombuffer(secrets.token_bytes(4 * count), dtype="<u4").astype(np.int64) & PRIME


def _lagrange(places: FieldVector, at: int) -> FieldVector:
    """What each share counts, so that their sum is the polynomial's value at one point."""
    numerator = np.ones_like(places)
    denominator = np.ones_like(places)
    for index, place in enumerate(places.tolist()):
        others = np.arange(places.size) != index
        numerator = np.where(others, numerator * ((at - place) % PRIME) % PRIME, numerator)
        denominator = np.where(
            others, denominator * ((places - place) % PRIME) % PRIME, denominator
        )
    inverse = np.array([pow(value, -1, PRIME) for value in denominator.tolist()], dtype=np.int64)
    return numerator * inverse % PRIME


def _checked_points(points: Sequence[int]) -> FieldVector:
    if not points or any(not 1 <= point < PRIME for point in points):
        raise PayloadError("points of shares must be integers from 1 to 2^31 - 2, at least one")
    if len(set(points)) != len(points):
        raise PayloadError("two shares lie at the same point: they count as one")
    return np.array(points, dtype=np.int64)


def _checked_elements(values: FieldVector, dimensions: int, what: str) -> FieldVector:
    array = np.asarray(values)
    if array.ndim != dimensions or array.dtype.kind not in "iu":
        raise PayloadError(
            f"{what} must be integers in {dimensions} dimension{'s' * (dimensions > 1)}; "
            f"{array.dtype} in {array.ndim} was given"
        )
    if array.size and not (array.min() >= 0 and array.max() < PRIME):
        raise RangeError(f"{what} must lie within 0 to 2^31 - 2, the field's elements")
    return array.astype(np.int64)
