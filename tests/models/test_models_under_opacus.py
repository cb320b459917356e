"""Per-sample gradients of every model are exact under Opacus, as DP-SGD needs them."""

from __future__ import annotations

import pytest
import torch
from opacus.grad_sample import GradSampleModule

from qfl.conf.schema import (
    CnnConfig,
    ModelConfig,
    QcnnConfig,
    QlstmConfig,
    QnnConfig,
    QuantumConfig,
    QuantumKernelConfig,
    RbfConfig,
)
from qfl.models import DataShape, initial_model
from qfl.quantum.opacus import register_grad_sampler

IMAGES = DataShape(features=16, window=0, outputs=3)
SERIES = DataShape(features=2, window=4, outputs=1)


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        (QnnConfig(n_qubits=3), IMAGES),
        (QnnConfig(n_qubits=4, encoding="amplitude", pre="none"), IMAGES),
        (QnnConfig(n_qubits=3, encoding="iqp"), IMAGES),
        (QcnnConfig(), IMAGES),
        (QcnnConfig(kind="pooling"), IMAGES),
        (QuantumKernelConfig(n_qubits=3, landmarks=4), IMAGES),
        (QlstmConfig(n_qubits=2, n_layers=1, hidden=3), SERIES),
        (QlstmConfig(n_qubits=2, n_layers=1, hidden=3, attention=True), SERIES),
        (CnnConfig(), IMAGES),
        (RbfConfig(), IMAGES),
    ],
)
def test_they_equal_one_backward_pass_per_sample(config: ModelConfig, shape: DataShape) -> None:
    register_grad_sampler()
    model = initial_model(config, QuantumConfig(), shape, seed=0).double()
    size = (4, shape.window, shape.features) if shape.window else (4, shape.features)
    x = torch.randn(*size, generator=torch.Generator().manual_seed(0)).double()
    expected: dict[str, list[torch.Tensor]] = {name: [] for name, _ in model.named_parameters()}
    for sample in x:
        model.zero_grad()
        (model(sample[None]) ** 2).sum().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            expected[name].append(parameter.grad.clone())
    wrapped = GradSampleModule(model, loss_reduction="sum")
    wrapped.zero_grad()
    (wrapped(x) ** 2).sum().backward()
    for name, parameter in wrapped.named_parameters():
        rows = torch.stack(expected[name.removeprefix("_module.")])
        assert torch.allclose(parameter.grad_sample, rows, atol=1e-9), name
