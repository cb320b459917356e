"""The schemas of the models (group ``model``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qfl.conf.settings import setting


@dataclass
class ModelConfig:
    """Base of the model schemas (group ``model``)."""

    name: str = setting("qnn", "model")


def ansatz() -> Any:
    """The field that every model with a layered circuit has."""
    return setting(
        "strongly_entangling",
        "trainable part of the circuit",
        choices=("strongly_entangling", "basic_entangler"),
    )


def entangler() -> Any:
    """The field beside :func:`ansatz`."""
    return setting("cz", "strongly_entangling: two-qubit gate", choices=("cz", "cnot"))


@dataclass
class QnnConfig(ModelConfig):
    """Linear layer, quantum circuit, linear layer."""

    name: str = setting("qnn", "model")
    n_qubits: int = setting(8, "wires of the circuit", ge=1, le=30)
    n_layers: int = setting(2, "layers of the ansatz", ge=1)
    encoding: str = setting(
        "angle",
        "how features enter the circuit",
        choices=("angle", "reuploading", "iqp", "amplitude"),
    )
    pre: str = setting(
        "linear",
        "what brings the features to the circuit's width; none: they have it already",
        choices=("linear", "none"),
    )
    ansatz: str = ansatz()
    entangler: str = entangler()


@dataclass
class QlstmConfig(ModelConfig):
    """A long short-term memory whose four gates are quantum circuits, and a linear layer."""

    name: str = setting("qlstm", "model")
    n_qubits: int = setting(4, "wires of each of the four circuits", ge=1, le=28)
    n_layers: int = setting(2, "layers of the ansatz", ge=1)
    hidden: int = setting(8, "size of the hidden state", ge=1)
    attention: bool = setting(False, "whether the output attends to all time steps so far")
    ansatz: str = ansatz()
    entangler: str = entangler()


@dataclass
class QcnnConfig(ModelConfig):
    """Convolution, a circuit on every patch of 2 x 2 pixels, linear layer; square images."""

    name: str = setting("qcnn", "model")
    kind: str = setting(
        "quanvolution",
        "a circuit gives four numbers for each patch (quanvolution) or one (pooling)",
        choices=("quanvolution", "pooling"),
    )
    channels: int = setting(2, "channels of the convolution in front", ge=1)
    n_layers: int = setting(2, "quanvolution: layers of the ansatz", ge=1)
    ansatz: str = ansatz()
    entangler: str = entangler()


@dataclass
class QuantumKernelConfig(ModelConfig):
    """Linear layer, projected quantum kernel with trainable landmarks, linear layer."""

    name: str = setting("quantum_kernel", "model")
    n_qubits: int = setting(8, "wires of the circuit", ge=1, le=30)
    n_layers: int = setting(1, "layers of the ansatz", ge=1)
    landmarks: int = setting(32, "points that examples are compared with", ge=2)
    encoding: str = setting(
        "angle", "how features enter the circuit", choices=("angle", "reuploading", "iqp")
    )
    ansatz: str = ansatz()
    entangler: str = entangler()


@dataclass
class MlpConfig(ModelConfig):
    """Linear layer, small hidden layer, linear layer: the classical twin of ``qnn``."""

    name: str = setting("mlp", "model")
    width: int = setting(8, "features after the first layer", ge=1)
    hidden: int = setting(3, "units between", ge=1)


@dataclass
class LstmConfig(ModelConfig):
    """A long short-term memory, and a linear layer: the classical twin of ``qlstm``."""

    name: str = setting("lstm", "model")
    hidden: int = setting(16, "size of the hidden state", ge=1)
    layers: int = setting(1, "stacked layers", ge=1)
    attention: bool = setting(False, "whether the output attends to all time steps so far")


@dataclass
class CnnConfig(ModelConfig):
    """Convolution, a dense layer on every 2 x 2 patch, linear layer: the twin of ``qcnn``."""

    name: str = setting("cnn", "model")
    channels: int = setting(2, "channels of the convolution in front", ge=1)
    per_patch: int = setting(4, "numbers that the dense layer makes of a patch", ge=1)


@dataclass
class RbfConfig(ModelConfig):
    """Linear layer, Gaussian kernel, linear layer: the classical twin of ``quantum_kernel``."""

    name: str = setting("rbf", "model")
    width: int = setting(24, "features after the first layer", ge=1)
    landmarks: int = setting(32, "points that examples are compared with", ge=2)


MODEL_CONFIGS: dict[str, type[ModelConfig]] = {
    "qnn": QnnConfig,
    "qlstm": QlstmConfig,
    "qcnn": QcnnConfig,
    "quantum_kernel": QuantumKernelConfig,
    "mlp": MlpConfig,
    "lstm": LstmConfig,
    "cnn": CnnConfig,
    "rbf": RbfConfig,
}
