"""Server optimizers against the formulas of the papers, worked out one number at a time."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from qfl.strategies import FedAdam, FedAvg, FedAvgM, FedYogi, ServerOptimizer

START = [0.0, 1.0, -2.0, 0.5]
MEANS = [
    [0.1, -0.2, 0.0, 3.0],
    [0.1, 0.2, 0.0, -1.0],
    [-0.3, 1e-6, 0.4, 0.0],
    [0.0, 0.0, 0.0, 0.0],
    [0.25, 0.5, -1.0, 2.0],
]


def several_rounds(optimizer: ServerOptimizer) -> list[list[float]]:
    model = np.array(START)
    state = optimizer.init(len(START))
    seen = []
    for mean in MEANS:
        state, model = optimizer.apply(state, np.array(mean), model)
        seen.append(model.tolist())
    return seen


def adaptive(second_moment: Callable[[float, float, float], float]) -> list[list[float]]:
    """Algorithm 2 of Reddi et al. 2021, for eta=0.05, beta1=0.8, beta2=0.95, tau=0.01."""
    eta, beta1, beta2, tau = 0.05, 0.8, 0.95, 0.01
    columns = []
    for x, deltas in zip(START, zip(*MEANS, strict=True), strict=True):
        m, v, path = 0.0, tau * tau, []
        for delta in deltas:
            m = beta1 * m + (1 - beta1) * delta
            v = second_moment(v, delta, beta2)
            x = x + eta * m / (math.sqrt(v) + tau)
            path.append(x)
        columns.append(path)
    return [list(row) for row in zip(*columns, strict=True)]


def adam(v: float, delta: float, beta2: float) -> float:
    return beta2 * v + (1 - beta2) * delta * delta


def yogi(v: float, delta: float, beta2: float) -> float:
    square = delta * delta
    if v == square:
        return v
    return v - (1 - beta2) * square if v > square else v + (1 - beta2) * square


@pytest.mark.parametrize(("optimizer", "rule"), [(FedAdam, adam), (FedYogi, yogi)])
def test_adaptive_optimizers_follow_algorithm_2(
    optimizer: type[FedAdam], rule: Callable[[float, float, float], float]
) -> None:
    ours = several_rounds(optimizer(lr=0.05, beta1=0.8, beta2=0.95, tau=0.01))
    np.testing.assert_allclose(ours, adaptive(rule), rtol=1e-13, atol=1e-15)


def test_adam_and_yogi_differ_where_the_second_moment_falls() -> None:
    assert several_rounds(FedAdam())[-1] != several_rounds(FedYogi())[-1]


def test_the_first_adaptive_step_has_no_bias_correction() -> None:
    _, model = FedAdam(lr=1.0, beta1=0.9, beta2=0.99, tau=0.1).apply(
        FedAdam(tau=0.1).init(1), np.array([2.0]), np.array([0.0])
    )
    # m = 0.1 * 2, v = 0.99 * 0.01 + 0.01 * 4
    assert model[0] == pytest.approx(0.2 / (math.sqrt(0.0499) + 0.1), rel=1e-14)


def test_momentum_is_a_geometric_sum_of_past_means() -> None:
    lr, momentum = 0.5, 0.7
    ours = several_rounds(FedAvgM(lr, momentum))
    for k, (start, deltas) in enumerate(zip(START, zip(*MEANS, strict=True), strict=True)):
        for last in range(len(MEANS)):
            moved = 0.0
            for now in range(last + 1):
                moved += sum(momentum ** (now - then) * deltas[then] for then in range(now + 1))
            assert ours[last][k] == pytest.approx(start + lr * moved, rel=1e-13, abs=1e-14)


def test_averaging_adds_the_mean() -> None:
    ours = several_rounds(FedAvg())
    np.testing.assert_allclose(ours, np.array(START) + np.cumsum(MEANS, axis=0), rtol=1e-14)
    half = several_rounds(FedAvg(lr=0.5))
    np.testing.assert_allclose(half, np.array(START) + np.cumsum(MEANS, axis=0) / 2, rtol=1e-14)


def test_momentum_zero_is_averaging() -> None:
    assert several_rounds(FedAvgM(0.3, 0.0)) == several_rounds(FedAvg(0.3))


@pytest.mark.parametrize("optimizer", [FedAvg(), FedAvgM(), FedAdam(), FedYogi()])
def test_nothing_given_is_changed_in_place(optimizer: ServerOptimizer) -> None:
    state = optimizer.init(2)
    model, mean = np.array([1.0, 2.0]), np.array([0.5, -0.5])
    kept = {name: value.copy() for name, value in state.items()}
    optimizer.apply(state, mean, model)
    assert model.tolist() == [1.0, 2.0]
    assert mean.tolist() == [0.5, -0.5]
    assert {name: value.tolist() for name, value in state.items()} == {
        name: value.tolist() for name, value in kept.items()
    }
