"""Who is unknown, revoked, expired, rotated or copied, at every door; and the operator's words."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from flwr.app import RecordDict
from hostile_identities import (
    Federation,
    ServerVoice,
    SignedNode,
    SignedServer,
    identity,
    refusal,
)

from qfl.enveloped import CHAIN, ENVELOPE, POLICY, REVOCATIONS
from qfl.errors import RefusedError
from qfl.identity.credentials import Credentials, chain_to_bytes
from qfl.identity.envelope import Place
from qfl.identity.identity import DAY
from qfl.identity.policy import POLICY as KIND
from qfl.identity.policy import Enrolled, sign_policy
from qfl.identity.refusal import Refusal
from qfl.identity.revocation import revoke
from qfl.identity.rotation import rotate
from qfl.records import bytes_record


def refused(act: Callable[[], object]) -> tuple[Refusal, str]:
    """Reason and message of what a node refused without an answer."""
    with pytest.raises(RefusedError) as error:
        act()
    return error.value.reason, str(error.value)


def at(own: Credentials, when: float) -> Credentials:
    """The same at another time."""
    return replace(own, now=lambda: when)


def test_an_unknown_server() -> None:
    federation = Federation.of()
    node = federation.nodes()[1]
    voice = ServerVoice(federation.stranger(identity("server")))
    reason, said = refused(lambda: voice.introduce(node))
    assert reason == Refusal.UNKNOWN_SENDER
    assert f"{voice.own.did} is none of the 7 pinned identities" in said


@pytest.mark.parametrize("number", [0, 1])
def test_a_client_or_a_key_holder_as_server(number: int) -> None:
    federation = Federation.of()
    nodes = federation.nodes()
    voice = ServerVoice(nodes[number].own)
    reason, said = refused(lambda: voice.introduce(nodes[2]))
    assert reason == Refusal.PERMISSION
    assert f"node-{number} ({voice.own.did}) has no permission serve here" in said


def test_a_client_that_describes_itself_as_server() -> None:
    """Its own description names the role; the policy does not."""
    other = identity("client", "server")
    federation = Federation.of()
    policy = federation.issued.policy
    members = [*policy.members, Enrolled("twofold", other.did, ("client",))]
    fresh = sign_policy(federation.operator, "clinics", members, policy.permissions, before=policy)
    node = federation.nodes()[1]
    node.own.registry.enrol(fresh, time.time())
    registry = federation.issued.registry()
    registry.enrol(fresh, time.time())
    registry.admit([other.description])
    reason, said = refused(lambda: ServerVoice(Credentials.of(other, registry)).introduce(node))
    assert reason == Refusal.PERMISSION
    assert "nor to roles ['client']" in said


def test_a_server_that_may_not_serve() -> None:
    federation = Federation.of(permissions={"train": ("role:client",), "release": ("role:server",)})
    reason, said = refused(lambda: federation.voice().introduce(federation.nodes()[1]))
    assert reason == Refusal.PERMISSION
    assert "has no permission serve here" in said


def test_a_revoked_server() -> None:
    federation = Federation.of()
    node, voice = federation.nodes()[1], federation.voice()
    node.own.registry.update(federation.revoking(federation.server.did), time.time())
    reason, said = refused(lambda: voice.introduce(node))
    assert reason == Refusal.REVOKED
    assert federation.server.did in said


def test_a_server_that_passes_on_its_own_revocation() -> None:
    federation = Federation.of()
    node, voice = federation.nodes()[1], federation.voice()
    fresh = federation.revoking(federation.server.did)
    reason, _ = refused(lambda: voice.introduce(node, **{REVOCATIONS: fresh}))
    assert reason == Refusal.REVOKED
    assert node.own.registry.revocations == fresh


def test_a_server_revoked_in_a_run() -> None:
    server = SignedServer.run("ckks", "key_holder")
    client = server.nodes[1]
    server.train(client)
    fresh = server.federation.revoking(server.federation.server.did)
    client.own.registry.update(fresh, time.time())
    reason, _ = refused(lambda: server.train(client, 2))
    assert reason == Refusal.REVOKED


def test_a_server_left_out_of_the_policy_in_a_run() -> None:
    server = SignedServer.run("ckks", "key_holder")
    client = server.nodes[1]
    client.own.registry.enrol(server.federation.without(server.federation.server.did), time.time())
    reason, _ = refused(lambda: server.train(client))
    assert reason == Refusal.UNKNOWN_SENDER


def _lasting(federation: Federation) -> Any:
    """A list that outlasts everybody's keys, so that they alone run out."""
    return revoke(federation.operator, federation.issued.revocations, days=4000)


def test_a_server_that_expires_in_a_run() -> None:
    server = SignedServer.run("ckks", "key_holder")
    client, end = server.nodes[1], server.federation.server.description.not_after
    client.own.registry.update(_lasting(server.federation), time.time())
    client.own = at(client.own, end - 1)
    server.train(client)
    client.own = at(client.own, end)
    reason, said = refused(lambda: server.train(client, 2))
    assert reason == Refusal.EXPIRED
    assert server.federation.server.did in said


def test_a_server_whose_validity_has_not_begun() -> None:
    federation = Federation.of()
    node, start = federation.nodes()[1], federation.server.description.not_before
    node.own = at(node.own, start - 1)
    reason, _ = refused(lambda: federation.voice().introduce(node))
    assert reason == Refusal.NOT_YET_VALID


def test_a_revocation_that_is_held_back_for_longer_than_a_list_lasts() -> None:
    server = SignedServer.run("ckks", "key_holder")
    client = server.nodes[1]
    end = server.federation.issued.revocations.not_after
    client.own = at(client.own, end - 1)
    server.train(client)
    client.own = at(client.own, end)
    reason, said = refused(lambda: server.train(client, 2))
    assert reason == Refusal.STALE
    assert "revocation list 1 ran out" in said


def test_an_older_list_and_policy_change_nothing() -> None:
    federation = Federation.of()
    node, gone = federation.nodes()[1], federation.identities[4].did
    fresh, policy = federation.revoking(gone), federation.without(gone)
    node.own.registry.update(fresh, time.time())
    node.own.registry.enrol(policy, time.time())
    old = {REVOCATIONS: federation.issued.revocations, POLICY: federation.issued.policy}
    federation.voice().introduce(node, **old)
    assert node.own.registry.revocations == fresh
    assert node.own.registry.policy == policy


def _forged(federation: Federation) -> dict[str, Any]:
    fresh = federation.revoking(federation.identities[4].did)
    return {REVOCATIONS: replace(fresh, signature=federation.issued.revocations.signature)}


def _another_of_the_number(federation: Federation) -> dict[str, Any]:
    return {REVOCATIONS: revoke(federation.operator, None, days=3)}


def _of_another_operator(federation: Federation) -> dict[str, Any]:
    return {REVOCATIONS: Federation.of().revoking(federation.identities[4].did)}


def _run_out(federation: Federation) -> dict[str, Any]:
    before = federation.issued.revocations
    return {REVOCATIONS: revoke(federation.operator, before, days=1, now=time.time() - 2 * DAY)}


def _policy_forged(federation: Federation) -> dict[str, Any]:
    fresh = federation.without(federation.identities[4].did)
    return {POLICY: replace(fresh, signature=federation.issued.policy.signature)}


def _policy_of_another_operator(federation: Federation) -> dict[str, Any]:
    return {POLICY: Federation.of().without()}


def _policy_of_another_federation(federation: Federation) -> dict[str, Any]:
    policy = federation.issued.policy
    first = sign_policy(federation.operator, "banks", policy.members)
    return {POLICY: sign_policy(federation.operator, "banks", policy.members, before=first)}


def _policy_of_the_server(federation: Federation) -> dict[str, Any]:
    policy = federation.without()
    return {POLICY: replace(policy, signature=federation.server.sign(policy.body, KIND.context))}


WORDS = [
    (_forged, Refusal.SIGNATURE),
    (_another_of_the_number, Refusal.SEQUENCE),
    (_of_another_operator, Refusal.ISSUER),
    (_run_out, Refusal.STALE),
    (_policy_forged, Refusal.SIGNATURE),
    (_policy_of_another_operator, Refusal.ISSUER),
    (_policy_of_another_federation, Refusal.SEQUENCE),
    (_policy_of_the_server, Refusal.SIGNATURE),
]


@pytest.mark.parametrize(("words", "expected"), WORDS)
def test_words_that_are_not_the_operators_newest(
    words: Callable[[Federation], dict[str, Any]], expected: Refusal
) -> None:
    federation = Federation.of()
    node, voice = federation.nodes()[1], federation.voice()
    reason, _ = refused(lambda: voice.introduce(node, **words(federation)))
    assert reason == expected
    assert node.own.registry.revocations == federation.issued.revocations
    assert node.own.registry.policy == federation.issued.policy


MALFORMED = [b"", b"\x80", b"\x81" * 99, b"\x9b" + b"\xff" * 8, b"qfle\xff\xff\xff\xff"]


@pytest.mark.parametrize("name", [CHAIN, POLICY, REVOCATIONS, ENVELOPE])
@pytest.mark.parametrize("data", MALFORMED, ids=range(len(MALFORMED)))
def test_an_introduction_that_is_malformed(name: str, data: bytes) -> None:
    federation = Federation.of()
    node, voice = federation.nodes()[1], federation.voice()
    content = voice.introduction(node)
    content[name] = bytes_record(data, "told")
    with pytest.raises(RefusedError):
        node.hear(content)
    assert len(node.state) == 0
    voice.introduce(node)


def test_a_message_before_any_introduction() -> None:
    federation = Federation.of()
    node, voice = federation.nodes()[1], federation.voice()
    reason, said = refused(lambda: node.hear(voice.sealed(node, RecordDict())))
    assert reason == Refusal.UNKNOWN_SENDER
    assert "a server that did not introduce itself" in said


def test_an_introduction_to_another_node() -> None:
    federation = Federation.of()
    first, second = federation.nodes()[1:3]
    voice = federation.voice()
    reason, said = refused(lambda: second.hear(voice.introduction(first)))
    assert reason == Refusal.NODE
    assert "a message for node 2 came to node 3" in said


def test_a_session_that_is_over_does_not_come_back() -> None:
    federation = Federation.of()
    node = federation.nodes()[1]
    first, second = federation.voice("a"), federation.voice("b")
    for voice in (first, second):
        voice.introduce(node)
    reason, said = refused(lambda: first.introduce(node))
    assert reason == Refusal.REPLAYED
    assert "session 'a'" in said
    reason, said = refused(lambda: node.hear(first.sealed(node, RecordDict())))
    assert reason == Refusal.RUN
    assert "this node is in session 'b'" in said


def test_another_server_in_the_middle_of_a_session() -> None:
    """It is enrolled too, and speaks in the other one's session."""
    other = identity("server")
    federation = Federation.of(others={"second": other})
    node = federation.nodes()[1]
    federation.voice().introduce(node)
    voice = ServerVoice(federation.credentials(other))
    node.own.registry.admit([other.description])
    reason, said = refused(lambda: node.hear(voice.sealed(node, RecordDict())))
    assert reason == Refusal.SENDER
    assert f"a message is from {other.did}" in said
    assert federation.server.did in said


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"node": 3}, Refusal.NODE),
        ({"kind": "evaluate"}, Refusal.TYPE),
        ({"session": "session-2"}, Refusal.RUN),
        ({"request": bytes(16)}, Refusal.REQUEST),
        ({"refused": "no"}, Refusal.REQUEST),
    ],
)
def test_a_signed_message_that_says_something_else_inside(
    change: dict[str, Any], reason: Refusal
) -> None:
    server = SignedServer.run("ckks", "key_holder")
    node = server.nodes[1]
    content = RecordDict()
    place = Place("session-1", 0, "train")
    sealed = server.voice.sealed(node, content, place=place, **change)
    assert refused(lambda: node.hear(sealed))[0] == reason


def test_a_place_outside_that_is_not_the_steps() -> None:
    server = SignedServer.run("ckks", "key_holder")
    node, content = server.nodes[1], RecordDict()
    sealed = server.voice.sealed(node, content, place=Place("run-1", 1, "train"))
    assert refused(lambda: node.hear(sealed))[0] == Refusal.RUN


def test_an_unknown_client() -> None:
    federation = Federation.of()
    voice, known = federation.voice(), federation.nodes()[1]
    node = SignedNode(2, federation.stranger(identity("client")))
    said = refusal(lambda: voice.introduce(node))
    assert f"{node.own.did} is none of the 7 pinned identities" in said
    voice.introduce(known)


def test_a_revoked_client() -> None:
    federation = Federation.of()
    voice, node = federation.voice(), federation.nodes()[1]
    voice.own.registry.update(federation.revoking(node.own.did), time.time())
    assert f"{node.own.did} was revoked" in refusal(lambda: voice.introduce(node))


def test_an_expired_client() -> None:
    federation = Federation.of()
    voice, node = federation.voice(), federation.nodes()[1]
    voice.own.registry.update(_lasting(federation), time.time())
    voice.own = at(voice.own, node.own.identity.description.not_after)
    assert f"{node.own.did} was valid until" in refusal(lambda: voice.introduce(node))


def _rotated(own: Credentials, times: int = 1) -> Credentials:
    """The same node after rotations."""
    fresh, chain = own.identity, own.chain
    for _ in range(times):
        fresh = rotate(fresh)
        chain = (*chain, fresh.description)
    own.registry.admit(chain)
    return replace(own, identity=fresh, chain=chain)


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize(
    ("scheme", "trust"), [("ckks", "key_holder"), ("hybrid", "committee"), ("packed", "shared")]
)
def test_rotated_identities_take_part(scheme: str, trust: str, times: int) -> None:
    """Server, key holder and clients: all were enrolled under their first identifiers."""
    server = SignedServer.run(scheme, trust, until="")
    server.voice.own = _rotated(server.voice.own, times)
    server.voice.session = "session-2"
    for node in server.nodes:
        node.own = _rotated(node.own, times)
        assert server.voice.introduce(node) == node.own.did
    server.meet()
    server.set_up()
    bodies = server.bodies()
    if trust != "committee":
        assert server.sum_of(bodies).tolist() == server.exact()


def test_the_old_keys_of_a_server_that_was_rotated() -> None:
    federation = Federation.of()
    node, voice = federation.nodes()[1], federation.voice()
    old = voice.own
    fresh = _rotated(old)
    ServerVoice(fresh, "session-2").introduce(node)
    reason, said = refused(lambda: ServerVoice(old, "session-3").introduce(node))
    assert reason == Refusal.SUPERSEDED
    assert f"{old.did} was replaced by {fresh.did}" in said


def test_a_rotation_that_the_old_key_did_not_sign() -> None:
    federation = Federation.of()
    node, voice = federation.nodes()[1], federation.voice()
    thief = rotate(identity("server"))
    chain = (voice.own.identity.description, thief.description)
    content = voice.introduction(node)
    content[CHAIN] = bytes_record(chain_to_bytes(chain), "chain")
    reason, said = refused(lambda: node.hear(content))
    assert reason == Refusal.ROTATION
    assert voice.own.did in said
