"""Every model of the registry, small, and gradients of single records by one backward pass each."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

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
from qfl.models import DataShape, initial_model

Floats = NDArray[np.float64]

IMAGES = DataShape(features=16, window=0, outputs=3)
SERIES = DataShape(features=2, window=4, outputs=3)
MODELS: list[tuple[ModelConfig, DataShape]] = [
    (QnnConfig(n_qubits=3), IMAGES),
    (QnnConfig(n_qubits=3, encoding="reuploading", ansatz="basic_entangler"), IMAGES),
    (QnnConfig(n_qubits=3, encoding="iqp"), IMAGES),
    (QnnConfig(n_qubits=3, encoding="amplitude"), IMAGES),
    (QnnConfig(n_qubits=4, encoding="amplitude", pre="none"), IMAGES),
    (QnnConfig(n_qubits=3, pre="none"), DataShape(features=3, window=0, outputs=3)),
    (QcnnConfig(), IMAGES),
    (QcnnConfig(kind="pooling"), IMAGES),
    (QuantumKernelConfig(n_qubits=3, landmarks=4), IMAGES),
    (QlstmConfig(n_qubits=2, n_layers=1, hidden=3), SERIES),
    (QlstmConfig(n_qubits=2, n_layers=1, hidden=3, attention=True), SERIES),
    (MlpConfig(), IMAGES),
    (CnnConfig(), IMAGES),
    (RbfConfig(landmarks=4), IMAGES),
    (LstmConfig(hidden=3), SERIES),
    (LstmConfig(hidden=3, layers=2, attention=True), SERIES),
]


def name_of(value: object) -> str:
    """For the names of tests."""
    return f"{value.name}{MODELS_BY_ID[id(value)]}" if isinstance(value, ModelConfig) else ""


MODELS_BY_ID = {id(config): number for number, (config, _) in enumerate(MODELS)}


def model_of(config: ModelConfig, shape: DataShape, engine: str = "auto") -> nn.Module:
    """In float64, for comparisons to many digits."""
    return initial_model(config, QuantumConfig(engine=engine), shape, seed=1).double().train()


def batch_of(shape: DataShape, count: int = 5) -> tuple[Tensor, Tensor]:
    """Records of very different size, so that some are clipped and some are not."""
    generator = torch.Generator().manual_seed(2)
    size = (count, shape.window, shape.features) if shape.window else (count, shape.features)
    x = torch.randn(size, generator=generator).double()
    return x, torch.randint(0, shape.outputs, (count,), generator=generator)


def loss_of(outputs: Tensor, y: Tensor) -> Tensor:
    """Of which some records' gradients are a hundred times as large as others'."""
    each = nn.functional.cross_entropy(outputs, y, reduction="none")
    return (each * 10.0 ** (torch.arange(len(y)) % 3)).sum()


def loss_of_one(outputs: Tensor, y: Tensor, number: int) -> Tensor:
    """The part of record ``number``."""
    return 10.0 ** (number % 3) * nn.functional.cross_entropy(outputs, y, reduction="sum")


def one_by_one(model: nn.Module, x: Tensor, y: Tensor) -> list[dict[str, Tensor]]:
    """Each record's gradient by every trainable parameter, by a backward pass of its own."""
    parameters = {name: one for name, one in model.named_parameters() if one.requires_grad}
    rows = []
    for number in range(len(x)):
        loss = loss_of_one(model(x[number : number + 1]), y[number : number + 1], number)
        found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        rows.append(
            {
                name: torch.zeros_like(one) if gradient is None else gradient
                for (name, one), gradient in zip(parameters.items(), found, strict=True)
            }
        )
    return rows


def clipped_by_hand(rows: list[dict[str, Tensor]], norm: float, per_layer: bool) -> Floats:
    """Sum of the gradients, each scaled down to a norm, layer by layer where wanted."""
    layers = sorted({name.rpartition(".")[0] for name in rows[0]})
    total: dict[str, Tensor] = {name: torch.zeros_like(value) for name, value in rows[0].items()}
    for row in rows:
        for group in [[layer] for layer in layers] if per_layer else [layers]:
            own = {name: g for name, g in row.items() if name.rpartition(".")[0] in group}
            size = float(torch.cat([g.reshape(-1) for g in own.values()]).norm())
            limit = norm / len(layers) ** 0.5 if per_layer else norm
            for name, gradient in own.items():
                total[name] += gradient * min(1.0, limit / size if size else 1.0)
    joined: Floats = torch.cat([value.reshape(-1) for value in total.values()]).numpy()
    return joined
