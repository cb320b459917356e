"""Shares of a secret: enough give it back, fewer say nothing."""

from __future__ import annotations

import itertools
from collections import Counter
from fractions import Fraction
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from qfl.crypto import shamir
from qfl.crypto.shamir import PRIME, bytes_of, combine, elements_of, interpolate, split
from qfl.errors import ConfigError, PayloadError, RangeError

elements = st.integers(0, PRIME - 1)


def value_at(coefficients: list[int], point: int) -> int:
    """A polynomial modulo the prime, in Python's integers."""
    return sum(c * point**power for power, c in enumerate(coefficients)) % PRIME


def secret_by_fractions(shares: list[int], points: list[int]) -> int:
    """Lagrange's formula over the rationals, taken modulo the prime at the end."""
    total = Fraction(0)
    for share, point in zip(shares, points, strict=True):
        term = Fraction(share)
        for other in points:
            if other != point:
                term *= Fraction(-other, point - other)
        total += term
    return total.numerator * pow(total.denominator, -1, PRIME) % PRIME


def test_worked_by_hand() -> None:
    # 1234 + 166 x + 94 x^2, the usual example: 1494 at 1, 1942 at 2, 2578 at 3, 4414 at 5.
    for points, shares in (
        ([1, 2, 3], [1494, 1942, 2578]),
        ([5, 2, 3], [4414, 1942, 2578]),
        ([1, 2, 3, 5], [1494, 1942, 2578, 4414]),
    ):
        assert combine(np.array(shares)[:, None], points).tolist() == [1234]
    assert interpolate(np.array([[1494], [1942], [2578]]), [1, 2, 3], 5).tolist() == [4414]


def test_shares_are_values_of_the_drawn_polynomial(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = np.array([[PRIME - 1, 5], [PRIME - 2, 0], [123456789, PRIME - 1]])
    monkeypatch.setattr(shamir, "random_elements", lambda shape: drawn)
    points = [1, 2, 77, PRIME - 1, PRIME - 2]
    shares = split(np.array([PRIME - 1, 0]), 4, points)
    for column, secret in enumerate((PRIME - 1, 0)):
        polynomial = [secret, *drawn[::-1, column].tolist()]
        assert shares[:, column].tolist() == [value_at(polynomial, point) for point in points]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_threshold_of_the_shares_give_the_secret(data: st.DataObject) -> None:
    points = data.draw(st.lists(st.integers(1, PRIME - 1), min_size=1, max_size=12, unique=True))
    threshold = data.draw(st.integers(1, len(points)))
    secret = data.draw(st.lists(elements, max_size=5))
    shares = split(np.array(secret, dtype=np.int64), threshold, points)
    assert shares.shape == (len(points), len(secret))
    count = data.draw(st.integers(threshold, len(points)))
    rows = data.draw(st.permutations(range(len(points))))[:count]
    chosen = [points[row] for row in rows]
    assert combine(shares[rows], chosen).tolist() == secret
    for column, expected in enumerate(secret):
        assert secret_by_fractions(shares[rows, column].tolist(), chosen) == expected


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(elements, min_size=3, max_size=3), min_size=2, max_size=8))
def test_sums_of_shares_are_shares_of_the_sum(secrets: list[list[int]]) -> None:
    points = [3, 1, 9, 4]
    total = sum(split(np.array(secret), 3, points) for secret in secrets) % PRIME
    expected = [sum(column) % PRIME for column in zip(*secrets, strict=True)]
    assert combine(total[1:], points[1:]).tolist() == expected


@given(st.dictionaries(st.integers(1, PRIME - 2), elements, min_size=1, max_size=6), elements)
def test_one_share_too_few_fits_every_secret(held: dict[int, int], any_secret: int) -> None:
    """Whatever t - 1 shares were seen, one more share would make them shares of any secret."""
    fresh = PRIME - 1
    through = [0, *held]  # the polynomial with this secret and these shares, by Lagrange
    missing = Fraction(0)
    for point, value in zip(through, [any_secret, *held.values()], strict=True):
        term = Fraction(value)
        for other in through:
            if other != point:
                term *= Fraction(fresh - other, point - other)
        missing += term
    share = missing.numerator * pow(missing.denominator, -1, PRIME) % PRIME
    rows = np.array([*held.values(), share])[:, None]
    assert combine(rows, [*held, fresh]).tolist() == [any_secret]


def test_one_share_too_few_is_distributed_alike_for_all_secrets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the field of seven elements, over every polynomial of degree two."""
    monkeypatch.setattr(shamir, "PRIME", 7)
    for secret in range(7):
        seen: Counter[tuple[int, ...]] = Counter()
        for pair in itertools.product(range(7), repeat=2):
            drawn = np.array(pair)[:, None]
            monkeypatch.setattr(shamir, "random_elements", lambda shape, drawn=drawn: drawn)
            first, second = split(np.array([secret]), 3, [2, 5, 6])[:2, 0].tolist()
            seen[first, second] += 1
        assert seen == Counter(itertools.product(range(7), repeat=2))


def test_too_few_shares_do_not_combine_to_the_secret() -> None:
    secret = elements_of(bytes(range(32)))
    shares = split(secret, 3, [1, 2, 3])
    assert (combine(shares[:2], [1, 2]) != secret).all()  # by chance: 2^-27


def test_a_draw_outside_the_field_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([[5, PRIME, PRIME, PRIME - 1], [PRIME, 8], [2**31 + 9]])
    monkeypatch.setattr(
        shamir.secrets, "token_bytes", lambda size: np.array(next(drawn), dtype="<u4").tobytes()
    )
    assert shamir.random_elements((2, 2)).tolist() == [[5, 9], [8, PRIME - 1]]


def test_draws_fill_the_field_evenly() -> None:
    drawn = shamir.random_elements((64_000,))
    assert drawn.min() >= 0 and drawn.max() < PRIME
    counts = np.bincount(drawn * 64 // PRIME, minlength=64)
    assert ((counts - 1000) ** 2 / 1000).sum() < 190  # chi-square, 63 degrees: 2^-50 or so


@given(st.binary(max_size=40).filter(lambda data: len(data) % 2 == 0))
def test_bytes_come_back(data: bytes) -> None:
    assert bytes_of(elements_of(data)) == data
    assert elements_of(data).tolist() == [
        data[at] + 256 * data[at + 1] for at in range(0, len(data), 2)
    ]


def test_an_odd_number_of_bytes_is_refused() -> None:
    with pytest.raises(
        PayloadError, match="a secret of 3 bytes was given; expected an even number"
    ):
        elements_of(b"abc")


@pytest.mark.parametrize("wrong", [[0, 65536], [-1, 0]])
def test_elements_of_more_than_16_bits_are_no_bytes(wrong: list[int]) -> None:
    with pytest.raises(PayloadError, match="shares do not give a secret: one is wrong"):
        bytes_of(np.array(wrong))


@pytest.mark.parametrize("threshold", [-1, 0, 4])
def test_a_threshold_out_of_range_is_refused(threshold: int) -> None:
    with pytest.raises(ConfigError, match=f"threshold={threshold} is not allowed with 3 shares"):
        split(np.array([1]), threshold, [1, 2, 3])


@pytest.mark.parametrize("points", [[], [0, 1], [1, PRIME], [-1, 2]])
def test_points_out_of_range_are_refused(points: list[int]) -> None:
    for use in (lambda: split(np.array([1]), 1, points), lambda: combine(SHARES, points)):
        with pytest.raises(PayloadError, match="must be integers from 1 to 2"):
            use()


def test_repeated_points_are_refused() -> None:
    for use in (lambda: split(np.array([1]), 1, [3, 3]), lambda: combine(SHARES, [3, 3])):
        with pytest.raises(PayloadError, match="two shares lie at the same point"):
            use()


SHARES = np.array([[1, 2], [3, 4]])


@pytest.mark.parametrize(
    ("shares", "points", "words"),
    [
        (SHARES, [1, 2, 3], "2 shares were given for 3 points"),
        (SHARES[0], [1, 2], "shares must be integers in 2 dimensions; int64 in 1 was given"),
        (SHARES / 2, [1, 2], "shares must be integers in 2 dimensions; float64 in 2 was given"),
    ],
)
def test_shares_of_wrong_shape_are_refused(shares: Any, points: list[int], words: str) -> None:
    with pytest.raises(PayloadError, match=words):
        combine(shares, points)


@pytest.mark.parametrize("secret", [SHARES, np.array([0.5]), np.array(3)])
def test_secrets_of_wrong_shape_are_refused(secret: Any) -> None:
    with pytest.raises(PayloadError, match="a secret must be integers in 1 dimension;"):
        split(secret, 1, [1])


@pytest.mark.parametrize("value", [-1, PRIME, 2**62])
def test_what_is_not_in_the_field_is_refused(value: int) -> None:
    for use in (
        lambda: split(np.array([0, value]), 1, [1]),
        lambda: combine(np.array([[0, value]]), [1]),
    ):
        with pytest.raises(RangeError, match="must lie within 0 to 2"):
            use()
