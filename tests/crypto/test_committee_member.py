"""What a committee's member signs and adds, and what it refuses."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

import numpy as np
import pytest

from qfl.crypto import MemberKeys, Roster, SumRange
from qfl.crypto.agreement import Request, Statement
from qfl.crypto.committee import Committee
from qfl.crypto.committee_member import CommitteeMember
from qfl.crypto.contribution import Record
from qfl.crypto.hybrid import Hybrid
from qfl.crypto.hybrid_sum import HybridSum
from qfl.errors import ConfigError, OpeningRefusedError, PayloadError

NODES = [MemberKeys() for _ in range(6)]
ROSTER = Roster(node.member for node in NODES)
COMMITTEE = Committee(Roster(node.member for node in NODES[:3]), 2)
PUBLIC = COMMITTEE.to_bytes()
SCHEME = Hybrid.for_sums(10, SumRange(20, 2.0, 6), "committee")
PLACE, ELSEWHERE = "run/1/train/0", "run/2/train/0"
BY_NAME = {node.name: node for node in NODES}
FIRST, SECOND, THIRD = COMMITTEE.names


def member(name: str = FIRST, min_clients: int = 3) -> CommitteeMember:
    return CommitteeMember(BY_NAME[name], COMMITTEE, ROSTER, min_clients)


def contribution(node: MemberKeys | None, place: str = PLACE) -> bytes:
    return SCHEME.protect(np.arange(10), PUBLIC, place=place, signer=node)


BODIES = [contribution(node) for node in NODES]


def sum_of(bodies: Sequence[bytes]) -> HybridSum:
    total = SCHEME.accumulator(10, PUBLIC)
    for body in bodies:
        total.add(body)
    return total


def signed_by(total: HybridSum, *names: str, place: str = PLACE) -> dict[str, bytes]:
    """Signatures of members that know of nothing else."""
    return {name: member(name).agree(total.statement(place)) for name in names}


def test_a_member_signs_a_statement_once_for_each_place() -> None:
    total, other = sum_of(BODIES[:4]), sum_of(BODIES[1:5])
    one = member()
    signature = one.agree(total.statement(PLACE))
    assert one.agree(total.statement(PLACE)) == signature
    assert BY_NAME[FIRST].member.verifies(
        Statement.from_bytes(total.statement(PLACE)).signed_text, signature
    )
    words = f"already stands by another set of contributions for {PLACE}: one sum is opened for"
    with pytest.raises(OpeningRefusedError, match=words):
        one.agree(other.statement(PLACE))
    assert one.agree(other.statement(ELSEWHERE)) != signature


def test_the_record_of_what_was_signed_survives() -> None:
    one = member()
    one.agree(sum_of(BODIES[:4]).statement(PLACE))
    again = CommitteeMember(BY_NAME[FIRST], COMMITTEE, ROSTER, 3, json.loads(one.signed_json()))
    again.agree(sum_of(BODIES[:4]).statement(PLACE))
    with pytest.raises(OpeningRefusedError, match="already stands by another set"):
        again.agree(sum_of(BODIES[:3]).statement(PLACE))
    assert repr(one) == f"CommitteeMember(name='{FIRST}')"


def test_two_statements_for_one_place_are_not_both_opened() -> None:
    """A server shows one set to one member and another set to the next: neither gets far."""
    left, right = sum_of(BODIES[:4]), sum_of(BODIES[1:5])
    members = {name: member(name) for name in COMMITTEE.names}
    signatures = {FIRST: members[FIRST].agree(left.statement(PLACE))}
    other = {SECOND: members[SECOND].agree(right.statement(PLACE))}
    for total, own in ((left, signatures), (right, other)):
        with pytest.raises(PayloadError, match="1 members signed what was agreed on; at least 2"):
            members[THIRD].share(total.request_for(THIRD, PLACE, own))
    mixed = signatures | other
    with pytest.raises(PayloadError, match=f"signature of member {SECOND} does not fit what was"):
        members[THIRD].share(left.request_for(THIRD, PLACE, mixed))
    # The third decides; whoever stands by the other set then gives no share.
    signatures[THIRD] = members[THIRD].agree(left.statement(PLACE))
    with pytest.raises(OpeningRefusedError, match="already stands by another set"):
        members[SECOND].share(left.request_for(SECOND, PLACE, signatures))
    assert len(members[FIRST].share(left.request_for(FIRST, PLACE, signatures))) == 4096


def test_a_member_that_did_not_sign_shares_what_enough_others_agreed_on() -> None:
    total, third = sum_of(BODIES[:4]), member(THIRD)
    request = total.request_for(THIRD, PLACE, signed_by(total, FIRST, SECOND))
    share = third.share(request)
    assert third.share(request) == share
    with pytest.raises(OpeningRefusedError, match="already stands by another set"):
        third.agree(sum_of(BODIES[:3]).statement(PLACE))


def test_a_refused_request_binds_to_nothing() -> None:
    total, one = sum_of(BODIES[:4]), member()
    with pytest.raises(PayloadError, match="0 members signed"):
        one.share(total.request_for(FIRST, PLACE, {}))
    assert one.signed == {}


@pytest.mark.parametrize("min_clients", [3, 4])
def test_sums_of_few_are_refused(min_clients: int) -> None:
    few = sum_of(BODIES[: min_clients - 1])
    words = f"a sum of {min_clients - 1} updates at {PLACE}; at least {min_clients} are needed"
    with pytest.raises(OpeningRefusedError, match=words):
        member(FIRST, min_clients).agree(few.statement(PLACE))
    signatures = {name: NODES[0].sign(b"") for name in (FIRST, SECOND)}
    with pytest.raises(OpeningRefusedError, match=words):
        member(FIRST, min_clients).share(few.request_for(FIRST, PLACE, signatures))


def test_a_member_is_never_made_for_fewer_than_three() -> None:
    words = "min_clients=2 is not allowed with scheme hybrid: must be >= 3, the released sum of"
    with pytest.raises(ConfigError, match=words):
        member(FIRST, 2)
    with pytest.raises(PayloadError, match=f"'{NODES[5].name}' is not on the committee"):
        CommitteeMember(NODES[5], COMMITTEE, ROSTER, 3)


def test_statements_of_another_committee_are_refused() -> None:
    other = Committee(COMMITTEE.roster, 3)
    total = Hybrid.for_sums(10, SCHEME.sums, "committee").accumulator(10, other.to_bytes())
    for node in NODES[:3]:
        total.add(SCHEME.protect(np.arange(10), other.to_bytes(), place=PLACE, signer=node))
    words = (
        f"for committee {other.identity.hex()[:16]}; this member belongs to "
        f"{COMMITTEE.identity.hex()[:16]}"
    )
    with pytest.raises(OpeningRefusedError, match=words):
        member().agree(total.statement(PLACE))


def test_strangers_and_the_unsigned_are_not_agreed_on() -> None:
    stranger = MemberKeys()
    for node, name in ((stranger, stranger.name), (None, "0000000000000000")):
        total = sum_of([*BODIES[:3], contribution(node)])
        with pytest.raises(PayloadError, match=f"'{name}' is not on the roster of 6 members"):
            member().agree(total.statement(PLACE))


def test_signatures_of_others_than_the_committee_do_not_count() -> None:
    total = sum_of(BODIES[:4])
    text = Statement.from_bytes(total.statement(PLACE)).signed_text
    outsider = {NODES[4].name: NODES[4].sign(text)}
    signatures = signed_by(total, FIRST) | outsider
    with pytest.raises(PayloadError, match=f"'{NODES[4].name}' is not on the roster of 3 members"):
        member(THIRD).share(total.request_for(THIRD, PLACE, signatures))


def test_one_members_signature_counts_once() -> None:
    total = sum_of(BODIES[:4])
    request = total.request_for(THIRD, PLACE, signed_by(total, FIRST, SECOND))
    start = len(total.statement(PLACE)) + 14
    first, second = request[start : start + 72], request[start + 72 : start + 144]
    doubled = request.replace(second, first)
    with pytest.raises(PayloadError, match="a request holds two signatures of member"):
        member(THIRD).share(doubled)


def test_replayed_contributions_are_not_added() -> None:
    """The statement says this place, one contribution was made for another."""
    total = sum_of([*BODIES[:3], contribution(NODES[3], ELSEWHERE)])
    signatures = signed_by(total, FIRST, SECOND)
    words = f"contribution of member {NODES[3].name} does not fit.*not for place '{PLACE}'"
    with pytest.raises(PayloadError, match=words):
        member(THIRD).share(total.request_for(THIRD, PLACE, signatures))


def test_a_forged_contribution_is_not_added() -> None:
    body = bytearray(BODIES[3])
    body[40] ^= 1  # in the signature, so that the digest stays
    total = sum_of([*BODIES[:3], bytes(body)])
    with pytest.raises(PayloadError, match=f"contribution of member {NODES[3].name} does not fit"):
        member().share(total.request_for(FIRST, PLACE, signed_by(total, FIRST, SECOND)))


def request_with(pieces_of: HybridSum, statement_of: HybridSum, name: str) -> bytes:
    """A server that has one set agreed on, and asks for shares of another."""
    statement = Statement.from_bytes(statement_of.statement(PLACE))
    records = [Record.from_bytes(r.to_bytes(), 3) for r in pieces_of._records.values()]
    signatures = signed_by(statement_of, FIRST, SECOND)
    place = COMMITTEE.place_of(name)
    return Request.of(records, statement, signatures, place).to_bytes()


def test_shares_of_another_set_than_agreed_on_are_not_added() -> None:
    again = sum_of([*BODIES[:3], contribution(NODES[3])])  # a second contribution of the same node
    request = request_with(again, sum_of(BODIES[:4]), THIRD)
    with pytest.raises(PayloadError, match=f"contribution of {NODES[3].name} is not the one agree"):
        member(THIRD).share(request)
    for other in (BODIES[:3], BODIES[:5]):
        with pytest.raises(PayloadError, match=r"claims 2 signatures and 4 shares"):
            member(THIRD).share(request_with(sum_of(other), sum_of(BODIES[:4]), THIRD))


def test_a_share_that_its_dealer_did_not_vouch_for_is_not_added() -> None:
    total = sum_of(BODIES[:4])
    request = bytearray(total.request_for(THIRD, PLACE, signed_by(total, FIRST, SECOND)))
    request[-1] ^= 1
    with pytest.raises(PayloadError, match=r"the share from .* is not the one that it vouched for"):
        member(THIRD).share(bytes(request))
    # Somebody else's share, of the same contributions.
    with pytest.raises(PayloadError, match="is not the one that it vouched for"):
        member(THIRD).share(total.request_for(SECOND, PLACE, signed_by(total, FIRST, SECOND)))


def test_a_signature_covers_what_every_member_was_dealt() -> None:
    """Digests of the others' shares are in the request, and cannot be changed either."""
    total = sum_of(BODIES[:4])
    good = total.request_for(THIRD, PLACE, signed_by(total, FIRST, SECOND))
    end = len(good) - 5232  # the last contributor's share begins here, after three digests
    for digest in range(1, 5):
        bad = bytearray(good)
        bad[end - 32 * digest] ^= 1
        with pytest.raises(PayloadError, match="is not the one agreed on"):
            member(THIRD).share(bytes(bad))


def test_malformed_statements_are_refused() -> None:
    good = sum_of(BODIES[:4]).statement(PLACE)
    assert Statement.from_bytes(good).to_bytes() == good
    for bad in (b"", good[:41], b"qflq" + good[4:]):
        with pytest.raises(PayloadError, match="not a statement: it starts with"):
            member().agree(bad)
    for bad in (good[:-1], good + b"\0", good[:36] + b"\5" + good[37:], good[:42]):
        with pytest.raises(PayloadError, match=r"a statement of \d+ bytes claims \d contributions"):
            member().agree(bad)
    start = len(good) - 4 * 40
    first, second = good[start : start + 40], good[start + 40 : start + 80]
    for pair in (first + first, second + first):
        with pytest.raises(PayloadError, match="names a contributor twice, or out of order"):
            member().agree(good[:start] + pair + good[start + 80 :])
    with pytest.raises(PayloadError, match="the place of a statement is no text"):
        member().agree(good[:42] + b"\xff" + good[43:])


def test_malformed_requests_are_refused_and_never_crash() -> None:
    total = sum_of(BODIES[:4])
    good = total.request_for(FIRST, PLACE, signed_by(total, FIRST, SECOND))
    with pytest.raises(PayloadError, match="not a request: it starts with"):
        member().share(good[:13])
    with pytest.raises(
        PayloadError, match=r"a request of \d+ bytes claims 2 signatures and 4 shar"
    ):
        member().share(good[:-1])
    draw = random.Random(2)
    for _ in range(150):
        bad = bytearray(good)
        if draw.random() < 0.7:
            bad[draw.randrange(400 if draw.random() < 0.5 else len(bad))] ^= 1 << draw.randrange(8)
        else:
            del bad[draw.randrange(len(bad)) :]
        with pytest.raises((PayloadError, OpeningRefusedError)):
            member().share(bytes(bad))
