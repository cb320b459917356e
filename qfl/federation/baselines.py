"""What a result is held against: no encryption, a classical twin, pooled data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from qfl.clients import local_data
from qfl.conf.schema import (
    BaselinesConfig,
    ExperimentConfig,
    IdentityConfig,
    PrivacyConfig,
    SelectiveConfig,
)
from qfl.errors import DataError
from qfl.federation.experiment import Experiment
from qfl.models import twin_of


def plain_config(config: ExperimentConfig) -> ExperimentConfig:
    """The same federation without encryption, and without differential privacy."""
    return replace(_unencrypted(config), privacy=PrivacyConfig())


def plain_title(config: ExperimentConfig) -> str:
    """What :func:`plain_config` leaves out; empty where there is nothing to leave out."""
    left_out = {
        "encryption": config.strategy.scheme != "plain",
        "privacy": config.privacy.mechanism != "none",
    }
    named = " or ".join(name for name, there in left_out.items() if there)
    return f"the same without {named}" if named else ""


def _unencrypted(config: ExperimentConfig) -> ExperimentConfig:
    strategy = replace(
        config.strategy,
        scheme="plain",
        trust="none",
        release="server",
        selective=SelectiveConfig(),
    )
    return replace(
        config, strategy=strategy, identity=IdentityConfig(), baselines=BaselinesConfig()
    )


def twin_config(config: ExperimentConfig) -> ExperimentConfig | None:
    """The classical twin in the same federation; None for a model that is classical itself.

    It is trained under the same privacy, and encrypted only where noise has to be added under
    encryption.
    """
    shape = local_data.data_shape(config, local_data.load_parts(config)[0])
    distributed = config.privacy.mechanism == "distributed"
    same = _unencrypted(config)
    if distributed:
        same = replace(config, identity=IdentityConfig(), baselines=BaselinesConfig())
    twin = twin_of(config.model, config.quantum, shape)
    return None if twin is None else replace(same, model=twin)


def pooled(experiment: Experiment) -> dict[str, Any]:
    """A linear model of scikit-learn's on all training data in one place."""
    statistics = experiment.pooled_statistics()
    train = statistics.apply(experiment.dataset.train)
    test = statistics.apply(experiment.dataset.test)
    x, x_test = (part.x.reshape(len(part), -1) for part in (train, test))
    truth = experiment.dataset.test.y
    if experiment.task == "classification":
        if len(np.unique(train.y)) < 2:
            raise DataError(
                "the pooled training data hold a single class, which no classifier learns from: "
                "give more data, or set baselines.pooled=false"
            )
        from sklearn.linear_model import LogisticRegression
        from sklearn.metrics import log_loss

        model = LogisticRegression(max_iter=1000).fit(x, train.y)
        labels = np.arange(len(experiment.dataset.classes))
        loss = (
            float(log_loss(truth, model.predict_proba(x_test), labels=model.classes_))
            if set(model.classes_) >= set(labels.tolist())
            else float("nan")
        )
        predicted, name = model.predict(x_test), "logistic regression"
    else:
        from sklearn.linear_model import LinearRegression

        model = LinearRegression().fit(x, train.y)
        scaled = model.predict(x_test)
        loss = float(np.mean((scaled - test.y) ** 2))
        predicted, name = statistics.restore_target(scaled), "linear regression"
    return {"name": name, **experiment.metrics(loss, predicted, truth)}
