"""A server with a valid identity that asks for less than a node insists on, or tells it too little.

Everything here is signed and sealed as it should be. What is refused is what it says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, RecordDict
from hostile_identities import EVERYBODY, SignedServer, refusal

from qfl.clients import Accounts
from qfl.crypto import Roster, box_for
from qfl.identity.floor import Floor
from qfl.identity.policy import DEFAULT_PERMISSIONS
from qfl.privacy import PrivacyFloor, Terms
from qfl.records import (
    ARRAYS,
    BOX,
    CONFIG,
    KEY,
    PEOPLE,
    PROTECTED,
    ROSTER,
    STEP,
    VOUCHED_KEYS,
    VOUCHED_MEMBERS,
    bytes_record,
    record_of,
)

STRICT = Floor(("ckks",), ("key_holder",), ("server",), min_clients=3)
LESS: list[tuple[dict[str, Any], str]] = [
    ({"scheme": "plain", "trust": "none"}, "asks for scheme 'plain'; this client requires ckks"),
    ({"scheme": "packed"}, "asks for scheme 'packed'; this client requires ckks"),
    ({"trust": "shared"}, "asks for trust 'shared'; this client requires key_holder"),
    ({"release": "clients"}, "asks for release 'clients'; this client requires server"),
    ({"min_clients": 2}, "asks for min_clients=2; this client requires at least 3"),
    ({"min_clients": 1}, "asks for min_clients=1; this client requires at least 3"),
    ({"clients": 1}, "asks for clients=1; this client requires at least 3"),
    ({"clients": 1, "min_clients": 10}, "asks for clients=1; this client requires at least 3"),
]


@pytest.fixture(scope="module")
def strict() -> SignedServer:
    """A run at an end, whose nodes insist on its terms."""
    return SignedServer.run("ckks", "key_holder", floor=STRICT)


@pytest.mark.parametrize("kind", ["train", "evaluate"])
@pytest.mark.parametrize(("less", "says"), LESS)
def test_weaker_terms(strict: SignedServer, kind: str, less: dict[str, Any], says: str) -> None:
    step = strict.step(kind, 1, **less)
    said = refusal(lambda: strict.nodes[1].ask(step, strict.model | strict.told, kind))
    assert f"the server {says}" in said


@pytest.mark.parametrize(("less", "says"), LESS[:6])
def test_keys_for_weaker_terms(strict: SignedServer, less: dict[str, Any], says: str) -> None:
    step = strict.step("keygen", run="run-2", **less)
    assert f"the server {says}" in refusal(lambda: strict.holder.ask(step, strict.told))


@pytest.mark.parametrize("kind", ["train", "train.private", "evaluate", "query", "query.count"])
def test_a_message_without_a_step(strict: SignedServer, kind: str) -> None:
    """Without terms there is nothing to protect by: the app would answer in the clear."""
    content = RecordDict({ARRAYS: record_of({"w": np.zeros(6)}), CONFIG: ConfigRecord({})})
    said = refusal(lambda: strict.voice.ask(strict.nodes[1], content, kind))
    assert "the server asks for an unprotected reply; this client requires scheme ckks" in said


@pytest.mark.parametrize("record", [{}, {"step": "{}"}, {"step": "[]"}, {"other": "train"}])
def test_a_step_that_says_nothing(strict: SignedServer, record: dict[str, str]) -> None:
    content = RecordDict({STEP: ConfigRecord(record), ARRAYS: record_of({"w": np.zeros(6)})})
    with pytest.raises(Exception, match="step"):
        strict.voice.ask(strict.nodes[1], content)


def test_a_part_in_the_clear() -> None:
    server = SignedServer.run("ckks", "key_holder")
    mask = bytes_record((6).to_bytes(4, "little") + bytes([0b11110000]), "told")
    said = refusal(
        lambda: server.nodes[1].ask(server.step("train", 1), {**server.told, PROTECTED: mask})
    )
    assert "asks for 33.3% of the update in the clear; this client allows at most 0%" in said


@pytest.mark.parametrize("privacy", ["", "weak"])
def test_less_noise(privacy: str) -> None:
    server = SignedServer.run("ckks", "key_holder")
    client = server.nodes[1]
    terms = Terms("central", noise_multiplier=0.1, clipping_norm=1.0, epsilon=10.0, delta=1e-5)
    client.mod._accounts = Accounts(floor=PrivacyFloor(("central",), noise_multiplier=1.0))
    asked = terms.to_json() if privacy else ""
    said = refusal(lambda: server.train(client, privacy=asked))
    more = "noise_multiplier=0.1; this client requires at least 1" if privacy else "without diff"
    assert more in said


@pytest.mark.parametrize("trust", ["key_holder", "shared"])
@pytest.mark.parametrize("scheme", ["ckks", "packed", "hybrid"])
def test_a_trust_that_the_keys_were_not_made_for(scheme: str, trust: str) -> None:
    """The holder shares its key with everybody; one client is told that it keeps it, or reverse."""
    server = SignedServer.run(scheme, trust, roles=EVERYBODY)
    other = "shared" if trust == "key_holder" else "key_holder"
    assert refusal(lambda: server.train(server.nodes[1], trust=other))


def test_a_server_that_may_not_learn_what_is_opened() -> None:
    """The policy grants nobody ``release``; the server asks for it all the same."""
    server = SignedServer.run("ckks", "key_holder", until="introductions", permissions=_nobody())
    said = refusal(lambda: server.nodes[1].ask(server.step("hello"), {}))
    assert "has no permission release here: policy 1 grants it" in said


def _nobody() -> dict[str, tuple[str, ...]]:
    return {**DEFAULT_PERMISSIONS, "release": ()}


# What a server leaves out of what everybody is told, and what a client says to that.
LEFT_OUT = [
    ("hybrid", "key_holder", (PEOPLE,), "none of the identities known here"),
    ("hybrid", "key_holder", (VOUCHED_KEYS,), "keys of run run-1 that nobody vouches for"),
    ("hybrid", "key_holder", (VOUCHED_MEMBERS,), "0 statements came for 5 members of run run-1"),
    ("hybrid", "key_holder", (KEY, BOX), "never reached this client"),
    ("ckks", "key_holder", (PEOPLE,), "none of the identities known here"),
    ("ckks", "key_holder", (VOUCHED_KEYS,), "keys of run run-1 that nobody vouches for"),
    ("packed", "shared", (PEOPLE,), "none of the identities known here"),
    ("packed", "shared", (VOUCHED_KEYS,), "keys of run run-1 that nobody vouches for"),
    ("packed", "shared", (BOX,), "vouches for other keys of run run-1"),
    ("packed", "shared", (VOUCHED_MEMBERS,), "0 statements came for 5 members of run run-1"),
    ("hybrid", "committee", (PEOPLE,), "none of the identities known here"),
    ("hybrid", "committee", (ROSTER, VOUCHED_MEMBERS), "which is not on the roster"),
    ("hybrid", "committee", (VOUCHED_MEMBERS,), "0 statements came for 5 members of run run-1"),
    ("masking", "none", (PEOPLE,), "none of the identities known here"),
    ("masking", "none", (VOUCHED_MEMBERS,), "0 statements came for 5 members of run run-1"),
    ("masking", "none", (ROSTER, VOUCHED_MEMBERS), "the roster of run run-1 never reached"),
]


def first_of(server: SignedServer, node: Any) -> Callable[[], object]:
    """What leaves a client first."""
    if server.terms["scheme"] == "masking":
        step = server.step("advertise", 1, label="train")
        return lambda: node.ask(step, server.told)
    return lambda: server.train(node)


@pytest.mark.parametrize(("scheme", "trust", "names", "says"), LEFT_OUT)
def test_told_too_little(scheme: str, trust: str, names: tuple[str, ...], says: str) -> None:
    server = SignedServer.run(scheme, trust)
    whole = server.told
    server.told = {name: record for name, record in whole.items() if name not in names}
    ask = first_of(server, server.nodes[4])
    assert says in refusal(ask)
    # A refusal leaves nothing behind: told all of it, the client takes part.
    server.told = whole
    ask()


@pytest.mark.parametrize(("scheme", "trust"), [("hybrid", "key_holder"), ("packed", "shared")])
def test_told_one_by_one(scheme: str, trust: str) -> None:
    """In separate messages, in any order, nothing counts that nobody vouches for."""
    server = SignedServer.run(scheme, trust)
    client = server.nodes[4]
    for name in (ROSTER, KEY, BOX):
        if name in server.told:
            records = {name: server.told[name]}
            assert refusal(lambda one=records: client.ask(server.step("train", 1), one))
            assert name not in client.state
    for name in (PEOPLE, VOUCHED_MEMBERS, VOUCHED_KEYS):
        assert refusal(lambda n=name: client.ask(server.step("train", 1), {n: server.told[n]}))
    server.train(client)


def test_a_run_that_skips_hello_and_keys() -> None:
    server = SignedServer.run("ckks", "key_holder", until="introductions")
    said = refusal(lambda: server.nodes[1].ask(server.step("train", 1), server.model))
    assert said
    named = server.step("train", 1, key_id="0" * 16)
    said = refusal(lambda: server.nodes[1].ask(named, server.model))
    assert "the run's public key 0000000000000000 never reached this client" in said


def test_a_box_for_others_than_the_members_who_were_proved() -> None:
    """A server seals a secret of its own to everybody, in place of the holder's."""
    server = SignedServer.run("packed", "shared")
    own = server.scheme().generate_keys()
    info = f"qfl box run-1 {server.step('train').key_id}".encode()
    roster = Roster(server.roster.member(name) for name in server.roster.names)
    server.told[BOX] = bytes_record(box_for(roster, own.secret, info), "told")
    said = refusal(lambda: server.train(server.nodes[1]))
    assert f"{server.holder.own.did} vouches for other keys of run run-1" in said
    step = replace(server.step("train", 1), run="run-2")
    said = refusal(lambda: server.nodes[1].ask(step, server.model | server.told))
    assert said
