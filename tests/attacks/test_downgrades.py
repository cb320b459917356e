"""A server that changes its story during a run: other terms, other keys, other participants.

Without identities a server that lies from the start can hand out keys of its own. One that begins
honestly must not be able to begin lying later: what a node was told once in a run holds.
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord
from hostile import CLIENTS, GRID_BITS, LENGTH, RUN, Node, Server
from hostile_committee import CommitteeServer
from hostile_masking import MaskedSum

from qfl.crypto import Committee, MemberKeys, Roster, box_for, unpack
from qfl.errors import CryptoError
from qfl.records import BOX, KEY, PAYLOAD, ROSTER, arrays_of, bytes_record, record_bytes, record_of

HOLDERS = [(s, t) for s in ("ckks", "packed", "hybrid") for t in ("key_holder", "shared")]
ALL = [*HOLDERS, ("hybrid", "committee")]
WITH_ROSTER = [p for p in [*ALL, ("masking", "none")] if "hybrid" in p or p[1] != "key_holder"]


def make(scheme: str, trust: str, release: str = "server", **terms: Any) -> Any:
    kind = {"committee": CommitteeServer, "none": MaskedSum}.get(trust, Server)
    return kind.of(scheme, trust, release, **terms)


def keeper_of(server: Any) -> Node:
    node: Node = server.keeper if isinstance(server, CommitteeServer) else server.holder
    return node


def released(server: Any, bodies: list[bytes], round: int = 1, change: int = 0) -> list[int]:
    """What a server that may not see the model is told of a sum; maybe of another masked sum."""
    masked = server.total(bodies).masked()
    if change:
        words = np.frombuffer(masked[32:], "<u4").copy()
        words[0] += np.uint32(change)
        masked = masked[:32] + words.tobytes()
    if isinstance(server, CommitteeServer):
        values = server.combined(bodies, round, masked)
    else:
        values = server.open(server.payload(bodies, round), round, masked=masked)
    return [int(value) for value in values]


def kept(server: Any) -> list[float]:
    """The model that the keeper keeps."""
    record: Any = keeper_of(server).state["qfl-kept-model"]
    return [float(value) for value in arrays_of(record)["w"]]


def mean(server: Any) -> np.ndarray:
    """By how much one round moves the model."""
    *steps, weight = server.exact()
    return np.array(steps) / weight


def keys_released(server: Any, bodies: list[bytes]) -> Any:
    """What whoever opens gives out under hybrid: the sum of ring keys, or shares of it."""
    if isinstance(server, CommitteeServer):
        signatures = server.agree(bodies, server.members[:2])
        return [server.share(bodies, node, signatures) for node in server.members[:2]]
    return server.open(server.payload(bodies))


@pytest.mark.parametrize(("scheme", "trust"), ALL)
def test_an_honest_server_of_a_kept_model_learns_the_weight(scheme: str, trust: str) -> None:
    server = make(scheme, trust, "clients")
    assert released(server, server.bodies()) == server.exact()[-1:]


@pytest.mark.parametrize(("scheme", "trust"), ALL)
@pytest.mark.parametrize("size", [0, 1])
def test_a_smaller_model_handed_over_later(scheme: str, trust: str, size: int) -> None:
    """All that is past the last coordinate of the kept model is released as weight and metrics."""
    server = make(scheme, trust, "clients")
    bodies = server.bodies()
    with contextlib.suppress(CryptoError):
        server.adopt(keeper_of(server), np.zeros(size))
    try:
        values = released(server, bodies)
    except CryptoError:
        values = []
    assert values in ([], server.exact()[-1:])


@pytest.mark.parametrize(("scheme", "trust"), ALL)
def test_a_sum_opened_again_moves_the_kept_model_once(scheme: str, trust: str) -> None:
    server = make(scheme, trust, "clients")
    bodies = server.bodies()
    first = released(server, bodies)
    with contextlib.suppress(CryptoError):
        assert released(server, bodies) == first
    assert kept(server) == pytest.approx(mean(server).tolist(), abs=2.0**-GRID_BITS)


@pytest.mark.parametrize(("scheme", "trust"), ALL)
def test_an_earlier_sum_opened_again_leaves_the_kept_model_alone(scheme: str, trust: str) -> None:
    server = make(scheme, trust, "clients")
    first, second = server.bodies(1), server.bodies(2)
    released(server, first, 1)
    released(server, second, 2)
    with contextlib.suppress(CryptoError):
        released(server, first, 1)
    assert kept(server) == pytest.approx((2 * mean(server)).tolist(), abs=2.0**-GRID_BITS)


def test_a_committee_s_keeper_that_is_asked_for_keys_again() -> None:
    server = make("hybrid", "committee", "clients")
    bodies = server.bodies()
    with contextlib.suppress(CryptoError):
        server.keeper.ask(server.step("keygen"), server.told)
        server.adopt(server.keeper, np.zeros(0))
    try:
        values = released(server, bodies)
    except CryptoError:
        values = []
    assert values in ([], server.exact()[-1:])


@pytest.mark.parametrize(("scheme", "trust"), HOLDERS)
def test_a_key_holder_that_is_asked_for_keys_again(scheme: str, trust: str) -> None:
    server = make(scheme, trust, "clients")
    bodies, before = server.bodies(), server.public
    again = server.holder.ask(server.step("keygen"), server.told)
    assert record_bytes(again, KEY) == before
    with pytest.raises(CryptoError, match="a second model in one run"):
        server.adopt(server.holder, np.zeros(0))
    assert released(server, bodies) == server.exact()[-1:]


@pytest.mark.parametrize("trust", ["key_holder", "shared", "committee"])
def test_a_masked_sum_that_was_changed_afterwards(trust: str) -> None:
    """Whether it fits tells whether a coordinate's noise passes a bound; many such tell the key."""
    server = make("hybrid", trust, "clients")
    bodies = server.bodies()
    released(server, bodies)
    scale = server.scheme().parameters.scale
    said = []
    for change in (1, scale // 2):
        with pytest.raises(CryptoError) as refusal:
            released(server, bodies, change=change)
        said.append(str(refusal.value))
    assert said[0] == said[1]


@pytest.mark.parametrize("trust", ["key_holder", "shared"])
def test_an_error_says_nothing_of_the_noise(trust: str) -> None:
    """Noise at a coordinate is a linear equation in the summed key; 2048 of them give it away."""
    server = make("hybrid", trust, "clients")
    bodies = server.bodies()
    payload, masked = server.payload(bodies), server.total(bodies).masked()
    said = set()
    for at in range(LENGTH):
        words = np.frombuffer(masked[32:], "<u4").copy()
        words[at] += np.uint32(server.scheme().parameters.scale // 2)
        with pytest.raises(CryptoError) as refusal:
            server.open(payload, masked=masked[:32] + words.tobytes())
        said.add(str(refusal.value))
    assert len(said) == 1


def ask(server: Any, round: int) -> None:
    """An honest question in the run's own name."""
    if server.terms["scheme"] == "masking":
        server.say(server.nodes[1], "advertise", b"", round)
    else:
        server.train(server.nodes[1], round)


def visit(server: Any, node: Node) -> None:
    """A harmless question in the name of another run."""
    step = server.step("evaluate", 1, run="run-2", scheme="plain", trust="none", key_id="")
    node.ask(step, server.model, "evaluate")


@pytest.mark.parametrize(("scheme", "trust"), WITH_ROSTER)
def test_another_roster_after_a_visit_from_another_run(scheme: str, trust: str) -> None:
    server = make(scheme, trust)
    ask(server, 1)
    everybody = [server.roster.member(node.name) for node in server.nodes]
    changed = Roster([*everybody, MemberKeys().member, MemberKeys().member])
    with contextlib.suppress(CryptoError):
        visit(server, server.nodes[1])
    server.told[ROSTER] = bytes_record(changed.to_bytes(), "told")
    with pytest.raises(CryptoError, match=f"run {RUN} ended for this node when another one began"):
        ask(server, 2)


@pytest.mark.parametrize(("scheme", "trust"), [*ALL, ("masking", "none")])
def test_other_terms_after_a_visit_from_another_run(scheme: str, trust: str) -> None:
    server = make(scheme, trust)
    ask(server, 1)
    with contextlib.suppress(CryptoError):
        visit(server, server.nodes[1])
    server.terms["min_clients"] = 2
    with pytest.raises(CryptoError, match=f"run {RUN} ended for this node when another one began"):
        ask(server, 2)


def test_one_update_opened_after_a_visit_from_another_run() -> None:
    """With two members of its own on the roster, a server has a single client's key opened."""
    server = make("hybrid", "key_holder")
    own = [MemberKeys(), MemberKeys()]
    everybody = [server.roster.member(node.name) for node in server.nodes]
    place, zeros = server.step("train", 1).place, np.zeros(LENGTH + 1, dtype=np.int64)
    made = [server.scheme().protect(zeros, server.public, place=place, signer=k) for k in own]
    bodies = [*server.bodies(who=(1,)), *made]
    with contextlib.suppress(CryptoError):
        visit(server, server.holder)
    changed = Roster([*everybody, *(keys.member for keys in own)])
    server.told[ROSTER] = bytes_record(changed.to_bytes(), "told")
    with pytest.raises(CryptoError):
        server.sum_of(bodies)


@pytest.mark.parametrize(("scheme", "trust"), ALL)
def test_another_key_in_the_same_run(scheme: str, trust: str) -> None:
    """A key of the server's own, with which it reads every update from then on."""
    server = make(scheme, trust)
    server.train(server.nodes[1])
    if trust == "committee":
        server.public = Committee(Roster(MemberKeys().member for _ in range(3)), 2).to_bytes()
    else:
        own = server.scheme().generate_keys()
        server.public = own.public
        if trust == "shared":
            info = f"qfl box {RUN} {server.step('train').key_id}".encode()
            server.told[BOX] = bytes_record(box_for(server.roster, own.secret, info), "told")
    server.told[KEY] = bytes_record(server.public, "told")
    with pytest.raises(CryptoError, match="another"):
        server.train(server.nodes[1], 2)


def test_a_committee_that_is_told_of_another_label() -> None:
    """Only what is labelled as training is sealed to the member that keeps the model."""
    server = make("hybrid", "committee", "clients")
    with pytest.raises(CryptoError):
        server.sum_with(server.members[:2], label="evaluate")


TERMS = [
    {"scheme": "plain", "trust": "none", "key_id": ""},
    {"release": "clients"},
    {"min_clients": 2},
    {"bound": 32.0},
    {"fraction_bits": 20},
]


# There is no masking where clients alone learn what is opened.
CHANGES = [(*pair, terms) for pair in ALL for terms in TERMS]
CHANGES += [("masking", "none", terms) for terms in TERMS if "release" not in terms]


@pytest.mark.parametrize(("scheme", "trust", "terms"), CHANGES)
def test_other_terms_in_the_same_run(scheme: str, trust: str, terms: dict[str, Any]) -> None:
    server = make(scheme, trust)
    ask(server, 1)
    with pytest.raises(CryptoError) as refusal:
        server.train(server.nodes[1], 2, **terms)
    name, value = next(iter(terms.items()))
    assert f"changed the terms of run {RUN}: they were scheme {scheme}" in str(refusal.value)
    said = {"fraction_bits": "grid 2^-20", "min_clients": "at least 2", "bound": "bound 32"}
    assert f"and are now scheme {terms.get('scheme', scheme)}" in str(refusal.value)
    assert said.get(name, f"{name} {value}") in str(refusal.value).split("and are now")[1]


@pytest.mark.parametrize("min_clients", [2, 3])
def test_a_committee_that_is_told_of_a_smaller_sum(min_clients: int) -> None:
    server = make("hybrid", "committee", min_clients=4)
    bodies = server.bodies(who=(0, 1, 2))  # the members themselves
    statement = server.total(bodies).statement(server.place())
    words = "a sum of 3 updates at run-1/1/train/0/.*; at least 4 are needed"
    with pytest.raises(CryptoError, match=words):
        server.say(server.keeper, "agree", statement)
    with pytest.raises(CryptoError, match="changed the terms"):
        server.say(server.keeper, "agree", statement, min_clients=min_clients)


@pytest.mark.parametrize("trust", ["key_holder", "shared", "committee"])
@pytest.mark.parametrize("weights", ["clients", "examples"])
def test_clients_that_are_told_of_different_weights(trust: str, weights: str) -> None:
    """Where all but one weigh nothing, the sum is the update of that one."""
    server = make("hybrid", trust)
    told = [1 if weights == "clients" else server.nodes[1].size, 10**9, 10**9, 10**9]
    bodies = [
        unpack(server.train(server.nodes[i], **{weights: number}))[1]
        for i, number in zip(CLIENTS, told, strict=True)
    ]
    with pytest.raises(CryptoError):
        keys_released(server, bodies)


@pytest.mark.parametrize("trust", ["key_holder", "shared", "committee"])
def test_clients_that_are_told_of_different_scales(trust: str) -> None:
    """One client's vector at another scale than the others': both can be read from their sum."""
    server = make("hybrid", trust)
    first = unpack(server.train(server.nodes[1]))[1]
    rest = [unpack(server.train(server.nodes[i], additions=10**4))[1] for i in CLIENTS[1:]]
    with pytest.raises(CryptoError):
        keys_released(server, [first, *rest])


@pytest.mark.parametrize(("scheme", "trust"), ALL)
@pytest.mark.parametrize("kind", ["train", "evaluate"])
def test_a_model_in_the_clear_where_clients_alone_learn_it(
    scheme: str, trust: str, kind: str
) -> None:
    """A server's own model, larger than the kept one: what is past that one's end is released."""
    server = make(scheme, trust, "clients")
    server.locked = b""
    step = server.step(kind, 1)
    with pytest.raises(CryptoError, match=r"qfl-model|locked|clear"):
        server.nodes[1].ask(step, server.model | server.told, kind)


@pytest.mark.parametrize("trust", ["key_holder", "shared", "committee"])
@pytest.mark.parametrize("what", ["arrays", "config"])
def test_clients_that_are_sent_different_models_or_settings(trust: str, what: str) -> None:
    """A model or a learning rate with which the others' updates are nothing leaves one in the sum.

    Pasquini, Francati, Ateniese 2022, "Eluding secure aggregation in federated learning via model
    inconsistency".
    """
    server = make("hybrid", trust)
    other = {
        "arrays": record_of({"w": np.ones(LENGTH)}),
        "config": ConfigRecord({"lr": 1e-30}),
    }
    first = unpack(server.train(server.nodes[1]))[1]
    # Told of no model at all: each client binds its contribution to the one that it was sent.
    step = server.step("train", 1, content="")
    records = server.model | server.told | {what: other[what]}
    rest = [
        unpack(record_bytes(server.nodes[i].ask(step, records), PAYLOAD))[1] for i in CLIENTS[1:]
    ]
    with pytest.raises(CryptoError):
        keys_released(server, [first, *rest])


@pytest.mark.parametrize(("scheme", "trust"), ALL)
def test_a_total_that_is_too_small_tells_no_count(scheme: str, trust: str) -> None:
    """One question, and every client answers with its number of examples, in an error."""
    server = make(scheme, trust)
    client = server.nodes[1]
    with pytest.raises(CryptoError) as refusal:
        server.train(client, examples=1)
    assert str(client.size) not in str(refusal.value)


@pytest.mark.parametrize(("scheme", "trust"), ALL)
def test_a_bound_that_is_too_small_tells_no_coordinate(scheme: str, trust: str) -> None:
    server = make(scheme, trust, bound=0.01)
    client = server.nodes[1]
    with pytest.raises(CryptoError) as refusal:
        server.train(client)
    assert f"{np.abs(client.update).max():.6g}" not in str(refusal.value)
