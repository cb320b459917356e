"""What a configuration may hold, and how everything else is refused."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qfl.conf.checks import check, describe_allowed, from_dict, to_dict
from qfl.conf.schema import (
    ExperimentConfig,
    LstmConfig,
    MlpConfig,
    QnnConfig,
    SelectionConfig,
    StrategyConfig,
)
from qfl.errors import ConfigError

PLAIN = {"scheme": "plain", "trust": "none", "min_clients": 1}


def test_nothing_given_is_the_default_experiment() -> None:
    assert from_dict({}) == ExperimentConfig()


def test_values_arrive_where_they_belong() -> None:
    config = from_dict(
        {
            "rounds": 3,
            "client": {"lr": 1},
            "model": {"name": "lstm", "layers": 2},
            "preprocess": {"pca": None},
            "strategy": {"selection": {"name": "count", "count": 5}},
        }
    )
    assert (config.rounds, config.client.lr) == (3, 1.0)
    assert isinstance(config.client.lr, float)
    assert config.model == LstmConfig(layers=2)
    assert config.strategy.selection == SelectionConfig(name="count", count=5)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"round": 3}, "unknown key 'round'; did you mean 'rounds'"),
        ({"client": {"lrr": 1.0}}, "unknown key 'client.lrr'; did you mean 'client.lr'"),
        (
            {"strategy": {"selection": {"conut": 2}}},
            "unknown key 'strategy.selection.conut'; did you mean 'strategy.selection.count'",
        ),
        ({"model": {"name": "mlp", "n_qubits": 4}}, "unknown key 'model.n_qubits'"),
        ({"model": {"name": "mpl"}}, "unknown model 'mpl'; did you mean 'mlp'"),
        ({"model": {"name": ["qnn"]}}, "unknown model"),
        ({"model": {"name": None}}, "unknown model"),
        ({"dataset": {"name": "irs"}}, "dataset.name=irs is not allowed: must be one of digits"),
    ],
)
def test_unknown_names_are_refused(data: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        from_dict(data)


@pytest.mark.parametrize(
    "data",
    [
        {"_target_": "os.system"},
        {"model": {"name": "qnn", "_target_": "os.system"}},
        {"client": {"_target_": "os.system", "lr": 0.1}},
        {"strategy": {"selection": {"_target_": "os.system"}}},
        {"strategy": {"server_optimizer": {"_partial_": True}}},
    ],
)
def test_hydra_instructions_in_received_data_are_unknown_keys(data: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"unknown key '[a-z_.]*_(target|partial)_'"):
        from_dict(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"rounds": True}, "rounds=True is not allowed: must be of type int, not bool"),
        ({"rounds": 2.0}, "rounds=2.0 is not allowed: must be of type int, not float"),
        ({"rounds": "2"}, "rounds='2' is not allowed: must be of type int, not str"),
        ({"rounds": None}, "rounds=None is not allowed: must be of type int"),
        ({"client": {"lr": True}}, "client.lr=True is not allowed: must be of type float"),
        ({"baselines": {"plain": 1}}, "baselines.plain=1 is not allowed: must be of type bool"),
        ({"preprocess": {"pca": "3"}}, "preprocess.pca='3' is not allowed: must be of type int"),
        ({"dataset": {"path": 3}}, "dataset.path=3 is not allowed: must be of type str"),
        ({"name": ["demo"]}, "must be of type str, not list"),
        ({"client": None}, "client=None: must be a mapping"),
        ({"strategy": {"selection": []}}, r"strategy.selection=\[\]: must be a mapping"),
        ({"model": "qnn"}, "model='qnn': must be a mapping"),
        ({"rounds": 10**400}, "rounds is not allowed: must fit 64 bits"),
        ({"client": {"lr": 10**400}}, "client.lr is not allowed: must fit 64 bits"),
    ],
)
def test_wrong_types_are_refused(data: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        from_dict(data)


@pytest.mark.parametrize("data", [None, [], "rounds=3", 3])
def test_what_is_no_mapping_is_refused(data: Any) -> None:
    with pytest.raises(ConfigError, match=r"configuration=.*: must be a mapping"):
        from_dict(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"rounds": 0}, "rounds=0 is not allowed: must be >= 1"),
        ({"seed": -1}, "seed=-1 is not allowed: must be >= 0 and < 4294967296"),
        ({"seed": 2**32}, "seed=4294967296 is not allowed"),
        ({"client": {"lr": 0.0}}, "client.lr=0.0 is not allowed: must be > 0"),
        ({"client": {"lr": math.nan}}, "client.lr=nan is not allowed: must be > 0"),
        ({"client": {"lr": math.inf}}, "client.lr=inf is not allowed"),
        ({"stop": {"min_delta": math.inf}}, "stop.min_delta=inf is not allowed"),
        ({"dataset": {"test_fraction": 1.0}}, "dataset.test_fraction=1.0 .* > 0 and < 1"),
        ({"model": {"name": "qnn", "n_qubits": 31}}, "n_qubits=31 .* must be >= 1 and <= 30"),
        ({"strategy": {"bound": 65.0}}, "strategy.bound=65.0 is not allowed: must be > 0 and <= 6"),
        ({"strategy": {"grid_bits": 31}}, "strategy.grid_bits=31 .* must be >= 8 and <= 30"),
        ({"client": {"optimizer": "adm"}}, "client.optimizer=adm .* must be one of sgd, adam"),
        ({"preprocess": {"pca": 0}}, "preprocess.pca=0 is not allowed: must be >= 1"),
        (
            {"strategy": {"selection": {"fraction": 1.5}}},
            "strategy.selection.fraction=1.5 is not allowed: must be > 0 and <= 1",
        ),
    ],
)
def test_values_out_of_range_are_refused(data: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        from_dict(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"strategy": {"scheme": "plain"}}, "set strategy.trust=none"),
        ({"strategy": {"trust": "none"}}, "set strategy.trust=key_holder or shared"),
        ({"strategy": {"min_clients": 1}}, "must be >= 2, a sum of one update is that update"),
        ({"clients": 1}, "clients=1 is fewer than strategy.min_clients=2"),
        (
            {"strategy": {"selection": {"name": "count", "count": 11}}},
            "picks 11 clients; must be between strategy.min_clients=2 and clients=10",
        ),
        ({"strategy": {"selection": {"name": "by_size", "count": 1}}}, "picks 1 clients"),
        ({"strategy": {"selection": {"name": "fraction", "fraction": 0.1}}}, "picks 1 clients"),
        ({"dataset": {"name": "csv", "target": "y"}}, "dataset.path is not set and dataset=csv"),
        ({"dataset": {"name": "npz", "path": "a.npz"}}, "dataset.target is not set"),
    ],
)
def test_contradictions_are_refused(data: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        from_dict(data)


def test_a_fraction_is_rounded_up_before_it_is_judged() -> None:
    selection = {"name": "fraction", "fraction": 0.15}
    assert from_dict({"clients": 10, "strategy": {"selection": selection}}).clients == 10


def test_one_client_alone_may_train_in_the_clear() -> None:
    assert from_dict({"clients": 1, "strategy": PLAIN}).clients == 1


def test_check_judges_a_config_made_in_python() -> None:
    with pytest.raises(ConfigError, match="rounds=0"):
        check(ExperimentConfig(rounds=0))
    with pytest.raises(ConfigError, match=r"strategy\.bound=-1"):
        check(ExperimentConfig(strategy=StrategyConfig(bound=-1.0)))


def test_what_is_allowed_in_words() -> None:
    assert describe_allowed({"ge": 1, "le": 30}) == ">= 1 and <= 30"
    assert describe_allowed({"choices": ("a", "b")}) == "one of a, b"
    assert describe_allowed({"meaning": "a number"}) == ""


VALID = [
    to_dict(ExperimentConfig()),
    to_dict(ExperimentConfig(model=MlpConfig(), strategy=StrategyConfig(**PLAIN))),
    to_dict(ExperimentConfig(model=QnnConfig(n_qubits=2), resume="outputs/demo/x")),
    to_dict(ExperimentConfig(model=LstmConfig(), strategy=StrategyConfig(bound=1.0))),
]


@pytest.mark.parametrize("data", VALID)
def test_dictionaries_and_json_round_trip(data: dict[str, Any]) -> None:
    config = from_dict(data)
    assert to_dict(config) == data
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, 1, 2, 10**30, 10**400, -(10**400)])
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["plain", "ckks", "none", "count", "csv", "mlp", "by_size"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


def places(data: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    for key, value in data.items():
        yield data, key
        if isinstance(value, dict):
            yield from places(value)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_mutations_are_accepted_or_refused_never_crash(data: st.DataObject) -> None:
    mutated = copy.deepcopy(data.draw(st.sampled_from(VALID)))
    for _ in range(data.draw(st.integers(1, 3))):
        parent, key = data.draw(st.sampled_from(list(places(mutated))))
        kind = data.draw(st.sampled_from(["change", "remove", "add"]))
        if kind == "remove" and len(mutated) > 1:
            del parent[key]
        elif kind == "add":
            parent[data.draw(st.text(max_size=5))] = data.draw(ANYTHING)
        else:
            parent[key] = data.draw(ANYTHING)
    try:
        config = from_dict(mutated)
    except ConfigError:
        return
    assert from_dict(to_dict(config)) == config
