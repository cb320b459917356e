"""An experiment made ready: its data, its model, and its held-out evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qfl.clients import local_data
from qfl.clients.training import Evaluation, evaluate
from qfl.conf.schema import ExperimentConfig
from qfl.crypto import Arrays
from qfl.data import Dataset, Examples, Moments, Statistics
from qfl.models import DataShape, build_model, count_parameters, initial_model


@dataclass
class Experiment:
    """Data, model and evaluation of one configuration.

    Attributes:
        config: What was asked.
        dataset: Training and held-out examples.
        parts: Every client's training examples.
        shape: What a model has to fit.
        parameters: Trainable numbers in the model.
        statistics: How features are scaled: one for all clients, or one for each under
            ``preprocess.fit=local``.
    """

    config: ExperimentConfig
    dataset: Dataset
    parts: tuple[Examples, ...]
    shape: DataShape
    initial: Arrays
    parameters: int
    statistics: list[Statistics]

    @staticmethod
    def prepare(config: ExperimentConfig) -> Experiment:
        """Load data and build the initial model; whatever is impossible is refused here.

        Raises:
            DataError: The data cannot be read or split.
            ConfigError: The model does not fit the data or the memory.
            PrivacyError: The model cannot be trained privately, as was asked.
        """
        dataset, parts = local_data.load_parts(config)
        shape = local_data.data_shape(config, dataset)
        model = initial_model(config.model, config.quantum, shape, config.seed)
        if config.privacy.mechanism == "dpsgd":
            from qfl.privacy.supported import check_layers

            check_layers(model, config.privacy.gradients)
        initial = {name: value.numpy() for name, value in model.state_dict().items()}
        statistics: list[Statistics] = []
        if config.preprocess.fit == "public":
            statistics = [local_data.public(config, dataset)]
        elif config.preprocess.fit == "local":
            statistics = [
                local_data.statistics_of(config, local_data.own_moments(config, part))
                for part in parts
                if len(part)
            ]
        return Experiment(
            config, dataset, parts, shape, initial, count_parameters(model), statistics
        )

    @property
    def task(self) -> str:
        """``classification`` or ``regression``."""
        return self.config.dataset.task

    def moments_length(self) -> int:
        """Numbers that a client contributes to federated statistics."""
        return local_data.moments_length(self.config, self.dataset.train.features)

    def use_moments(self, summed: NDArray[np.float64]) -> None:
        """Take up statistics that the federation summed."""
        moments = Moments.from_vector(
            summed,
            self.dataset.train.features,
            self.config.preprocess.pca is not None,
            self.task == "regression",
        )
        self.statistics = [local_data.statistics_of(self.config, moments, through_scheme=True)]

    def pooled_statistics(self) -> Statistics:
        """Statistics of all training data in one place, for the pooled baseline."""
        if self.config.preprocess.fit == "public":
            return self.statistics[0]
        moments = local_data.own_moments(self.config, self.dataset.train)
        return local_data.statistics_of(self.config, moments)

    def model_with(self, arrays: Arrays) -> Any:
        """A model that holds these arrays."""
        import torch

        model = build_model(self.config.model, self.config.quantum, self.shape)
        model.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()})
        return model

    def evaluate(self, arrays: Arrays, examples: Examples) -> tuple[dict[str, float], NDArray[Any]]:
        """Metrics and predictions on raw examples.

        Under ``preprocess.fit=local`` every client sees the examples through its own scaling;
        metrics are means over clients, and predictions one row per client.
        """
        model = self.model_with(arrays)
        metrics, predictions = [], []
        for statistics in self.statistics:
            scaled = statistics.apply(examples)
            found = evaluate(model, scaled, self.task, 4 * self.shape.batch)
            predicted = self._in_data_units(found, statistics)
            metrics.append(self.metrics(found.loss, predicted, examples.y))
            predictions.append(predicted)
        means = {key: float(np.mean([entry[key] for entry in metrics])) for key in metrics[0]}
        return means, np.stack(predictions)

    def _in_data_units(self, found: Evaluation, statistics: Statistics) -> NDArray[Any]:
        if self.task == "classification":
            return found.predictions
        return statistics.restore_target(found.predictions.astype(np.float64))

    def metrics(
        self, loss: float, predicted: NDArray[Any], truth: NDArray[Any]
    ) -> dict[str, float]:
        """The metrics of the task; regression's are in the data's own units."""
        if self.task == "classification":
            return {"loss": loss, "accuracy": float(np.mean(predicted == truth))}
        error = predicted - truth
        spread = float(np.var(truth))
        return {
            "loss": loss,
            "rmse": float(np.sqrt(np.mean(error**2))),
            "mae": float(np.mean(np.abs(error))),
            "r2": 1.0 - float(np.mean(error**2)) / spread if spread else 0.0,
        }
