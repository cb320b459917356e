"""With identities every scheme gives the model that it gives without, and says what holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from signed_toy import run_signed

from qfl.crypto import TRUSTS
from qfl.records import arrays_of
from qfl.strategies import Aggregation, RoundFinished, SecureStrategy, SetupFinished

PAIRS = [(scheme, trust) for scheme, trusts in TRUSTS.items() for trust in trusts]
BLIND = [pair for pair in PAIRS if pair[1] != "none"]


def aggregation(scheme: str, trust: str, **options: Any) -> Aggregation:
    return Aggregation(scheme, trust=trust, grid_bits=14, bound=1.0, min_clients=3, **options)


@pytest.mark.parametrize(("scheme", "trust"), PAIRS)
def test_the_model_is_the_same_bit_for_bit(
    run: Callable[..., Any], make_toy: Callable[..., Any], scheme: str, trust: str
) -> None:
    toy = make_toy((10, 30, 40, 20))
    made = aggregation(scheme, trust, weighting="examples")
    without = run(toy, SecureStrategy(made, metrics=("loss",)), rounds=2)
    strategy = SecureStrategy(made, metrics=("loss",), evaluate_metrics=("eval_loss",))
    ran = run_signed(toy, strategy, rounds=2)
    final = arrays_of(ran.result.arrays)["weight"].ravel()
    assert final.tobytes() == without.final.tobytes()
    (setup,) = [event for event in ran.events if isinstance(event, SetupFinished)]
    assert "honest-but-curious" not in setup.assumption
    assert setup.proven == (5 if trust == "key_holder" else 4)
    assert [e.failures for e in ran.events if isinstance(e, RoundFinished)] == [0, 0, 0]
    assert ran.grid.refused == {}


@pytest.mark.parametrize(("scheme", "trust"), BLIND)
def test_clients_alone_learn_the_model(
    make_toy: Callable[..., Any], scheme: str, trust: str
) -> None:
    seen = {}

    def before(message: Any, context: Any) -> None:
        if "arrays" in message.content and context.node_id == 2:
            seen[int(message.content["config"]["server-round"])] = (
                message.content["arrays"]["weight"].numpy().ravel()
            )

    toy = make_toy((10, 30, 40, 20), before=before)
    made = aggregation(scheme, trust, release="clients")
    run_signed(toy, SecureStrategy(made, metrics=("loss",)), rounds=2)
    model = toy.initial["weight"]
    for number in (1, 2):
        assert seen[number] == pytest.approx(model.ravel(), abs=1e-3)
        model = model + toy.mean(model, [1] * 4)
