"""Composing from Python, and one sentence for whatever Hydra refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from qfl import load_config
from qfl.conf.schema import QlstmConfig, QnnConfig
from qfl.errors import ConfigError, DataError
from qfl.federation.compose import translate


def test_the_demo_as_documented() -> None:
    config = load_config(["experiment=demo", "rounds=3"])
    assert (config.name, config.rounds, config.clients) == ("demo", 3, 10)
    assert config.model == QnnConfig()
    assert config.strategy.scheme == "ckks"
    assert config.baselines.twin


def test_choices_and_values_override_the_experiment() -> None:
    config = load_config(["experiment=forecast", "model.hidden=7", "strategy=plain", "seed=5"])
    assert config.model == QlstmConfig(n_qubits=6, hidden=7)
    assert (config.strategy.trust, config.seed) == ("none", 5)


def test_a_name_may_be_given() -> None:
    assert load_config(["name=mine"]).name == "mine"


def test_composing_twice_gives_the_same() -> None:
    assert load_config(["dataset=iris"]) == load_config(["dataset=iris"])


def test_files_of_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\ndefaults:\n  - override /dataset: wine\nrounds: 4\nclient: {lr: 1}"
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    config = load_config(["experiment=mine"], config_dir=tmp_path)
    assert (config.name, config.rounds, config.dataset.name) == ("mine", 4, "wine")
    with pytest.raises(ConfigError, match="unknown experiment 'mien'; did you mean 'mine'"):
        load_config(["experiment=mien"], config_dir=tmp_path)


def test_a_misspelt_key_in_the_users_own_file(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\nclient:\n  lrr: 0.1\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"unknown key 'client.lrr'; did you mean 'client.lr'"):
        load_config(["experiment=mine"], config_dir=tmp_path)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("roundz=3", "unknown key 'roundz'; did you mean 'rounds'"),
        ("+roundz=3", "unknown key 'roundz'; did you mean 'rounds'"),
        ("client.lrr=1", "unknown key 'client.lrr'; did you mean 'client.lr'"),
        ("model.n_qubit=3", "unknown key 'model.n_qubit'; did you mean 'model.n_qubits'"),
        ("strategy.selection.cuont=3", "did you mean 'strategy.selection.count'"),
        ("experiment=dmeo", "unknown experiment 'dmeo'; did you mean 'demo'"),
        ("dataset=irs", "unknown dataset 'irs'; did you mean 'iris'"),
        ("model=qn", "unknown model 'qn'; did you mean 'qnn'"),
        ("rounds=many", "rounds: Value 'many' of type 'str' could not be converted to Integer"),
        ("rounds=1.5", "rounds: Value '1.5' .* could not be converted to Integer"),
        ("client.lr=fast", "client.lr: Value 'fast' .* could not be converted to Float"),
        ("baselines.twin=perhaps", "baselines.twin: Value 'perhaps' is not a valid bool"),
        ("rounds=0", "rounds=0 is not allowed: must be >= 1"),
        ("client.lr=nan", "client.lr=nan is not allowed"),
        ("rounds", "cannot read 'rounds': .*an override is KEY=VALUE"),
        ("rounds=[1", r"cannot read 'rounds=\[1': .*an override is KEY=VALUE"),
        ("nosuchgroup=3", "unknown key 'nosuchgroup'"),
        ("rounds=null", "rounds"),
        ("dataset.path=${oc.nothing:1}", "oc.nothing"),
    ],
)
def test_what_hydra_refuses_is_told_in_a_sentence(override: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refusal:
        load_config([override])
    assert "Traceback" not in str(refusal.value)
    assert refusal.value.exit_code == 2


def test_errors_of_ours_stay_and_those_of_others_are_raised() -> None:
    ours = DataError("no such file")
    assert translate(ours) is ours
    with pytest.raises(ZeroDivisionError):
        translate(ZeroDivisionError())
