"""What a server asks a key holder for, and must not get.

Under ``ckks`` and ``packed`` a sum of ciphertexts looks like a single one, so that the server is
trusted to add honestly (``SECURITY.md``): what only it can lie about is no request that could be
refused. Under ``hybrid`` the holder itself counts signed contributions.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hostile import CLIENTS, LENGTH, RUN, Server

from qfl.crypto import MemberKeys, Roster, box_for
from qfl.errors import CryptoError, OpeningRefusedError, PayloadError
from qfl.records import BOX, ROSTER, bytes_record

HOLDERS = [(s, t) for s in ("ckks", "packed", "hybrid") for t in ("key_holder", "shared")]
HYBRID = [pair for pair in HOLDERS if pair[0] == "hybrid"]


@pytest.fixture(params=HOLDERS, ids="-".join)
def server(request: pytest.FixtureRequest) -> Server:
    return Server.of(*request.param)


@pytest.fixture(params=HYBRID, ids="-".join)
def hybrid(request: pytest.FixtureRequest) -> Server:
    return Server.of(*request.param)


@pytest.fixture(params=HOLDERS, ids="-".join)
def blind(request: pytest.FixtureRequest) -> Server:
    """A run whose server may not learn the model."""
    return Server.of(*request.param, "clients")


def refused(ask: Callable[[], Any], *words: str) -> None:
    """Make sure that a request is refused, with these words."""
    with pytest.raises(CryptoError) as refusal:
        ask()
    for word in words:
        assert word in str(refusal.value)


def test_an_honest_server_gets_the_sum(server: Server) -> None:
    bodies = server.bodies()
    assert server.sum_of(bodies).tolist() == server.exact()
    assert server.sum_of(bodies).tolist() == server.exact()  # and again the same


def test_a_second_sum_of_the_same_round(server: Server) -> None:
    bodies = server.bodies()
    server.sum_of(bodies)
    words = "another sum was already opened for round 1, step train"
    refused(lambda: server.open(server.payload(bodies[:3])), words)
    refused(lambda: server.open(server.payload(server.bodies())), words)
    # Nor as another attempt: whoever repeats a step gets no second sum of it.
    refused(lambda: server.open(server.payload(bodies[1:], attempt=1)), words)
    assert server.sum_of(bodies).tolist() == server.exact()


def test_too_few(server: Server) -> None:
    bodies = server.bodies(who=(1, 2))
    refused(
        lambda: server.open(server.payload(bodies)),
        "a sum of 2 updates in round 1; at least 3 are needed",
    )


def test_a_smaller_number_than_the_keys_were_made_for(server: Server) -> None:
    payload = server.payload(server.bodies(who=(1, 2)))
    words = f"changed the terms of run {RUN}: they were", "at least 3 clients", "at least 2 clients"
    refused(lambda: server.open(payload, min_clients=2), *words)
    weaker = server.step("keygen", min_clients=2)
    refused(lambda: server.holder.ask(weaker, server.told), *words)


def test_more_than_the_key_is_sound_for(server: Server) -> None:
    body = server.total(server.bodies()).result()
    refused(
        lambda: server.open(server.packed(body, contributions=6)),
        "a sum of 6 updates; the parameters of this key are sound for at most 5",
    )


def test_another_run_s_key(server: Server) -> None:
    other = Server.of(server.terms["scheme"], server.terms["trust"], run="run-2")
    theirs, ours = other.step("train").key_id, server.step("train").key_id
    payload = server.payload(server.bodies(), key_id=theirs)
    refused(
        lambda: server.open(payload),
        f"with key_id='{theirs}'; this key holder opens key_id='{ours}'",
    )
    # The sum itself is of the other run, under a header of this one.
    body = other.total(other.bodies()).result()
    with pytest.raises(PayloadError, match=r"not a sum|cannot be opened|does not fit|not on the"):
        server.open(server.packed(body, contributions=4))
    assert server.sum_of(server.bodies()).tolist() == server.exact()


def test_another_run_s_sum(server: Server) -> None:
    payload = server.payload(server.bodies(), run="run-2")
    refused(lambda: server.open(payload), f"with run='run-2'; this key holder opens run='{RUN}'")


def test_another_scheme_s_sum(server: Server) -> None:
    name = server.terms["scheme"]
    payload = server.payload(server.bodies(), scheme="plain")
    refused(
        lambda: server.open(payload),
        f"with scheme='plain'; this key holder opens scheme='{name}'",
    )


def test_a_sum_that_was_cut_or_lengthened(server: Server) -> None:
    body = server.total(server.bodies()).result()
    for changed in (body[:-1], body + b"\0", body[: len(body) // 2], b""):
        with pytest.raises(PayloadError, match=r"bytes|not the keys of a sum"):
            server.open(server.packed(changed, contributions=4))
    refused(lambda: server.open(server.packed(body, contributions=4)[:-1]), "its digest does not")


@pytest.mark.parametrize("length", [5 * 10**3, 10**15])
def test_another_length_of_the_vector(server: Server, length: int) -> None:
    """Nothing is released for it; under ``hybrid`` a length means nothing to the holder."""
    body = server.total(server.bodies()).result()
    if server.terms["scheme"] == "hybrid":
        assert server.open(server.packed(body, 4, length=length)).shape == (2048,)
    else:
        refused(lambda: server.open(server.packed(body, 4, length=length)), f"{length} values need")


def test_a_node_that_holds_no_key(server: Server) -> None:
    payload = server.payload(server.bodies())
    server.nodes[0] = server.nodes[1]
    refused(lambda: server.open(payload), "this node holds no key")


# Under hybrid the holder counts.


def test_a_number_of_contributions_that_is_not_there(hybrid: Server) -> None:
    for count, claimed in ((1, 3), (2, 4), (4, 3), (3, 5)):
        body = hybrid.total(hybrid.bodies(who=CLIENTS[:count])).result()
        refused(
            lambda body=body, claimed=claimed: hybrid.open(hybrid.packed(body, claimed)),
            f"a sum of {claimed} updates; it holds {count}",
        )


def test_a_single_client_s_key_as_a_sum(hybrid: Server) -> None:
    (body,) = hybrid.bodies(who=(1,))
    refused(lambda: hybrid.open(hybrid.payload([body])), "a sum of 1 updates", "at least 3")


def test_one_client_s_key_three_times(hybrid: Server) -> None:
    (body,) = hybrid.bodies(who=(1,))
    result = hybrid.total([body]).result()
    head, record = result[:10], result[10:]
    assert head == struct.pack("<4sIH", b"qhr1", 1, 1)
    thrice = struct.pack("<4sIH", b"qhr1", 3, 1) + 3 * record
    name = hybrid.nodes[1].name
    refused(
        lambda: hybrid.open(hybrid.packed(thrice, contributions=3)),
        f"the keys hold a contribution of {name} twice",
    )


def with_help(hybrid: Server, signers: list[MemberKeys | None]) -> bytes:
    """One client's contribution beside the server's own, whose ring keys it knows."""
    place, zeros = hybrid.step("train", 1).place, np.zeros(LENGTH + 1, dtype=np.int64)
    key = hybrid.public
    if hybrid.terms["trust"] == "shared":  # an honest server has no such key; a client lends it
        key = bytes(hybrid.holder.state.config_records["qfl-key-holder"]["secret"])
    own = [hybrid.scheme().protect(zeros, key, place=place, signer=signer) for signer in signers]
    return hybrid.payload([*hybrid.bodies(who=(1,)), *own])


def test_contributions_that_the_server_made_itself(hybrid: Server) -> None:
    strangers = [MemberKeys(), MemberKeys()]
    refused(
        lambda: hybrid.open(with_help(hybrid, [*strangers])), "is not on the roster of 5 members"
    )
    refused(lambda: hybrid.open(with_help(hybrid, [None, None])), "a contribution is not signed")


@pytest.mark.parametrize(
    "moved",
    [{"round": 2}, {"step": "evaluate"}, {"attempt": 1}],
    ids=lambda moved: next(iter(moved)),
)
def test_keys_that_were_sealed_for_another_place(hybrid: Server, moved: dict[str, Any]) -> None:
    bodies = hybrid.bodies()
    refused(
        lambda: hybrid.open(hybrid.payload(bodies, **moved)),
        "the signature on the contribution of member",
        "not for place 'run-1/",
    )
    assert hybrid.sum_of(bodies).tolist() == hybrid.exact()


def test_a_key_of_an_earlier_round_among_new_ones(hybrid: Server) -> None:
    old, new = hybrid.bodies(round=1, who=(1,)), hybrid.bodies(round=2, who=(2, 3, 4))
    refused(
        lambda: hybrid.open(hybrid.payload([*old, *new], round=2), round=2),
        f"contribution of member {hybrid.nodes[1].name} does not fit",
    )


def test_a_damaged_key(hybrid: Server) -> None:
    result = bytearray(hybrid.total(hybrid.bodies()).result())
    result[-1] ^= 1
    refused(
        lambda: hybrid.open(hybrid.packed(bytes(result), contributions=4)),
        "the signature on the contribution of member",
    )


# Release ``clients``: the update's sum stays at the holder.


def test_a_blind_server_gets_the_weight_alone(blind: Server) -> None:
    bodies = blind.bodies()
    masked = blind.total(bodies).masked()
    values = blind.open(blind.payload(bodies), masked=masked)
    assert values.tolist() == blind.exact()[-1:]


def test_an_opening_without_the_masked_sum_releases_nothing(blind: Server) -> None:
    payload = blind.payload(blind.bodies())
    refused(lambda: blind.open(payload), "expected 'qfl-masked'")


@pytest.mark.parametrize("claim", [{"label": "evaluate"}, {"label": "count"}, {"round": 7}])
def test_what_the_request_claims_changes_nothing(blind: Server, claim: dict[str, Any]) -> None:
    bodies = blind.bodies()
    payload, masked = blind.payload(bodies), blind.total(bodies).masked()
    assert blind.open(payload, masked=masked, **claim).tolist() == blind.exact()[-1:]


def test_another_release_is_not_believed(blind: Server) -> None:
    bodies = blind.bodies()
    payload, masked = blind.payload(bodies), blind.total(bodies).masked()
    refused(
        lambda: blind.open(payload, masked=masked, release="server"),
        "release clients, at least",
        "and are now",
        "release server, at least",
    )


@pytest.mark.parametrize("trust", ["key_holder", "shared"])
def test_a_masked_sum_of_another_length(trust: str) -> None:
    blind = Server.of("hybrid", trust, "clients")
    bodies = blind.bodies()
    payload, masked = blind.payload(bodies), blind.total(bodies).masked()
    refused(lambda: blind.open(payload, masked=masked[:-4]), "a masked sum of 7 values has 60")
    refused(lambda: blind.open(payload, masked=masked + bytes(4)), "not 64")


def test_a_node_that_made_no_key_keeps_no_model(blind: Server) -> None:
    refused(lambda: blind.adopt(blind.nodes[2], np.zeros(3)), "this node made no key for one")


# What is asked of clients.


def test_a_training_asked_for_as_a_statistic(server: Server) -> None:
    records = server.model | server.told
    for kind, asked in (("sum", "train"), ("sum", "evaluate"), ("evaluate", "train")):
        refused(
            lambda kind=kind, asked=asked: server.nodes[1].ask(server.step(kind), records, asked),
            f"step {kind} does not go with a message of type '{asked}'",
        )
    refused(
        lambda: server.nodes[1].ask(server.step("train", 1), records, "query.count"),
        "step train does not go with a message of type 'query.count'",
    )


def test_a_training_under_another_label(server: Server) -> None:
    refused(
        lambda: server.train(server.nodes[1], label="evaluate"),
        "step train has label 'evaluate'; it must be the step's own",
    )


def test_a_key_that_the_client_does_not_have(server: Server) -> None:
    refused(
        lambda: server.train(server.nodes[1], key_id="0" * 16), "the step names 0000000000000000"
    )


def test_the_shared_key_sealed_to_somebody_else() -> None:
    for scheme in ("ckks", "packed", "hybrid"):
        server = Server.of(scheme, "shared")
        others = Roster(server.roster.member(node.name) for node in server.nodes[2:])
        step = server.step("train")
        box = box_for(others, b"key", f"qfl box {RUN} {step.key_id}".encode())
        server.told[BOX] = bytes_record(box, "told")
        refused(
            lambda server=server: server.train(server.nodes[1]),
            f"for 3 receivers holds nothing for member {server.nodes[1].name}",
        )


def test_another_roster_in_the_same_run() -> None:
    for scheme, trust in (*HYBRID, ("ckks", "shared")):
        server = Server.of(scheme, trust)
        server.train(server.nodes[1])
        members = [server.roster.member(node.name) for node in server.nodes]
        for changed in ([*members, MemberKeys().member], members[:-1]):
            server.told[ROSTER] = bytes_record(Roster(changed).to_bytes(), "told")
            for node in server.nodes[:2]:
                refused(
                    lambda node=node, server=server: server.train(node, 2),
                    f"another roster in run {RUN}: a run keeps the one that it started with",
                )


def test_a_roster_that_does_not_name_the_node() -> None:
    server = Server({"scheme": "hybrid", "trust": "key_holder", "release": "server"})
    server.meet()
    others = Roster(server.roster.member(node.name) for node in server.nodes[1:])
    server.told = {ROSTER: bytes_record(others.to_bytes(), "told")}
    with pytest.raises(PayloadError, match=f"'{server.nodes[0].name}' is not on the roster of 4"):
        server.set_up()


def test_keys_for_sums_of_one(server: Server) -> None:
    with pytest.raises(OpeningRefusedError, match="a sum of one update is that update"):
        server.nodes[2].ask(server.step("keygen", run="run-3", min_clients=1), {})
