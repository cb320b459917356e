"""Wrong shares are noticed, left out where enough others are there, and named."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from masking_round import Round

from qfl.crypto.masking_opening import Sorter
from qfl.crypto.masking_wire import HEAD_BYTES, SHARE_BYTES
from qfl.crypto.shamir import PRIME, elements_of, split
from qfl.crypto.shamir_errors import right_shares
from qfl.errors import OpeningRefusedError, PayloadError

OUTSIDE = b"\xff\xff\xff\xff" * 16  # above the prime in every element


def reveal(case: Round, wrong: dict[int, dict[int, bytes]], who: list[int] | None = None) -> None:
    """Everybody gives shares; ``wrong[giver][about]`` are put in place of the right ones."""
    for index in case.present if who is None else who:
        answer = bytearray(case.answer("reveal", index, case.message_for("reveal", index)))
        for about, share in wrong.get(index, {}).items():
            at = HEAD_BYTES + SHARE_BYTES * about
            answer[at : at + SHARE_BYTES] = share
        case.take("reveal", index, bytes(answer))


def masked(clients: int, gone: tuple[int, ...] = ()) -> Round:
    case = Round(clients).until("share")
    case.step("mask", [i for i in range(clients) if i not in gone])
    case.step("agree")
    return case


@pytest.mark.parametrize(
    "share", [bytes(SHARE_BYTES), b"\x01\0\0\0" * 16, OUTSIDE], ids=["zeros", "ones", "outside"]
)
@pytest.mark.parametrize("gone", [(), (5,)])
def test_a_wrong_share_is_left_out_and_named(share: bytes, gone: tuple[int, ...]) -> None:
    """Of a seed (somebody who stayed) or of a root (somebody who vanished)."""
    about = gone[0] if gone else 3
    case = masked(10, gone)
    reveal(case, {2: {about: share}})
    present = [i for i in range(10) if i not in gone]
    assert case.server.result().tolist() == case.sum_of(present)
    assert case.server.wrong == [(case.names[2], case.names[about])]


def test_one_who_gives_only_wrong_shares() -> None:
    case = masked(10, (9,))
    reveal(case, {0: dict.fromkeys(range(10), bytes(SHARE_BYTES))})
    assert case.server.result().tolist() == case.sum_of(range(9))
    assert case.server.wrong == [(case.names[0], case.names[0])]  # was left out from then on


def test_without_one_to_spare_the_sum_is_refused() -> None:
    case = masked(10)
    before = case.server._total.copy()
    reveal(case, {2: {3: bytes(SHARE_BYTES)}}, list(range(7)))
    with pytest.raises(PayloadError) as refusal:
        case.server.result()
    assert f"7 shares of member {case.names[3]}'s secret arrived, and no 7 of them" in str(
        refusal.value
    )
    assert (case.server._total == before).all()
    reveal(case, {}, [8])
    assert case.server.result().tolist() == case.sum_of(range(10))


@pytest.mark.parametrize("gone", [(), (1,)])
def test_shares_that_were_dealt_wrong(gone: tuple[int, ...]) -> None:
    """Everybody gives what client 1 dealt, and it is of another seed, or of another root."""
    case = masked(4, gone)
    dealt = shares_of(bytes(32), 3, 4)
    reveal(case, {giver: {1: share} for giver, share in dealt.items()})
    with pytest.raises(PayloadError, match=rf"member {case.names[1]}.* dealt wrong shares"):
        case.server.result()


def shares_of(secret: bytes, threshold: int, count: int) -> dict[int, bytes]:
    rows = split(elements_of(secret), threshold, range(1, count + 1)).astype("<u4")
    return {giver: row.tobytes() for giver, row in enumerate(rows)}


@pytest.mark.parametrize("spoilt", [1, 4, 7])
def test_as_many_wrong_shares_as_half_of_those_to_spare(spoilt: int) -> None:
    """Of 40, with 25 needed, 7 are found whatever they are."""
    rng, secret = np.random.default_rng(spoilt), bytes(range(32))
    liars = sorted(rng.choice(25, spoilt, replace=False).tolist())
    shares = shares_of(secret, 25, 40)
    other = shares_of(bytes(32), 25, 40)  # all of one other secret, which is the worst
    shares |= {liar: other[liar] for liar in liars}
    sorter = Sorter(25)
    assert sorter.rebuild(0, "x", shares, secret.__eq__) == secret
    assert sorter.wrong == [(liar, 0) for liar in liars]
    assert sorter.rebuild(1, "x", shares, secret.__eq__) == secret
    assert len(sorter.wrong) == spoilt  # those were tried last, so nothing was in the way


def test_one_to_spare_and_one_wrong() -> None:
    """Too few to decode, but every choice can be tried against the commitment."""
    secret = bytes(range(32))
    for liar in range(21):
        shares = shares_of(secret, 20, 21)
        shares[liar] = bytes(SHARE_BYTES)
        sorter = Sorter(20)
        assert sorter.rebuild(0, "x", shares, secret.__eq__) == secret
        assert sorter.wrong == ([(liar, 0)] if liar < 20 else [])


def test_too_many_wrong_shares_end_the_search() -> None:
    tried = []

    def never(secret: bytes) -> bool:
        tried.append(secret)
        return False

    with pytest.raises(PayloadError, match=r"40 shares of member x's secret arrived, and no 25 of"):
        Sorter(25).rebuild(0, "x", shares_of(bytes(32), 25, 40), never)
    assert len(tried) == 2
    with pytest.raises(PayloadError, match=r"9 shares of member x's secret arrived, and no 4 of"):
        Sorter(4).rebuild(0, "x", shares_of(bytes(32), 4, 9), never)
    assert len(tried) == 2 + 2 + math.comb(9, 4)


def test_too_few_shares() -> None:
    shares = dict(list(shares_of(bytes(32), 25, 40).items())[:24])
    with pytest.raises(
        OpeningRefusedError, match=r"24 shares of member x's secret arrived; 25 are needed"
    ):
        Sorter(25).rebuild(0, "x", shares, bytes(32).__eq__)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_decoding(data: st.DataObject) -> None:
    """Rows that are left belong together, whatever was put in the place of others."""
    count = data.draw(st.integers(1, 14))
    threshold = data.draw(st.integers(1, count))
    points = data.draw(
        st.lists(st.integers(1, PRIME - 1), min_size=count, max_size=count, unique=True)
    )
    shares = split(np.array([5, 6, 7]), threshold, points)
    few = (count - threshold) // 2
    spoilt = data.draw(st.lists(st.integers(0, count - 1), max_size=few, unique=True))
    good = shares.copy()
    for row in spoilt:
        elements = st.lists(st.integers(0, PRIME - 1), min_size=3, max_size=3)
        shares[row] = data.draw(elements)
    kept = right_shares(shares, points, threshold)
    assert len(kept) >= threshold
    assert (shares[kept] == good[kept]).all()


def test_more_wrong_than_can_be_found_are_noticed() -> None:
    """Where there is an odd number to spare, so that one equation is left over."""
    points = list(range(1, 22))
    shares = split(np.array([5]), 10, points)
    shares[:8] = np.arange(8)[:, None]
    assert right_shares(shares, points, 10) == []
