"""Quantum long short-term memory: the four gates of an LSTM cell are variational circuits.

Chen, Yoo, Fang 2020, "Quantum Long Short-Term Memory", arXiv:2009.01783. At every point the input
and the last hidden state become one angle per wire; four circuits, one for each gate, run on these
angles; what they read becomes the forget, input and output gates and the candidate of the usual
recurrence. As in the paper angles are arctangents. Otherwise: a linear layer brings input and
state to the number of wires, another brings the expectations of each circuit to the hidden size,
so that the two sizes are free of each other; and the two circuits that the paper puts on the
hidden state and the output are left to these layers.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from qfl.conf.schema import QlstmConfig, QuantumConfig
from qfl.models.circuit_layer import circuit_layer, declare
from qfl.models.recurrent import FORGET_BIAS, Recurrent

_GATES = 4


class Qlstm(Recurrent):
    """Quantum LSTM, attention where configured, and a linear layer.

    Circuit weights start near the identity (:func:`qfl.models.circuit_layer.near_identity`), the
    forget gate starts open.

    Args:
        config: Wires, layers, ansatz, size of the hidden state, attention.
        quantum: Engine, device and differentiation.
        channels: Numbers at each point of the window.
        outputs: Classes, or 1.
        batch: Most windows at once, for the memory estimate.

    Raises:
        ConfigError: The circuits do not fit into memory.

    Example:
        >>> model = Qlstm(QlstmConfig(n_qubits=2, hidden=3), QuantumConfig(), channels=2, outputs=1)
        >>> model(torch.zeros(5, 12, 2)).shape, model.sequence(torch.zeros(5, 12, 2)).shape
        (torch.Size([5, 1]), torch.Size([5, 12, 1]))
    """

    def __init__(
        self,
        config: QlstmConfig,
        quantum: QuantumConfig,
        channels: int,
        outputs: int,
        batch: int = 32,
    ) -> None:
        super().__init__(channels, config.hidden, outputs, config.attention)
        circuit = declare(
            quantum,
            _GATES * batch,
            n_qubits=config.n_qubits,
            n_layers=config.n_layers,
            ansatz=config.ansatz,
            entangler=config.entangler,
        )
        self.from_input = nn.Linear(channels, config.n_qubits)
        self.from_state = nn.Linear(config.hidden, config.n_qubits, bias=False)
        self.circuits = circuit_layer(circuit, quantum, copies=_GATES)
        # As torch.nn.Linear starts: uniform within one over the square root of the inputs.
        bound = 1 / math.sqrt(config.n_qubits)
        weights = torch.empty(_GATES, config.n_qubits, config.hidden).uniform_(-bound, bound)
        self.gate_weights = nn.Parameter(weights)
        biases = torch.empty(_GATES * config.hidden).uniform_(-bound, bound)
        biases[: config.hidden] += FORGET_BIAS
        self.gate_biases = nn.Parameter(biases)

    def states(self, x: Tensor) -> Tensor:
        """(batch, window, channels) to hidden states (batch, window, hidden)."""
        # Speed is in the number of operations: what does not wait for a state is done for all
        # points at once, and the four gates go through every operation together. One product with
        # a block-diagonal matrix serves them, because batched products of this size spend their
        # time on waking threads.
        to_angles = self.from_state.weight.T
        to_gates: Tensor = torch.block_diag(*self.gate_weights)  # type: ignore[no-untyped-call]
        hidden = self.gate_weights.shape[-1]
        state = cell = None
        states = []
        for angles in self.from_input(x).unbind(1):
            if state is not None:
                angles = torch.addmm(angles, state, to_angles)
            expectations = self.circuits(torch.atan(angles)).transpose(0, 1).flatten(1)
            read = torch.addmm(self.gate_biases, expectations, to_gates)
            gates = torch.sigmoid(read[:, : 3 * hidden])
            forget, take, give = gates.chunk(3, dim=1)
            kept = take * torch.tanh(read[:, 3 * hidden :])
            cell = kept if cell is None else torch.addcmul(kept, forget, cell)
            state = give * torch.tanh(cell)
            states.append(state)
        return torch.stack(states, dim=1)
