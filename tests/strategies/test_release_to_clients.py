"""Release ``clients``: whoever opens keeps the model, the server passes on what it cannot read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from qfl.clients import ProtectMod
from qfl.errors import ConfigError, FederationError
from qfl.records import arrays_of, record_of
from qfl.strategies import Aggregation, FedAdam, FedAvg, RoundFinished, SecureStrategy

ROUNDS = 3


class Watching:
    """Notes the model that a client is asked to train."""

    def __init__(self) -> None:
        self.seen: dict[int, np.ndarray] = {}

    def __call__(self, message: Message, context: Context) -> None:
        if context.node_id == 1 and "arrays" in message.content:
            record = message.content["arrays"]
            round_ = int(message.content["config"]["server-round"])
            # A round evaluates the next model; only the first one is trained.
            self.seen.setdefault(round_, record["weight"].numpy().ravel())


def expected_models(toy: Any, optimizer: Any) -> list[np.ndarray]:
    """The models of every round, from the closed form of the clients' means."""
    model = toy.initial["weight"]
    models, state = [], optimizer.init(model.size)
    for _ in range(ROUNDS):
        models.append(model.ravel())
        mean = toy.mean(model, [1] * toy.nodes).ravel()
        state, flat = optimizer.apply(state, mean, model.ravel())
        model = flat.reshape(model.shape)
    return models


@pytest.mark.parametrize("optimizer", [FedAvg(), FedAdam(lr=0.05)], ids=["fedavg", "fedadam"])
@pytest.mark.parametrize("trust", ["key_holder", "shared"])
def test_clients_get_the_model_that_the_opener_keeps(
    run: Callable[..., Any], make_toy: Callable[..., Any], optimizer: Any, trust: str
) -> None:
    watching = Watching()
    toy = make_toy(before=watching)
    strategy = SecureStrategy(
        Aggregation("ckks", trust=trust, release="clients"),
        optimizer=optimizer,
        metrics=("loss",),
        evaluate_metrics=("eval_loss",),
    )
    ran = run(toy, strategy, rounds=ROUNDS)
    for number, exact in enumerate(expected_models(toy, optimizer), start=1):
        np.testing.assert_allclose(watching.seen[number], exact, rtol=0, atol=1e-5)
    assert list(ran.result.arrays) == []
    last = ran.rounds[-1]
    assert last.metrics["loss"] == pytest.approx(1.5)
    assert last.metrics["eval_loss"] == pytest.approx(15.0)


def test_nothing_that_passes_the_server_holds_the_model(
    run: Callable[..., Any], make_toy: Callable[..., Any]
) -> None:
    """Models of later rounds, and the mean update, searched for in all that the server got."""
    watching = Watching()
    toy = make_toy(before=watching)

    def hay_of(release: str) -> bytes:
        strategy = SecureStrategy(
            Aggregation("ckks", release=release), evaluate_metrics=("eval_loss",)
        )
        ran = run(toy, strategy, rounds=ROUNDS)
        parts = []
        for reply in ran.grid.received:
            for record in reply.content.values():
                if isinstance(record, ArrayRecord):
                    parts += [array.data for array in record.values()]
                elif not isinstance(record, MetricRecord):
                    parts += [v for v in record.values() if isinstance(v, bytes)]
        return b"|".join(parts)

    def found(hay: bytes) -> bool:
        model = toy.initial["weight"]
        mean = np.rint(toy.mean(model, [1] * 3).ravel() * 2**20).astype("<i8")
        # The opener's sum is a few steps off the mean of unrounded updates.
        near = [(mean + off)[:1].tobytes() for off in range(-3, 4)]
        forms = [m[i : i + 2].astype("<f8").tobytes() for m in models for i in range(m.size - 1)]
        return any(needle in hay for needle in forms + near)

    hidden = hay_of("clients")
    models = [watching.seen[number] for number in range(2, ROUNDS + 1)]
    assert not found(hidden)
    assert found(hay_of("server"))


def test_arrays_keep_their_order_whatever_their_names(run: Callable[..., Any]) -> None:
    """The order of arrays is the order of coordinates in the vectors that are summed."""
    initial = {"z": np.zeros(3), "a": np.ones(2)}
    seen: list[list[str]] = []

    class Two:
        nodes = 2

        def app(self) -> ClientApp:
            app = ClientApp(mods=[ProtectMod()])

            @app.train()
            def train(message: Message, context: Context) -> Message:
                model = arrays_of(message.content["arrays"])
                seen.append(list(model))
                moved = {"z": model["z"] + 1.0, "a": model["a"] - 0.5}
                content = {
                    "arrays": record_of(moved),
                    "metrics": MetricRecord({"num-examples": 1, "top": float(model["z"].max())}),
                }
                return Message(RecordDict(dict(content)), reply_to=message)

            return app

    strategy = SecureStrategy(Aggregation("ckks", release="clients"), metrics=("top",))
    ran = run(Two(), strategy, rounds=3, initial=initial)
    assert seen == [["z", "a"]] * 6
    assert [e.metrics["top"] for e in ran.rounds[1:]] == pytest.approx([0, 1, 2], abs=1e-4)


def test_the_server_writes_no_checkpoint_of_a_model_it_does_not_see(
    run: Callable[..., Any], make_toy: Callable[..., Any]
) -> None:
    saved: list[Any] = []
    for release, count in (("clients", 0), ("server", 3)):
        strategy = SecureStrategy(Aggregation("ckks", release=release), checkpoint=saved.append)
        ran = run(make_toy(), strategy, rounds=2)
        assert len(saved) == count
        assert [e.round for e in ran.events if isinstance(e, RoundFinished)] == [0, 1, 2]


def test_the_server_can_neither_evaluate_nor_resume(
    run: Callable[..., Any], make_toy: Callable[..., Any]
) -> None:
    strategy = SecureStrategy(Aggregation("ckks", release="clients"))
    with pytest.raises(ConfigError, match="neither evaluate it nor resume"):
        run(make_toy(), strategy, evaluate_fn=lambda number, arrays: None)


@pytest.mark.parametrize("scheme", ["plain", "masking"])
def test_where_the_server_opens_the_model_cannot_be_kept_from_it(scheme: str) -> None:
    with pytest.raises(ConfigError, match=f"release=clients is not possible with scheme {scheme}"):
        Aggregation(scheme, release="clients")


def test_an_optimizer_of_somebodys_own_cannot_run_at_the_key_holder(
    run: Callable[..., Any], make_toy: Callable[..., Any]
) -> None:
    class Own(FedAvg):
        pass

    strategy = SecureStrategy(Aggregation("ckks", release="clients"), optimizer=Own())
    with pytest.raises(ConfigError, match="server optimizer Own cannot be run by a key holder"):
        run(make_toy(), strategy)


def test_a_model_that_somebody_changed_on_its_way_is_refused(
    run: Callable[..., Any], make_toy: Callable[..., Any]
) -> None:
    toy = make_toy()
    strategy = SecureStrategy(Aggregation("ckks", release="clients"))

    def observe(event: Any) -> None:
        if isinstance(event, RoundFinished) and event.round == 0:
            locked = bytearray(strategy.session.model)
            locked[-1] ^= 1
            strategy.session.model = bytes(locked)

    strategy.observer = observe
    with pytest.raises(FederationError, match="locked content cannot be opened"):
        run(toy, strategy)
