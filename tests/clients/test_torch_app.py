"""The torch client, asked over a grid as a server would."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict

from qfl.clients import make_client_app
from qfl.conf.schema import ExperimentConfig
from qfl.data import load_dataset, partition
from qfl.federation.experiment import Experiment
from qfl.federation.local_grid import LocalGrid
from qfl.records import record_of

Make = Callable[..., Any]


@pytest.fixture
def grid() -> Iterator[LocalGrid]:
    with LocalGrid(make_client_app(), 3) as made:
        yield made


def ask(
    grid: LocalGrid,
    config: Any,
    arrays: Any = None,
    kind: str = "train",
    nodes: tuple[int, ...] = (1, 2, 3),
    **values: Any,
) -> list[Message]:
    text = config if isinstance(config, str) else json.dumps(config)
    content: dict[str, Any] = {"config": ConfigRecord({"qfl-config": text, **values})}
    if arrays is not None:
        content["arrays"] = arrays
    grid.get_node_ids()
    return list(grid.send_and_receive([Message(RecordDict(content), n, kind) for n in nodes]))


def refusal(grid: LocalGrid, *args: Any, **kwargs: Any) -> str:
    (reply,) = ask(grid, *args, nodes=(1,), **kwargs)
    assert reply.has_error()
    return str(reply.error.reason)


@pytest.fixture
def model(experiment: Make) -> ArrayRecord:
    return record_of(Experiment.prepare(experiment()).initial)


def parts(config: ExperimentConfig) -> list[Any]:
    dataset = load_dataset(config.dataset, config.seed)
    indices = partition(config.partition, dataset, config.clients, config.seed)
    return [dataset.train.take(part) for part in indices]


def test_training_returns_the_model_the_count_and_the_loss(
    grid: LocalGrid, experiment: Make, wire: Make, model: ArrayRecord
) -> None:
    replies = ask(grid, wire(), model)
    own = parts(experiment())
    assert sum(len(part) for part in own) == 120
    for reply, part in zip(replies, own, strict=True):
        metrics = reply.content["metrics"]
        assert metrics["num-examples"] == len(part)
        assert 0 < metrics["train_loss"] < 5
        trained = reply.content["arrays"]
        assert list(trained) == list(model)
        for name in model:
            assert trained[name].numpy().shape == model[name].numpy().shape
            assert (trained[name].numpy() != model[name].numpy()).any()


def test_training_again_gives_the_same_and_another_round_another(
    grid: LocalGrid, wire: Make, model: ArrayRecord
) -> None:
    config = wire(client={"lr": 0.05, "batch_size": 8})

    def trained(round: int) -> list[bytes]:
        replies = ask(grid, config, model, **{"server-round": round})
        return [b"".join(a.data for a in r.content["arrays"].values()) for r in replies]

    assert trained(1) == trained(1)
    assert all(a != b for a, b in zip(trained(1), trained(2), strict=True))


def test_evaluation_scores_the_models_own_predictions(
    grid: LocalGrid, experiment: Make, wire: Make, model: ArrayRecord
) -> None:
    replies = ask(grid, wire(), model, kind="evaluate")
    weights = {name: array.numpy().astype(float) for name, array in model.items()}
    for reply, part in zip(replies, parts(experiment()), strict=True):
        # preprocess.fit=local: every client standardises with its own mean and deviation
        x = part.x.astype(float)
        x = (x - x.mean(axis=0)) / x.std(axis=0)
        for layer in ("pre", "middle"):
            x = np.tanh(x @ weights[f"{layer}.weight"].T + weights[f"{layer}.bias"])
        logits = x @ weights["post.weight"].T + weights["post.bias"]
        chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        loss = -np.log(chances[np.arange(len(part)), part.y]).mean()
        metrics = reply.content["metrics"]
        assert metrics["num-examples"] == len(part)
        assert metrics["eval_loss"] == pytest.approx(loss, rel=1e-4)
        assert metrics["eval_accuracy"] == pytest.approx(
            np.mean(logits.argmax(axis=1) == part.y), abs=1e-9
        )


def test_evaluation_of_a_regression_has_no_accuracy(grid: LocalGrid, experiment: Make) -> None:
    from qfl.conf.checks import to_dict

    config = experiment(dataset={"name": "diabetes", "task": "regression"})
    initial = record_of(Experiment.prepare(config).initial)
    (reply,) = ask(grid, to_dict(config), initial, kind="evaluate", nodes=(1,))
    assert set(reply.content["metrics"]) == {"num-examples", "eval_loss"}


def test_the_count_query_answers_with_the_number_of_examples(
    grid: LocalGrid, experiment: Make, wire: Make
) -> None:
    replies = ask(grid, wire(), kind="query.count")
    counts = [reply.content["count"]["count"].numpy().tolist() for reply in replies]
    assert counts == [[float(len(part))] for part in parts(experiment())]


def test_moments_of_all_clients_add_up_to_the_statistics_of_all_data(
    grid: LocalGrid, experiment: Make, wire: Make, model: ArrayRecord
) -> None:
    federated = wire(preprocess={"fit": "federated"})
    replies = ask(grid, federated, kind="query.moments")
    summed = sum(reply.content["moments"]["moments"].numpy() for reply in replies)
    x = np.concatenate([part.x for part in parts(experiment())]).astype(float)
    flat = summed.tolist()
    assert len(x) in flat
    for total in (*x.sum(axis=0), *(x**2).sum(axis=0)):
        assert min(abs(total - value) for value in flat) < 1e-3 * abs(total)

    # A client scales with what is sent: with its own moments as if they were everybody's, it
    # trains as under fit=local.
    own = replies[0].content["moments"]["moments"].numpy().tolist()
    (as_sent,) = ask(grid, federated, model, nodes=(1,), **{"qfl-moments": own})
    (local,) = ask(grid, wire(), model, nodes=(1,))
    for name in model:
        assert (
            as_sent.content["arrays"][name].numpy().tolist()
            == local.content["arrays"][name].numpy().tolist()
        )


def test_federated_statistics_have_to_be_sent(
    grid: LocalGrid, wire: Make, model: ArrayRecord
) -> None:
    words = refusal(grid, wire(preprocess={"fit": "federated"}), model)
    assert "preprocess.fit=federated needs the summed 'qfl-moments'" in words


def test_a_public_range_needs_no_statistics(grid: LocalGrid, wire: Make, experiment: Make) -> None:
    changes = {"dataset": {"name": "digits"}, "preprocess": {"fit": "public"}}
    initial = record_of(Experiment.prepare(experiment(**changes)).initial)
    replies = ask(grid, wire(**changes), initial)
    assert not any(reply.has_error() for reply in replies)


def test_an_unknown_model_is_refused_by_name(
    grid: LocalGrid, wire: Make, model: ArrayRecord
) -> None:
    words = refusal(grid, wire() | {"model": {"name": "os.system"}}, model)
    assert "ConfigError" in words
    assert "unknown model 'os.system'" in words


TARGET = "qfl_planted_module"


@pytest.fixture
def trap(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module that leaves a file behind when anybody imports or calls it."""
    mark = tmp_path / "sprung"
    spring = f"open({str(mark)!r}, 'w').close()\n"
    code = f"{spring}def Evil(*a, **k): {spring}"
    (tmp_path / f"{TARGET}.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield mark
    sys.modules.pop(TARGET, None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"_target_": f"{TARGET}.Evil"}, "unknown key '_target_'"),
        ({"model": {"name": "mlp", "_target_": f"{TARGET}.Evil"}}, "unknown key 'model._target_'"),
        ({"model": {"_target_": f"{TARGET}.Evil"}}, "unknown key 'model._target_'"),
        ({"model": {"name": f"{TARGET}.Evil"}}, f"unknown model '{TARGET}.Evil'"),
        ({"client": {"_target_": f"{TARGET}.Evil"}}, "unknown key 'client._target_'"),
        ({"client": {"optimizer": f"{TARGET}.Evil"}}, "client.optimizer="),
        ({"dataset": {"name": f"{TARGET}.Evil"}}, "dataset.name="),
    ],
)
def test_nothing_in_a_received_configuration_is_imported_or_instantiated(
    grid: LocalGrid, wire: Make, model: ArrayRecord, trap: Any, change: Any, words: str
) -> None:
    reason = refusal(grid, wire() | change, model)
    assert "ConfigError" in reason
    assert words in reason
    assert not trap.exists()
    assert TARGET not in sys.modules


def test_the_trap_would_spring(trap: Any) -> None:
    __import__(TARGET)
    assert trap.exists()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("{", "'qfl-config' is not JSON"),
        ("[" * 100_000, "'qfl-config' is not JSON"),
        ("[]", "must be a mapping"),
        ({"rounds": "many"}, "rounds='many' is not allowed: must be of type int"),
        ({"client": {"lr": -1.0}}, "client.lr=-1.0 is not allowed"),
        ({"client": {"lr": float("nan")}}, "client.lr=nan is not allowed"),
        ({"clent": {}}, "unknown key 'clent'; did you mean 'client'"),
    ],
)
def test_a_configuration_out_of_order_is_refused(
    grid: LocalGrid, model: ArrayRecord, config: Any, words: str
) -> None:
    assert words in refusal(grid, config, model)


def test_a_message_without_a_configuration_is_refused(grid: LocalGrid, model: ArrayRecord) -> None:
    grid.get_node_ids()
    for content in (
        {"arrays": model},
        {"arrays": model, "config": ConfigRecord({"qfl-config": 3})},
    ):
        message = Message(RecordDict(dict(content)), 1, "train")
        (reply,) = grid.send_and_receive([message])
        assert "the message holds no 'qfl-config'" in str(reply.error.reason)


def changed(model: ArrayRecord, **arrays: Any) -> ArrayRecord:
    kept = {name: array.numpy() for name, array in model.items()}
    made = {name.replace("__", "."): value for name, value in arrays.items()}
    return record_of({name: a for name, a in (kept | made).items() if a is not None})


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"pre__weight": np.zeros((9, 9), np.float32)}, "size mismatch for pre.weight"),
        ({"pre__weight": None}, 'Missing key(s) in state_dict: "pre.weight"'),
        ({"extra": np.zeros(2, np.float32)}, 'Unexpected key(s) in state_dict: "extra"'),
        ({"pre__weight": np.array([["a"] * 4] * 4)}, "can't convert np.ndarray of type"),
    ],
)
def test_arrays_of_another_model_are_refused(
    grid: LocalGrid, wire: Make, model: ArrayRecord, arrays: Any, words: str
) -> None:
    reason = refusal(grid, wire(), changed(model, **arrays))
    assert "PayloadError" in reason
    assert "the server's arrays do not fit model mlp" in reason
    assert words in reason


def test_pickled_arrays_and_missing_ones_are_refused(
    grid: LocalGrid, wire: Make, model: ArrayRecord
) -> None:
    import io

    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    pickled = Array("object", (1,), "numpy.ndarray", file.getvalue())
    reason = refusal(grid, wire(), ArrayRecord({"pre.weight": pickled}))
    assert "PayloadError" in reason and "the arrays of a message cannot be read" in reason
    assert "do not fit model mlp" in refusal(grid, wire())


def test_a_node_beyond_the_last_client_holds_no_data(
    experiment: Make, wire: Make, model: ArrayRecord
) -> None:
    with LocalGrid(make_client_app(), 4) as grid:
        replies = ask(grid, wire(), model, nodes=(3, 4))
    assert not replies[0].has_error()
    assert "this node is partition 3; the configuration has 3 clients" in str(
        replies[1].error.reason
    )


@pytest.mark.parametrize("index", [None, -1, "one"])
def test_a_node_without_a_number_is_refused(wire: Make, model: ArrayRecord, index: Any) -> None:
    def renumber(message: Message, context: Context, call_next: Any) -> Message:
        context.node_config.pop("partition-id")
        if index is not None:
            context.node_config["partition-id"] = index
        reply: Message = call_next(message, context)
        return reply

    with LocalGrid(make_client_app([renumber]), 1) as grid:
        reason = refusal(grid, wire(), model)
    assert f"this node's configuration has partition-id={index!r}" in reason
