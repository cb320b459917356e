"""Hybrid quantum neural network: a linear layer, a circuit, a linear layer.

The first layer brings the features to as many numbers as the circuit encodes, the circuit mixes
them, the last layer reads the expectations. After the dressed quantum circuits of Mari et al. 2020.
"""

from __future__ import annotations

from torch import Tensor, nn

from qfl.conf.schema import QnnConfig, QuantumConfig
from qfl.errors import ConfigError
from qfl.models.circuit_layer import circuit_layer, declare
from qfl.models.inputs import check_width, largest_angle, squash


class Qnn(nn.Module):
    """Linear, circuit, linear.

    Angles are squashed to a range that suits the encoding
    (:func:`qfl.models.inputs.largest_angle`). Amplitudes are taken as they are: a row of zeros has
    no direction and is refused by the circuit, and a row and its negative are the same to it.
    Circuit weights start near the identity (:func:`qfl.models.circuit_layer.near_identity`).

    Args:
        config: Wires, layers, encoding, ansatz, and whether there is a first layer.
        quantum: Engine, device and differentiation.
        features: Input features.
        outputs: Classes, or 1.
        batch: Most examples at once, for the memory estimate.

    Raises:
        ConfigError: The circuit does not fit into memory, or there is no first layer and the
            features do not fit the circuit.

    Example:
        >>> import torch
        >>> model = Qnn(QnnConfig(n_qubits=2, n_layers=1), QuantumConfig(), features=4, outputs=3)
        >>> model(torch.zeros(5, 4)).shape
        torch.Size([5, 3])
    """

    def __init__(
        self,
        config: QnnConfig,
        quantum: QuantumConfig,
        features: int,
        outputs: int,
        batch: int = 32,
    ) -> None:
        super().__init__()
        self.features = features
        self.amplitudes = config.encoding == "amplitude"
        self.largest = largest_angle(config.encoding, config.n_qubits)
        circuit = declare(
            quantum,
            batch,
            n_qubits=config.n_qubits,
            n_layers=config.n_layers,
            encoding=config.encoding,
            ansatz=config.ansatz,
            entangler=config.entangler,
        )
        if config.pre == "none":
            _check_fit(config, features, circuit.features)
            self.pre: nn.Module = nn.Identity()
        else:
            self.pre = nn.Linear(features, circuit.features)
        self.circuit = circuit_layer(circuit, quantum)
        self.post = nn.Linear(circuit.outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, features) to (batch, outputs).

        Raises:
            DataError: ``x`` has another width, or a row of amplitudes is zero.
        """
        check_width(x, self.features)
        encoded = self.pre(x)
        if not self.amplitudes:
            encoded = squash(encoded, self.largest)
        result: Tensor = self.post(self.circuit(encoded))
        return result


def _check_fit(config: QnnConfig, features: int, encoded: int) -> None:
    if config.encoding == "amplitude" and features > encoded:
        raise ConfigError(
            f"model.pre=none with {features} features needs model.n_qubits>="
            f"{(features - 1).bit_length()}, because {config.n_qubits} qubits hold {encoded} "
            "amplitudes; or set model.pre=linear"
        )
    if config.encoding != "amplitude" and features != encoded:
        raise ConfigError(
            f"model.pre=none with model.encoding={config.encoding} takes one feature per qubit: "
            f"the data give {features} features and model.n_qubits={encoded}; set "
            f"model.n_qubits={features}, preprocess.pca={encoded} or model.pre=linear"
        )
