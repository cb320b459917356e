"""The schemas and the files in conf/ belong together."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import qfl.conf
from qfl.conf import schema
from qfl.conf.checks import check
from qfl.conf.schema import MODEL_CONFIGS, ExperimentConfig, ModelConfig
from qfl.conf.trust import TRUSTS
from qfl.federation.compose import load_config

FOLDER = Path(next(iter(qfl.conf.__path__)))
OWN_DATA = ["dataset.path=data", "dataset.target=y"]
KNOWN_BOUNDS = {"meaning", "ge", "gt", "le", "lt", "choices"}


def schemas() -> list[Any]:
    return [value for value in vars(schema).values() if is_dataclass(value)]


@pytest.mark.parametrize("kind", schemas(), ids=lambda kind: kind.__name__)
def test_every_field_says_what_it_means_and_has_a_default_that_is_allowed(kind: Any) -> None:
    hints = get_type_hints(kind)
    for item in fields(kind):
        if is_dataclass(hints[item.name]):
            continue
        assert len(item.metadata["meaning"]) > 3, item.name
        assert not set(item.metadata) - KNOWN_BOUNDS, item.name
        if "choices" in item.metadata:
            assert item.default in item.metadata["choices"], item.name
    assert kind.__doc__


def test_the_default_experiment_is_allowed() -> None:
    check(ExperimentConfig())
    for model in MODEL_CONFIGS.values():
        check(ExperimentConfig(model=model()))


def test_model_schemas_are_called_what_they_are_registered_as() -> None:
    assert all(kind().name == name for name, kind in MODEL_CONFIGS.items())
    assert all(issubclass(kind, ModelConfig) for kind in MODEL_CONFIGS.values())


def options() -> list[tuple[str, str]]:
    return sorted(
        (path.parent.name, path.stem)
        for path in FOLDER.glob("*/*.yaml")
        if path.parent.name != "experiment"
    )


@pytest.mark.parametrize(("group", "option"), options())
def test_every_option_composes(group: str, option: str) -> None:
    config = load_config([f"{group}={option}", *(OWN_DATA if group == "dataset" else [])])
    chosen = getattr(config, group)
    named_by = {"strategy": "scheme", "privacy": "mechanism", "quantum": None, "client": None}
    expected = named_by.get(group, "name")
    if expected:
        # A strategy's file is named after its scheme, and after its trust where there are several.
        named = option.split("_")[0] if group == "strategy" else option
        assert getattr(chosen, expected) == named


def test_quantum_options_choose_engine_and_device() -> None:
    fast, lightning = (load_config([f"quantum={name}"]).quantum for name in ("fast", "lightning"))
    assert (fast.engine, fast.device) == ("auto", "default.qubit")
    assert (lightning.engine, lightning.device) == ("pennylane", "lightning.qubit")


def test_every_name_of_a_choice_has_its_file() -> None:
    def names(group: str) -> set[str]:
        return {option for folder, option in options() if folder == group}

    built_in = {"digits", "breast_cancer", "wine", "iris", "diabetes", "csv", "parquet", "npz"}
    built_in |= {"bessel_j2", "damped_oscillator", "narma10"}
    assert names("dataset") == built_in
    assert names("partition") == {"iid", "dirichlet", "shards", "quantity", "contiguous", "files"}
    first = {scheme: trusts[0] for scheme, trusts in TRUSTS.items()}
    assert names("strategy") == {
        scheme if trust == first[scheme] else f"{scheme}_{trust}"
        for scheme, trusts in TRUSTS.items()
        for trust in trusts
    }
    assert names("model") == set(MODEL_CONFIGS)


@pytest.mark.parametrize(
    "path", sorted((FOLDER / "experiment").glob("*.yaml")), ids=lambda p: p.stem
)
def test_every_experiment_composes_under_its_own_name(path: Path) -> None:
    assert load_config([f"experiment={path.stem}"]).name == path.stem


def test_options_set_what_they_stand_for() -> None:
    assert load_config(["client=fedprox"]).client.proximal_mu > 0
    sgd = load_config(["client=sgd"]).client
    assert (sgd.optimizer, sgd.momentum) == ("sgd", 0.9)
    assert load_config(["quantum=lightning"]).quantum.diff_method == "adjoint"
    assert load_config(["dataset=diabetes"]).dataset.task == "regression"
    assert load_config(["strategy=plain"]).strategy.trust == "none"
