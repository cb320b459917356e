"""How the opened mean update changes the global model.

After Reddi et al., "Adaptive Federated Optimization" (ICLR 2021), and Hsu et al. 2019 for momentum.
The optimizer sees only the opened mean, so adaptive methods work under encryption as they do
without. Each is ``init`` and ``apply`` over a state of plain arrays; checkpoints store that state.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qfl.errors import ConfigError, PayloadError

Vector = NDArray[np.float64]
OptimizerState = dict[str, Vector]


class ServerOptimizer(Protocol):
    """A rule that turns mean updates into model changes."""

    def init(self, length: int) -> OptimizerState:
        """The state before the first round, for a model of ``length`` coordinates."""

    def apply(
        self, state: OptimizerState, mean: Vector, model: Vector
    ) -> tuple[OptimizerState, Vector]:
        """The next state and the next model."""


@dataclass(frozen=True)
class FedAvg:
    """Add the mean update, times a learning rate (McMahan et al. 2017 with lr=1).

    Example:
        >>> FedAvg(lr=0.5).apply({}, np.array([2.0]), np.array([1.0]))[1].tolist()
        [2.0]
    """

    lr: float = 1.0

    def init(self, length: int) -> OptimizerState:
        """No state."""
        return {}

    def apply(
        self, state: OptimizerState, mean: Vector, model: Vector
    ) -> tuple[OptimizerState, Vector]:
        """``model + lr * mean``."""
        return {}, model + self.lr * mean


@dataclass(frozen=True)
class FedAvgM:
    """Server momentum (Hsu et al. 2019)."""

    lr: float = 1.0
    momentum: float = 0.9

    def init(self, length: int) -> OptimizerState:
        """Zero velocity."""
        return {"velocity": np.zeros(length)}

    def apply(
        self, state: OptimizerState, mean: Vector, model: Vector
    ) -> tuple[OptimizerState, Vector]:
        """``velocity = momentum * velocity + mean``."""
        velocity = self.momentum * state["velocity"] + mean
        return {"velocity": velocity}, model + self.lr * velocity


@dataclass(frozen=True)
class FedAdam:
    """Adam on mean updates (Reddi et al. 2021, algorithm 2; no bias correction)."""

    lr: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3

    def init(self, length: int) -> OptimizerState:
        """First moment 0, second moment tau squared."""
        return {"first": np.zeros(length), "second": np.full(length, self.tau**2)}

    def apply(
        self, state: OptimizerState, mean: Vector, model: Vector
    ) -> tuple[OptimizerState, Vector]:
        """``model + lr * first / (sqrt(second) + tau)``."""
        first = self.beta1 * state["first"] + (1 - self.beta1) * mean
        second = self.second_moment(state["second"], mean**2)
        step = self.lr * first / (np.sqrt(second) + self.tau)
        return {"first": first, "second": second}, model + step

    def second_moment(self, second: Vector, square: Vector) -> Vector:
        """Exponential mean of squares."""
        return self.beta2 * second + (1 - self.beta2) * square


@dataclass(frozen=True)
class FedYogi(FedAdam):
    """Yogi on mean updates (Reddi et al. 2021): the second moment moves additively."""

    def second_moment(self, second: Vector, square: Vector) -> Vector:
        """Moves towards the square by at most its own size."""
        return second - (1 - self.beta2) * square * np.sign(second - square)


LARGEST_SETTING = 1e6

OPTIMIZERS: dict[str, type[FedAvg | FedAvgM | FedAdam | FedYogi]] = {
    "fedavg": FedAvg,
    "fedavgm": FedAvgM,
    "fedadam": FedAdam,
    "fedyogi": FedYogi,
}


def optimizer_to_json(optimizer: ServerOptimizer) -> str:
    """Name and settings of an optimizer, for whoever keeps the model.

    Raises:
        ConfigError: It is none of :data:`OPTIMIZERS`, so nobody else could run it.
    """
    for name, kind in OPTIMIZERS.items():
        if type(optimizer) is kind:
            return json.dumps({"name": name, **asdict(optimizer)})
    raise ConfigError(
        f"server optimizer {type(optimizer).__name__} cannot be run by a key holder, which knows "
        f"{', '.join(OPTIMIZERS)}: use one of these, or release=server"
    )


def optimizer_from_json(text: str) -> ServerOptimizer:
    """The inverse of :func:`optimizer_to_json`, for text that somebody else sent.

    Raises:
        PayloadError: It names something unknown or holds what is no number.
    """
    try:
        settings = json.loads(text)
        kind = OPTIMIZERS[settings.pop("name")]
        for key, value in settings.items():
            if type(value) not in (int, float) or not abs(value) <= LARGEST_SETTING:
                raise ValueError(f"{key!a} is no number of magnitude up to {LARGEST_SETTING:g}")
        return kind(**settings)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PayloadError(f"the server optimizer cannot be read: {error}") from None
