"""Altered messages: whatever somebody on the way makes of an envelope, it is refused as such.

Nodes get the altered requests before the one that was sent, and take that one still. The server
asks once: an altered reply costs its node the step, and the run goes on with the others.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest
from altering import (
    OPEN,
    SEALED,
    another_type,
    bare,
    beside,
    called_settings,
    changing,
    empty,
    signed_by,
    stranger,
)
from flwr.app import Message
from man_in_the_middle import Middle, Seen, around, disturbed
from signed_federation import CLIENTS, MADE, Federation, undisturbed
from strikes import KINDS, OTHER, TARGET

from qfl.identity.credentials import chain_to_bytes
from qfl.identity.identity import Identity
from qfl.identity.policy import Enrolled, sign_policy
from qfl.identity.refusal import Refusal
from qfl.identity.revocation import revoke
from qfl.strategies import RoundFinished
from qfl.strategies.signed_grid import UNVERIFIED

Alter = Callable[[Middle, Seen, Message], Message]
CASES = list(MADE)
NOBODY = stranger(("client", "server"))


def by_another(middle: Middle, seen: Seen, message: Message) -> Message:
    """Signed by another participant."""
    other = OTHER if seen.node != OTHER else TARGET
    return signed_by(middle.identities.nodes[other - 1])(middle, seen, message)


def introduced_again(middle: Middle, seen: Seen, message: Message) -> Message:
    """With the server's description beside it."""
    return beside(chain=chain_to_bytes(middle.identities.server.chain))(middle, seen, message)


BOTH: dict[str, tuple[Alter, Refusal]] = {
    name: (changing(change), reason) for name, (change, reason) in SEALED.items()
} | {
    "by a stranger": (signed_by(NOBODY), Refusal.UNKNOWN_SENDER),
    "without an envelope": (bare, Refusal.NOT_SIGNED),
    "empty": (empty, Refusal.NOT_SIGNED),
    "among settings": (called_settings, Refusal.NOT_SIGNED),
}
"""What is refused on the way to a node and back."""
REQUESTS: dict[str, tuple[Alter, Refusal]] = BOTH | {
    "of another type": (another_type, Refusal.TYPE),
    "with the server's description": (introduced_again, Refusal.STEP),
    "with a stranger's description": (
        beside(chain=chain_to_bytes(NOBODY.chain)),
        Refusal.UNKNOWN_SENDER,
    ),
    "with no description": (beside(chain=b"none"), Refusal.DAMAGED),
}
REPLIES: dict[str, tuple[Alter, Refusal]] = BOTH | {"by another": (by_another, Refusal.SENDER)}


def false_words() -> dict[str, tuple[Alter, Refusal]]:
    """What an operator would say who is none here."""
    false = Identity.create(["operator"], algorithm="ML-DSA-44")
    members = [Enrolled("nobody", NOBODY.did, ("client", "server"))]
    policy = sign_policy(false, "simulation", members)
    policy = sign_policy(false, "simulation", members, before=policy)
    revocations = revoke(false, revoke(false, None))
    return {
        "with a policy of another's": (beside(policy=policy.to_bytes()), Refusal.ISSUER),
        "with revocations of another's": (
            beside(revocations=revocations.to_bytes()),
            Refusal.ISSUER,
        ),
    }


INTRODUCTIONS: dict[str, tuple[Alter, Refusal]] = (
    {name: (changing(change), reason) for name, (change, reason) in OPEN.items()}
    | false_words()
    | {
        "by a stranger": (signed_by(NOBODY), Refusal.UNKNOWN_SENDER),
        "with a stranger's description": (
            beside(chain=chain_to_bytes(NOBODY.chain)),
            Refusal.UNKNOWN_SENDER,
        ),
        "without a description": (beside(chain=None), Refusal.UNKNOWN_SENDER),
        "with no description": (beside(chain=b"none"), Refusal.DAMAGED),
        "with no operator": (beside(operator=b"none"), Refusal.DAMAGED),
        "with a stranger for an operator": (
            beside(operator=chain_to_bytes(NOBODY.chain)),
            Refusal.UNKNOWN_SENDER,
        ),
        "with no policy": (beside(policy=b"none"), Refusal.DAMAGED),
        "with no revocations": (beside(revocations=b"none"), Refusal.DAMAGED),
        "among settings": (called_settings, Refusal.UNKNOWN_SENDER),
        "empty": (empty, Refusal.UNKNOWN_SENDER),
        "of another type": (another_type, Refusal.TYPE),
    }
)


@pytest.mark.parametrize("case", CASES)
def test_every_altered_request_is_refused(case: str) -> None:
    """The first one of every kind, in every way; then comes the one that was sent."""
    kinds = {(kind.name, kind.label) for kind in KINDS if kind.case == case}
    expected: dict[int, list[tuple[str, Refusal]]] = {}

    def act(middle: Middle, seen: Seen, message: Message) -> list[Message]:
        if seen.way == "reply":
            return [] if message.has_error() else [message]
        if (seen.kind, seen.label) not in kinds:
            return [message]
        kinds.remove((seen.kind, seen.label))
        altered = INTRODUCTIONS if seen.kind == "introduce" else REQUESTS
        told = expected.setdefault(seen.node, [])
        told += [(name, reason) for name, (_, reason) in altered.items()]
        return [*(alter(middle, seen, message) for alter, _ in altered.values()), message]

    (ran,), _ = disturbed(case, act)
    assert ran.outcome == undisturbed(case, 1)
    assert kinds == set()
    for node, told in expected.items():
        found = [one.reason for one in ran.refused if one.node == node]
        names = [name for name, _ in told]
        assert list(zip(names, found, strict=True)) == told
    assert {one.node for one in ran.refused} == set(expected)
    assert ran.blamed == []


@pytest.mark.parametrize("case", CASES)
def test_a_request_that_another_participant_signed(case: str) -> None:
    """In the name of the server, to whoever knows that participant, and to whoever does not."""
    expected = []

    def act(middle: Middle, seen: Seen, message: Message) -> list[Message]:
        if seen.way == "reply":
            return [] if message.has_error() else [message]
        other = middle.identities.nodes[(OTHER if seen.node != OTHER else TARGET) - 1]
        own = middle.identities.nodes[seen.node - 1].registry
        if seen.kind != "introduce":
            known = own.knows(other.did)
            reason = Refusal.SENDER if known else Refusal.UNKNOWN_SENDER
            expected.append((seen.node, reason))
            return [by_another(middle, seen, message), message]
        chained = beside(chain=chain_to_bytes(other.chain))
        expected.append((seen.node, Refusal.PERMISSION))
        return [chained(middle, seen, by_another(middle, seen, message)), message]

    (ran,), _ = disturbed(case, act)
    assert ran.outcome == undisturbed(case, 1)
    for node in {node for node, _ in expected}:
        found = [one.reason for one in ran.refused if one.node == node]
        assert found == [reason for whose, reason in expected if whose == node]


def test_every_altered_reply_is_refused() -> None:
    """Each time an update or evaluation comes as something else, the others' make up the sum."""
    rounds = (len(REPLIES) + 1) // 2
    ways = iter(REPLIES.items())
    struck: list[tuple[str, int, Refusal]] = []

    def act(middle: Middle, seen: Seen, message: Message) -> list[Message]:
        if seen.way == "request" or seen.kind not in ("train", "evaluate"):
            return [message]
        if seen.node != 1 + seen.round % CLIENTS or len(struck) == len(REPLIES):
            return [message]
        name, (alter, reason) = next(ways)
        struck.append((name, seen.node, reason))
        return [alter(middle, seen, message)]

    (ran,), _ = disturbed("ckks", act, rounds=rounds)
    assert ran.error == ""
    assert [name for name, _, _ in struck] == list(REPLIES)
    found = [(node, code, text.split(":")[0]) for node, code, text in ran.grid.errors]
    assert found == [(node, UNVERIFIED, reason) for _, node, reason in struck]
    finished = [event for event in ran.events if isinstance(event, RoundFinished)]
    assert sum(one.failures for one in finished) == len(REPLIES)
    assert {one.clients for one in finished[1:]} == {CLIENTS - 1}
    assert ran.blamed == []
    assert ran.refused == []


SAID = {
    Refusal.DAMAGED: "damaged|cut off|goes on after its end|starts with|claims a front",
    Refusal.VERSION: "of version 2",
    Refusal.RECEIVER: "for 1 others",
    Refusal.UNKNOWN_SENDER: "none of the identities known",
    Refusal.NOT_SIGNED: "expected 'qfl-chain'",
}
"""How it is said of a node that has not been met why it is not there."""


@pytest.mark.parametrize("name", list(BOTH))
def test_an_altered_introduction_of_a_node_is_refused(name: str) -> None:
    """It introduces itself again when the server looks again."""
    alter, reason = BOTH[name]
    left = 1

    def act(middle: Middle, seen: Seen, message: Message) -> list[Message]:
        nonlocal left
        if seen.way == "request" or seen.node != TARGET or not left:
            return [message]
        left -= 1
        return [alter(middle, seen, message)]

    with Federation("ckks", around(act)) as federation:
        server = federation.server()
        assert server.get_node_ids() == [1, 3, 4, 5]
        assert list(server.refused) == [TARGET]
        assert re.search(SAID[reason], server.refused[TARGET])
        assert server.get_node_ids() == [1, 2, 3, 4, 5]
        assert server.refused == {}


@pytest.mark.parametrize(
    "names", [("policy",), ("revocations",), ("policy", "revocations")], ids="-".join
)
def test_the_operators_newest_words_cannot_be_held_back(names: tuple[str, ...]) -> None:
    """A node that never heard them knows from the server's signature that there are any."""

    def act(middle: Middle, seen: Seen, message: Message) -> list[Message]:
        if seen.way == "reply" or seen.node != TARGET:
            return [message]
        return [beside(**dict.fromkeys(names))(middle, seen, message)]

    with Federation("ckks", around(act)) as federation:
        issued, server = federation.identities.issued, federation.identities.server
        operator, members = issued.operator, issued.policy.members
        policy = sign_policy(
            operator, "simulation", members, issued.policy.permissions, before=issued.policy
        )
        server.registry.enrol(policy, time.time())
        server.registry.update(revoke(operator, issued.revocations), time.time())
        there = federation.server().get_node_ids()
        refused = [one.reason for one in federation.witness.refused if one.node == TARGET]
    assert there == [1, 3, 4, 5]
    assert set(refused) == {Refusal.STALE}
