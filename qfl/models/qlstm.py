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
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from qfl.conf.schema import QlstmConfig, QuantumConfig
from qfl.models.circuit_layer import circuit_layer, declare
from qfl.models.recurrent import FORGET_BIAS, Recurrent
from qfl.privacy.taps import Record, tapped

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

    record: Record | None = None

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
        if self.record is not None:
            return self._states_recording(x, self.record)
        angles, biases = self.from_input(x).unbind(1), [self.gate_biases] * x.shape[1]
        states, _ = self._unroll(angles, biases, self.from_state.weight, self.gate_weights)
        return torch.stack(states, dim=1)

    def _states_recording(self, x: Tensor, record: Record) -> Tensor:
        """The same; the backward pass tells each window's own gradients by this cell's weights."""
        points = *x.shape[:2], _GATES, -1
        seen: dict[str, Tensor] = {}  # without its graph, which would hold on to itself

        def by_angles(upstream: Tensor) -> None:
            record("from_state.weight", upstream[:, 1:].mT @ seen["states"][:, :-1])

        def by_gates(upstream: Tensor) -> None:
            gates = upstream.reshape(points).transpose(1, 2)
            record("gate_weights", seen["read"].reshape(points).permute(0, 2, 3, 1) @ gates)
            record("gate_biases", upstream.sum(1))

        angles = tapped(self.from_input(x), by_angles)
        # One for each window and point, so that gradients by them are those by the gates.
        biases = tapped(self.gate_biases.detach().repeat(*x.shape[:2], 1), by_gates)
        states, expectations = self._unroll(
            angles.unbind(1),
            biases.unbind(1),
            self.from_state.weight.detach(),
            self.gate_weights.detach(),
        )
        found = torch.stack(states, dim=1)
        seen["states"] = found.detach()
        seen["read"] = torch.stack([one.detach() for one in expectations], dim=1)
        return found

    def _unroll(
        self,
        angles: Sequence[Tensor],
        biases: Sequence[Tensor],
        from_state: Tensor,
        gate_weights: Tensor,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Hidden states at all points, and what the circuits read there."""
        # Speed is in the number of operations: what does not wait for a state is done for all
        # points at once, and the four gates go through every operation together. One product with
        # a block-diagonal matrix serves them, because batched products of this size spend their
        # time on waking threads.
        to_angles = from_state.T
        to_gates: Tensor = torch.block_diag(*gate_weights)  # type: ignore[no-untyped-call]
        hidden = gate_weights.shape[-1]
        cell = None
        states: list[Tensor] = []
        expectations: list[Tensor] = []
        for angle, bias in zip(angles, biases, strict=True):
            if states:
                angle = torch.addmm(angle, states[-1], to_angles)
            expectations.append(self.circuits(torch.atan(angle)).transpose(0, 1).flatten(1))
            read = torch.addmm(bias, expectations[-1], to_gates)
            gates = torch.sigmoid(read[:, : 3 * hidden])
            forget, take, give = gates.chunk(3, dim=1)
            kept = take * torch.tanh(read[:, 3 * hidden :])
            cell = kept if cell is None else torch.addcmul(kept, forget, cell)
            states.append(give * torch.tanh(cell))
        return states, expectations
