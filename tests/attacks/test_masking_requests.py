"""What a server asks for in sums under masks, and must not get."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hostile import RUN
from hostile_masking import MaskedSum

from qfl.crypto import MaskingServer, MemberKeys, Roster
from qfl.crypto.masking_statements import pack_members
from qfl.crypto.masking_wire import frame, pack_signatures
from qfl.errors import CryptoError
from qfl.records import ROSTER, bytes_record


@pytest.fixture
def server() -> MaskedSum:
    return MaskedSum.of("masking", "none")


def refused(ask: Callable[[], Any], *words: str) -> None:
    """Make sure that a request is refused, with these words."""
    with pytest.raises(CryptoError) as refusal:
        ask()
    for word in words:
        assert word in str(refusal.value)


def survivors(server: MaskedSum, who: list[int], round: int = 1) -> bytes:
    """A set of survivors of the server's own making, by their place in the order of names."""
    size = len(server.nodes)
    members = np.isin(np.arange(size), who)
    return frame("survivors", pack_members(members))


def place_of(server: MaskedSum, node: Any) -> int:
    """Where a node stands in the order of names."""
    return sorted(other.name for other in server.nodes).index(node.name)


def test_an_honest_server_gets_the_sum(server: MaskedSum) -> None:
    for round in (1, 2):
        server.until("reveal", round)
        assert server.opened(round).tolist() == server.exact(range(5))


def test_a_second_masked_vector(server: MaskedSum) -> None:
    server.until("train")
    node = server.nodes[1]
    refused(
        lambda: server.mask(node, server.sum().inbox_for(node.name)),
        f"asked to mask for {server.place()}, but this client has taken 'mask' there",
        "steps are taken once and in order",
    )


def test_a_second_sum_of_the_same_place(server: MaskedSum) -> None:
    """With keys of its own, in between two other sums: the difference of both is an update."""
    server.until("reveal")
    for round in (1, 2):
        server.until("reveal", round + 1)
        refused(
            lambda: server.say(server.nodes[1], "advertise", b""),
            f"asked to take part in {server.place()} a second time",
            "a client masks once for each place",
        )


def test_clients_that_are_told_of_different_weights(server: MaskedSum) -> None:
    """Where all but one weigh nothing, the sum is the update of that one."""
    for round, told in ((2, {"clients": 10**9}), (3, {"examples": 10**9})):
        sum_ = server.sum(round)
        first, *rest = server.nodes
        sum_.take_advertisement(first.name, server.say(first, "advertise", b"", round))
        for node in rest:
            answer = server.say(node, "advertise", b"", round, **told)
            with pytest.raises(CryptoError) as refusal:
                sum_.take_advertisement(node.name, answer)
            words = f"of member {node.name} is not signed by it for {server.place(round)}"
            assert words in str(refusal.value)


def test_a_second_dealing_of_shares(server: MaskedSum) -> None:
    server.take("advertise")
    node, advertisements = server.nodes[1], server.sum().advertisements()
    server.say(node, "deal", advertisements)
    refused(lambda: server.say(node, "deal", advertisements), "asked to share", "taken 'share'")


def test_a_step_too_early(server: MaskedSum) -> None:
    server.take("advertise")
    node = server.nodes[1]
    for kind in ("agree", "reveal"):
        refused(
            lambda kind=kind: server.say(node, kind, survivors(server, [0, 1, 2, 3, 4])),
            f"asked to {kind} for {server.place()}, but this client has taken 'advertise' there",
        )
    refused(lambda: server.mask(node, b"qfm"), "asked to mask")


@pytest.mark.parametrize("kind", ["deal", "agree", "reveal"])
def test_a_place_in_which_the_client_has_no_part(server: MaskedSum, kind: str) -> None:
    server.until("train")
    for changes in ({"round": 2}, {"attempt": 1}, {"label": "evaluate"}):
        refused(
            lambda changes=changes: server.say(server.nodes[1], kind, b"x", **changes),
            f"asked to {kind} for run-1/",
            "in which this client has no part: it made no keys for it",
        )


def test_two_sets_of_survivors(server: MaskedSum) -> None:
    server.until("train")
    node = server.nodes[1]
    others = [i for i in range(5) if i != place_of(server, server.nodes[2])]
    all_of_them = server.sum().survivors()
    signed = server.say(node, "agree", all_of_them)
    refused(
        lambda: server.say(node, "agree", survivors(server, others)),
        f"has agreed on the sum of 5 clients for {server.place()}, and on no other",
    )
    assert server.say(node, "agree", all_of_them) == signed


def test_too_few_survivors(server: MaskedSum) -> None:
    server.until("train")
    node = server.nodes[1]
    three = [place_of(server, node), *[i for i in range(5) if i != place_of(server, node)][:2]]
    refused(
        lambda: server.say(node, "agree", survivors(server, three)),
        "3 of 5 clients sent masked vectors; at least 4 must (min_clients=3, quorum=4)",
    )


def test_survivors_without_the_client_that_is_asked(server: MaskedSum) -> None:
    server.until("train")
    node = server.nodes[1]
    others = [i for i in range(5) if i != place_of(server, node)]
    refused(
        lambda: server.say(node, "agree", survivors(server, others)),
        "the server leaves this client out of those who sent masked vectors",
    )


def test_survivors_that_never_dealt(server: MaskedSum) -> None:
    server.take("advertise")
    dealing = server.nodes[:4]
    server.take("deal", dealing)
    server.take("train", dealing)
    refused(
        lambda: server.say(dealing[1], "agree", survivors(server, [0, 1, 2, 3, 4])),
        "the sum is said to hold clients that did not share secrets",
    )


def test_survivors_that_nobody_signed(server: MaskedSum) -> None:
    """Before a share is given, four of five clients must have signed the same survivors."""
    server.until("agree")
    node = server.nodes[1]
    me = place_of(server, node)
    signed = server.sum()._agreed
    views = [server.sum()._views[j] for j in range(5) if j != me]
    zeros, stranger = bytes(64), MemberKeys()
    forged = stranger.sign(server.sum()._agreement)
    few = dict(list(signed.items())[:3])
    refused(
        lambda: server.say(node, "reveal", pack_signatures(few, views)),
        "3 members signed what was agreed on; at least 4 must",
    )
    for lie in (zeros, forged):
        lying = few | {i: lie for i in signed if i not in few}
        refused(
            lambda lying=lying: server.say(node, "reveal", pack_signatures(lying, views)),
            "the signature of member",
            "does not fit what was agreed on",
        )
    refused(lambda: server.say(node, "reveal", pack_signatures({}, views)), "0 members signed")


def test_survivors_that_others_signed(server: MaskedSum) -> None:
    """One client is told of five survivors, the others of four: no quorum signs both."""
    server.until("train")
    alone, *rest = server.nodes
    others = [place_of(server, node) for node in rest]
    server.say(alone, "agree", server.sum().survivors())
    signatures = {
        place_of(server, node): server.say(node, "agree", survivors(server, others))[4:]
        for node in rest
    }
    me = place_of(server, alone)
    views = [server.sum()._views[j] for j in range(5) if j != me]
    refused(
        lambda: server.say(alone, "reveal", pack_signatures(signatures, views)),
        "does not fit what was agreed on",
    )


def test_both_kinds_of_shares_of_one_client(server: MaskedSum) -> None:
    """Its own mask's and its root's together open its vector."""
    server.until("reveal")
    node, victim = server.nodes[1], server.nodes[2]
    others = [i for i in range(5) if i != place_of(server, victim)]
    words = "but this client has taken 'reveal' there; steps are taken once and in order"
    refused(lambda: server.say(node, "agree", survivors(server, others)), words)
    # Asked again it answers as it did, whatever the question.
    first = server.answer(node, "reveal")
    assert server.say(node, "reveal", b"anything") == first


def test_a_client_that_masked_among_others(server: MaskedSum) -> None:
    """Two clients are told of different sets of those who dealt: one mask would be left."""
    server.take("advertise")
    server.take("deal")
    victim = server.nodes[2]
    for node in server.nodes:
        if node is not victim:
            server.sum().take_masked(node.name, server.answer(node, "train"))
    weaker = MaskingServer(server.roster, server.step("train", 1).place, 7, server.rules)
    for node in server.nodes:
        weaker._advertised[node.name] = server.sum()._advertised[node.name]
    weaker.advertisements()
    four = [node for node in server.nodes if node is not server.nodes[3]]
    for node in four:
        me = place_of(server, node)
        weaker._shared.add(me)
    weaker._packages = server.sum()._packages
    inbox = weaker.inbox_for(victim.name)
    refused(
        lambda: server.sum().take_masked(victim.name, server.mask(victim, inbox)),
        f"member {victim.name} masked among other participants than were announced",
    )


def test_advertisements_of_another_place(server: MaskedSum) -> None:
    server.take("advertise")
    server.take("advertise", round=2)
    refused(
        lambda: server.say(server.nodes[1], "deal", server.sum(1).advertisements(), round=2),
        "do not hold this client's own as it was made",
    )


def test_another_roster_in_the_same_run(server: MaskedSum) -> None:
    server.until("reveal")
    everybody = [server.roster.member(node.name) for node in server.nodes]
    for changed in ([*everybody, MemberKeys().member], everybody[:-1]):
        server.told[ROSTER] = bytes_record(Roster(changed).to_bytes(), "told")
        refused(
            lambda: server.say(server.nodes[0], "advertise", b"", round=2),
            f"another roster in run {RUN}: a run keeps the one that it started with",
        )


def test_how_few_may_do_is_told_once() -> None:
    server = MaskedSum.of("masking", "none", min_clients=5)
    server.until("train")
    node = server.nodes[1]
    four = [place_of(server, n) for n in server.nodes[:4]]
    refused(lambda: server.say(node, "agree", survivors(server, four)), "at least 5 must")
    refused(
        lambda: server.say(node, "agree", survivors(server, four), min_clients=3),
        f"changed the terms of run {RUN}",
    )
