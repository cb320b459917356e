"""Every scheme under every trust, end to end: the closed form comes out, and faults are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from qfl.crypto import TRUSTS
from qfl.strategies import Aggregation, SecureStrategy, SetupFinished

PAIRS = [(scheme, trust) for scheme, trusts in TRUSTS.items() for trust in trusts]
PROTECTED = [pair for pair in PAIRS if pair[0] != "plain"]
BLIND = [pair for pair in PROTECTED if pair[1] != "none"]
# Steps of 2^-14 are as fine as packed integers are meant to be; the others could take 2^-20.
GRID_BITS = 14
OFF = 1e-3


def aggregation(scheme: str, trust: str, **options: Any) -> Aggregation:
    return Aggregation(scheme, trust=trust, grid_bits=GRID_BITS, bound=1.0, **options)


@pytest.mark.parametrize(("scheme", "trust"), PAIRS)
@pytest.mark.parametrize("weighting", ["uniform", "examples"])
def test_the_weighted_mean_comes_out(
    run: Callable[..., Any], make_toy: Callable[..., Any], scheme: str, trust: str, weighting: str
) -> None:
    toy = make_toy((10, 30, 40, 20))
    strategy = SecureStrategy(
        aggregation(scheme, trust, weighting=weighting),
        metrics=("loss",),
        evaluate_metrics=("eval_loss",),
    )
    ran = run(toy, strategy, rounds=2)
    weights = toy.sizes if weighting == "examples" else [1] * 4
    model = toy.initial["weight"]
    for _ in range(2):
        model = model + toy.mean(model, weights)
    np.testing.assert_allclose(ran.final, model.ravel(), rtol=0, atol=OFF)
    losses = np.average(np.arange(4) + 0.5, weights=weights)
    assert ran.rounds[-1].metrics["loss"] == pytest.approx(losses, rel=1e-4)
    assert ran.rounds[-1].metrics["eval_loss"] == pytest.approx(10 * losses, rel=1e-4)
    (setup,) = [event for event in ran.events if isinstance(event, SetupFinished)]
    assert (setup.scheme, setup.trust) == (scheme, trust)


@pytest.mark.parametrize(("scheme", "trust"), PROTECTED)
def test_every_scheme_sums_the_same_integers(
    run: Callable[..., Any], make_toy: Callable[..., Any], scheme: str, trust: str
) -> None:
    toy = make_toy((10, 30, 40, 20))
    plain = run(toy, SecureStrategy(aggregation("plain", "none")), rounds=2)
    ran = run(toy, SecureStrategy(aggregation(scheme, trust)), rounds=2)
    assert ran.final.tobytes() == plain.final.tobytes()


@pytest.mark.parametrize(("scheme", "trust"), BLIND)
def test_clients_alone_learn_the_model(
    run: Callable[..., Any], make_toy: Callable[..., Any], scheme: str, trust: str
) -> None:
    seen = {}

    def before(message: Any, context: Any) -> None:
        if "arrays" in message.content and context.node_id == 2:
            seen[int(message.content["config"]["server-round"])] = (
                message.content["arrays"]["weight"].numpy().ravel()
            )

    toy = make_toy((10, 30, 40, 20), before=before)
    strategy = SecureStrategy(aggregation(scheme, trust, release="clients"), metrics=("loss",))
    ran = run(toy, strategy, rounds=3)
    model = toy.initial["weight"]
    for number in (1, 2, 3):
        np.testing.assert_allclose(seen[number], model.ravel(), rtol=0, atol=OFF)
        model = model + toy.mean(model, [1] * 4)
    assert not ran.result.arrays
    assert ran.rounds[-1].metrics["loss"] == pytest.approx(2.0, rel=1e-4)


@pytest.mark.parametrize(("scheme", "trust"), PROTECTED)
def test_a_client_that_fails_is_left_out(
    run: Callable[..., Any], make_toy: Callable[..., Any], scheme: str, trust: str
) -> None:
    def before(message: Any, context: Any) -> None:
        if context.node_id == 4:
            raise RuntimeError("out of memory")

    toy = make_toy((10, 30, 40, 20, 10), before=before)
    ran = run(toy, SecureStrategy(aggregation(scheme, trust)), rounds=2)
    model = toy.initial["weight"]
    for _ in range(2):
        model = model + toy.mean(model, [1, 1, 1, 0, 1])
    np.testing.assert_allclose(ran.final, model.ravel(), rtol=0, atol=OFF)
    assert [(e.clients, e.failures) for e in ran.rounds[1:]] == [(4, 1)] * 2
