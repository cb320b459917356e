"""A client with a valid identity that signs whatever it likes: that is its own failure alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from evil_client import (
    BAD,
    CLIENTS,
    LENGTH,
    Change,
    Evil,
    app_of,
    identities_of,
    mean_of,
    put,
    raw,
    run,
)
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from hostile_identities import SignedServer

from qfl.clients import ProtectMod, SignMod
from qfl.crypto import MemberKeys, Step, pack, unpack
from qfl.enveloped import CHAIN, ENVELOPE
from qfl.errors import FederationError, RefusedError
from qfl.federation.local_grid import LocalGrid
from qfl.identity.credentials import chain_from_bytes, people_from_bytes
from qfl.identity.vouching import (
    check_contribution,
    statements_from_bytes,
    vouch_for_contribution,
    vouch_for_keys,
    vouch_for_member,
)
from qfl.records import (
    KEY,
    MEMBER,
    PAYLOAD,
    VOUCHED,
    VOUCHED_KEYS,
    VOUCHED_MEMBERS,
    record_bytes,
)
from qfl.strategies import SignedGrid

RECORDS: dict[str, Callable[[bytes], Any]] = {
    "missing": lambda data: None,
    "configuration": lambda data: ConfigRecord({"data": data}),
    "metrics": lambda data: MetricRecord({"data": [1.5, 2.5]}),
    "floats": lambda data: ArrayRecord({"data": Array(np.zeros(3))}),
    "empty": lambda data: raw(b""),
    "cut": lambda data: raw(data[: len(data) // 2]),
    "one less": lambda data: raw(data[:-1]),
    "one more": lambda data: raw(data + b"\0"),
    "zeros": lambda data: raw(bytes(len(data))),
    "ones": lambda data: raw(b"\xff" * len(data)),
    "nested": lambda data: raw(b"\x81" * 5000 + b"\x80"),
    "claims 2^64": lambda data: raw(b"\x9b" + b"\xff" * 8),
    "claims a header": lambda data: raw(b"qfl1\xff\xff\xff\xff"),
    "claims a front": lambda data: raw(b"qfle\x00\x07\xff\xff" + b"\xff" * 100),
}
PLACES = [
    ("ckks", "key_holder", "train", PAYLOAD),
    ("ckks", "key_holder", "train", VOUCHED),
    ("packed", "shared", "hello", MEMBER),
    ("packed", "shared", "hello", VOUCHED_MEMBERS),
    ("hybrid", "key_holder", "train", PAYLOAD),
    ("hybrid", "committee", "agree", PAYLOAD),
    ("masking", "none", "advertise", PAYLOAD),
    ("masking", "none", "train", PAYLOAD),
]


ASKED = [
    *((*place, record) for place in PLACES for record in RECORDS),
    *(("hybrid", "committee", "open", PAYLOAD, one) for one in RECORDS),
]


@pytest.mark.parametrize(("scheme", "trust", "step", "name", "record"), ASKED)
def test_malformed_and_signed(scheme: str, trust: str, step: str, name: str, record: str) -> None:
    """The run goes on without the client, and names no other."""
    ran = run(scheme, trust, step, put(name, RECORDS[record]))
    if step in ("agree", "open"):  # its update is in; two others open the sum
        assert (ran.clients, ran.problems) == ([4], {})
        assert ran.model == mean_of(0, 1, 2, 3)
        return
    assert ran.clients == [3]
    assert ran.model == mean_of(0, 1, 3)
    assert set(ran.problems) <= {BAD + 1}


ROLES: dict[str, MetricRecord] = {
    "none": MetricRecord({}),
    "floats": MetricRecord({"client": 1.0, "key-holder": 0.0}),
    "lists": MetricRecord({"client": [1], "key-holder": [0]}),
    "key holder": MetricRecord({"client": 0, "key-holder": 1}),
    "both": MetricRecord({"client": 1, "key-holder": 1}),
}


@pytest.mark.parametrize("roles", ROLES)
def test_roles_that_it_has_not(roles: str) -> None:
    """A client that calls itself key holder gets no keys to hold, and is left out."""
    ran = run("ckks", "key_holder", "hello", put("roles", lambda data: ROLES[roles]))
    assert (ran.clients, ran.problems) == ([3], {})
    assert ran.model == mean_of(0, 1, 3)


def test_an_index_beyond_all_others() -> None:
    """It may choose its place in the order of clients, and nothing else comes of it."""
    far = MetricRecord({"client": 1, "key-holder": 0, "index": -(2**62)})
    ran = run("ckks", "key_holder", "hello", put("roles", lambda data: far))
    assert ran.model == mean_of(0, 1, 2, 3)


def _twice(content: RecordDict, evil: Evil) -> None:
    """Somebody else's contribution, word for word."""
    for name in (PAYLOAD, VOUCHED):
        content[name] = evil.others[0][name]


def _signed_again(content: RecordDict, evil: Evil) -> None:
    """Somebody else's contribution under its own name."""
    header, body = unpack(record_bytes(evil.others[0], PAYLOAD))
    content[PAYLOAD] = raw(pack(header, body))
    content[VOUCHED] = raw(vouch_for_contribution(header, body, evil.own))


def _other_bytes(content: RecordDict, evil: Evil) -> None:
    header, body = unpack(record_bytes(content, PAYLOAD))
    content[PAYLOAD] = raw(pack(header, body[:-1] + bytes([body[-1] ^ 1])))


def _other_round(content: RecordDict, evil: Evil) -> None:
    header, body = unpack(record_bytes(content, PAYLOAD))
    content[VOUCHED] = raw(vouch_for_contribution(replace(header, round=2), body, evil.own))


def _as_keys(content: RecordDict, evil: Evil) -> None:
    assert evil.asked is not None
    content[VOUCHED] = raw(vouch_for_keys(b"", b"", evil.asked, evil.own))


SAYS: list[tuple[Change, str]] = [
    (_twice, "this step expects one from "),
    (_other_bytes, "vouches for other bytes than were sent"),
    (_other_round, "it has round=2, this step expects round=1"),
    (_as_keys, "belongs elsewhere"),
]


@pytest.mark.parametrize("scheme", ["ckks", "packed"])
@pytest.mark.parametrize(("change", "says"), SAYS)
def test_a_contribution_that_is_not_its_own(scheme: str, change: Change, says: str) -> None:
    ran = run(scheme, "key_holder", "train", change)
    assert says in ran.problems.pop(BAD + 1)
    assert (ran.clients, ran.problems) == ([3], {})
    assert ran.model == mean_of(0, 1, 3)


def test_a_copy_counts_for_the_one_who_signed_it() -> None:
    """Under ckks an update can be copied unread; it stands for one client each, named by both."""
    ran = run("ckks", "key_holder", "train", _signed_again)
    assert (ran.clients, ran.problems) == ([4], {})
    assert ran.model == mean_of(0, 1, 0, 3)


def test_a_member_of_somebody_else() -> None:
    """The keys of another client, vouched for by that client."""

    def change(content: RecordDict, evil: Evil) -> None:
        for name in (MEMBER, VOUCHED_MEMBERS):
            content[name] = evil.others[0][name]

    ran = run("packed", "shared", "hello", change)
    assert (ran.clients, ran.problems) == ([3], {})


def test_keys_that_it_vouches_for_in_anothers_name() -> None:
    """Its own word for keys that it did not announce."""

    def change(content: RecordDict, evil: Evil) -> None:
        assert evil.asked is not None
        vouched = vouch_for_member(MemberKeys().member, evil.asked, evil.own)
        content[VOUCHED_MEMBERS] = raw(vouched)

    ran = run("packed", "shared", "hello", change)
    assert (ran.clients, ran.problems) == ([3], {})


def test_a_contribution_of_another_member_under_hybrid() -> None:
    def change(content: RecordDict, evil: Evil) -> None:
        content[PAYLOAD] = evil.others[0][PAYLOAD]

    ran = run("hybrid", "key_holder", "train", change)
    assert "it sent a contribution that member" in ran.problems.pop(BAD + 1)
    assert (ran.clients, ran.problems) == ([3], {})


def test_too_few_are_left() -> None:
    """What one client can do is to be missing; a run that needs all four says whose fault it is."""
    with pytest.raises(FederationError, match=f"3 usable replies.*node {BAD + 1}: "):
        run("ckks", "key_holder", "train", put(VOUCHED, RECORDS["empty"]), min_clients=4)


def test_a_client_makes_no_keys_for_others() -> None:
    """It answers when asked to make keys; what it signs is nobody's key."""
    server = SignedServer.run("ckks", "key_holder", until="members")
    client = server.nodes[2]
    reply = client.ask(server.step("keygen"), server.told)
    server.public = record_bytes(reply, KEY)
    server.told |= {name: reply[name] for name in (KEY, VOUCHED_KEYS)}
    with pytest.raises(Exception, match=r"node-2 .* has no permission hold_keys here"):
        server.train(server.nodes[1])


BYTES = [
    b"",
    b"\x80",
    b"\xa0",
    b"\xf6",
    b"\x9b" + b"\xff" * 8,
    b"\x5b" + b"\xff" * 8,
    b"\x81" * 10_000,
    b"\x9f\xff",
    b"\xd8\x1c\x81\xd8\x1d\x00",
    b"\x82\x40\x40",
]


@pytest.mark.parametrize("data", BYTES, ids=range(len(BYTES)))
@pytest.mark.parametrize("read", [chain_from_bytes, people_from_bytes])
def test_descriptions_that_are_none(read: Callable[[bytes], Any], data: bytes) -> None:
    if read is people_from_bytes and data == b"\x80":
        assert read(data) == []
        return
    with pytest.raises(RefusedError):
        read(data)


@pytest.mark.parametrize("data", BYTES[2:], ids=range(2, len(BYTES)))
def test_statements_that_are_none(data: bytes) -> None:
    if data == b"\x82\x40\x40":
        assert statements_from_bytes(data) == [b"", b""]
        return
    with pytest.raises(RefusedError):
        statements_from_bytes(data)


@pytest.mark.parametrize("size", [1 << 16, (1 << 16) + 1, 1 << 22])
def test_a_statement_that_is_too_long(size: int) -> None:
    server = identities_of("ckks", "key_holder").server
    header = Step.from_json(json.dumps(_STEP)).header(LENGTH)
    with pytest.raises(RefusedError):
        check_contribution(header, b"qfle" + bytes(size), server)


_STEP = {
    "step": "train",
    "run": "run-1",
    "round": 1,
    "label": "train",
    "scheme": "ckks",
    "key_id": "",
    "longest": 7,
    "fraction_bits": 14,
    "bound": 1.0,
    "additions": 4,
    "min_clients": 3,
    "clients": 4,
    "examples": 0,
    "metrics": [],
    "trust": "key_holder",
    "release": "server",
    "rounding": "nearest",
    "attempt": 0,
    "content": "",
    "privacy": "",
}


@dataclass
class Introducing:
    """Around a client's :class:`SignMod`: changes how it introduces itself, or answers at all."""

    change: Callable[[RecordDict], RecordDict]
    inner: SignMod

    def __call__(self, message: Message, context: Context, call_next: Any) -> Message:
        reply = self.inner(message, context, call_next)
        if int(context.node_config["partition-id"]) != BAD:
            return reply
        return Message(self.change(reply.content), reply_to=message)


def _chain(data: bytes) -> Callable[[RecordDict], RecordDict]:
    return lambda content: RecordDict({**content, CHAIN: raw(data)})


def _envelope(data: bytes) -> Callable[[RecordDict], RecordDict]:
    return lambda content: RecordDict({**content, ENVELOPE: raw(data)})


OUTSIDE = [
    *(_chain(data) for data in BYTES),
    *(_envelope(data) for data in (b"", b"qfle", b"qfle\xff\xff\xff\xff", b"qfle\0\0\0\x01\xa0")),
    lambda content: RecordDict(),
    lambda content: RecordDict({ENVELOPE: ConfigRecord({"data": b"1"})}),
    lambda content: RecordDict({ENVELOPE: ArrayRecord({"data": Array(np.zeros(2))})}),
]


@pytest.mark.parametrize("change", OUTSIDE, ids=range(len(OUTSIDE)))
def test_a_client_that_does_not_say_who_it_is(
    change: Callable[[RecordDict], RecordDict],
) -> None:
    identities = identities_of("ckks", "key_holder")
    source = identities.source(None)
    app = app_of([Introducing(change, SignMod(source)), ProtectMod(credentials=source)])
    with LocalGrid(app, CLIENTS, workers=1) as local:
        grid = SignedGrid(local, identities.server, patience=5)
        there = grid.get_node_ids()
    assert there == [1, 2, 4]
    assert set(grid.refused) == {BAD + 1}


def test_one_identity_at_two_nodes() -> None:
    """A copied key: one of the two is there, the other is told why not."""
    identities = identities_of("ckks", "key_holder")
    nodes = [*identities.nodes[:3], identities.nodes[2]]
    app = app_of([SignMod(lambda context: nodes[int(context.node_config["partition-id"])])])
    with LocalGrid(app, 4, workers=1) as local:
        grid = SignedGrid(local, identities.server, patience=5)
        assert len(grid.get_node_ids()) == 3
        (said,) = grid.refused.values()
    assert f"{nodes[2].did} is node " in said
    assert "one identity is used twice" in said


def test_a_node_that_is_somebody_else_later() -> None:
    """It answers with another member's keys: not the one that it was when it was met."""
    identities = identities_of("ckks", "key_holder")
    nodes = list(identities.nodes[:3])
    source = lambda context: nodes[int(context.node_config["partition-id"])]  # noqa: E731
    app = app_of([SignMod(source), ProtectMod(credentials=source)])
    with LocalGrid(app, 3, workers=1) as local:
        grid = SignedGrid(local, identities.server, patience=5)
        assert grid.get_node_ids() == [1, 2, 3]
        first, nodes[2] = nodes[2], identities.nodes[3]
        message = Message(RecordDict(), 3, "train")
        (reply,) = grid.send_and_receive([message], timeout=5)
        assert reply.has_error()
        assert f"not for {nodes[2].did}" in str(reply.error.reason)
        assert grid.did_of(3) == first.did
