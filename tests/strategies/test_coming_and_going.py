"""Nodes with identities that leave, come back, rotate their keys, lose their state, or may do less.

Whatever one of them does, the others' run goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from flwr.app import Message, RecordDict
from signed_toy import identities_for, mods_for

from qfl._flower_compat import ErrorCode
from qfl.conf.checks import from_dict
from qfl.errors import ConfigError
from qfl.federation.local_grid import LocalGrid
from qfl.federation.simulated_identities import SimulatedIdentities
from qfl.identity.credentials import Credentials
from qfl.identity.floor import Floor
from qfl.identity.policy import Policy, sign_policy
from qfl.identity.rotation import rotate
from qfl.records import arrays_of, record_of
from qfl.strategies import (
    Aggregation,
    ClientReplied,
    Event,
    RoundFinished,
    SecureStrategy,
    SelectBySize,
    SetupFinished,
    SignedGrid,
)
from qfl.strategies.signed_grid import DECLINED

SIZES = (10, 30, 40, 20)
CLIENTS = len(SIZES)
Make = Callable[..., Any]


def aggregation(scheme: str = "ckks", **options: Any) -> Aggregation:
    return Aggregation(scheme, grid_bits=14, bound=1.0, min_clients=3, **options)


class Leaving(LocalGrid):
    """A grid from which nodes are away at times.

    Attributes:
        away: Which.
    """

    away: set[int] = set()  # noqa: RUF012

    def get_node_ids(self) -> list[int]:
        return [node for node in super().get_node_ids() if node not in self.away]

    def forget(self, node: int) -> None:
        """Have a node start again without what it kept."""
        self._nodes[node].state = RecordDict()


@dataclass
class Ran:
    """What a run left behind."""

    result: Any
    events: list[Event]
    grid: SignedGrid

    @property
    def clients(self) -> list[int]:
        """How many were in each round's sum."""
        return [event.clients for event in self.events if isinstance(event, RoundFinished)][1:]

    @property
    def failed(self) -> dict[tuple[int, int], str]:
        """What went wrong, by round and node."""
        replied = [event for event in self.events if isinstance(event, ClientReplied)]
        return {(event.round, event.node): event.error for event in replied if event.error}

    @property
    def opened_by(self) -> str:
        """Who opens sums."""
        return next(event.opened_by for event in self.events if isinstance(event, SetupFinished))


def connected(
    make_toy: Make, made: Aggregation, identities: SimulatedIdentities, *mods: Any
) -> Leaving:
    """Four clients on a grid, and whoever else has an identity; mods stand before all others."""
    toy = make_toy(SIZES)
    rest = mods_for(identities, CLIENTS, dropout=made.dropout, corrupted=made.corrupted)
    toy.mods = [*mods, *rest]
    return Leaving(toy.app(), len(identities.nodes), workers=2)


def signed(local: LocalGrid, identities: SimulatedIdentities) -> SignedGrid:
    return SignedGrid(local, identities.server, patience=20)


def run(
    make_toy: Make,
    made: Aggregation,
    rounds: int = 1,
    *,
    identities: SimulatedIdentities | None = None,
    after: Callable[[int, Leaving], None] = lambda round, grid: None,
    **options: Any,
) -> Ran:
    """A run in which something happens after rounds."""
    identities = identities or identities_for(made, CLIENTS)
    events: list[Event] = []

    def observe(event: Event) -> None:
        events.append(event)
        if isinstance(event, RoundFinished):
            after(event.round, local)

    strategy = SecureStrategy(made, observer=observe, **options)
    with connected(make_toy, made, identities) as local:
        grid, start = signed(local, identities), record_of(make_toy(SIZES).initial)
        result = strategy.start(grid, start, num_rounds=rounds)
    return Ran(result, events, grid)


def rotated(own: Credentials) -> Credentials:
    fresh = rotate(own.identity)
    chain = (*own.chain, fresh.description)
    own.registry.admit(chain)
    return replace(own, identity=fresh, chain=chain)


def granting(identities: SimulatedIdentities, *without: str, **permissions: Any) -> Policy:
    """The operator's next policy: without members, or with other permissions."""
    issued = identities.issued
    members = [one for one in issued.policy.members if one.did not in without]
    granted = {**issued.policy.permissions, **permissions}
    return sign_policy(issued.operator, "simulation", members, granted, before=issued.policy)


# Other keys.


@pytest.mark.parametrize("node", [1, 4])
@pytest.mark.parametrize(
    "made",
    [
        aggregation("ckks"),
        aggregation("hybrid"),
        aggregation("hybrid", trust="committee"),
        aggregation("masking", dropout=0.26),
    ],
    ids=["ckks", "hybrid", "committee", "masking"],
)
def test_a_client_that_rotates_its_keys(make_toy: Make, made: Aggregation, node: int) -> None:
    """One message does not reach it; from then on it counts under its new keys."""
    identities = identities_for(made, CLIENTS)
    first = identities.nodes[node - 1].did

    def after(round: int, local: Leaving) -> None:
        if round in (1, 3):
            identities.nodes[node - 1] = rotated(identities.nodes[node - 1])

    ran = run(make_toy, made, 5, identities=identities, after=after)
    assert ran.clients == [4, 3, 4, 3, 4]
    assert ran.grid.first_of(node) == first
    assert ran.grid.did_of(node) == identities.nodes[node - 1].did


@pytest.mark.parametrize("scheme", ["ckks", "hybrid"])
def test_a_client_that_rotates_its_keys_while_it_is_away(make_toy: Make, scheme: str) -> None:
    made = aggregation(scheme)
    identities = identities_for(made, CLIENTS)

    def after(round: int, local: Leaving) -> None:
        local.away = {4} if round == 1 else set()
        if round == 1:
            identities.nodes[3] = rotated(identities.nodes[3])

    ran = run(make_toy, made, 4, identities=identities, after=after)
    assert ran.clients == [4, 3, 3, 4]
    assert ran.failed.keys() == {(3, 4)}


@pytest.mark.parametrize("scheme", ["ckks", "hybrid"])
def test_a_client_that_comes_back_as_another_member(make_toy: Make, scheme: str) -> None:
    """Two identities of one owner: the second one does not take the seat of the first."""
    made = aggregation(scheme)
    identities = identities_for(made, CLIENTS + 1)
    spare = identities.nodes.pop(CLIENTS)

    def after(round: int, local: Leaving) -> None:
        if round == 1:
            identities.nodes[3] = spare

    was = identities.nodes[3].did
    ran = run(make_toy, made, 4, identities=identities, after=after)
    assert ran.clients == [4, 3, 3, 3]
    assert ran.failed.keys() == {(2, 4), (3, 4), (4, 4)}
    assert ran.grid.first_of(4) == was
    assert f"node 4 was {was} and says now that it is {spare.did}" in ran.grid.refused[4]


# Coming back.


def test_a_node_that_comes_and_goes_as_often_as_it_likes(make_toy: Make) -> None:
    made = aggregation()
    identities = identities_for(made, CLIENTS)
    with connected(make_toy, made, identities) as local:
        grid = signed(local, identities)
        for _ in range(6):
            assert grid.get_node_ids() == [1, 2, 3, 4, 5]
            local.away = {2}
            assert grid.get_node_ids() == [1, 3, 4, 5]
            local.away = set()


def test_a_node_that_lost_its_state_is_introduced_again(make_toy: Make) -> None:
    """It answers by an error that nobody signed, is met anew, and is told everything again."""

    def after(round: int, local: Leaving) -> None:
        if round in (1, 3):
            local.forget(4)

    ran = run(make_toy, aggregation(), 5, after=after)
    assert ran.clients == [4, 3, 4, 3, 4]
    assert "a server that did not introduce itself" in ran.failed[2, 4]


def test_what_went_wrong_before_a_node_was_met_counts_no_longer(make_toy: Make) -> None:
    """A node is asked a few times who it is; after it has said so, as often again."""
    failures = iter(range(2))

    def fail_at_first(message: Message, context: Any, call_next: Any) -> Message:
        if context.node_id == 4 and next(failures, None) is not None:
            raise ConnectionError("the network is down")
        answer: Message = call_next(message, context)
        return answer

    made = aggregation()
    identities = identities_for(made, CLIENTS)
    with connected(make_toy, made, identities, fail_at_first) as local:
        grid = signed(local, identities)
        assert [4 in grid.get_node_ids() for _ in range(3)] == [False, False, True]
        codes = []
        for _ in range(4):
            (reply,) = grid.send_and_receive([Message(RecordDict(), 4, "train")], timeout=5)
            codes.append(reply.error.code)
            if codes[-1] == DECLINED:  # it knows the server, and refuses what is not protected
                local.forget(4)
            else:
                assert 4 in grid.get_node_ids()
    assert codes == [DECLINED, ErrorCode.CLIENT_APP_RAISED_EXCEPTION] * 2


def test_whom_a_policy_leaves_out_keeps_nobody_else_out(make_toy: Make) -> None:
    """It stays connected, is asked nothing any more, and others come and go as before."""
    made = aggregation()
    identities = identities_for(made, CLIENTS)
    with connected(make_toy, made, identities) as local:
        local.away = {3}
        grid = signed(local, identities)
        assert grid.get_node_ids() == [1, 2, 4, 5]
        gone = identities.nodes[0].did
        identities.server.registry.enrol(granting(identities, gone), time.time())
        local.away = set()
        assert 3 in grid.get_node_ids()
        assert 3 not in grid.refused
        (reply,) = grid.send_and_receive([Message(RecordDict(), 1, "train")], timeout=5)
        assert gone in str(reply.error.reason)


# Who may do less.


@pytest.mark.parametrize(
    ("trust", "opened_by"),
    [("committee", "2 of committee nodes 2, 3, 4"), ("shared", "client (node 2)")],
)
def test_sums_are_opened_by_who_may(make_toy: Make, trust: str, opened_by: str) -> None:
    """The first client may not, and the server appoints nobody whom clients would refuse."""
    made = aggregation("hybrid", trust=trust)
    identities = identities_for(made, CLIENTS)
    names = tuple(f"node-{number}" for number in (1, 2, 3))
    fresh = granting(identities, hold_keys=names, open=names)
    for own in (identities.server, *identities.nodes):
        own.registry.enrol(fresh, time.time())
    ran = run(make_toy, made, identities=identities)
    assert ran.opened_by == opened_by
    assert ran.clients == [4]


def test_clients_mask_among_themselves_beside_a_key_holder(make_toy: Make) -> None:
    """A node that holds keys for other runs is connected; nobody masks with it."""
    identities = identities_for(aggregation("ckks"), CLIENTS)
    nodes = [replace(one, floor=Floor()) for one in identities.nodes]
    assert len(nodes) == CLIENTS + 1
    ran = run(make_toy, aggregation("masking"), identities=replace(identities, nodes=nodes))
    toy = make_toy(SIZES)
    initial = toy.initial["weight"]
    assert ran.clients == [4]
    final = arrays_of(ran.result.arrays)["weight"]
    assert final == pytest.approx(initial + toy.mean(initial, [1] * CLIENTS), abs=2.0**-13)


# What nobody with an identity tells.


def test_selection_by_size_is_refused(make_toy: Make) -> None:
    """Its question is answered in the clear, or not at all."""
    with pytest.raises(ConfigError, match="selection by size asks every client for its number of"):
        run(make_toy, aggregation(), selection=SelectBySize(3))
    asked = {"selection": {"name": "by_size", "count": 3}}
    with pytest.raises(ConfigError, match="selection=by_size is not possible with identity="):
        from_dict({"strategy": asked, "identity": {"name": "post_quantum"}})
