"""What comes out of rounds in which nothing goes wrong."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, Context, Message, MetricRecord

from qfl.crypto import Layout, SumRange, unpack
from qfl.strategies import (
    Aggregation,
    ClientReplied,
    ClientsSelected,
    FedAvgM,
    RoundFinished,
    SecureStrategy,
    SelectBySize,
    SelectCount,
    SetupFinished,
    SumOpened,
)

SIZES = (10, 30, 40)


def aggregation(scheme: str = "plain", **options: Any) -> Aggregation:
    return Aggregation(scheme=scheme, **options)


def on_the_grid(toy: Any, model: np.ndarray, weights: list[float], bits: int = 20) -> np.ndarray:
    """Sums of integers, and their quotient: what every scheme must give, to the last bit."""
    steps = sum(
        np.rint(toy.move(i, model) * (weights[i] * 2**bits)).astype(int) for i in range(toy.nodes)
    )
    total = sum(round(weight * 2**bits) for weight in weights)
    return model + (steps / 2**bits) / (total / 2**bits)


@pytest.mark.parametrize("scheme", ["plain", "ckks"])
@pytest.mark.parametrize(
    ("weighting", "weights"), [("uniform", [1 / 3] * 3), ("examples", [1 / 8, 3 / 8, 1 / 2])]
)
def test_the_model_moves_by_the_weighted_mean(
    run: Callable[..., Any],
    make_toy: Callable[..., Any],
    scheme: str,
    weighting: str,
    weights: list[float],
) -> None:
    toy = make_toy(SIZES)
    ran = run(toy, SecureStrategy(aggregation(scheme, weighting=weighting)))
    model = toy.initial["weight"]
    exact = (model + toy.mean(model, weights)).ravel()
    off = np.abs(ran.final - exact).max()
    assert 0 < off <= ran.rounds[-1].max_abs_error
    assert ran.rounds[-1].max_abs_error < 4 * 2.0**-20
    assert ran.final.tolist() == on_the_grid(toy, model, weights).ravel().tolist()


def test_several_rounds_with_momentum_follow_the_formula(
    run: Callable[..., Any], make_toy: Callable[..., Any]
) -> None:
    toy = make_toy(SIZES)
    strategy = SecureStrategy(aggregation("plain"), optimizer=FedAvgM(0.5, 0.5))
    ran = run(toy, strategy, rounds=3)
    model = toy.initial["weight"]
    velocity = np.zeros_like(model)
    for _ in range(3):
        velocity = 0.5 * velocity + toy.mean(model, [1, 1, 1])
        model = model + 0.5 * velocity
    np.testing.assert_allclose(ran.final, model.ravel(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("weighting", ["uniform", "examples"])
def test_encryption_changes_no_bit_of_the_result(
    run: Callable[..., Any], make_toy: Callable[..., Any], weighting: str
) -> None:
    made = []
    for scheme in ("plain", "ckks"):
        toy = make_toy((5, 17, 40, 3), length=3000)
        strategy = SecureStrategy(
            aggregation(scheme, weighting=weighting),
            metrics=("loss",),
            evaluate_metrics=("eval_loss",),
        )
        ran = run(toy, strategy, rounds=2)
        made.append(
            (
                ran.final.tobytes(),
                [dict(found) for found in ran.result.train_metrics_clientapp.values()],
                [dict(found) for found in ran.result.evaluate_metrics_clientapp.values()],
            )
        )
    assert made[0] == made[1]


@pytest.mark.parametrize("scheme", ["plain", "ckks"])
def test_the_order_of_replies_and_the_number_of_workers_change_no_bit(
    run: Callable[..., Any], make_toy: Callable[..., Any], scheme: str
) -> None:
    results, orders = set(), set()
    for seed in range(3):
        chance = random.Random(seed)

        def shuffled(replies: list[Message], chance: random.Random = chance) -> list[Message]:
            return chance.sample(replies, len(replies))

        def lazily(message: Message, context: Context, chance: random.Random = chance) -> None:
            time.sleep(chance.uniform(0, 0.01))

        toy = make_toy((1, 2, 3, 4, 5), before=lazily)
        strategy = SecureStrategy(aggregation(scheme, weighting="examples"))
        ran = run(toy, strategy, rounds=2, workers=1 + 2 * seed, tamper=shuffled)
        results.add(ran.final.tobytes())
        orders.add(tuple(e.node for e in ran.events if isinstance(e, ClientReplied)))
    assert len(orders) > 1
    assert len(results) == 1


def test_arrays_that_are_not_floating_point_keep_the_global_value(
    run: Callable[..., Any], make_toy: Callable[..., Any]
) -> None:
    toy = make_toy((1, 1, 1, 1))  # quarters are on the grid
    toy.move = lambda i, v: np.full_like(v, 1) if v.dtype.kind == "i" else np.full_like(v, 0.5)
    initial = {"norm.steps": np.array(7), "weight": np.zeros(7, np.float32)}
    ran = run(toy, SecureStrategy(aggregation()), initial=initial)
    found = {name: array.numpy() for name, array in ran.result.arrays.items()}
    assert list(found) == ["norm.steps", "weight"]
    assert found["norm.steps"] == 7 and found["norm.steps"].dtype == np.int64
    assert found["weight"].tolist() == [0.5] * 7 and found["weight"].dtype == np.float32


@pytest.mark.parametrize(
    ("weighting", "loss"),
    # Clients report 0.5, 1.5, 2.5; weights are equal, or 1/8, 3/8, 4/8.
    [("uniform", 1.5), ("examples", (0.5 + 3 * 1.5 + 4 * 2.5) / 8)],
)
def test_metrics_are_weighted_means(
    run: Callable[..., Any], make_toy: Callable[..., Any], weighting: str, loss: float
) -> None:
    strategy = SecureStrategy(
        aggregation("ckks", weighting=weighting),
        metrics=("loss", "name-length"),
        evaluate_metrics=("eval_loss", "accuracy"),
    )
    ran = run(make_toy(SIZES), strategy, rounds=2)
    for round in (1, 2):
        trained = dict(ran.result.train_metrics_clientapp[round])
        evaluated = dict(ran.result.evaluate_metrics_clientapp[round])
        assert trained.pop("clients") == 3
        # Uniform weights of a third are rounded to the grid, together off by 2^-20 at most.
        assert trained == pytest.approx({"loss": loss, "name-length": 3.0}, rel=2e-6)
        assert evaluated == pytest.approx({"eval_loss": 10 * loss, "accuracy": 1.0}, rel=2e-6)
    assert ran.rounds[-1].metrics == {
        "loss": pytest.approx(loss, rel=2e-6),
        "name-length": pytest.approx(3.0, rel=2e-6),
        "eval_loss": pytest.approx(10 * loss, rel=2e-6),
        "accuracy": pytest.approx(1.0, rel=2e-6),
    }


def test_events_tell_the_run_from_start_to_end(
    run: Callable[..., Any], make_toy: Callable[..., Any]
) -> None:
    def held_out(round: int, arrays: ArrayRecord) -> MetricRecord:
        return MetricRecord({"accuracy": round / 10})

    strategy = SecureStrategy(aggregation("ckks", weighting="examples"))
    ran = run(make_toy(SIZES), strategy, rounds=2, evaluate_fn=held_out)
    kinds = [type(event) for event in ran.events]
    one_round = [ClientsSelected, *[ClientReplied] * 3, SumOpened, RoundFinished]
    assert kinds == [SumOpened, SetupFinished, RoundFinished, *one_round, *one_round]
    sums = [event for event in ran.events if isinstance(event, SumOpened)]
    assert [(event.round, event.label) for event in sums] == [
        (0, "count"), (1, "train"), (2, "train"),
    ]  # fmt: skip
    assert {(event.contributions, event.opened_by) for event in sums} == {
        (3, "key holder (node 1)")
    }
    setup = ran.events[1]
    assert (setup.clients, setup.scheme, setup.trust) == (3, "ckks", "key_holder")
    assert (setup.examples, setup.parameters) == (80, 7)
    assert setup.opened_by == "key holder (node 1)"
    assert setup.notes[0] == "key holder 1 also trains"
    assert "reads the other update in a sum of two: set min_clients=3" in setup.notes[1]
    assert "do not collude" in setup.assumption
    assert len(setup.key_id) == 16
    for start in (3, 9):
        assert ran.events[start] == ClientsSelected((start + 3) // 6, (1, 2, 3))
        replies = ran.events[start + 1 : start + 4]
        assert {reply.node for reply in replies} == {1, 2, 3}
        assert [reply.replied for reply in replies] == [1, 2, 3]
        assert {(reply.asked, reply.error) for reply in replies} == {(3, None)}
        assert {reply.round for reply in replies} == {(start + 3) // 6}
    assert [(e.round, e.rounds, e.clients, e.failures) for e in ran.rounds] == [
        (0, 2, 0, 0),
        (1, 2, 3, 0),
        (2, 2, 3, 0),
    ]
    assert [e.metrics for e in ran.rounds] == [{"accuracy": r / 10} for r in range(3)]
    assert {r: dict(m) for r, m in ran.result.evaluate_metrics_serverapp.items()} == {
        r: {"accuracy": r / 10} for r in range(3)
    }


def test_a_plain_run_says_that_the_server_reads_everything(
    run: Callable[..., Any], make_toy: Callable[..., Any]
) -> None:
    setup = run(make_toy(), SecureStrategy(aggregation("plain"))).events[0]
    assert (setup.trust, setup.opened_by, setup.key_id) == ("none", "server", "")
    assert setup.assumption == "the server reads every update"


@pytest.mark.parametrize("scheme", ["plain", "ckks"])
def test_bytes_are_counted_as_they_are_sent(
    run: Callable[..., Any], make_toy: Callable[..., Any], scheme: str
) -> None:
    length = 5000
    ran = run(make_toy(length=length), SecureStrategy(aggregation(scheme)), rounds=2)
    payloads: dict[int, int] = {}
    openings: dict[int, int] = {}
    for reply in ran.grid.received:
        for record in reply.content.array_records.values():
            data = record["data"].data
            if data[:4] == b"qfl1":
                header, body = unpack(data)
                payloads[header.round] = payloads.get(header.round, 0) + len(data)
                assert header.length == length + 1
                if scheme == "plain":
                    assert len(body) == 4 * header.length
            elif reply.metadata.group_id != "0":
                openings[int(reply.metadata.group_id)] = len(data)
    for finished in ran.rounds[1:]:
        assert finished.bytes_up == payloads[finished.round]
        model_bytes = 3 * 8 * length
        assert model_bytes < finished.bytes_down < model_bytes + 200_000
        if scheme == "plain":
            assert finished.bytes_key_holder == 0
        else:
            one_sum = payloads[finished.round] / 3
            opened = openings[finished.round]
            assert opened > 8 * length
            assert opened + 0.9 * one_sum < finished.bytes_key_holder < opened + 1.2 * one_sum
    # The public key travels with the first message only.
    if scheme == "ckks":
        assert ran.rounds[1].bytes_down > ran.rounds[2].bytes_down + 3 * 10_000
    else:
        assert ran.rounds[1].bytes_down == ran.rounds[2].bytes_down


def test_only_chosen_clients_train(run: Callable[..., Any], make_toy: Callable[..., Any]) -> None:
    toy = make_toy((1, 1, 1, 1, 1))
    selection = SelectCount(2)
    ran = run(toy, SecureStrategy(aggregation("ckks"), selection=selection, seed=4), rounds=3)
    for round in (1, 2, 3):
        nodes = {e.node for e in ran.events if isinstance(e, ClientReplied) and e.round == round}
        assert nodes == set(selection.choose([1, 2, 3, 4, 5], round, 4, {}))
    assert [e.clients for e in ran.rounds[1:]] == [2, 2, 2]


def test_selection_by_size_asks_for_sizes_and_says_so(
    run: Callable[..., Any], make_toy: Callable[..., Any]
) -> None:
    sizes = (5, 0, 7, 300)
    selection = SelectBySize(2)
    ran = run(make_toy(sizes), SecureStrategy(aggregation(), selection=selection), rounds=4)
    assert (
        "selection by size: the server knows every client's number of examples"
        in ran.events[0].notes
    )
    known = dict(enumerate(sizes, start=1))
    for round in range(1, 5):
        nodes = {e.node for e in ran.events if isinstance(e, ClientReplied) and e.round == round}
        assert nodes == set(selection.choose([1, 2, 3, 4], round, 0, known))


def test_a_node_that_only_holds_the_key_never_trains(
    run: Callable[..., Any], make_toy: Callable[..., Any]
) -> None:
    from qfl.clients import ProtectMod

    def role(context: Context) -> str:
        return "key-holder" if context.node_config["partition-id"] == 3 else "client"

    toy = make_toy(SIZES, mods=[ProtectMod(role=role)])
    ran = run(toy, SecureStrategy(aggregation("ckks", weighting="examples")), rounds=2, nodes=4)
    setup = ran.events[1]
    assert (setup.clients, setup.opened_by) == (3, "key holder (node 4)")
    assert setup.notes == ()
    assert {e.node for e in ran.events if isinstance(e, ClientReplied)} == {1, 2, 3}


def test_a_key_holder_can_be_named(run: Callable[..., Any], make_toy: Callable[..., Any]) -> None:
    ran = run(make_toy(), SecureStrategy(aggregation("ckks", key_holder=2)))
    assert ran.events[0].opened_by == "key holder (node 2)"


def test_the_length_of_payloads_is_that_of_the_layout_and_the_metrics(
    run: Callable[..., Any], make_toy: Callable[..., Any]
) -> None:
    toy = make_toy()
    ran = run(toy, SecureStrategy(aggregation(), metrics=("loss",)))
    found = {
        unpack(record["data"].data)[0].length
        for reply in ran.grid.received
        for name, record in reply.content.array_records.items()
    }
    assert found == {Layout.of(toy.initial).length + 1 + SumRange(20, 2.0, 3).limbs}
