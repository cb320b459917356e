"""What differential privacy does not go together with, refused by name."""

from __future__ import annotations

from qfl.conf.schema import ExperimentConfig
from qfl.errors import ConfigError


def check_privacy(config: ExperimentConfig) -> None:
    """Refuse what would leave a client without noise, or has no guarantee.

    Raises:
        ConfigError: Names the fields, their values and what to do.
    """
    asked, strategy = config.privacy, config.strategy
    mechanism = asked.mechanism
    if mechanism == "none":
        return
    if asked.noise_multiplier is None and asked.epsilon is None:
        raise ConfigError(
            "privacy.noise_multiplier and privacy.epsilon are both null: one of them has to say "
            "how much noise there is"
        )
    if asked.noise_multiplier == 0 and asked.epsilon is not None:
        raise ConfigError(
            f"privacy.noise_multiplier=0 with privacy.epsilon={asked.epsilon:g}: without noise no "
            "epsilon holds; set privacy.noise_multiplier=null, or privacy.epsilon=null to record "
            "that nothing is guaranteed"
        )
    if strategy.weighting != "uniform":
        raise ConfigError(
            f"strategy.weighting={strategy.weighting} with privacy={mechanism} would release how "
            "many examples clients hold: set strategy.weighting=uniform"
        )
    if strategy.selection.name == "by_size":
        raise ConfigError(
            f"strategy.selection=by_size with privacy={mechanism} would release how many examples "
            "clients hold: choose all, fraction or count"
        )
    if config.preprocess.fit == "federated":
        raise ConfigError(
            f"preprocess.fit=federated with privacy={mechanism} would release sums over clients' "
            "data without noise: set preprocess.fit=public or local"
        )
    if mechanism == "dpsgd":
        if strategy.selective.by == "sensitivity":
            raise ConfigError(
                "strategy.selective.by=sensitivity with privacy=dpsgd would release sensitivities "
                "of clients' data without noise: set strategy.selective.by=all or layers"
            )
        return
    if strategy.selective.by != "all":
        raise ConfigError(
            f"strategy.selective.by={strategy.selective.by} with privacy={mechanism} would send "
            "parameters in the clear and without their noise: set strategy.selective.by=all"
        )
    if asked.clipping == "per_layer":
        raise ConfigError(
            f"privacy.clipping=per_layer goes with privacy=dpsgd; under {mechanism} set "
            "privacy.clipping=flat or adaptive"
        )
    _check_adaptive(config)
    _check_distributed(config)


def _check_adaptive(config: ExperimentConfig) -> None:
    asked = config.privacy
    if asked.clipping == "adaptive" and asked.mechanism == "local":
        raise ConfigError(
            "privacy.clipping=adaptive with privacy=local would add the noise of every client to "
            "the count of unclipped updates: set privacy.clipping=flat"
        )


def _check_distributed(config: ExperimentConfig) -> None:
    asked, strategy = config.privacy, config.strategy
    if asked.mechanism != "distributed":
        return
    if strategy.scheme == "plain":
        raise ConfigError(
            "privacy=distributed with strategy=plain would show the server every update with a "
            "share of the noise: use ckks, packed, hybrid or masking, or privacy=local"
        )
    if asked.colluders >= strategy.min_clients:
        raise ConfigError(
            f"privacy.colluders={asked.colluders} with strategy.min_clients="
            f"{strategy.min_clients} leaves nobody whose noise counts: raise "
            "strategy.min_clients, or lower privacy.colluders"
        )
