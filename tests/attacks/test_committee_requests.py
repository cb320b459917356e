"""What a server asks a committee for, and must not get."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hostile import CLIENTS, LENGTH, Server
from hostile_committee import CommitteeServer

from qfl.crypto import Committee, MemberKeys, Roster
from qfl.errors import CryptoError
from qfl.records import KEY, bytes_record


@pytest.fixture
def server() -> CommitteeServer:
    return CommitteeServer.of("hybrid", "committee")


@pytest.fixture
def blind() -> CommitteeServer:
    return CommitteeServer.of("hybrid", "committee", "clients")


def refused(ask: Callable[[], Any], *words: str) -> None:
    """Make sure that a request is refused, with these words."""
    with pytest.raises(CryptoError) as refusal:
        ask()
    for word in words:
        assert word in str(refusal.value)


@pytest.mark.parametrize("who", [(0, 1), (0, 2), (1, 2), (0, 1, 2)])
def test_any_two_members_open(server: CommitteeServer, who: tuple[int, ...]) -> None:
    values = server.sum_with([server.members[i] for i in who])
    assert values.tolist() == server.exact()


def test_one_member_alone_opens_nothing(server: CommitteeServer) -> None:
    bodies, first = server.bodies(), server.members[0]
    signatures = server.agree(bodies, [first])
    refused(
        lambda: server.share(bodies, first, signatures),
        "1 members signed what was agreed on; at least 2 must",
    )
    refused(lambda: server.unmask(bodies, {}), "0 members of the committee answered; at least 2")


def test_two_sets_for_one_place(server: CommitteeServer) -> None:
    bodies = server.bodies()
    assert server.opened(bodies, server.members).tolist() == server.exact()
    words = f"already stands by another set of contributions for {server.place()}"
    for member in server.members:
        refused(lambda member=member: server.agree(bodies[:3], [member]), words)
        refused(lambda member=member: server.agree([*server.bodies()], [member]), words)
    assert server.opened(bodies, server.members).tolist() == server.exact()  # the same, again


def test_members_that_are_told_of_different_sets(server: CommitteeServer) -> None:
    bodies = server.bodies()
    first, second, third = server.members
    four, three = server.agree(bodies, [first]), server.agree(bodies[:3], [second])
    refused(
        lambda: server.share(bodies, first, four | three),
        f"the signature of member {second.name} does not fit what was agreed on",
    )
    refused(lambda: server.share(bodies[:3], second, three), "1 members signed", "at least 2 must")
    # The third decides; a member that signed the other set stands by it.
    four |= server.agree(bodies, [third])
    shares = {node.name: server.share(bodies, node, four) for node in (first, third)}
    assert server.unmask(bodies, shares).tolist() == server.exact()
    refused(lambda: server.share(bodies, second, four), "already stands by another set")


def test_signatures_that_the_server_made_itself(server: CommitteeServer) -> None:
    bodies, (first, second, _) = server.bodies(), server.members
    signatures = server.agree(bodies, [first])
    forged = MemberKeys().sign(server.total(bodies).statement(server.place()))
    refused(
        lambda: server.share(bodies, first, signatures | {second.name: forged}),
        f"the signature of member {second.name} does not fit",
    )
    client = server.nodes[4]
    refused(
        lambda: server.share(bodies, first, signatures | {client.name: forged}),
        f"'{client.name}' is not on the roster of 3 members",
    )
    elsewhere = server.agree(server.bodies(round=2), [second], round=2)
    refused(lambda: server.share(bodies, first, signatures | elsewhere), "does not fit")


def test_too_few_contributions(server: CommitteeServer) -> None:
    bodies = server.bodies(who=(1, 2))
    refused(
        lambda: server.agree(bodies, server.members),
        f"a sum of 2 updates at {server.place()}; at least 3 are needed",
    )


def with_help(server: CommitteeServer, signers: list[MemberKeys]) -> list[bytes]:
    """One client's contribution beside the server's own, whose ring keys it knows."""
    zeros = np.zeros(LENGTH + 1, dtype=np.int64)
    place, scheme = server.place(), server.scheme()
    own = [scheme.protect(zeros, server.public, place=place, signer=s) for s in signers]
    return [*server.bodies(who=(1,)), *own]


def test_contributors_that_are_not_on_the_roster(server: CommitteeServer) -> None:
    bodies = with_help(server, [MemberKeys(), MemberKeys()])
    refused(lambda: server.agree(bodies, server.members), "is not on the roster of 5 members")


def test_contributions_under_other_members_names(server: CommitteeServer) -> None:
    """The server makes two, and writes the names of other clients over its own."""
    strangers, members = [MemberKeys(), MemberKeys()], server.members
    client, *own = with_help(server, strangers)
    names = [bytes.fromhex(node.name) for node in server.nodes[3:]]
    bodies = [client, *(name + body[8:] for name, body in zip(names, own, strict=True))]
    signatures = server.agree(bodies, members)
    refused(
        lambda: server.share(bodies, members[2], signatures),
        "the signature on the contribution of member",
        "does not fit: it is damaged, forged, under another key or not for place",
    )


def test_a_client_s_key_beside_other_vectors(server: CommitteeServer) -> None:
    """Members see no vectors, but vouchers bind them."""
    bodies = server.bodies()
    signatures = server.agree(bodies, server.members)
    other = [*bodies[:3], *server.bodies(who=(4,))]  # the fourth once more, afresh
    member = server.members[0]
    request = server.total(other).request_for(member.name, server.place(), signatures)
    agreed = server.total(bodies).request_for(member.name, server.place(), signatures)
    size = agreed.index(next(iter(signatures.values())))
    refused(
        lambda: server.say(member, "open", agreed[:size] + request[size:]),
        f"the contribution of {server.nodes[4].name} is not the one agreed on",
    )
    refused(lambda: server.say(member, "open", request), "already stands by another set")


@pytest.mark.parametrize("round", [1, 2])
def test_contributions_of_another_round(server: CommitteeServer, round: int) -> None:
    bodies = server.bodies(round=3 - round)
    signatures = server.agree(bodies, server.members, round)
    refused(
        lambda: server.share(bodies, server.members[0], signatures, round),
        f"not for place '{server.place(round)}'",
    )


def test_another_committee_s_statement(server: CommitteeServer) -> None:
    other = CommitteeServer.of("hybrid", "committee")
    statement = other.total(other.bodies()).statement(server.place())
    refused(
        lambda: server.say(server.members[0], "agree", statement),
        f"asked to open {server.place()} for committee",
        "this member belongs to",
    )


def test_a_node_that_is_not_on_the_committee(server: CommitteeServer) -> None:
    statement = server.total(server.bodies()).statement(server.place())
    client = server.nodes[4]
    refused(
        lambda: server.say(client, "agree", statement),
        f"'{client.name}' is not on the committee of 3 members",
    )


@pytest.mark.parametrize("size", [0, 3, 40, 100])
def test_a_statement_that_was_cut(server: CommitteeServer, size: int) -> None:
    statement = server.total(server.bodies()).statement(server.place())
    with pytest.raises(CryptoError, match=r"statement|the message holds"):
        server.say(server.members[0], "agree", statement[:size])


def test_a_committee_of_one_s_own_choice_is_no_threshold_of_one() -> None:
    server = CommitteeServer({"scheme": "hybrid", "trust": "committee", "release": "server"})
    server.meet()
    members = Roster(server.roster.member(node.name) for node in server.nodes[:3])
    honest = Committee(members, 2).to_bytes()
    server.public = honest[:4] + (1).to_bytes(4, "little") + honest[8:]
    server.told[KEY] = bytes_record(server.public, "told")
    refused(
        lambda: server.train(server.nodes[1]),
        "this committee is refused: threshold=1 with a committee of 3 is not allowed",
    )


def test_the_sum_goes_on_in_the_next_round(server: CommitteeServer) -> None:
    for round in (1, 2, 3):
        values = server.sum_with(server.members[:2], round)
        assert values.tolist() == server.exact()


# Release ``clients``: shares go to the keeper, sealed.


def test_a_blind_server_cannot_use_the_shares(blind: CommitteeServer) -> None:
    refused(lambda: blind.sum_with(blind.members[:2]), "a share has", "expected 4096")
    assert blind.combined(blind.bodies(round=2), 2).tolist() == blind.exact()[-1:]


def test_only_the_keeper_keeps_a_model(blind: CommitteeServer, server: CommitteeServer) -> None:
    other, keeper = blind.members[1], blind.keeper
    for ask in (
        lambda: blind.combine(other, blind.bodies(), b""),
        lambda: other.ask(blind.step("keygen"), blind.told),
    ):
        refused(ask, f"member {keeper.name} does, under release=clients", f"this is {other.name}")
    refused(lambda: server.combine(server.keeper, server.bodies(), b""), "with release=server")


def test_shares_of_another_place_or_none(blind: CommitteeServer) -> None:
    bodies = blind.bodies()
    refused(
        lambda: blind.combine(blind.keeper, bodies, b"", step="evaluate"),
        "shares for run-1/1/evaluate/0",
        f"were sent for {blind.place()}",
    )
    refused(lambda: blind.combine(blind.keeper, bodies, b""), "at least 2 must")
    refused(lambda: blind.combine(blind.keeper, bodies, b"abc"), "end within a head")
    lying = bytes.fromhex(blind.keeper.name) + (10**6).to_bytes(4, "little")
    refused(lambda: blind.combine(blind.keeper, bodies, lying), "claim one of 1000000 bytes")
    unsealed = bytes.fromhex(blind.keeper.name) + (4096).to_bytes(4, "little") + bytes(4096)
    refused(lambda: blind.combine(blind.keeper, bodies, unsealed), "cannot be opened")


def test_nobody_opens_alone() -> None:
    """A committee's member is no key holder, whatever it is asked."""
    server = Server.of("hybrid", "key_holder")
    payload = server.payload(server.bodies(who=CLIENTS))
    refused(lambda: server.open(payload, trust="committee"), "changed the terms")
