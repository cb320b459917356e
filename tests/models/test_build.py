"""Models by name: initial parameters, files, refusals, the classical twin."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from qfl.conf.schema import LstmConfig, MlpConfig, ModelConfig, QnnConfig, QuantumConfig
from qfl.errors import ConfigError
from qfl.models import DataShape, build_model, count_parameters, initial_model, twin_of

TABLE = DataShape(features=4, window=0, outputs=3)
SERIES = DataShape(features=2, window=6, outputs=1)
MODELS: list[tuple[ModelConfig, DataShape]] = [
    (QnnConfig(n_qubits=2, n_layers=1), TABLE),
    (MlpConfig(width=5, hidden=3), TABLE),
    (LstmConfig(hidden=4, layers=2), SERIES),
]
each_model = pytest.mark.parametrize(("config", "shape"), MODELS, ids=lambda v: str(v)[:5])


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


def test_frozen_parameters_are_not_counted() -> None:
    model = build_model(MlpConfig(width=8, hidden=3), QuantumConfig(), TABLE)
    whole = count_parameters(model)
    next(model.parameters()).requires_grad_(False)
    assert count_parameters(model) == whole - 4 * 8


def test_the_twin_has_about_as_many_parameters_on_digits() -> None:
    shape = DataShape(features=64, window=0, outputs=10)
    quantum = QnnConfig()
    twin = twin_of(quantum)
    assert isinstance(twin, MlpConfig)
    ours, its = (count_parameters(build_model(c, QuantumConfig(), shape)) for c in (quantum, twin))
    assert abs(its - ours) <= 0.1 * ours


@pytest.mark.parametrize("config", [MlpConfig(), LstmConfig()])
def test_classical_models_have_no_twin(config: ModelConfig) -> None:
    assert twin_of(config) is None


@pytest.mark.parametrize(
    ("config", "shape", "words"),
    [
        (LstmConfig(), TABLE, "model=lstm takes windows of a time series; the data set gives rows"),
        (MlpConfig(), SERIES, "model=mlp takes rows of a table; the data set gives windows"),
        (QnnConfig(n_qubits=2), SERIES, "model=qnn takes rows of a table"),
        (ModelConfig(name="mpl"), TABLE, "unknown model 'mpl'; did you mean 'mlp'"),
    ],
)
def test_what_does_not_fit_is_refused(config: ModelConfig, shape: DataShape, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_model(config, QuantumConfig(), shape)
