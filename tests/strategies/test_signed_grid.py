"""A grid on which nodes prove who they are: under Flower's own strategies, and when they cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from signed_toy import identities_for, mods_for, run_signed

from qfl.clients import SignMod
from qfl.enveloped import POLICY, REVOCATIONS
from qfl.errors import FederationError
from qfl.federation.local_grid import LocalGrid
from qfl.identity import Credentials, Floor, Identity, Registry, Revoked, revoke, sign_policy
from qfl.identity.countersigning import Head, check
from qfl.records import arrays_of, record_of
from qfl.strategies import Aggregation, Countersigned, Joined, NotJoined, SecureStrategy, SignedGrid

PLAIN = Aggregation("plain", min_clients=2)


def test_flowers_own_strategy_trains_signed_clients(make_toy: Callable[..., Any]) -> None:
    toy = make_toy((10, 30, 40))
    identities = identities_for(PLAIN, 3)
    toy.mods = [SignMod(identities.source(None))]
    with LocalGrid(toy.app(), 3) as local:
        grid = SignedGrid(local, identities.server)
        strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=3, min_available_nodes=3)
        result = strategy.start(grid, record_of(toy.initial), num_rounds=1)
    expected = toy.initial["weight"] + toy.mean(toy.initial["weight"], toy.sizes)
    np.testing.assert_allclose(arrays_of(result.arrays)["weight"], expected, rtol=1e-12)


def test_a_node_without_the_mod_is_not_there(make_toy: Callable[..., Any]) -> None:
    toy = make_toy((10, 30, 40))
    identities = identities_for(PLAIN, 3)
    sign = mods_for(identities, 3)[0]

    def some(message: Message, context: Any, call_next: Any) -> Message:
        return (sign if context.node_id != 2 else lambda m, c, n: n(m, c))(
            message, context, call_next
        )

    toy.mods = [some]
    with LocalGrid(toy.app(), 3) as local:
        grid = SignedGrid(local, identities.server)
        assert grid.get_node_ids() == [1, 3]
        assert "answered by an error" in grid.refused[2]
        (reply,) = grid.send_and_receive([Message(RecordDict(), 2, "train")])
        assert "has not proved who it is" in reply.error.reason


def test_when_nobody_is_who_it_should_be_the_run_ends_at_once(
    make_toy: Callable[..., Any],
) -> None:
    toy = make_toy((10, 30, 40))
    identities = identities_for(PLAIN, 3)
    strangers = replace(identities, nodes=identities_for(PLAIN, 3).nodes)
    with pytest.raises(
        FederationError, match=r"0 nodes connected .* none of the identities|pinned"
    ):
        run_signed(toy, SecureStrategy(PLAIN), identities=strangers)


def test_a_client_joins_no_server_that_it_was_not_enrolled_with(
    make_toy: Callable[..., Any],
) -> None:
    toy = make_toy((10, 30, 40))
    identities = identities_for(PLAIN, 3)
    other = Identity.create(["server"])
    registry = Registry({other.did: ["server"]})
    registry.admit([other.description])
    impostor = Credentials.of(other, registry, Floor())
    toy.mods = mods_for(identities, 3)
    with LocalGrid(toy.app(), 3) as local:
        grid = SignedGrid(local, impostor)
        assert grid.get_node_ids() == []
        assert all(f"{other.did} is none of the" in why for why in grid.refused.values())


def test_a_node_that_is_revoked_in_a_run_is_left_out_and_named(
    make_toy: Callable[..., Any],
) -> None:
    toy = make_toy((10, 30, 40, 20))
    made = Aggregation("ckks", min_clients=2)
    identities = identities_for(made, 4)
    gone = identities.nodes[1].did
    before = identities.issued.revocations
    problems = []

    def watch(event: Any) -> None:
        if getattr(event, "error", None):
            problems.append((event.round, event.node, event.error))
        if type(event).__name__ == "RoundFinished" and event.round == 1:
            entry = Revoked(gone, before.issued, "lost")
            fresh = revoke(identities.issued.operator, before, [entry])
            identities.server.registry.update(fresh, identities.server.now())

    ran = run_signed(toy, SecureStrategy(made), 2, identities=identities, observer=watch)
    ((round, node, why),) = problems
    assert (round, node) == (2, 2)
    assert f"{gone} was revoked (lost)" in why
    rounds = [event for event in ran.events if type(event).__name__ == "RoundFinished"]
    assert [(event.clients, event.failures) for event in rounds] == [(0, 0), (4, 0), (3, 1)]


class Holding:
    """A grid that takes records out of what it carries to node 2."""

    def __init__(self, grid: Grid, names: tuple[str, ...]) -> None:
        self.grid, self.names = grid, names

    def __getattr__(self, name: str) -> Any:
        return getattr(self.grid, name)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        messages = list(messages)
        for message in messages:
            for name in self.names if message.metadata.dst_node_id == 2 else ():
                message.content.pop(name, None)
        return self.grid.push_messages(messages)


@pytest.mark.parametrize("name", [POLICY, REVOCATIONS])
def test_nobody_on_the_way_holds_back_the_operators_newer_words(
    make_toy: Callable[..., Any], name: str
) -> None:
    toy = make_toy((10, 30, 40))
    identities = identities_for(PLAIN, 3)
    issued, server = identities.issued, identities.server
    server.registry.update(revoke(issued.operator, issued.revocations), server.now())
    policy = issued.policy
    fresh = sign_policy(
        issued.operator, policy.federation, policy.members, policy.permissions, before=policy
    )
    server.registry.enrol(fresh, server.now())
    toy.mods = mods_for(identities, 3)
    with LocalGrid(toy.app(), 3) as local:
        grid = SignedGrid(Holding(local, (name,)), server)  # type: ignore[arg-type]
        assert grid.get_node_ids() == [1, 3]
        assert f"{name} 2 and this node 1: the newer one was taken out" in grid.refused[2]


def test_the_same_identity_twice_is_one_node(make_toy: Callable[..., Any]) -> None:
    toy = make_toy((10, 30, 40))
    identities = identities_for(PLAIN, 3)
    twice = replace(identities, nodes=[*identities.nodes[:2], identities.nodes[0]])
    ran = run_signed(toy, SecureStrategy(PLAIN), identities=twice)
    joined = [event.node for event in ran.events if isinstance(event, Joined)]
    (left,) = [event for event in ran.events if isinstance(event, NotJoined)]
    assert len(joined) == 2 and left.node in (1, 3)
    assert "one identity is used twice" in left.reason


def test_heads_are_countersigned_by_everybody_who_was_shown_them(
    make_toy: Callable[..., Any],
) -> None:
    toy = make_toy((10, 30, 40))
    made = Aggregation("packed", grid_bits=14, min_clients=2)
    heads = iter([Head("run", n, f"{n:064x}") for n in range(1, 1000)])
    shown: list[Head] = []

    def head() -> Head | None:
        if not shown:
            shown.append(next(heads))
        return shown[0]

    ran = run_signed(toy, SecureStrategy(made), 1, head=head)
    (event,) = [event for event in ran.events if isinstance(event, Countersigned)]
    assert event.head == shown[0]
    dids = {ran.grid.did_of(node) for node in (1, 2, 3, 4)}
    assert {one.name for one in event.signatures} == dids
    for one in event.signatures:
        check(event.head, one)


def test_an_app_that_fails_is_told_of_by_its_own_signature(make_toy: Callable[..., Any]) -> None:
    def before(message: Message, context: Any) -> None:
        if context.node_id == 2:
            raise RuntimeError("no more disk")

    toy = make_toy((10, 30, 40), before=before)
    strategy = SecureStrategy(PLAIN)
    ran = run_signed(toy, strategy)
    problems = [event.error for event in ran.events if getattr(event, "error", None)]
    assert problems == ["RuntimeError: no more disk"]
    assert strategy.reputation is not None
    # It said so itself, which is no fault.
    assert strategy.reputation.score(ran.grid.did_of(2)) == 0


def test_a_head_that_goes_on_within_a_round_loses_no_signature(
    make_toy: Callable[..., Any],
) -> None:
    """Something goes on record between the clients' training and the opening."""
    toy = make_toy((10, 30, 40))
    made = Aggregation("packed", grid_bits=14, min_clients=2)
    count = [0]

    def head() -> Head | None:
        count[0] += 1
        n = 1 if count[0] <= 3 else 2
        return Head("run", n, f"{n:064x}")

    ran = run_signed(toy, SecureStrategy(made), 1, head=head)
    told = [event for event in ran.events if isinstance(event, Countersigned)]
    seen = {(event.head.n, one.name) for event in told for one in event.signatures}
    assert {name for _, name in seen} == {ran.grid.did_of(node) for node in (1, 2, 3, 4)}
    assert {n for n, _ in seen} == {1, 2}
