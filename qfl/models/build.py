"""From a configuration to a model, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qfl.conf.schema import (
    MODEL_CONFIGS,
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
from qfl.errors import ConfigError, unknown_name

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class DataShape:
    """What a model has to fit.

    Attributes:
        features: Features of an example, or channels of a time series.
        window: Points of a time series; 0 for tables.
        outputs: Classes, or 1 for a number.
        batch: Most examples at once, for the memory estimate.
    """

    features: int
    window: int
    outputs: int
    batch: int = 32


# Any, so that a builder may name the schema that it is registered with.
Builder = Callable[[Any, QuantumConfig, DataShape], "nn.Module"]


def _qnn(config: QnnConfig, quantum: QuantumConfig, shape: DataShape) -> nn.Module:
    from qfl.models.qnn import Qnn

    return Qnn(config, quantum, shape.features, shape.outputs, shape.batch)


def _qlstm(config: QlstmConfig, quantum: QuantumConfig, shape: DataShape) -> nn.Module:
    from qfl.models.qlstm import Qlstm

    return Qlstm(config, quantum, shape.features, shape.outputs, shape.batch)


def _qcnn(config: QcnnConfig, quantum: QuantumConfig, shape: DataShape) -> nn.Module:
    from qfl.models.qcnn import Qcnn

    return Qcnn(config, quantum, shape.features, shape.outputs, shape.batch)


def _quantum_kernel(
    config: QuantumKernelConfig, quantum: QuantumConfig, shape: DataShape
) -> nn.Module:
    from qfl.models.quantum_kernel import QuantumKernel

    return QuantumKernel(config, quantum, shape.features, shape.outputs, shape.batch)


def _mlp(config: MlpConfig, _: QuantumConfig, shape: DataShape) -> nn.Module:
    from qfl.models.mlp import Mlp

    return Mlp(config, shape.features, shape.outputs)


def _lstm(config: LstmConfig, _: QuantumConfig, shape: DataShape) -> nn.Module:
    from qfl.models.lstm import Lstm

    return Lstm(config, shape.features, shape.outputs)


def _cnn(config: CnnConfig, _: QuantumConfig, shape: DataShape) -> nn.Module:
    from qfl.models.cnn import Cnn

    return Cnn(config, shape.features, shape.outputs)


def _rbf(config: RbfConfig, _: QuantumConfig, shape: DataShape) -> nn.Module:
    from qfl.models.rbf import Rbf

    return Rbf(config, shape.features, shape.outputs)


_BUILDERS: dict[str, Builder] = {
    "qnn": _qnn,
    "qlstm": _qlstm,
    "qcnn": _qcnn,
    "quantum_kernel": _quantum_kernel,
    "mlp": _mlp,
    "lstm": _lstm,
    "cnn": _cnn,
    "rbf": _rbf,
}
_SERIES = {"qlstm", "lstm"}


def register_model(
    name: str, schema: type[ModelConfig], build: Builder, *, series: bool = False
) -> None:
    """Add a model of your own.

    Args:
        name: What ``model.name`` says.
        schema: Dataclass of its settings; its field ``name`` has this name as its default.
        build: Makes the module.
        series: Whether it takes windows (batch, window, channels) rather than rows.

    Raises:
        ConfigError: The name is taken, or the schema's default name is another.
    """
    if name in _BUILDERS:
        raise ConfigError(f"model '{name}' is already registered: choose another name")
    if (default := schema().name) != name:
        raise ConfigError(
            f"{schema.__name__} has the default name '{default}', which would build another "
            f"model: give its field 'name' the default '{name}'"
        )
    MODEL_CONFIGS[name] = schema
    _BUILDERS[name] = build
    if series:
        _SERIES.add(name)


def build_model(config: ModelConfig, quantum: QuantumConfig, shape: DataShape) -> nn.Module:
    """A model with fresh parameters.

    Raises:
        ConfigError: The model is unknown, does not take this kind of data, or does not fit into
            memory.
    """
    if config.name not in _BUILDERS:
        raise ConfigError(unknown_name("model", config.name, _BUILDERS))
    if bool(shape.window) != (config.name in _SERIES):
        takes = "windows of a time series" if config.name in _SERIES else "rows of a table"
        given = "windows of a time series" if shape.window else "rows of a table"
        raise ConfigError(
            f"model={config.name} takes {takes}; the data set gives {given}: choose another model "
            "or data set"
        )
    return _BUILDERS[config.name](config, quantum, shape)


def initial_model(
    config: ModelConfig, quantum: QuantumConfig, shape: DataShape, seed: int
) -> nn.Module:
    """A model whose parameters follow from the seed."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_model(config, quantum, shape)


def count_parameters(model: nn.Module) -> int:
    """Trainable numbers in a model."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
