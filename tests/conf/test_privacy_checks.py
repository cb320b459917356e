"""What differential privacy does not go together with is refused, by name."""

from __future__ import annotations

from typing import Any

import pytest

from qfl.conf.checks import from_dict
from qfl.errors import ConfigError


def private(mechanism: str = "dpsgd", **changes: Any) -> dict[str, Any]:
    privacy = {"mechanism": mechanism, **changes.pop("privacy", {})}
    strategy = {"weighting": "uniform", **changes.pop("strategy", {})}
    sections: dict[str, Any] = {"preprocess": {"fit": "public"}}
    return sections | {"privacy": privacy, "strategy": strategy} | changes


@pytest.mark.parametrize("mechanism", ["dpsgd", "central", "distributed", "local"])
def test_every_mechanism_goes_with_uniform_weights_and_public_scaling(mechanism: str) -> None:
    assert from_dict(private(mechanism)).privacy.mechanism == mechanism


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (private(privacy={"epsilon": 0.0}), "privacy.epsilon=0.0 is not allowed: must be > 0"),
        (private(privacy={"epsilon": -1.0}), "privacy.epsilon=-1.0 is not allowed"),
        (private(privacy={"delta": 0.0}), "privacy.delta=0.0 is not allowed: must be > 0 and < 1"),
        (private(privacy={"delta": 1.0}), "privacy.delta=1.0 is not allowed"),
        (private(privacy={"clipping_norm": 0.0}), "privacy.clipping_norm=0.0 is not allowed"),
        (private(privacy={"noise_multiplier": -1.0}), "privacy.noise_multiplier=-1.0"),
        (private(privacy={"sample_rate": 1.5}), "privacy.sample_rate=1.5 is not allowed"),
        (private(privacy={"mechanism": "dp-sgd"}), "privacy.mechanism=dp-sgd is not allowed"),
        (private(privacy={"epsilon": None}), "are both null"),
        (private(privacy={"noise_multiplier": 0.0}), "without noise no epsilon holds"),
        (private(strategy={"weighting": "examples"}), "set strategy.weighting=uniform"),
        (
            private(strategy={"selection": {"name": "by_size", "count": 3}}),
            "how many examples clients hold",
        ),
        (private(preprocess={"fit": "federated"}), "set preprocess.fit=public or local"),
        (
            private("central", strategy={"selective": {"by": "layers", "layers": "circuit.*"}}),
            "strategy.selective.by=layers with privacy=central",
        ),
        (
            private("distributed", strategy={"selective": {"by": "sensitivity"}}),
            "strategy.selective.by=sensitivity with privacy=distributed",
        ),
        (
            private(strategy={"selective": {"by": "sensitivity"}}),
            "release sensitivities of clients' data",
        ),
        (private("central", privacy={"clipping": "per_layer"}), "goes with privacy=dpsgd"),
        (private("local", privacy={"clipping": "adaptive"}), "set privacy.clipping=flat"),
        (
            private("distributed", strategy={"scheme": "plain", "trust": "none", "min_clients": 2}),
            "would show the server every update",
        ),
        (
            private("distributed", privacy={"colluders": 2}, strategy={"min_clients": 2}),
            "leaves nobody whose noise counts",
        ),
        (
            private("distributed", clients=3, strategy={"min_clients": 4}),
            "clients=3 is fewer than strategy.min_clients=4",
        ),
    ],
)
def test_what_has_no_guarantee_is_refused(data: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        from_dict(data)
    assert words in str(refused.value)


def test_without_noise_and_without_a_budget_nothing_is_promised_and_nothing_refused() -> None:
    config = from_dict(private(privacy={"noise_multiplier": 0.0, "epsilon": None}))
    assert config.privacy.noise_multiplier == 0.0


def test_record_level_privacy_goes_with_parameters_in_the_clear() -> None:
    from_dict(private(strategy={"selective": {"by": "layers", "layers": "circuit.*"}}))
