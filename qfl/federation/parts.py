"""From names in a configuration to the parts of a strategy."""

from __future__ import annotations

from qfl.conf.schema import (
    ExperimentConfig,
    PrivacyConfig,
    SelectionConfig,
    ServerOptimizerConfig,
)
from qfl.strategies import (
    Aggregation,
    ConvergenceMonitor,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedYogi,
    Privacy,
    SecureStrategy,
    SelectAll,
    SelectBySize,
    SelectCount,
    SelectFraction,
    Selection,
    Selective,
    ServerOptimizer,
)


def make_strategy(config: ExperimentConfig) -> SecureStrategy:
    """The strategy that an experiment asks for."""
    asked = config.strategy
    own = (
        ("eval_loss", "eval_accuracy")
        if config.dataset.task == "classification"
        else ("eval_loss",)
    )
    private = config.privacy.mechanism != "none"
    return SecureStrategy(
        aggregation=Aggregation(
            scheme=asked.scheme,
            weighting=asked.weighting,
            min_clients=asked.min_clients,
            bound=asked.bound,
            grid_bits=asked.grid_bits,
            trust=asked.trust,
            release=asked.release,
            rounding=asked.rounding,
            committee=asked.committee,
            threshold=asked.threshold,
            dropout=asked.dropout,
            corrupted=asked.corrupted,
            selective=Selective(
                asked.selective.by, asked.selective.share, tuple(asked.selective.layers.split())
            ),
        ),
        selection=make_selection(asked.selection),
        optimizer=make_optimizer(asked.server_optimizer),
        convergence=ConvergenceMonitor(config.stop.patience, config.stop.min_delta),
        privacy=make_privacy(config.privacy),
        metrics=() if private else ("train_loss",),
        # Nobody but clients can evaluate a model that the server does not see.
        evaluate_metrics=own if asked.release == "clients" and not private else (),
        anomalies=config.identity.anomalies,
        seed=config.seed,
    )


def make_privacy(asked: PrivacyConfig) -> Privacy:
    """What is promised to clients."""
    return Privacy(
        mechanism=asked.mechanism,
        epsilon=asked.epsilon,
        delta=asked.delta,
        noise_multiplier=asked.noise_multiplier,
        clipping_norm=asked.clipping_norm,
        noise=asked.noise,
        colluders=asked.colluders,
        # Under DP-SGD every client adapts on its own.
        count_noise=asked.count_noise
        if asked.clipping == "adaptive" and asked.mechanism != "dpsgd"
        else None,
        target_quantile=asked.target_quantile,
        clipping_lr=asked.clipping_lr,
        accountant=asked.accountant,
    )


def make_selection(asked: SelectionConfig) -> Selection:
    """Who trains in a round."""
    made: dict[str, Selection] = {
        "all": SelectAll(),
        "fraction": SelectFraction(asked.fraction),
        "count": SelectCount(asked.count),
        "by_size": SelectBySize(asked.count),
    }
    return made[asked.name]


def make_optimizer(asked: ServerOptimizerConfig) -> ServerOptimizer:
    """What is done with the opened mean."""
    made: dict[str, ServerOptimizer] = {
        "fedavg": FedAvg(asked.lr),
        "fedavgm": FedAvgM(asked.lr, asked.momentum),
        "fedadam": FedAdam(asked.lr, asked.beta1, asked.beta2, asked.tau),
        "fedyogi": FedYogi(asked.lr, asked.beta1, asked.beta2, asked.tau),
    }
    return made[asked.name]
