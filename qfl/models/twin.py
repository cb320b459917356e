"""The classical model of like size that a quantum model is compared with."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from qfl.conf.schema import (
    CnnConfig,
    LstmConfig,
    MlpConfig,
    ModelConfig,
    QcnnConfig,
    QlstmConfig,
    QnnConfig,
    QuantumConfig,
    QuantumKernelConfig,
    RbfConfig,
)
from qfl.models.build import DataShape, count_parameters, initial_model


def twin_of(config: ModelConfig, quantum: QuantumConfig, shape: DataShape) -> ModelConfig | None:
    """The classical twin of a quantum model: its circuits replaced by what they stand for.

    A ``qcnn`` becomes the same network with a dense layer where the circuit was. The others become
    the ``mlp``, ``lstm`` or ``rbf`` whose number of parameters on this data is nearest, and which
    is at least two units wide.

    Returns:
        None for a model that is classical itself.

    Example:
        >>> shape = DataShape(features=64, window=0, outputs=10)
        >>> twin_of(QnnConfig(), QuantumConfig(), shape)
        MlpConfig(name='mlp', width=8, hidden=8)
    """
    if isinstance(config, QcnnConfig):
        return CnnConfig(channels=config.channels, per_patch=1 if config.kind == "pooling" else 4)
    of_size = _family(config)
    if of_size is None:
        return None

    def parameters(model: ModelConfig) -> int:
        return count_parameters(initial_model(model, quantum, shape, seed=0))

    wanted = parameters(config)
    smaller = of_size(2)
    for size in count(3):
        larger = of_size(size)
        if parameters(larger) >= wanted:
            break
        smaller = larger
    return min(smaller, larger, key=lambda model: abs(parameters(model) - wanted))


def _family(config: ModelConfig) -> Callable[[int], ModelConfig] | None:
    """Twins of a model, by size."""
    if isinstance(config, QnnConfig):
        return lambda size: MlpConfig(width=size, hidden=size)
    if isinstance(config, QlstmConfig):
        return lambda size: LstmConfig(hidden=size, attention=config.attention)
    if isinstance(config, QuantumKernelConfig):
        return lambda size: RbfConfig(width=size, landmarks=config.landmarks)
    return None
