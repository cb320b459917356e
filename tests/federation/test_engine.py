"""One federation: the same result however many workers, and with or without encryption."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from qfl.conf.schema import ExperimentConfig
from qfl.crypto import Arrays
from qfl.errors import FederationError
from qfl.federation.engine import Watchers, run_federation
from qfl.federation.experiment import Experiment
from qfl.strategies import (
    ClientReplied,
    Event,
    RoundFinished,
    ServerState,
    SetupFinished,
    SumOpened,
)

Configure = Callable[..., ExperimentConfig]
ENCRYPTED = {"strategy.scheme": "ckks", "strategy.trust": "key_holder"}


def train(config: ExperimentConfig) -> Arrays:
    return run_federation(Experiment.prepare(config), Watchers(lambda event: None))


def same(a: Arrays, b: Arrays) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_workers_and_encryption_change_no_bit_and_the_seed_does(configure: Configure) -> None:
    reference = train(configure({"simulation.workers": 1}))
    for changes in (
        {"simulation.workers": 1},
        {"simulation.workers": 2},
        {"simulation.workers": 4},
        {**ENCRYPTED, "simulation.workers": 1},
        {**ENCRYPTED, "simulation.workers": 4},
    ):
        assert same(train(configure(changes)), reference), changes
    assert not same(train(configure({"seed": 8})), reference)


def test_a_quantum_model_trains_the_same_in_one_thread_and_in_three(configure: Configure) -> None:
    model = {"name": "qnn", "n_qubits": 2, "n_layers": 1}
    runs = [
        train(configure({"model": model, "rounds": 1, "simulation.workers": workers}))
        for workers in (1, 3)
    ]
    assert same(*runs)
    experiment = Experiment.prepare(configure({"model": model}))
    assert not np.array_equal(runs[0]["circuit.weights"], experiment.initial["circuit.weights"])


def test_watchers_are_told_in_order(configure: Configure) -> None:
    events: list[Event] = []
    states: list[ServerState] = []
    experiment = Experiment.prepare(configure({**ENCRYPTED, "strategy.selection.name": "all"}))
    final = run_federation(experiment, Watchers(events.append, states.append))
    setup = next(event for event in events if not isinstance(event, SumOpened))
    assert isinstance(setup, SetupFinished)
    assert (setup.clients, setup.examples, setup.parameters) == (3, 120, 79)
    assert setup.opened_by == "key holder (node 4)"
    rounds = [event for event in events if isinstance(event, RoundFinished)]
    assert [event.round for event in rounds] == [0, 1, 2]
    assert [event.clients for event in rounds] == [0, 3, 3]
    assert all(event.metrics.keys() >= {"loss", "accuracy"} for event in rounds)
    replies = [event for event in events if isinstance(event, ClientReplied)]
    assert [(event.round, event.replied) for event in replies] == [
        (1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3),
    ]  # fmt: skip
    assert [state.round for state in states] == [0, 1, 2]
    assert same(states[-1].arrays, final)
    assert states[-1].losses == [event.metrics["loss"] for event in rounds[1:]]


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({"name": "all"}, 4),
        ({"name": "fraction", "fraction": 0.6}, 3),
        ({"name": "count", "count": 2}, 2),
        ({"name": "by_size", "count": 2}, 2),
    ],
)
def test_selection_decides_how_many_train(
    configure: Configure, selection: dict[str, Any], expected: int
) -> None:
    events: list[Event] = []
    config = configure({"clients": 4, "strategy.selection": selection})
    run_federation(Experiment.prepare(config), Watchers(events.append))
    rounds = [event for event in events if isinstance(event, RoundFinished) and event.round]
    assert [event.clients for event in rounds] == [expected, expected]
    (setup,) = (event for event in events if isinstance(event, SetupFinished))
    assert any("by size" in note for note in setup.notes) == (selection["name"] == "by_size")


def test_uniform_weighting_differs_from_weighting_by_examples(configure: Configure) -> None:
    skewed = {"partition.name": "quantity", "partition.alpha": 0.3, "rounds": 1}
    by_examples = train(configure(skewed))
    uniform = train(configure({**skewed, "strategy.weighting": "uniform"}))
    assert not same(by_examples, uniform)


@pytest.mark.parametrize("optimizer", ["fedavgm", "fedadam", "fedyogi"])
def test_server_optimizers_are_reached_by_configuration(
    configure: Configure, optimizer: str
) -> None:
    states: list[ServerState] = []
    changes = {"strategy.server_optimizer": {"name": optimizer, "lr": 0.1}}
    experiment = Experiment.prepare(configure(changes))
    final = run_federation(experiment, Watchers(lambda event: None, states.append))
    expected = {"velocity"} if optimizer == "fedavgm" else {"first", "second"}
    assert states[-1].optimizer.keys() == expected
    assert not same(final, train(configure()))


def test_a_server_learning_rate_scales_the_first_step(configure: Configure) -> None:
    whole = train(configure({"rounds": 1}))
    half = train(configure({"rounds": 1, "strategy.server_optimizer.lr": 0.5}))
    initial = Experiment.prepare(configure()).initial
    for name, start in initial.items():
        np.testing.assert_allclose(half[name] - start, (whole[name] - start) / 2, atol=1e-6)


def test_the_proximal_term_keeps_clients_near_the_global_model(configure: Configure) -> None:
    def moved(mu: float) -> float:
        config = configure({"rounds": 1, "client.local_epochs": 4, "client.proximal_mu": mu})
        after, before = train(config), Experiment.prepare(config).initial
        return sum(float(np.sum((after[name] - before[name]) ** 2)) for name in before)

    assert moved(10.0) < moved(1.0) < moved(0.0)


def test_an_update_beyond_the_bound_fails_with_what_to_do(configure: Configure) -> None:
    config = configure({**ENCRYPTED, "strategy.bound": 0.001})
    with pytest.raises(FederationError, match=r"0 usable replies.*raise strategy.bound"):
        train(config)
