"""The strategy under Flower's own round loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord
from flwr.serverapp.strategy import Strategy

from qfl.federation.local_grid import LocalGrid
from qfl.records import record_of
from qfl.strategies import Aggregation, FedAvgM, SecureStrategy


def make(scheme: str) -> SecureStrategy:
    return SecureStrategy(
        Aggregation(scheme, "examples"),
        optimizer=FedAvgM(0.5, 0.5),
        metrics=("loss",),
        evaluate_metrics=("eval_loss",),
    )


def final(result: Any) -> list[float]:
    values: list[float] = result.arrays["weight"].numpy().ravel().tolist()
    return values


@pytest.mark.parametrize("scheme", ["plain", "ckks"])
def test_flowers_loop_gives_what_ours_gives(
    run: Callable[..., Any], make_toy: Callable[..., Any], scheme: str
) -> None:
    seen: list[int] = []

    def held_out(round: int, arrays: ArrayRecord) -> MetricRecord:
        seen.append(round)
        return MetricRecord({"accuracy": 0.5})

    toy = make_toy((10, 30, 40))
    with LocalGrid(toy.app(), 3) as grid:
        theirs = Strategy.start(
            make(scheme), grid, record_of(toy.initial), num_rounds=3, evaluate_fn=held_out
        )
    ours = run(toy, make(scheme), rounds=3, evaluate_fn=held_out).result
    assert final(theirs) == final(ours)
    assert theirs.train_metrics_clientapp == ours.train_metrics_clientapp
    assert theirs.evaluate_metrics_clientapp == ours.evaluate_metrics_clientapp
    assert theirs.evaluate_metrics_serverapp == ours.evaluate_metrics_serverapp
    assert seen == [0, 1, 2, 3] * 2
    assert set(theirs.train_metrics_clientapp) == {1, 2, 3}


def test_the_given_arrays_are_what_is_trained(make_toy: Callable[..., Any]) -> None:
    """Also on another grid: nothing of an earlier run shines through."""
    toy, strategy = make_toy((10, 30, 40)), make("plain")
    results = []
    for start in (toy.initial["weight"], toy.initial["weight"] * 0):
        with LocalGrid(toy.app(), 3) as grid:
            made = Strategy.start(strategy, grid, record_of({"weight": start}), num_rounds=1)
        expected = start + 0.5 * toy.mean(start, [10, 30, 40])
        np.testing.assert_allclose(final(made), expected.ravel(), rtol=0, atol=1e-5)
        results.append(final(made))
    assert results[0] != results[1]


def test_the_log_says_what_is_assumed(
    make_toy: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    import logging

    logger = logging.getLogger("flwr")
    logger.addHandler(caplog.handler)
    level = logger.level
    try:
        logger.setLevel(logging.INFO)
        SecureStrategy(Aggregation("ckks")).summary()
    finally:
        logger.setLevel(level)
        logger.removeHandler(caplog.handler)
    assert "Scheme: ckks, trust: key_holder" in caplog.text
    assert "server and key holder do not collude" in caplog.text


def test_a_loop_may_train_other_arrays_than_those_of_the_last_round(
    make_toy: Callable[..., Any],
) -> None:
    """A loop of somebody's own, which changes the model between rounds."""
    toy = make_toy()
    strategy = SecureStrategy(Aggregation("plain"))
    model = toy.initial["weight"]
    with LocalGrid(toy.app(), 3) as grid:
        for round in (1, 2):
            model = model * 0.5
            sent = strategy.configure_train(
                round, record_of({"weight": model}), ConfigRecord(), grid
            )
            arrays, _ = strategy.aggregate_train(round, grid.send_and_receive(sent))
            assert arrays is not None
            expected = model + toy.mean(model, [1, 1, 1])
            model = arrays["weight"].numpy()
            np.testing.assert_allclose(model, expected, rtol=0, atol=1e-5)
