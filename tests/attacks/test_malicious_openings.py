"""A server with a valid identity that has too little opened: fewer contributions, or others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hostile import LENGTH
from hostile_identities import BOTH, CLIENT, DEDICATED, HOLDER, SignedServer, identity, refusal

from qfl.crypto import pack, unpack
from qfl.identity.vouching import statements_to_bytes, vouch_for_contribution
from qfl.records import ARRAYS, PAYLOAD, VOUCHED, bytes_record, record_bytes, record_of

SEALED = [("ckks", "key_holder"), ("packed", "key_holder"), ("ckks", "shared")]


def opening(scheme: str, trust: str) -> tuple[SignedServer, list[bytes]]:
    server = SignedServer.run(scheme, trust)
    return server, server.bodies()


@pytest.mark.parametrize(("scheme", "trust"), SEALED)
def test_an_honest_sum(scheme: str, trust: str) -> None:
    server, bodies = opening(scheme, trust)
    assert server.sum_of(bodies).tolist() == server.exact()


@pytest.mark.parametrize(("scheme", "trust"), SEALED)
@pytest.mark.parametrize("kept", [0, 1, 2])
def test_a_sum_that_claims_more_contributions_than_signed(
    scheme: str, trust: str, kept: int
) -> None:
    server, bodies = opening(scheme, trust)
    server.sending = server.sending[:kept]
    said = refusal(lambda: server.sum_of(bodies))
    assert f"{kept} signed contributions came with a sum of 4" in said
    claimed = server.packed(server.total(bodies).result(), kept)
    said = refusal(lambda: server.open(claimed))
    assert f"{kept} signed contributions came with a sum of {kept}" in said
    assert "at least 3 are needed" in said


@pytest.mark.parametrize(("scheme", "trust"), SEALED)
def test_a_contribution_that_counts_twice(scheme: str, trust: str) -> None:
    server, bodies = opening(scheme, trust)
    server.sending = [server.sending[0]] * 4
    said = refusal(lambda: server.sum_of(bodies))
    assert "somebody contributed twice to the sum for run-1/1/train/0" in said


@pytest.mark.parametrize(("scheme", "trust"), SEALED)
def test_two_different_contributions_of_one_client(scheme: str, trust: str) -> None:
    """A client that is asked again signs again; it is one contributor still."""
    server = SignedServer.run(scheme, trust)
    client = server.nodes[1]
    payloads = [server.train(client) for _ in range(4)]
    server.sending = server.proofs(payloads)
    said = refusal(lambda: server.sum_of([unpack(one)[1] for one in payloads]))
    assert "somebody contributed twice" in said


@pytest.mark.parametrize(("scheme", "trust"), SEALED)
@pytest.mark.parametrize(
    ("who", "says"),
    [
        ("server", "server (did:qfl:"),
        ("holder", "has no permission train here"),
        ("unknown", "none of the identities known here"),
    ],
)
def test_contributions_of_who_may_not_train(scheme: str, trust: str, who: str, says: str) -> None:
    roles = DEDICATED if trust == "key_holder" else (*[BOTH] * 4, HOLDER)
    server = SignedServer.run(scheme, trust, roles=roles)
    bodies = server.bodies(who=(1, 2, 3))
    holder = server.holder if trust == "key_holder" else server.nodes[4]
    signer = {
        "server": server.voice.own,
        "holder": holder.own,
        "unknown": server.federation.stranger(identity("client")),
    }[who]
    header, body = unpack(server.train(server.nodes[1]))
    server.sending.append(vouch_for_contribution(header, body, signer))
    said = refusal(lambda: server.sum_of([*bodies, body]))
    assert says in said


ELSEWHERE: list[tuple[dict[str, Any], str]] = [
    ({"round": 2}, "it has round=1, this step expects round=2"),
    ({"step": "evaluate"}, "this step expects step='vouch contribution evaluate'"),
    ({"attempt": 1}, "it has attempt=0, this step expects attempt=1"),
    ({"run": "run-2"}, "it has run='run-1', this step expects run='run-2'"),
    ({"scheme": "plain"}, "this step expects scheme='plain'"),
    ({"key_id": "0" * 16}, "this step expects key_id='0000000000000000'"),
    ({"terms": "0" * 64}, "contributed to another sum than run-1/1/train/0/000"),
    ({"length": 6}, "contributed to another sum than run-1/1/train/0"),
]


@pytest.mark.parametrize(("header", "says"), ELSEWHERE)
def test_contributions_to_something_else(header: dict[str, Any], says: str) -> None:
    server, bodies = opening("packed", "key_holder")
    said = refusal(lambda: server.open(server.payload(bodies, **header)))
    assert says in said


@pytest.mark.parametrize("change", [{"content": ""}, {"clients": 4}, {"examples": 9000}])
def test_contributions_on_different_terms(change: dict[str, Any]) -> None:
    """All but one were sent another model, or other weights: the sum would be that one's update."""
    server = SignedServer.run("ckks", "key_holder")
    payloads = [server.train(server.nodes[1])]
    other = {ARRAYS: record_of({"w": np.ones(LENGTH)})} if "content" in change else server.model
    for node in server.nodes[2:]:
        reply = node.ask(replace(server.step("train", 1), **change), other | server.told)
        payloads.append(record_bytes(reply, PAYLOAD))
        server.signed[payloads[-1]] = record_bytes(reply, VOUCHED)
    server.sending = server.proofs(payloads)
    said = refusal(lambda: server.sum_of([unpack(one)[1] for one in payloads]))
    assert "contributed to another sum than run-1/1/train/0" in said


NONE = [
    b"",
    b"\x80",
    b"\xa0",
    b"\x9b" + b"\xff" * 8,
    b"\x81" * 64,
    statements_to_bytes([b""] * 4),
    statements_to_bytes([b"qfle" + b"\xff" * 4] * 4),
    statements_to_bytes([b"qfle" + bytes(4)] * 4),
]


@pytest.mark.parametrize("sent", NONE, ids=range(len(NONE)))
def test_statements_that_are_none(sent: bytes) -> None:
    server, bodies = opening("packed", "key_holder")
    payload = server.payload(bodies)
    records = {PAYLOAD: bytes_record(payload, "sum"), VOUCHED: bytes_record(sent, "x")}
    step = server.step("open", 1, "train")
    assert refusal(lambda: server.holder.ask(step, server.told | records))
    assert server.sum_of(bodies).tolist() == server.exact()


def test_a_second_sum_of_a_round() -> None:
    server, bodies = opening("packed", "key_holder")
    server.sum_of(bodies)
    server.sending = server.sending[:3]
    said = refusal(lambda: server.sum_of(bodies[:3]))
    assert "another sum was already opened for round 1, step train" in said


def test_a_node_that_may_not_open_opens_nothing() -> None:
    """A client made the keys, since nobody kept it from that; the policy gives it no ``open``."""
    server = SignedServer.run("packed", "key_holder", roles=[CLIENT] * 5)
    payloads = []
    for node in server.nodes[1:]:
        said = refusal(lambda one=node: server.train(one))
        assert f"node-0 ({server.holder.own.did}) has no permission hold_keys here" in said
    header = server.step("train", 1).header(7, 4)
    body = server.scheme().accumulator(7, server.public)
    values = server.scheme().protect(np.zeros(7, dtype=np.int64), server.public)
    for _ in range(4):
        body.add(values)
    payloads.append(pack(header, body.result()))
    said = refusal(lambda: server.open(payloads[0]))
    assert f"node-0 ({server.holder.own.did}) has no permission hold_keys here" in said
