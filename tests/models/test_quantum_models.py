"""What the models compute, in closed form where circuits with zero weights allow one."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from qfl.conf.schema import QcnnConfig, QnnConfig, QuantumConfig, QuantumKernelConfig
from qfl.errors import ConfigError, DataError
from qfl.models import DataShape, initial_model
from qfl.models.images import image_side, patches
from qfl.models.inputs import largest_angle, squash
from qfl.models.qcnn import Qcnn
from qfl.models.qnn import Qnn
from qfl.models.quantum_kernel import QuantumKernel
from qfl.models.rbf import Landmarks

TABLE = DataShape(features=4, window=0, outputs=3)
IMAGES = DataShape(features=16, window=0, outputs=3)


def rows(count: int, width: int) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(1)).double()


def without_weights(model: torch.nn.Module) -> None:
    with torch.no_grad():
        model.circuit.weights.zero_()  # type: ignore[union-attr, operator]


def test_a_qnn_starts_as_a_linear_model_of_sines() -> None:
    model = initial_model(QnnConfig(n_qubits=4, n_layers=1), QuantumConfig(), TABLE, 0).double()
    assert isinstance(model, Qnn)
    without_weights(model)
    x = rows(5, 4)
    expected = model.post(-torch.sin(math.pi / 2 * torch.tanh(model.pre(x))))
    assert torch.allclose(model(x), expected, atol=1e-10)


def test_amplitudes_forget_length_and_sign_of_a_row() -> None:
    config = QnnConfig(n_qubits=2, n_layers=2, encoding="amplitude", pre="none")
    model = initial_model(config, QuantumConfig(), TABLE, 0).double()
    x = rows(5, 4)
    assert torch.allclose(model(x), model(-3 * x), atol=1e-10)
    assert not torch.allclose(model(x), model(x.flip(1)), atol=1e-3)


def test_a_row_without_direction_is_refused() -> None:
    config = QnnConfig(n_qubits=2, n_layers=2, encoding="amplitude", pre="none")
    model = initial_model(config, QuantumConfig(), TABLE, 0)
    x = rows(3, 4).float()
    x[1] = 0.0
    with pytest.raises(DataError, match=r"row 1 .*rows must be finite and not zero"):
        model(x)


def test_features_without_a_first_layer_go_to_their_own_wires() -> None:
    config = QnnConfig(n_qubits=4, n_layers=1, pre="none")
    model = initial_model(config, QuantumConfig(), TABLE, 0).double()
    assert isinstance(model, Qnn)
    without_weights(model)
    x = rows(5, 4)
    expected = model.post(-torch.sin(math.pi / 2 * torch.tanh(x)))
    assert torch.allclose(model(x), expected, atol=1e-10)


@pytest.mark.parametrize("n_qubits", [1, 2, 5, 12])
@pytest.mark.parametrize("encoding", ["angle", "reuploading", "iqp"])
def test_angles_stay_within_their_bound(encoding: str, n_qubits: int) -> None:
    bound = largest_angle(encoding, n_qubits)
    assert 0 < bound <= math.pi / 2
    assert float(squash(torch.tensor([-1e9, 1e9]), bound).abs().max()) <= bound + 1e-6
    if encoding == "iqp":
        assert (n_qubits - 1) * bound**4 <= 1 + 1e-12


def test_a_projected_kernel_of_product_states_in_closed_form() -> None:
    config = QuantumKernelConfig(n_qubits=2, n_layers=1, landmarks=3, encoding="angle")
    model = initial_model(config, QuantumConfig(), TABLE, 0).double()
    assert isinstance(model, QuantumKernel)
    without_weights(model)
    angles, landmarks = rows(5, 2).clamp(-1.5, 1.5), rows(3, 2).clamp(-1.5, 1.5) * 0.7
    with torch.no_grad():
        model.kernel.points.copy_(model.circuit(landmarks))
        found = model.kernel(model.circuit(angles))
    # One-wire states turned by t lie at (cos t, 0, -sin t): their squared distance is 2 - 2 cos.
    distances = (2 - 2 * torch.cos(angles[:, None] - landmarks)).sum(-1)
    gamma = float(torch.exp(model.kernel.log_gamma.detach()))
    assert gamma == pytest.approx(4 / 2)
    values = torch.exp(-gamma * distances)
    assert torch.allclose(found, values / values.mean(1, keepdim=True) - 1, atol=1e-6)


def test_landmarks_start_at_states_and_follow_the_seed() -> None:
    config = QuantumKernelConfig(n_qubits=3, landmarks=6)
    models = [initial_model(config, QuantumConfig(), TABLE, seed) for seed in (1, 1, 2)]
    points = [model.kernel.points.detach() for model in models]
    assert torch.equal(points[0], points[1])
    assert not torch.allclose(points[0], points[2])
    bloch = points[0].reshape(6, 3, 3).square().sum(1)
    assert (bloch <= 1 + 1e-5).all()
    assert float(bloch.mean()) > 0.1


def test_landmarks_compare_kernel_values_with_their_mean() -> None:
    points, x = rows(4, 3), 2 * rows(6, 3)
    found = Landmarks(points, gamma=0.5)(x)
    values = torch.exp(-0.5 * torch.cdist(x, points) ** 2)
    assert torch.allclose(found, values / values.mean(1, keepdim=True) - 1, atol=1e-6)
    assert torch.allclose(found.sum(1), torch.zeros(6).double(), atol=1e-6)


def test_an_example_far_from_every_landmark_is_still_told_apart() -> None:
    far = torch.tensor([[300.0, 1.0], [300.0, -1.0]])
    found = Landmarks(torch.tensor([[0.0, 1.0], [0.0, -1.0]]), gamma=0.5)(far)
    assert torch.isfinite(found).all()
    assert found[0].tolist() == pytest.approx([math.tanh(1), -math.tanh(1)], abs=1e-4)
    assert found[1].tolist() == pytest.approx([-math.tanh(1), math.tanh(1)], abs=1e-4)


def test_patches_are_squares_of_neighbours() -> None:
    image = torch.arange(36.0).reshape(1, 1, 6, 6)
    cut = patches(image)
    assert cut.shape == (1, 1, 9, 4)
    assert cut[0, 0, 5].tolist() == [16.0, 17.0, 22.0, 23.0]
    unfolded = torch.nn.functional.unfold(image, kernel_size=2, stride=2)[0].T
    assert torch.equal(cut[0, 0], unfolded)


@pytest.mark.parametrize("features", [0, 1, 2, 9, 15, 25, 63])
def test_rows_that_are_no_even_square_are_refused(features: int) -> None:
    with pytest.raises(ConfigError, match=f"the data give {features} features"):
        image_side(features)


def test_a_quanvolution_without_weights_reads_the_sine_of_every_pixel() -> None:
    model = initial_model(QcnnConfig(channels=3), QuantumConfig(), IMAGES, 0).double()
    assert isinstance(model, Qcnn)
    without_weights(model)
    x = rows(5, 16)
    images = math.pi / 2 * torch.tanh(model.front(x.reshape(5, 1, 4, 4)))
    expected = model.post(patches(-torch.sin(images)).flatten(1))
    assert torch.allclose(model(x), expected, atol=1e-10)


def test_pooling_without_weights_keeps_one_pixel_of_four() -> None:
    config = QcnnConfig(kind="pooling", channels=3)
    model = initial_model(config, QuantumConfig(), IMAGES, 0).double()
    assert isinstance(model, Qcnn)
    without_weights(model)
    x = rows(5, 16)
    images = math.pi / 2 * torch.tanh(model.front(x.reshape(5, 1, 4, 4)))
    expected = model.post(-torch.sin(images[:, :, 1::2, 1::2]).flatten(1))
    assert torch.allclose(model(x), expected, atol=1e-10)


@pytest.mark.parametrize("kind", ["quanvolution", "pooling"])
def test_one_circuit_serves_all_patches(kind: str) -> None:
    model = initial_model(QcnnConfig(kind=kind), QuantumConfig(), IMAGES, 0).double()
    cut = rows(4, 4).reshape(1, 1, 4, 4)
    order = [2, 0, 3, 1]
    assert torch.allclose(model.circuit(cut)[:, :, order], model.circuit(cut[:, :, order]))


def test_engines_agree_on_every_model() -> None:
    for config, shape in (
        (QnnConfig(n_qubits=3, encoding="iqp"), TABLE),
        (QnnConfig(n_qubits=2, encoding="amplitude", pre="none"), TABLE),
        (QuantumKernelConfig(n_qubits=3, landmarks=4), TABLE),
        (QcnnConfig(kind="pooling"), IMAGES),
    ):
        x = rows(3, shape.features)
        found = [
            initial_model(config, QuantumConfig(engine=engine), shape, 0).double()(x)
            for engine in ("auto", "torch", "pennylane")
        ]
        # Landmarks are computed in float32 before the model becomes float64.
        assert torch.allclose(found[0], found[1], atol=1e-5)
        assert torch.allclose(found[0], found[2], atol=1e-5)
