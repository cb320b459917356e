"""One federation from start to end, on either simulation engine."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from flwr.app import ArrayRecord, ConfigRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp

from qfl.clients import make_client_app
from qfl.clients.accounts import Accounts
from qfl.clients.protect import ProtectMod
from qfl.clients.sign import SignMod
from qfl.clients.torch_app import CONFIG_KEY, MOMENTS_KEY, dataset_digest
from qfl.conf.checks import to_dict
from qfl.crypto import Arrays
from qfl.federation.experiment import Experiment
from qfl.federation.parts import make_strategy
from qfl.federation.simulated_identities import SimulatedIdentities
from qfl.identity.countersigning import Head
from qfl.records import arrays_of, record_of
from qfl.strategies import Event, ServerState, SignedGrid


@dataclass
class Watchers:
    """Who is told what, while a federation runs.

    Attributes:
        event: Called with every event.
        checkpoint: Called with the state after every round.
        head: Gives the head of the run's audit trail, for clients to countersign.
    """

    event: Callable[[Event], None]
    checkpoint: Callable[[ServerState], None] | None = None
    head: Callable[[], Head | None] = lambda: None


def run_federation(
    experiment: Experiment,
    watchers: Watchers,
    resume: ServerState | None = None,
    ledger: Path | None = None,
) -> Arrays:
    """Train; returns the final global model, or nothing where only clients learn it.

    Args:
        experiment: What to train, on what.
        watchers: Who is told what happens.
        resume: State of an earlier run, to go on with.
        ledger: Where all clients enter what they spend of their privacy. Unset, where it is
            forgotten, as befits a baseline.

    Raises:
        FederationError: A round could not be completed.
        PrivacyError: What is promised cannot be kept.
    """
    with tempfile.TemporaryDirectory(prefix="qfl-run-") as forgotten:
        return _run(experiment, watchers, resume, ledger, Path(forgotten))


def _run(
    experiment: Experiment,
    watchers: Watchers,
    resume: ServerState | None,
    ledger: Path | None,
    forgotten: Path,
) -> Arrays:
    config = experiment.config
    ledger = ledger or forgotten / "ledger.sqlite"
    identities = SimulatedIdentities.of(config) if config.identity.name != "none" else None
    strategy = make_strategy(config)
    if resume is not None and resume.clipping_norm:
        strategy.privacy = replace(strategy.privacy, clipping_norm=resume.clipping_norm)
    strategy.observer = watchers.event
    strategy.checkpoint = watchers.checkpoint
    final: list[Arrays] = []
    server_app = ServerApp()

    @server_app.main()
    def _main(grid: Grid, context: Context) -> None:
        wire = {**to_dict(config), "resume": None}
        train_config = ConfigRecord({CONFIG_KEY: json.dumps(wire)})
        initial = record_of(experiment.initial)
        if identities is not None:
            # Actors of Ray take their time to start; nobody is lost in a simulation.
            patience = config.strategy.round_timeout
            grid = SignedGrid(grid, identities.server, patience=patience, head=watchers.head)
        federated = config.preprocess.fit == "federated"
        sums = strategy.prepare(
            grid,
            initial,
            config.strategy.round_timeout,
            config=train_config,
            numbers=experiment.moments_length() if federated else 0,
            rounds=config.rounds,
        )
        if federated:
            summed = sums.numbers(
                "query.moments", "moments", experiment.moments_length(), {"config": train_config}
            )
            experiment.use_moments(summed)
            train_config[MOMENTS_KEY] = summed.tolist()
        result = strategy.start(
            grid,
            initial,
            num_rounds=config.rounds,
            timeout=config.strategy.round_timeout,
            train_config=train_config,
            evaluate_config=train_config,
            evaluate_fn=None if strategy.blind else lambda _, arrays: _held_out(experiment, arrays),
            resume=resume,
        )
        final.append(arrays_of(result.arrays))

    has_key_holder = config.strategy.trust == "key_holder"
    nodes = config.clients + has_key_holder
    clients = config.clients

    def role(context: Context) -> str:
        """The node after the last client holds no data but the key."""
        return "client" if int(context.node_config["partition-id"]) < clients else "key-holder"

    made, simulation = config.strategy, config.simulation
    accounts = Accounts(str(ledger), dataset=dataset_digest)
    source = None
    if identities is not None:
        source = identities.source(forgotten if simulation.backend == "ray" else None)
    protect = ProtectMod(
        role=role,
        dropout=made.dropout,
        corrupted=made.corrupted,
        accounts=accounts,
        credentials=source,
    )
    client_app = make_client_app([SignMod(source), protect] if source else [protect], accounts)
    if simulation.backend == "ray":
        from qfl.federation.ray_engine import run_ray

        run_ray(
            server_app,
            client_app,
            nodes,
            workers=simulation.workers,
            address=simulation.ray_address,
        )
    else:
        from qfl.federation.local_grid import run_local

        run_local(server_app, client_app, nodes, workers=simulation.workers)
    return final[0]


def _held_out(experiment: Experiment, arrays: ArrayRecord) -> MetricRecord:
    metrics, _ = experiment.evaluate(arrays_of(arrays), experiment.dataset.test)
    return MetricRecord(dict(metrics))
