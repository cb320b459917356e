"""A projected quantum kernel with trainable landmarks, and a linear layer on top.

Supervised quantum models are kernel methods (Havlíček et al. 2019; Schuld 2021): a circuit maps an
example to a state, and a linear model reads similarities of states. Two choices make this fit a
federation and a simulator:

- Similarities are taken to landmarks that are weights, not to training examples. A kernel matrix
  over examples would need pairs of examples of different clients, which nobody has.
- The kernel is the projected one of Huang et al. 2021, "Power of data in quantum machine learning":
  exp(-gamma * sum over wires of the squared distance of their reduced states). One-wire states are
  known from <X>, <Y>, <Z>, so an example costs one circuit. The fidelity |<phi(z)|phi(x)>|^2 costs
  one for every landmark, and concentrates at 0 exponentially in the number of qubits (Thanasilp,
  Wang, Cerezo, Holmes 2024), where the projected kernel keeps its spread under shallow circuits.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qfl.conf.schema import QuantumConfig, QuantumKernelConfig
from qfl.models.circuit_layer import circuit_layer, declare
from qfl.models.inputs import check_width, largest_angle, squash
from qfl.models.rbf import Landmarks


class QuantumKernel(nn.Module):
    """Linear, circuit, projected kernel features, linear.

    The feature map has trainable layers (a trainable embedding kernel: Hubregtsen et al. 2022),
    which start near the identity (:func:`qfl.models.circuit_layer.near_identity`). Landmarks live
    where one-wire states do, as rows of <X>, <Y>, <Z> of every wire, and start at the projections
    of angles drawn at random, which the seed decides.

    Args:
        config: Wires, layers, encoding, ansatz, number of landmarks.
        quantum: Engine, device and differentiation.
        features: Input features.
        outputs: Classes, or 1.
        batch: Most examples at once, for the memory estimate.

    Raises:
        ConfigError: The circuit does not fit into memory.

    Example:
        >>> config = QuantumKernelConfig(n_qubits=2, landmarks=5, encoding="angle")
        >>> model = QuantumKernel(config, QuantumConfig(), features=4, outputs=3)
        >>> model(torch.zeros(7, 4)).shape, model.kernel.points.shape
        (torch.Size([7, 3]), torch.Size([5, 6]))
    """

    def __init__(
        self,
        config: QuantumKernelConfig,
        quantum: QuantumConfig,
        features: int,
        outputs: int,
        batch: int = 32,
    ) -> None:
        super().__init__()
        self.features = features
        self.largest = largest_angle(config.encoding, config.n_qubits)
        circuit = declare(
            quantum,
            max(batch, config.landmarks),
            n_qubits=config.n_qubits,
            n_layers=config.n_layers,
            encoding=config.encoding,
            ansatz=config.ansatz,
            entangler=config.entangler,
            readout="xyz",
        )
        self.pre = nn.Linear(features, circuit.features)
        self.circuit = circuit_layer(circuit, quantum)
        angles = torch.empty(config.landmarks, config.n_qubits)
        angles.uniform_(-self.largest, self.largest)
        with torch.no_grad():
            points = self.circuit(angles).contiguous()
        # Examples start closer together than landmarks; a wider kernel tells them apart late.
        self.kernel = Landmarks(points, gamma=4 / config.n_qubits)
        self.post = nn.Linear(config.landmarks, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, features) to (batch, outputs).

        Raises:
            DataError: ``x`` has another width.
        """
        check_width(x, self.features)
        read = self.circuit(squash(self.pre(x), self.largest))
        result: Tensor = self.post(self.kernel(read))
        return result
