"""Models by name: initial parameters, files, refusals, the classical twin."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

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
from qfl.errors import ConfigError, DataError
from qfl.models import DataShape, build_model, count_parameters, initial_model, twin_of
from qfl.quantum import QuantumLayer

TABLE = DataShape(features=4, window=0, outputs=3)
IMAGES = DataShape(features=16, window=0, outputs=3)
TABLE_OF_15 = DataShape(features=15, window=0, outputs=3)
TABLE_OF_25 = DataShape(features=25, window=0, outputs=3)
DIGITS = DataShape(features=64, window=0, outputs=10)
SERIES = DataShape(features=2, window=6, outputs=1)
MODELS: list[tuple[ModelConfig, DataShape]] = [
    (QnnConfig(n_qubits=2, n_layers=1), TABLE),
    (QnnConfig(n_qubits=2, n_layers=2, encoding="reuploading"), TABLE),
    (QnnConfig(n_qubits=2, n_layers=1, encoding="iqp"), TABLE),
    (QnnConfig(n_qubits=2, n_layers=1, encoding="amplitude"), TABLE),
    (QnnConfig(n_qubits=2, n_layers=1, encoding="amplitude", pre="none"), TABLE),
    (QnnConfig(n_qubits=4, n_layers=1, pre="none"), TABLE),
    (QlstmConfig(n_qubits=3, hidden=4), SERIES),
    (QlstmConfig(n_qubits=2, hidden=3, attention=True), SERIES),
    (QcnnConfig(), IMAGES),
    (QcnnConfig(kind="pooling", channels=3), IMAGES),
    (QuantumKernelConfig(n_qubits=2, landmarks=5), TABLE),
    (MlpConfig(width=5, hidden=3), TABLE),
    (LstmConfig(hidden=4, layers=2), SERIES),
    (LstmConfig(hidden=4, attention=True), SERIES),
    (CnnConfig(), IMAGES),
    (RbfConfig(width=3, landmarks=5), TABLE),
]
each_model = pytest.mark.parametrize(
    ("config", "shape"), MODELS, ids=[f"{number}-{c.name}" for number, (c, _) in enumerate(MODELS)]
)


def sample(shape: DataShape) -> torch.Tensor:
    size = (5, shape.window, shape.features) if shape.window else (5, shape.features)
    return torch.from_numpy(np.random.default_rng(0).normal(size=size).astype(np.float32))


@each_model
def test_output_shape_and_parameters_that_all_learn(config: ModelConfig, shape: DataShape) -> None:
    model = initial_model(config, QuantumConfig(), shape, seed=0)
    outputs = model(sample(shape))
    assert outputs.shape == (5, shape.outputs)
    (outputs**2).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@each_model
def test_state_survives_safetensors(config: ModelConfig, shape: DataShape) -> None:
    model = initial_model(config, QuantumConfig(), shape, seed=0)
    other = initial_model(config, QuantumConfig(), shape, seed=1)
    x = sample(shape)
    assert not torch.equal(model(x), other(x))
    other.load_state_dict(load(save(model.state_dict())))
    assert torch.equal(model(x), other(x))


@each_model
def test_the_seed_decides_the_start(config: ModelConfig, shape: DataShape) -> None:
    first, same, other = (
        initial_model(config, QuantumConfig(), shape, seed).state_dict() for seed in (3, 3, 4)
    )
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_making_a_model_leaves_the_callers_random_numbers_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    initial_model(MlpConfig(), QuantumConfig(), TABLE, seed=9)
    assert torch.equal(torch.rand(3), expected)


def test_numbers_of_parameters_by_hand() -> None:
    shape = DataShape(features=64, window=0, outputs=10)
    mlp = build_model(MlpConfig(width=8, hidden=3), QuantumConfig(), shape)
    assert count_parameters(mlp) == (64 * 8 + 8) + (8 * 3 + 3) + (3 * 10 + 10)
    qnn = build_model(QnnConfig(n_qubits=8, n_layers=2), QuantumConfig(), shape)
    assert count_parameters(qnn) == (64 * 8 + 8) + 2 * 8 * 3 + (8 * 10 + 10)
    quanvolution = build_model(QcnnConfig(channels=2, n_layers=1), QuantumConfig(), shape)
    assert count_parameters(quanvolution) == 2 * (9 + 1) + 4 * 3 + (2 * 16 * 4 * 10 + 10)
    pooling = build_model(QcnnConfig(kind="pooling", channels=2), QuantumConfig(), shape)
    assert count_parameters(pooling) == 2 * (9 + 1) + 2 * 7 + (2 * 16 * 10 + 10)
    kernel = QuantumKernelConfig(n_qubits=3, n_layers=1, landmarks=5)
    found = count_parameters(build_model(kernel, QuantumConfig(), shape))
    assert found == (64 * 3 + 3) + 3 * 3 + (5 * 9 + 1) + (5 * 10 + 10)
    qlstm = build_model(QlstmConfig(n_qubits=4, n_layers=2, hidden=8), QuantumConfig(), SERIES)
    gates = 4 * (2 * 4 * 3 + 4 * 8 + 8)
    assert count_parameters(qlstm) == (2 * 4 + 4) + 8 * 4 + gates + (8 + 1)


def test_frozen_parameters_are_not_counted() -> None:
    model = build_model(MlpConfig(width=8, hidden=3), QuantumConfig(), TABLE)
    whole = count_parameters(model)
    next(model.parameters()).requires_grad_(False)
    assert count_parameters(model) == whole - 4 * 8


@pytest.mark.parametrize(
    ("config", "shape", "twin"),
    [
        (QnnConfig(), DIGITS, MlpConfig),
        (QnnConfig(n_qubits=4, n_layers=1), TABLE, MlpConfig),
        (QlstmConfig(), SERIES, LstmConfig),
        (QlstmConfig(n_qubits=6, hidden=8, attention=True), SERIES, LstmConfig),
        (QcnnConfig(), DIGITS, CnnConfig),
        (QcnnConfig(kind="pooling", channels=4), DIGITS, CnnConfig),
        (QuantumKernelConfig(), DIGITS, RbfConfig),
        (QuantumKernelConfig(n_qubits=3, landmarks=8), TABLE, RbfConfig),
    ],
)
def test_the_twin_is_classical_and_has_about_as_many_parameters(
    config: ModelConfig, shape: DataShape, twin: type[ModelConfig]
) -> None:
    found = twin_of(config, QuantumConfig(), shape)
    assert type(found) is twin
    ours, its = (count_parameters(build_model(c, QuantumConfig(), shape)) for c in (config, found))
    assert abs(its - ours) <= 0.2 * ours


def test_twins_keep_what_is_not_quantum() -> None:
    attentive = twin_of(QlstmConfig(attention=True), QuantumConfig(), SERIES)
    assert isinstance(attentive, LstmConfig)
    assert attentive.attention
    pooling = QcnnConfig(kind="pooling", channels=3)
    assert twin_of(pooling, QuantumConfig(), IMAGES) == CnnConfig(channels=3, per_patch=1)
    kernel = twin_of(QuantumKernelConfig(landmarks=7), QuantumConfig(), TABLE)
    assert isinstance(kernel, RbfConfig)
    assert kernel.landmarks == 7


@pytest.mark.parametrize(
    ("config", "shape"),
    [(MlpConfig(), TABLE), (LstmConfig(), SERIES), (CnnConfig(), IMAGES), (RbfConfig(), TABLE)],
)
def test_classical_models_have_no_twin(config: ModelConfig, shape: DataShape) -> None:
    assert twin_of(config, QuantumConfig(), shape) is None


@each_model
def test_rows_of_another_width_are_refused(config: ModelConfig, shape: DataShape) -> None:
    model = initial_model(config, QuantumConfig(), shape, seed=0)
    wide = torch.zeros(*sample(shape).shape[:-1], shape.features + 1)
    words = f"this model takes {shape.features} features; an array of shape .* was given"
    with pytest.raises(DataError, match=words):
        model(wide)


@pytest.mark.parametrize(
    ("config", "shape", "words"),
    [
        (LstmConfig(), TABLE, "model=lstm takes windows of a time series; the data set gives rows"),
        (MlpConfig(), SERIES, "model=mlp takes rows of a table; the data set gives windows"),
        (QnnConfig(n_qubits=2), SERIES, "model=qnn takes rows of a table"),
        (QlstmConfig(), TABLE, "model=qlstm takes windows of a time series"),
        (QcnnConfig(), TABLE_OF_15, "as rows of 4, 16, 36, 64, … pixels; the data give 15 feat"),
        (CnnConfig(), TABLE_OF_25, "square images with an even side.* give 25 features"),
        (QnnConfig(pre="none"), TABLE, "give 4 features and model.n_qubits=8; set model.n_qubits"),
        (
            QnnConfig(n_qubits=3, encoding="amplitude", pre="none"),
            TABLE_OF_15,
            "model.pre=none with 15 features needs model.n_qubits>=4",
        ),
        (QnnConfig(n_qubits=30), TABLE, "n_qubits=30 needs about"),
        (QlstmConfig(n_qubits=28), SERIES, "n_qubits=28 needs about"),
        (QuantumKernelConfig(n_qubits=30), TABLE, "n_qubits=30 needs about"),
        (ModelConfig(name="mpl"), TABLE, "unknown model 'mpl'; did you mean 'mlp'"),
    ],
)
def test_what_does_not_fit_is_refused(config: ModelConfig, shape: DataShape, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_model(config, QuantumConfig(), shape)


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        (QnnConfig(n_qubits=2), TABLE),
        (QlstmConfig(n_qubits=2), SERIES),
        (QcnnConfig(), IMAGES),
        (QcnnConfig(kind="pooling"), IMAGES),
        (QuantumKernelConfig(n_qubits=2), TABLE),
    ],
)
def test_engine_and_threads_reach_the_circuit(config: ModelConfig, shape: DataShape) -> None:
    model = initial_model(config, QuantumConfig(engine="torch", threads=2), shape, seed=0)
    (layer,) = (module for module in model.modules() if isinstance(module, QuantumLayer))
    assert (layer.wanted, layer.threads) == ("torch", 2)
