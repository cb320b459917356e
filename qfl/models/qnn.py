"""Hybrid quantum neural network: a linear layer, a circuit, a linear layer.

The first layer squeezes the features into one angle per wire, within (-pi/2, pi/2); the circuit
mixes them; the last layer reads the expectations. After the dressed quantum circuits of Mari et
al. 2020.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from qfl.conf.schema import QnnConfig, QuantumConfig
from qfl.quantum import QuantumLayer, build_circuit, check_memory


class Qnn(nn.Module):
    """Linear, circuit, linear.

    Args:
        config: Wires, layers, encoding, ansatz.
        quantum: Device and differentiation.
        features: Input features.
        outputs: Classes, or 1.
        batch: Most examples at once, for the memory estimate.

    Raises:
        ConfigError: The circuit does not fit into memory.

    Example:
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
        gates = config.n_layers * config.n_qubits * 3
        at_once = batch if quantum.device == "default.qubit" else 1
        check_memory(config.n_qubits, at_once, gates, quantum.diff_method)
        circuit = build_circuit(
            n_qubits=config.n_qubits,
            n_layers=config.n_layers,
            encoding=config.encoding,
            ansatz=config.ansatz,
            entangler=config.entangler,
            device=quantum.device,
            diff_method=quantum.diff_method,
        )
        self.pre = nn.Linear(features, config.n_qubits)
        self.circuit = QuantumLayer(circuit.qnode, circuit.weight_shapes, engine=quantum.engine)
        self.post = nn.Linear(config.n_qubits, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, features) to (batch, outputs)."""
        angles = math.pi / 2 * torch.tanh(self.pre(x))
        result: Tensor = self.post(self.circuit(angles))
        return result
