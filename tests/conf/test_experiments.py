"""What the experiments with privacy say of themselves."""

from __future__ import annotations

from typing import Any

import pytest

from qfl.clients.record_level import plan_of
from qfl.conf.checks import to_dict
from qfl.federation.baselines import plain_config
from qfl.federation.compose import load_config
from qfl.federation.experiment import Experiment


def leaves(tree: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Values by dotted key."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        below = leaves(value, f"{path}{key}.") if isinstance(value, dict) else {path + key: value}
        found.update(below)
    return found


def changed(first: str, second: str) -> set[str]:
    ours, theirs = (
        leaves(to_dict(load_config([f"experiment={name}"]))) for name in (first, second)
    )
    assert ours.keys() == theirs.keys()
    return {key for key in ours if ours[key] != theirs[key]}


def test_the_private_demo_is_the_demo_but_for_privacy() -> None:
    # Weights and scaling would tell numbers of examples and moments.
    expected = {"name", "privacy.mechanism", "strategy.weighting", "preprocess.fit"}
    assert changed("demo", "private_demo") == expected


def test_the_curve_trains_the_demos_model_on_the_demos_clients() -> None:
    same = ("dataset.", "partition.", "model.", "quantum.", "clients", "seed", "strategy.scheme")
    assert not [key for key in changed("demo", "digits_dp") if key.startswith(same)]


@pytest.mark.parametrize("seed", [0, 1])
def test_a_round_of_the_curve_is_one_step_on_all_of_a_clients_records(seed: int) -> None:
    config = load_config(["experiment=digits_dp", f"seed={seed}"])
    sizes = [len(part) for part in Experiment.prepare(config).parts]
    for size in sizes:
        plan = plan_of(config, size, config.privacy.clipping_norm)
        assert (plan.sample_rate, plan.steps) == (1.0, 1)
    # So it is without privacy, where batches are cut from the records.
    assert plain_config(config).client.batch_size >= max(sizes)
