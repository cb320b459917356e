"""Runs that go on from a checkpoint, stop early, or are started again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, MetricRecord

from qfl.errors import FederationError, StorageError
from qfl.federation.checkpoint import load_checkpoint, save_checkpoint
from qfl.strategies import (
    Aggregation,
    ConvergenceMonitor,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedYogi,
    SecureStrategy,
    SelectCount,
    ServerOptimizer,
    ServerState,
    SetupFinished,
)

OPTIMIZERS = [FedAvg(0.7), FedAvgM(0.5), FedAdam(0.05), FedYogi(0.05)]


def strategy(optimizer: ServerOptimizer, scheme: str = "plain", **options: Any) -> SecureStrategy:
    return SecureStrategy(
        Aggregation(scheme, "examples"),
        selection=SelectCount(3),
        optimizer=optimizer,
        seed=11,
        **options,
    )


def losses(*values: float) -> Callable[[int, ArrayRecord], MetricRecord]:
    return lambda round, arrays: MetricRecord({"loss": values[round]})


@pytest.mark.parametrize(
    ("optimizer", "scheme"),
    [*((optimizer, "plain") for optimizer in OPTIMIZERS), (FedAdam(0.05), "ckks")],
)
def test_a_resumed_run_gives_bit_for_bit_the_uninterrupted_model(
    run: Callable[..., Any],
    make_toy: Callable[..., Any],
    tmp_path: Path,
    optimizer: ServerOptimizer,
    scheme: str,
) -> None:
    def toy() -> Any:
        return make_toy((10, 30, 40, 25))

    # float32 as in a torch model, so that the checkpoint has to keep types as well
    initial = {k: v.astype(np.float32) for k, v in toy().initial.items()}
    options: dict[str, Any] = {"initial": initial, "evaluate_fn": losses(9, 5, 4, 3, 2, 1)}
    whole = run(toy(), strategy(optimizer, scheme), rounds=5, **options)

    first = strategy(
        optimizer, scheme, checkpoint=lambda state: save_checkpoint(tmp_path, state) and None
    )
    run(toy(), first, rounds=2, **options)
    state = load_checkpoint(tmp_path / "round-00002.safetensors")
    assert (state.round, state.losses) == (2, [5.0, 4.0])
    rest = run(toy(), strategy(optimizer, scheme), rounds=5, resume=state, **options)

    assert rest.final.tobytes() == whole.final.tobytes()
    assert [e.round for e in rest.rounds] == [3, 4, 5]
    assert [e.metrics for e in rest.rounds] == [e.metrics for e in whole.rounds[3:]]


def test_resuming_a_finished_run_trains_nothing(
    run: Callable[..., Any], make_toy: Callable[..., Any]
) -> None:
    states: list[ServerState] = []
    toy = make_toy((1, 2, 3))
    whole = run(toy, strategy(FedAvg(), checkpoint=states.append), rounds=2)
    again = run(toy, strategy(FedAvg()), rounds=2, resume=states[-1])
    assert again.final.tobytes() == whole.final.tobytes()
    assert again.rounds == []


def test_a_state_of_another_model_or_optimizer_is_refused(
    run: Callable[..., Any], make_toy: Callable[..., Any]
) -> None:
    other = ServerState(1, {"weight": np.zeros((3, 1))}, {})
    with pytest.raises(StorageError, match="belongs to another model"):
        run(make_toy(), strategy(FedAvg()), rounds=2, resume=other)
    toy = make_toy()
    same = ServerState(1, toy.initial, {"velocity": np.zeros(7)})
    with pytest.raises(StorageError, match="belongs to another server optimizer"):
        run(toy, strategy(FedAdam()), rounds=2, resume=same)


def test_a_run_stops_when_the_loss_no_longer_falls(
    run: Callable[..., Any], make_toy: Callable[..., Any]
) -> None:
    states: list[ServerState] = []
    monitor = ConvergenceMonitor(patience=2, min_delta=0.1)
    # Round 0 is the initial model; the best is reached in round 2.
    evaluate = losses(0.1, 1.0, 0.5, 0.45, 0.46, 0.1)
    toy = make_toy((1, 2, 3))
    stopped = run(
        toy,
        strategy(FedAvg(), convergence=monitor, checkpoint=states.append),
        rounds=5,
        evaluate_fn=evaluate,
    )
    assert [e.round for e in stopped.rounds] == [0, 1, 2, 3, 4]
    assert states[-1].losses == [1.0, 0.5, 0.45, 0.46]
    resumed = run(
        toy,
        strategy(FedAvg(), convergence=monitor),
        rounds=5,
        evaluate_fn=evaluate,
        resume=states[-1],
    )
    assert resumed.rounds == []
    without = run(toy, strategy(FedAvg()), rounds=5, evaluate_fn=evaluate)
    assert without.rounds[-1].round == 5


@pytest.mark.parametrize("scheme", ["plain", "ckks"])
def test_a_strategy_can_be_started_again(
    run: Callable[..., Any], make_toy: Callable[..., Any], scheme: str
) -> None:
    made = strategy(FedAvgM(), scheme)
    toy = make_toy((4, 5, 6))
    first, second = (run(toy, made, rounds=2) for _ in range(2))
    assert first.final.tobytes() == second.final.tobytes()
    if scheme == "ckks":
        keys = [
            next(e for e in ran.events if isinstance(e, SetupFinished)) for ran in (first, second)
        ]
        assert keys[0].key_id != keys[1].key_id


def test_a_strategy_can_be_started_again_after_a_failure(
    run: Callable[..., Any], make_toy: Callable[..., Any]
) -> None:
    made = strategy(FedAvg(), "ckks")

    def fail(message: Any, context: Any) -> None:
        raise ValueError("not today")

    with pytest.raises(FederationError, match="not today"):
        run(make_toy((4, 5, 6), before=fail), made)
    healthy = run(make_toy((4, 5, 6)), made)
    assert healthy.final.tobytes() == run(make_toy((4, 5, 6)), strategy(FedAvg())).final.tobytes()
