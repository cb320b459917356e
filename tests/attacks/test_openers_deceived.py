"""Whoever opens is told another story than the contributors, or relies on who counts no longer.

A key holder or a committee opens what clients agreed to and nothing else: on their terms, of
contributors who may train now. Clients for their part protect under no key of somebody who may not
open now.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile import LENGTH
from hostile_committee import CommitteeServer
from hostile_identities import (
    BOTH,
    CLIENT,
    HOLDER,
    Federation,
    SignedNode,
    SignedServer,
    refusal,
)

from qfl.clients import Accounts, vouched
from qfl.clients.fitting import SAID
from qfl.crypto import pack, unpack
from qfl.errors import CryptoError
from qfl.identity.floor import Floor
from qfl.identity.policy import Policy
from qfl.identity.rotation import rotate
from qfl.privacy import PrivacyFloor, Terms
from qfl.records import BOX, PEOPLE, VOUCHED_KEYS

HOLDERS = [(s, t) for s in ("ckks", "packed", "hybrid") for t in ("key_holder", "shared")]
SCHEMES = ["ckks", "packed", "hybrid"]
OTHER_TERMS = "on other terms than those of the run"
STRANGER = "is not on the roster"


class SignedCommittee(SignedServer, CommitteeServer):
    """A run over signed messages before a committee, with a keeper where clients keep the model."""

    def set_up(self) -> None:
        """Appoint the members, and where the server may not see it, hand over the model."""
        SignedServer.set_up(self)
        if self.terms["release"] == "clients":
            reply = self.keeper.ask(self.step("keygen"), self.told)
            self.told |= {name: reply[name] for name in (BOX, VOUCHED_KEYS)}
            self.locked = self.adopt(self.keeper, np.zeros(LENGTH))


def run(scheme: str, trust: str, release: str = "server", **options: Any) -> SignedServer:
    kind = SignedCommittee if trust == "committee" else SignedServer
    return kind.run(scheme, trust, release, **options)


# Terms: fewest contributions.


def promised(scheme: str, trust: str) -> tuple[SignedServer, dict[str, Any], dict[str, Any]]:
    """Clients insist on sums of four and are told so; the keys were made for sums of three."""
    server = run(scheme, trust, min_clients=3, until="members")
    for node in server.nodes[1:]:
        node.own = replace(node.own, floor=Floor(min_clients=4))
    server.set_up()
    holders, clients = server.terms, {**server.terms, "min_clients": 4}
    server.terms = clients
    return server, holders, clients


@pytest.mark.parametrize(("scheme", "trust"), HOLDERS)
def test_a_sum_of_three_where_all_were_told_three(scheme: str, trust: str) -> None:
    server = run(scheme, trust, min_clients=3)
    assert server.sum_of(server.bodies(who=(1, 2, 3))).tolist() == server.exact((1, 2, 3))


@pytest.mark.parametrize(("scheme", "trust"), HOLDERS)
def test_clients_take_no_keys_that_were_made_for_smaller_sums(scheme: str, trust: str) -> None:
    server, _, _ = promised(scheme, trust)
    said = refusal(lambda: server.train(server.nodes[1]))
    assert f"{server.holder.own.did} vouches for other keys of run run-1, or made them for" in said
    assert "at least 4 clients" in said


@pytest.mark.parametrize(("scheme", "trust"), HOLDERS)
def test_no_sum_is_opened_that_is_smaller_than_contributors_were_told(
    scheme: str, trust: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where clients look at no keys: what they signed says how many they insist on."""
    server, holders, clients = promised(scheme, trust)
    with monkeypatch.context() as patch:
        patch.setattr(vouched, "check_keys", lambda *told: server.holder.own.did)
        bodies = server.bodies(who=(1, 2, 3))
    theirs = server.payload(bodies)
    server.terms = holders
    assert OTHER_TERMS in refusal(lambda: server.open(theirs))
    relabelled = server.payload(bodies)
    signed = "contributed to another sum" if scheme != "hybrid" else "or not for place"
    assert signed in refusal(lambda: server.open(relabelled))
    server.terms = clients
    assert "the server changed the terms of run run-1" in refusal(lambda: server.open(theirs))


def test_no_committee_opens_a_sum_that_is_smaller_than_contributors_were_told() -> None:
    server = run("hybrid", "committee", min_clients=3, roles=(*[BOTH] * 3, *[CLIENT] * 3))
    assert isinstance(server, SignedCommittee)
    for node in server.nodes[3:]:
        node.own = replace(node.own, floor=Floor(min_clients=4))
    members = server.terms
    server.terms = {**members, "min_clients": 4}
    bodies, theirs = server.bodies(who=(3, 4, 5)), server.place()
    server.terms = members
    who = server.members[:2]
    for place, says in ((theirs, "were asked for in the step"), (server.place(), "not for place")):
        statement = server.total(bodies).statement(place)
        signed = {node.name: server.say(node, "agree", statement) for node in who}
        request = server.total(bodies).request_for(who[0].name, place, signed)
        assert says in refusal(lambda sent=request: server.say(who[0], "open", sent))


# Terms: noise.

NOISE = Terms("central", noise_multiplier=1.0, clipping_norm=0.5, epsilon=100.0, delta=1e-5)


def private(scheme: str, folder: Path, to_holder: dict[str, str]) -> SignedServer:
    """Clients insist on central noise and are told of it; the holder is told something else."""
    floor = PrivacyFloor(("central",), noise_multiplier=1.0)
    ledger = str(folder / "ledger.sqlite")
    accounts = Accounts(ledger, floor, dataset=lambda message, context: f"{context.node_id:064x}")
    federation = Federation.of()
    terms = {"scheme": scheme, "trust": "key_holder", "release": "server", "bound": 16.0}
    told = {**terms, "privacy": NOISE.to_json(), "longest": 9}
    nodes = [
        SignedNode(number, federation.credentials(one), **({"accounts": accounts} if data else {}))
        for number, (one, data) in enumerate(
            zip(federation.identities, (0, 1, 1, 1, 1), strict=True), 1
        )
    ]
    server = SignedServer({**told, **to_holder}, nodes, federation=federation)
    for node in nodes:
        server.voice.introduce(node)
    if scheme == "hybrid":
        server.terms = told
        server.meet()
        server.terms = {**told, **to_holder}
    server.told[PEOPLE] = server.people()
    server.set_up()
    server.terms = told
    return server


def summed(server: SignedServer) -> tuple[bytes, bytes]:
    """The sum of four clients, and what is masked of it."""
    payloads = [server.train(node) for node in server.nodes[1:]]
    server.sending = [server.signed[one] for one in payloads if one in server.signed]
    header, _ = unpack(payloads[0])
    total = server.scheme().accumulator(header.length, server.public)
    for one in payloads:
        total.add(unpack(one)[1])
    return pack(replace(header, contributions=4), total.result()), total.masked()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_sum_with_noise_where_all_were_told_of_it(scheme: str, tmp_path: Path) -> None:
    server = private(scheme, tmp_path, {})
    payload, masked = summed(server)
    assert server.open(payload, masked=masked).shape == (9,)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("weaker", [0.5, None])
def test_no_sum_is_opened_with_less_noise_than_contributors_were_told_of(
    scheme: str, weaker: float | None, tmp_path: Path
) -> None:
    terms = replace(NOISE, noise_multiplier=weaker).to_json() if weaker else ""
    server = private(scheme, tmp_path, {"privacy": terms})
    payload, masked = summed(server)
    for asked in (terms, NOISE.to_json()):
        server.terms = {**server.terms, "privacy": asked}
        said = refusal(lambda: server.open(payload, masked=masked))
        assert OTHER_TERMS in said


# Contributors.


def granting(server: SignedServer, **permissions: tuple[str, ...]) -> Policy:
    """The next policy, with other permissions."""
    granted = {**server.federation.issued.policy.permissions, **permissions}
    return server.federation.without(permissions=granted)


def contributing_all_the_same(server: SignedServer, *numbers: int) -> list[bytes]:
    """What nodes send to which another policy grants what this one does not: the first, and them.

    They have no data, so that the sum of all would be the update of the first.
    """
    everybody = granting(server, train=("role:client", "role:key_holder"))
    for number in numbers:
        node = server.nodes[number]
        node.own.registry.enrol(everybody, node.own.now())
        node.update = np.zeros_like(node.update)
    return server.bodies(who=(1, *numbers))


def test_a_node_that_may_not_train_contributes_nothing() -> None:
    server = run("hybrid", "key_holder", roles=(HOLDER, CLIENT, HOLDER, CLIENT, CLIENT))
    said = refusal(lambda: server.train(server.nodes[2]))
    assert f"node-2 ({server.nodes[2].own.did}) has no permission train here" in said


@pytest.mark.parametrize(
    ("scheme", "says"),
    [("ckks", "has no permission train"), ("packed", "no permission train"), ("hybrid", STRANGER)],
)
def test_key_holders_are_no_contributors(scheme: str, says: str) -> None:
    roles = (HOLDER, CLIENT, HOLDER, HOLDER, CLIENT)
    server = run(scheme, "key_holder", roles=roles)
    bodies = contributing_all_the_same(server, 2, 3)
    assert says in refusal(lambda: server.sum_of(bodies))


def test_key_holders_are_no_contributors_before_a_committee() -> None:
    roles = (BOTH, BOTH, BOTH, HOLDER, HOLDER)
    server = run("hybrid", "committee", roles=roles)
    bodies = contributing_all_the_same(server, 3, 4)
    assert isinstance(server, SignedCommittee)
    statement = server.total(bodies).statement(server.place())
    for node in server.members:
        said = refusal(lambda one=node: server.say(one, "agree", statement))
        assert STRANGER in said


def test_nobody_masks_with_a_key_holder() -> None:
    """Masks of a node that may not train would hide nothing that counts."""
    server = run("masking", "none", roles=(CLIENT, CLIENT, CLIENT, HOLDER, CLIENT))
    for node in server.nodes:
        step = server.step("advertise", 1, label="train")
        said = refusal(lambda one=node, asked=step: one.ask(asked, server.told))
        assert f"{server.nodes[3].own.did} may not train, or no longer" in said


# A sum that does not fit.


def probed(server: SignedServer, round: int) -> list[Callable[[], object]]:
    """The sum of a round with one coordinate of its masked part changed, and as it is."""
    bodies = server.bodies(round)
    payload, masked = server.payload(bodies, round), server.total(bodies).masked()
    words = np.frombuffer(masked[32:], "<u4").copy()
    words[0] += np.uint32(server.scheme().parameters.scale // 2)
    changed = masked[:32] + words.tobytes()

    def ask(sent: bytes) -> Callable[[], object]:
        if isinstance(server, SignedCommittee):
            return lambda: server.combined(bodies, round, sent)
        return lambda: server.open(payload, round, masked=sent)

    return [ask(changed), ask(masked)]


@pytest.mark.parametrize("trust", ["key_holder", "shared", "committee"])
def test_a_sum_that_did_not_fit_is_the_last_of_its_round(trust: str) -> None:
    """Or each answer would tell of the noise in the sum, and 2048 of them give the summed key."""
    server = run("hybrid", trust, "clients")
    changed, honest = probed(server, 1)
    assert SAID in refusal(changed)
    for ask in (changed, honest, honest):
        assert SAID in refusal(ask)
    _, honest = probed(server, 2)
    assert honest() is not None


# Who counts no longer.


def learns(node: SignedNode, server: SignedServer, did: str) -> None:
    """A node hears of a revocation otherwise than from the server, who tells nobody anything."""
    server.told = {}
    node.own.registry.update(server.federation.revoking(did), node.own.now())


@pytest.mark.parametrize(("scheme", "trust"), HOLDERS)
def test_no_update_under_the_key_of_a_revoked_holder(scheme: str, trust: str) -> None:
    server = run(scheme, trust)
    client, holder = server.nodes[1], server.holder.own.did
    server.train(client)
    learns(client, server, holder)
    for kind in ("train", "evaluate"):
        step = server.step(kind, 2)
        said = refusal(lambda asked=step: client.ask(asked, server.model, asked.step))
        assert f"{holder} was revoked (compromised)" in said


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_holder_that_rotates_its_keys_counts_still(scheme: str) -> None:
    server = run(scheme, "key_holder")
    client, own = server.nodes[1], server.holder.own
    server.train(client)
    client.own.registry.admit((*own.chain, rotate(own.identity).description))
    assert server.train(client, 2)


def test_no_update_for_a_committee_with_a_revoked_member() -> None:
    server = run("hybrid", "committee")
    client, member = server.nodes[4], server.nodes[0].own.did
    server.train(client)
    learns(client, server, member)
    said = refusal(lambda: server.train(client, 2))
    assert f"{member} was revoked (compromised)" in said


@pytest.mark.parametrize("permission", ["hold_keys", "open"])
def test_no_update_under_the_key_of_who_may_not_open_any_more(permission: str) -> None:
    server = run("ckks", "key_holder")
    client = server.nodes[1]
    server.train(client)
    client.own.registry.enrol(granting(server, **{permission: ()}), client.own.now())
    said = refusal(lambda: server.train(client, 2))
    assert f"node-0 ({server.holder.own.did}) has no permission {permission} here" in said


@pytest.mark.parametrize(("scheme", "trust"), HOLDERS)
def test_no_opener_counts_a_revoked_contributor(scheme: str, trust: str) -> None:
    server = run(scheme, trust)
    bodies, gone = server.bodies(who=(1, 2, 3)), server.nodes[3].own.did
    learns(server.holder, server, gone)
    says = STRANGER if scheme == "hybrid" else f"{gone} was revoked (compromised)"
    assert says in refusal(lambda: server.sum_of(bodies))


def test_no_committee_counts_a_revoked_contributor() -> None:
    server = run("hybrid", "committee")
    assert isinstance(server, SignedCommittee)
    bodies = server.bodies(who=(0, 1, 4))
    statement = server.total(bodies).statement(server.place())
    told = server.told
    for node in server.members:
        server.told = told
        assert server.say(node, "agree", statement)
        learns(node, server, server.nodes[4].own.did)
        said = refusal(lambda one=node: server.say(one, "agree", statement))
        assert STRANGER in said


def test_nobody_masks_with_a_revoked_client() -> None:
    server = run("masking", "none")
    client, gone = server.nodes[0], server.nodes[3].own.did
    client.ask(server.step("advertise", 1, label="train"), server.told)
    learns(client, server, gone)
    step = server.step("advertise", 2, label="train")
    assert f"{gone} may not train, or no longer" in refusal(lambda: client.ask(step, {}))


def test_a_server_that_may_serve_no_longer() -> None:
    """What it was allowed when it introduced itself is looked up again with each message."""
    server = run("ckks", "key_holder")
    client = server.nodes[1]
    server.train(client)
    client.own.registry.enrol(granting(server, serve=()), client.own.now())
    with pytest.raises(CryptoError, match="has no permission serve here"):
        server.train(client, 2)
