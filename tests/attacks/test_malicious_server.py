"""A server with a valid identity that invents clients, swaps keys, and has too little opened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hostile_identities import (
    BOTH,
    CLIENT,
    EVERYBODY,
    Federation,
    SignedServer,
    identity,
    made_up,
    refusal,
)

from qfl.crypto import Committee, Member, MemberKeys, Roster
from qfl.identity.credentials import Credentials
from qfl.identity.floor import Floor
from qfl.identity.policy import DEFAULT_PERMISSIONS
from qfl.identity.vouching import (
    vouch_for_keys,
    vouch_for_member,
)
from qfl.records import (
    BOX,
    KEY,
    MEMBER,
    PEOPLE,
    VOUCHED_KEYS,
    VOUCHED_MEMBERS,
    bytes_record,
    record_bytes,
)

ROSTERS = [("hybrid", "key_holder"), ("packed", "shared"), ("hybrid", "committee")]


def members_of(server: SignedServer) -> list[Member]:
    return [server.roster.member(name) for name in server.roster.names]


def asked_first(server: SignedServer) -> Callable[[], object]:
    """The first message after hello: to whoever makes the keys, or to a client under committee."""
    if server.terms["trust"] == "committee":
        names = [node.name for node in server.nodes[:3]]
        server.public = Committee(Roster(map(server.roster.member, names)), 2).to_bytes()
        server.told[KEY] = bytes_record(server.public, "told")
        return lambda: server.train(server.nodes[4])
    return lambda: server.holder.ask(server.step("keygen"), server.told)


@pytest.mark.parametrize(("scheme", "trust"), ROSTERS)
def test_members_that_the_server_made_up(scheme: str, trust: str) -> None:
    server = SignedServer.run(scheme, trust, until="members")
    made = [made_up(server.step("hello")) for _ in range(3)]
    server.statements |= {member.name: proof for member, proof in made}
    server.tell_roster([*members_of(server), *(member for member, _ in made)])
    assert "none of the identities known here" in refusal(asked_first(server))


@pytest.mark.parametrize(("scheme", "trust"), ROSTERS)
def test_members_that_the_server_describes_itself(scheme: str, trust: str) -> None:
    """It passes on descriptions of identities of its own as if the operator had enrolled them."""
    server = SignedServer.run(scheme, trust, until="members")
    server.told[PEOPLE] = server.people((identity("client").description,))
    assert "is none of the 7 pinned identities" in refusal(asked_first(server))


@pytest.mark.parametrize(("scheme", "trust"), ROSTERS)
def test_a_member_that_is_the_server_itself(scheme: str, trust: str) -> None:
    server = SignedServer.run(scheme, trust, until="members")
    member = MemberKeys().member
    own = server.voice.own
    server.statements[member.name] = vouch_for_member(member, server.step("hello"), own)
    server.tell_roster([*members_of(server), member])
    assert "server (did:qfl:" in refusal(asked_first(server))
    assert "has no permission hold_keys here" in refusal(asked_first(server))


@pytest.mark.parametrize(("scheme", "trust"), ROSTERS)
def test_one_client_twice_on_the_roster(scheme: str, trust: str) -> None:
    """A client says hello, in another run, and again: it vouches for two sets of keys."""
    server = SignedServer.run(scheme, trust, until="members")
    victim = server.nodes[3]
    first, proof = server.roster.member(victim.name), server.statements[victim.name]
    victim.ask(server.step("hello", run="run-2"), {})
    server.meet()
    assert victim.name != first.name
    server.statements[first.name] = proof
    server.tell_roster([*members_of(server), first])
    said = refusal(asked_first(server))
    assert f"{victim.own.did} stands twice on the roster of run run-1" in said


@pytest.mark.parametrize(("scheme", "trust"), ROSTERS)
def test_keys_of_the_servers_in_the_name_of_a_client(scheme: str, trust: str) -> None:
    """A genuine proof of a client beside keys that are not its own."""
    server = SignedServer.run(scheme, trust, until="members")
    victim, member = server.nodes[3], MemberKeys().member
    server.statements[member.name] = server.statements[victim.name]
    rest = [one for one in members_of(server) if one.name != victim.name]
    server.tell_roster([*rest, member])
    said = refusal(asked_first(server))
    assert f"{victim.own.did} vouches for other keys than {member.name}" in said


@pytest.mark.parametrize(("scheme", "trust"), ROSTERS)
def test_proofs_of_another_run(scheme: str, trust: str) -> None:
    server = SignedServer.run(scheme, trust, until="members")
    for node in server.nodes:
        reply = node.ask(server.step("hello", run="run-2"), {})
        member = Member.from_bytes(record_bytes(reply, MEMBER))
        server.statements[member.name] = record_bytes(reply, VOUCHED_MEMBERS)
        node.name = member.name
    server.tell_roster(map(_member_of, server.nodes))
    said = refusal(asked_first(server))
    assert "it has run='run-2', this step expects run='run-1'" in said


def _member_of(node: Any) -> Member:
    return MemberKeys(node.state[MEMBER]["seed"]).member


@pytest.mark.parametrize("names", [("train",), ("train", "hold_keys")])
def test_a_member_that_may_do_nothing(names: tuple[str, ...]) -> None:
    """Enrolled, and granted neither training nor keys."""
    server = SignedServer.run("hybrid", "key_holder", until="members")
    granted = {**DEFAULT_PERMISSIONS, **dict.fromkeys(names, ("node-0", "node-1"))}
    fresh = server.federation.without(permissions=granted)
    server.holder.own.registry.enrol(fresh, server.holder.own.now())
    said = refusal(asked_first(server))
    assert "has no permission hold_keys here: policy 2 grants it neither by name" in said


# Whose key a server hands out in place of the holder's, and what clients say.
def _own(server: SignedServer) -> Credentials:
    return server.voice.own


def _client(server: SignedServer) -> Credentials:
    return server.nodes[2].own


def _unknown(server: SignedServer) -> Credentials:
    return server.federation.stranger(identity("key_holder"))


@pytest.mark.parametrize("scheme", ["ckks", "packed", "hybrid"])
@pytest.mark.parametrize(
    ("whose", "says"),
    [
        (_own, "server (did:qfl:"),
        (_client, "has no permission hold_keys here"),
        (_unknown, "none of the identities known here"),
    ],
)
def test_a_key_of_somebody_else(
    scheme: str, whose: Callable[[SignedServer], Credentials], says: str
) -> None:
    server = SignedServer.run(scheme, "key_holder")
    server.public = server.scheme().generate_keys().public
    vouched = vouch_for_keys(server.public, b"", server.step("keygen"), whose(server))
    server.told[KEY] = bytes_record(server.public, "told")
    server.told[VOUCHED_KEYS] = bytes_record(vouched, "told")
    assert says in refusal(lambda: server.train(server.nodes[1]))


@pytest.mark.parametrize("scheme", ["ckks", "packed", "hybrid"])
def test_a_key_of_the_servers_with_the_holders_word_for_another(scheme: str) -> None:
    server = SignedServer.run(scheme, "key_holder")
    server.public = server.scheme().generate_keys().public
    server.told[KEY] = bytes_record(server.public, "told")
    said = refusal(lambda: server.train(server.nodes[1]))
    assert "it has key_id=" in said
    assert "this step expects key_id=" in said


@pytest.mark.parametrize("scheme", ["ckks", "packed", "hybrid"])
def test_a_key_of_another_run(scheme: str) -> None:
    """The holder made it, and the server knows what was opened under it."""
    server = SignedServer.run(scheme, "key_holder")
    step = server.step("train", 1, run="run-2")
    said = refusal(lambda: server.nodes[1].ask(step, server.model | server.told))
    assert "it has run='run-1', this step expects run='run-2'" in said


@pytest.mark.parametrize("scheme", ["ckks", "packed", "hybrid"])
def test_a_key_of_a_revoked_holder(scheme: str) -> None:
    server = SignedServer.run(scheme, "key_holder")
    client, holder = server.nodes[1], server.holder.own.did
    client.own.registry.update(server.federation.revoking(holder), client.own.now())
    assert f"{holder} was revoked (compromised)" in refusal(lambda: server.train(client))


def test_a_holder_that_may_hold_keys_and_not_open() -> None:
    server = SignedServer.run("ckks", "key_holder", until="members")
    granted = {**DEFAULT_PERMISSIONS, "open": ()}
    fresh = server.federation.without(permissions=granted)
    for node in server.nodes[1:]:
        node.own.registry.enrol(fresh, node.own.now())
    server.set_up()
    said = refusal(lambda: server.train(server.nodes[1]))
    assert f"node-0 ({server.holder.own.did}) has no permission open here" in said


@pytest.mark.parametrize(("scheme", "trust", "release"), [("packed", "shared", "server")])
def test_a_box_of_another_key(scheme: str, trust: str, release: str) -> None:
    """Another member with the right to make keys makes some: a box and a key must be one's."""
    server = SignedServer.run(scheme, trust, release)
    other = server.nodes[1].ask(server.step("keygen"), {k: server.told[k] for k in _basics(server)})
    server.told[BOX] = other[BOX]
    said = refusal(lambda: server.train(server.nodes[2]))
    assert f"{server.holder.own.did} vouches for other keys of run run-1" in said


def _basics(server: SignedServer) -> list[str]:
    return [name for name in server.told if name not in (KEY, BOX, VOUCHED_KEYS)]


def test_a_committee_of_sock_puppets() -> None:
    server = SignedServer.run("hybrid", "committee", until="members")
    server.public = Committee(Roster(MemberKeys().member for _ in range(3)), 2).to_bytes()
    server.told[KEY] = bytes_record(server.public, "told")
    said = refusal(lambda: server.train(server.nodes[1]))
    assert "as a member of the committee, which is not on the roster" in said


def test_a_committee_with_a_member_that_may_not_open() -> None:
    roles = (BOTH, BOTH, CLIENT, BOTH, BOTH)
    server = SignedServer.run("hybrid", "committee", roles=roles)
    said = refusal(lambda: server.train(server.nodes[4]))
    assert f"node-2 ({server.nodes[2].own.did}) has no permission hold_keys here" in said


def test_another_committee_later() -> None:
    server = SignedServer.run("hybrid", "committee")
    server.train(server.nodes[4])
    names = [node.name for node in server.nodes[2:5]]
    server.public = Committee(Roster(map(server.roster.member, names)), 2).to_bytes()
    server.told[KEY] = bytes_record(server.public, "told")
    said = refusal(lambda: server.train(server.nodes[4], 2))
    assert "the server sent another public key in run run-1" in said


def test_other_members_are_not_taken_from_another_federation() -> None:
    """People of a federation whose operator is another are strangers, whatever they signed."""
    server = SignedServer.run("hybrid", "key_holder", until="members")
    other = Federation.of(EVERYBODY, floor=Floor())
    server.told[PEOPLE] = server.people(other.nodes()[0].own.chain)
    assert "pinned identities" in refusal(asked_first(server))
