"""The toy federation with identities: everybody signs, seals and verifies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid

from qfl.clients import ProtectMod, SignMod
from qfl.conf.schema import ExperimentConfig, IdentityConfig, StrategyConfig
from qfl.federation.local_grid import LocalGrid
from qfl.federation.simulated_identities import SimulatedIdentities
from qfl.identity.countersigning import Head
from qfl.records import record_of
from qfl.strategies import Aggregation, Event, SecureStrategy, SignedGrid


def identities_for(aggregation: Aggregation, clients: int) -> SimulatedIdentities:
    """Identities and floors for clients under an aggregation."""
    asked = StrategyConfig(
        scheme=aggregation.scheme,
        trust=aggregation.trust,
        release=aggregation.release,
        min_clients=aggregation.min_clients,
    )
    asked = replace(asked, selective=replace(asked.selective, by=aggregation.selective.by))
    identity = IdentityConfig(name="post_quantum", algorithm="ML-DSA-44")
    config = ExperimentConfig(clients=clients, strategy=asked, identity=identity)
    return SimulatedIdentities.of(config)


@dataclass
class SignedRun:
    """What a run left behind."""

    result: Any
    events: list[Event]
    grid: SignedGrid


def mods_for(identities: SimulatedIdentities, clients: int, **options: Any) -> list[Any]:
    """Both mods; nodes after the last client hold keys."""

    def role(context: Context) -> str:
        part = int(context.node_config["partition-id"])
        return "client" if part < clients else "key-holder"

    source = identities.source(None)
    return [SignMod(source), ProtectMod(role=role, credentials=source, **options)]


def run_signed(
    toy: Any,
    strategy: SecureStrategy,
    rounds: int = 1,
    *,
    identities: SimulatedIdentities | None = None,
    around: Callable[[Grid], Grid] = lambda grid: grid,
    head: Callable[[], Head | None] = lambda: None,
    patience: float = 20.0,
    workers: int = 2,
    observer: Callable[[Event], None] | None = None,
    **options: Any,
) -> SignedRun:
    """Run a toy federation with identities.

    Args:
        toy: From ``make_toy``; its mods are replaced.
        strategy: The strategy.
        rounds: Rounds.
        identities: Everybody's; unset, new ones that fit.
        around: Put between the signed grid and the in-process one, such as an attacker.
        head: Head of an audit trail.
        patience: Seconds that nodes have to introduce themselves.
        workers: Clients that compute at the same time.
        observer: Called with every event.
        options: For ``strategy.start``.
    """
    identities = identities or identities_for(strategy.aggregation, toy.nodes)
    nodes = len(identities.nodes)
    toy.mods = mods_for(identities, toy.nodes)
    events: list[Event] = []

    def tell(event: Event) -> None:
        events.append(event)
        if observer:
            observer(event)

    strategy.observer = tell
    with LocalGrid(toy.app(), nodes, workers=workers) as local:
        grid = SignedGrid(around(local), identities.server, patience=patience, head=head)
        result = strategy.start(grid, record_of(toy.initial), num_rounds=rounds, **options)
    return SignedRun(result, events, grid)
