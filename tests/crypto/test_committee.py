"""A committee opens exact sums together, and only together."""

from __future__ import annotations

from itertools import combinations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray

from qfl.crypto import MemberKeys, Roster, SumRange
from qfl.crypto.committee import LARGEST_COEFFICIENT, Committee, share_of
from qfl.crypto.committee_member import CommitteeMember
from qfl.crypto.hybrid import Hybrid
from qfl.crypto.hybrid_parameters import MOST_CONTRIBUTIONS, choose_hybrid
from qfl.crypto.shamir import PRIME, split
from qfl.errors import ConfigError, PayloadError

NODES = [MemberKeys() for _ in range(7)]
ROSTER = Roster(node.member for node in NODES)
SUMS = SumRange(fraction_bits=20, bound=2.0, additions=10)
PLACE = "run/1/train/0"
SIZES = [(2, 2), (3, 2), (3, 3), (5, 3), (7, 4), (7, 7)]


def committee_of(members: int, threshold: int) -> Committee:
    return Committee(Roster(node.member for node in NODES[:members]), threshold)


@settings(deadline=None, max_examples=15)
@given(
    size=st.sampled_from(SIZES),
    length=st.sampled_from([0, 1, 658, 2049, 70_000]),
    clients=st.integers(3, 7),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_opened_sum_is_the_integer_sum(
    size: tuple[int, int], length: int, clients: int, seed: int
) -> None:
    committee = committee_of(*size)
    scheme = Hybrid.for_sums(length, SUMS, "committee")
    rng = np.random.default_rng(seed)
    total, sums = scheme.accumulator(length, committee.to_bytes()), np.zeros(length, np.int64)
    for node in NODES[:clients]:
        vector = rng.integers(-(2**17), 2**17, length)
        sums += vector
        total.add(scheme.protect(vector, committee.to_bytes(), place=PLACE, signer=node))
    members = {node.name: CommitteeMember(node, committee, ROSTER, 3) for node in NODES[: size[0]]}
    # Only so many answer; which ones does not matter.
    answering = rng.permutation(committee.names)[: size[1]].tolist()
    statement = total.statement(PLACE)
    signatures = {name: members[name].agree(statement) for name in answering}
    shares = {
        name: members[name].share(total.request_for(name, PLACE, signatures)) for name in answering
    }
    opened = total.combine(shares)
    assert (scheme.finish(opened, total.masked(), length, place=PLACE) == sums).all()


@pytest.mark.parametrize("size", SIZES)
def test_any_so_many_shares_give_the_sum_of_keys(size: tuple[int, int]) -> None:
    committee = committee_of(*size)
    rng = np.random.default_rng(0)
    keys = [rng.integers(-83, 84, 2048) for _ in range(5)]
    dealt = [committee.deal(key) for key in keys]
    sums = {
        name: (sum(share_of(shares[place]) for shares in dealt) % PRIME).astype("<u4").tobytes()
        for place, name in enumerate(committee.names)
    }
    for chosen in combinations(committee.names, size[1]):
        found = committee.combine({name: sums[name] for name in chosen})
        assert (found == np.sum(keys, axis=0)).all()
    assert (committee.combine(sums) == np.sum(keys, axis=0)).all()


def test_sums_of_the_largest_keys_keep_their_place() -> None:
    """Two coefficients share a field element; the lower one's sign must not spill over."""
    committee = committee_of(3, 2)
    most = LARGEST_COEFFICIENT
    for low, high in ((most, most), (-most, -most), (most, -most), (-most, most), (0, -1), (-1, 0)):
        key = np.repeat([low, high], 1024)
        shares = dict(zip(committee.names, committee.deal(key), strict=True))
        assert (committee.combine(shares) == key).all()
    assert choose_hybrid(2048, SumRange(16, 2.0, MOST_CONTRIBUTIONS)).key <= most


def test_fewer_than_the_threshold_see_nothing_of_a_key() -> None:
    """Two of five, at threshold three: whatever the key, their shares are uniform and new."""
    committee = committee_of(5, 3)

    def seen(key: NDArray[np.int64]) -> NDArray[np.int64]:
        dealt = [committee.deal(key) for _ in range(40)]
        return np.array([[share_of(shares[1]), share_of(shares[4])] for shares in dealt])

    zero, full = seen(np.zeros(2048, np.int64)), seen(np.full(2048, 83))
    for shares in (zero, full):
        assert len(np.unique(shares)) > 0.999 * shares.size
        # The mean of 81,920 uniform elements; 5 standard deviations.
        width = PRIME / np.sqrt(12 * shares.size)
        assert abs(shares.mean() - PRIME / 2) < 5 * width
        # A line through the two points is as good for any key: what it says at 0 is uniform, too.
        at_zero = (5 * shares[:, 0] - 2 * shares[:, 1]) % PRIME * pow(3, -1, PRIME) % PRIME
        assert abs(at_zero.mean() - PRIME / 2) < 5 * width * np.sqrt(2)
        assert (np.minimum(at_zero, PRIME - at_zero) < 2**20).mean() < 0.01


def test_a_line_through_two_points_would_be_the_key_at_threshold_two() -> None:
    """The test above can fail: with two needed, the same two shares do give the key."""
    shares = split(np.full(1024, 83 + (83 << 15)), 2, range(1, 6))
    at_zero = (5 * shares[1] - 2 * shares[4]) % PRIME * pow(3, -1, PRIME) % PRIME
    assert (at_zero == 83 + (83 << 15)).all()


@pytest.mark.parametrize(
    ("members", "threshold"), [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 3), (3, 4), (7, 0)]
)
def test_thresholds_that_open_twice_or_never_are_refused(members: int, threshold: int) -> None:
    words = (
        rf"threshold={threshold} with a committee of {members} is not allowed: must be at least "
        r"2, more than half \(two groups could open two sums\) and at most all"
    )
    with pytest.raises(ConfigError, match=words):
        committee_of(members, threshold)


def test_a_committee_travels_and_damaged_ones_are_refused() -> None:
    committee = committee_of(5, 3)
    data = committee.to_bytes()
    again = Committee.from_bytes(data)
    assert (again.names, again.threshold) == (committee.names, 3)
    assert again.identity == committee.identity != committee_of(5, 4).identity
    with pytest.raises(PayloadError, match="not a committee: it starts with b'qflr'"):
        Committee.from_bytes(ROSTER.to_bytes())
    with pytest.raises(PayloadError, match="a roster of 6247 bytes claims 5 members"):
        Committee.from_bytes(data[:-1])
    with pytest.raises(PayloadError, match="not a roster: it starts with b''"):
        Committee.from_bytes(data[:8])
    with pytest.raises(PayloadError, match="this committee is refused: threshold=2 with"):
        Committee.from_bytes(data[:4] + b"\2\0\0\0" + data[8:])


def test_shares_that_are_none_are_refused() -> None:
    committee = committee_of(3, 2)
    shares = dict(zip(committee.names, committee.deal(np.zeros(2048, np.int64)), strict=True))
    first, second, _ = committee.names
    with pytest.raises(PayloadError, match="1 members of the committee answered; at least 2 must"):
        committee.combine({first: shares[first]})
    with pytest.raises(PayloadError, match="'ffff' is not on the committee of 3 members"):
        committee.combine({first: shares[first], "ffff": shares[second]})
    with pytest.raises(PayloadError, match="a share has 4095 bytes; expected 4096"):
        committee.combine({first: shares[first], second: shares[second][:-1]})
    outside = b"\xff\xff\xff\x7f" + shares[second][4:]
    with pytest.raises(PayloadError, match=r"a number that is not in the field of 2\^31 - 1"):
        committee.combine({first: shares[first], second: outside})


def test_a_wrong_share_is_noticed_when_the_sum_is_unmasked() -> None:
    committee = committee_of(3, 2)
    scheme = Hybrid.for_sums(100, SUMS, "committee")
    total = scheme.accumulator(100, committee.to_bytes())
    for node in NODES[:3]:
        total.add(scheme.protect(np.arange(100), committee.to_bytes(), place=PLACE, signer=node))
    wrong = {name: bytes(4096) for name in committee.names}
    right = total.combine(wrong)
    assert not right.any()  # zero shares are shares of a key of zeros: in range, and not this key
    with pytest.raises(PayloadError, match="does not fit the masked sum"):
        scheme.finish(right, total.masked(), 100, place=PLACE)
    drawn = np.random.default_rng(0).integers(0, PRIME, (2, 1024)).astype("<u4")
    shares = dict(zip(committee.names[:2], (row.tobytes() for row in drawn), strict=True))
    with pytest.raises(PayloadError, match="a sum of keys lies within"):
        scheme.finish(total.combine(shares), total.masked(), 100, place=PLACE)
