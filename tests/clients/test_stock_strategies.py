"""Flower's own strategies over our client, without protection."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord
from flwr.serverapp.strategy import FedAdam, FedAvg, FedMedian, Krum, Strategy

from qfl.clients import make_client_app
from qfl.federation.experiment import Experiment
from qfl.federation.local_grid import LocalGrid
from qfl.records import record_of
from qfl.strategies import Aggregation, SecureStrategy


@pytest.mark.parametrize(
    "strategy",
    [
        FedAvg(),
        FedAvg(fraction_train=0.67, fraction_evaluate=0.0),
        FedAdam(eta=0.01),
        Krum(num_malicious_nodes=0),
        FedMedian(),
    ],
    ids=["FedAvg", "FedAvg-some", "FedAdam", "Krum", "FedMedian"],
)
def test_a_stock_strategy_trains_our_client(
    experiment: Callable[..., Any], wire: Callable[..., Any], strategy: Strategy
) -> None:
    initial = Experiment.prepare(experiment()).initial
    config = {"qfl-config": json.dumps(wire())}
    with LocalGrid(make_client_app(), 3) as grid:
        result = strategy.start(
            grid,
            record_of(initial),
            num_rounds=2,
            train_config=ConfigRecord(dict(config)),
            evaluate_config=ConfigRecord(dict(config)),
        )
    for round in (1, 2):
        assert math.isfinite(float(result.train_metrics_clientapp[round]["train_loss"]))
    if not isinstance(strategy, FedAvg) or strategy.fraction_evaluate:
        for round in (1, 2):
            evaluated = result.evaluate_metrics_clientapp[round]
            assert math.isfinite(float(evaluated["eval_loss"]))
            assert 0 <= float(evaluated["eval_accuracy"]) <= 1
    for name, before in initial.items():
        after = result.arrays[name].numpy()
        assert after.shape == before.shape
        assert np.isfinite(after).all() and (after != before).any()


def test_stock_averaging_agrees_with_our_sum_in_the_clear(
    experiment: Callable[..., Any], wire: Callable[..., Any]
) -> None:
    """One round of Flower's float32 mean by examples, and one of ours on the grid."""
    initial = record_of(Experiment.prepare(experiment()).initial)
    config = ConfigRecord({"qfl-config": json.dumps(wire())})
    found = []
    ours = SecureStrategy(Aggregation("plain", "examples"), metrics=("train_loss",))
    for strategy in (FedAvg(fraction_evaluate=0.0), ours):
        with LocalGrid(make_client_app(), 3) as grid:
            result = strategy.start(grid, initial, num_rounds=1, train_config=config)
        arrays = np.concatenate([a.numpy().ravel() for a in result.arrays.values()])
        found.append((arrays, float(result.train_metrics_clientapp[1]["train_loss"])))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=0, atol=4e-6)
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-5)
