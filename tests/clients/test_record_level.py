"""A client pays before it trains, with its own sampling rate, and takes no part unpaid."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict

from qfl._flower_compat import set_task_identity
from qfl.clients import local_data, make_client_app
from qfl.clients.accounts import Accounts
from qfl.clients.record_level import plan_of
from qfl.clients.torch_app import dataset_digest
from qfl.conf.checks import from_dict, to_dict
from qfl.conf.schema import ExperimentConfig
from qfl.errors import BudgetSpentError, ConfigError, PayloadError, PrivacyError
from qfl.models import build_model
from qfl.privacy import Ledger, PrivacyFloor, epsilon_of

Make = Callable[..., ExperimentConfig]


@pytest.fixture(autouse=True)
def _identity() -> None:
    set_task_identity(1, 0)


@pytest.fixture
def private(experiment: Make) -> Make:
    def make(**changes: Any) -> ExperimentConfig:
        privacy = {"mechanism": "dpsgd", **changes.pop("privacy", {})}
        strategy = {"weighting": "uniform"}
        return experiment(privacy=privacy, strategy=strategy, rounds=3, **changes)

    return make


def ask(
    config: ExperimentConfig, kind: str = "train", partition: int = 0
) -> tuple[Message, Context]:

    dataset, _ = local_data.load_parts(config)
    model = build_model(config.model, config.quantum, local_data.data_shape(config, dataset))
    wire = {"qfl-config": json.dumps(to_dict(config)), "server-round": 1}
    content = RecordDict(
        {"arrays": ArrayRecord(model.state_dict()), "config": ConfigRecord(dict(wire))}
    )
    message = Message(content, dst_node_id=1, message_type=kind)
    context = Context(7, 1, {"partition-id": partition}, RecordDict(), {})
    return message, context


def accounts(tmp_path: Path, floor: PrivacyFloor | None = None) -> Accounts:
    return Accounts(str(tmp_path / "ledger.sqlite"), floor, dataset_digest)


def test_the_ledger_holds_what_the_round_costs(private: Make, tmp_path: Path) -> None:
    config = private(privacy={"epsilon": 4.0}, client={"batch_size": 8, "local_epochs": 2})
    app = make_client_app([], accounts(tmp_path))
    message, context = ask(config)
    records = len(local_data.load_parts(config)[1][0])
    reply = app(message, context)
    assert not reply.has_error()
    ledger = Ledger(tmp_path / "ledger.sqlite")
    (entry,) = ledger.entries()
    assert entry.dataset == dataset_digest(message, context)
    assert entry.charge.sample_rate == pytest.approx(8 / records)
    assert entry.charge.steps == 2 * round(records / 8)
    # Three rounds of this fill the budget, and hardly leave any.
    assert 3.9 < epsilon_of([entry.charge] * 3, 1e-5) <= 4.0


def test_nothing_but_the_model_and_a_one_comes_back(private: Make, tmp_path: Path) -> None:
    app = make_client_app([], accounts(tmp_path))
    reply = app(*ask(private()))
    (metrics,) = reply.content.metric_records.values()
    assert dict(metrics) == {"num-examples": 1}


def test_a_budget_pays_for_so_many_rounds_and_no_more(private: Make, tmp_path: Path) -> None:
    config = private(privacy={"epsilon": 4.0})
    app = make_client_app([], accounts(tmp_path))
    for _ in range(3):
        app(*ask(config))
    with pytest.raises(BudgetSpentError, match="privacy budget is spent"):
        app(*ask(config))
    app(*ask(config, partition=1))  # another's data have a budget of their own
    assert len(Ledger(tmp_path / "ledger.sqlite").entries()) == 4


def test_a_refusal_does_not_tell_what_was_spent(private: Make, tmp_path: Path) -> None:
    app = make_client_app([], accounts(tmp_path))
    config = private(privacy={"epsilon": 1e-3, "noise_multiplier": 0.5})
    with pytest.raises(BudgetSpentError) as refused:
        app(*ask(config))
    told = epsilon_of(
        [plan_of(config, len(local_data.load_parts(config)[1][0]), 1.0).charge()], 1e-5
    )
    assert f"{told:.2f}" not in str(refused.value)
    assert refused.value.__suppress_context__


def test_a_client_without_records_pays_and_sends_the_model_back(
    private: Make, tmp_path: Path
) -> None:
    config = private(
        partition={"name": "quantity", "alpha": 0.01, "min_examples": 0},
        preprocess={"scale": "none", "fit": "public"},
    )
    sizes = [len(part) for part in local_data.load_parts(config)[1]]
    app = make_client_app([], accounts(tmp_path))
    message, context = ask(config, partition=sizes.index(0))
    before = {name: array.numpy() for name, array in message.content["arrays"].items()}
    reply = app(message, context)
    after = next(iter(reply.content.array_records.values()))
    assert all(np.array_equal(before[name], array.numpy()) for name, array in after.items())


@pytest.mark.parametrize("kind", ["evaluate", "query.count", "query.moments", "query.sensitivity"])
def test_metrics_and_statistics_stay(private: Make, tmp_path: Path, kind: str) -> None:
    app = make_client_app([], accounts(tmp_path))
    with pytest.raises(PayloadError, match="nothing but a private update"):
        app(*ask(private(), kind))


@pytest.mark.parametrize(
    ("floor", "words"),
    [
        (PrivacyFloor(noise_multiplier=50.0), "noise_multiplier"),
        (PrivacyFloor(clipping_norm=0.1), "clipping_norm"),
        (PrivacyFloor(sample_rate=0.01), "sample_rate"),
        (PrivacyFloor(("central",)), "mechanism dpsgd"),
    ],
)
def test_training_weaker_than_the_floor_is_refused_before_it_is_paid(
    private: Make, tmp_path: Path, floor: PrivacyFloor, words: str
) -> None:
    app = make_client_app([], accounts(tmp_path, floor))
    with pytest.raises(PrivacyError, match=words):
        app(*ask(private()))
    assert not (tmp_path / "ledger.sqlite").exists()


def test_training_without_noise_is_refused_by_a_floor(experiment: Make, tmp_path: Path) -> None:
    app = make_client_app([], accounts(tmp_path, PrivacyFloor()))
    with pytest.raises(PrivacyError, match="without differential privacy"):
        app(*ask(experiment()))


def test_without_a_ledger_there_is_no_private_training(private: Make) -> None:
    with pytest.raises(PrivacyError, match="keeps no ledger"):
        make_client_app([], Accounts(dataset=dataset_digest))(*ask(private()))


def test_the_sampling_rate_follows_from_the_clients_own_records(private: Make) -> None:
    config = private(client={"batch_size": 10})
    assert [plan_of(config, records, 1.0).sample_rate for records in (5, 20, 100)] == [1, 0.5, 0.1]
    noise = [plan_of(config, records, 1.0).noise_multiplier for records in (20, 100)]
    assert noise[0] > noise[1]  # who samples more often needs more noise for the same budget
    fixed = private(privacy={"sample_rate": 0.2}, client={"local_epochs": 2})
    assert plan_of(fixed, 7, 1.0).sample_rate == 0.2
    assert plan_of(fixed, 7, 1.0).steps == 10


def test_an_adaptive_norm_goes_on_where_the_last_round_ended(private: Make, tmp_path: Path) -> None:
    # Twenty steps, after which noise of 1/32 on each share of unclipped is nothing beside 1/2.
    config = private(
        privacy={"clipping": "adaptive", "clipping_norm": 9.0, "epsilon": 50.0, "count_noise": 1.0},
        client={"local_epochs": 20},
    )
    app = make_client_app([], accounts(tmp_path))
    message, context = ask(config)
    app(message, context)
    first = float(str(context.state.config_records["qfl-clipping-norm"]["norm"]))
    again, _ = ask(config)
    app(again, context)
    second = float(str(context.state.config_records["qfl-clipping-norm"]["norm"]))
    # All gradients are within 9 at first, so the norm shrinks, and does not start again at 9.
    assert second < first < 9.0


def test_what_names_a_data_set_is_its_content(private: Make) -> None:
    one, other = private(), private(client={"lr": 0.5})
    assert dataset_digest(*ask(one)) == dataset_digest(*ask(other))
    assert dataset_digest(*ask(one)) != dataset_digest(*ask(one, partition=1))


def test_the_configuration_is_checked_like_any_other() -> None:
    with pytest.raises(ConfigError, match=r"set strategy\.weighting=uniform"):
        from_dict({"privacy": {"mechanism": "dpsgd"}})
