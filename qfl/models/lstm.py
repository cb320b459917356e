"""Long short-term memory over a window (Hochreiter, Schmidhuber 1997)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qfl.conf.schema import LstmConfig
from qfl.models.recurrent import FORGET_BIAS, Recurrent


class Lstm(Recurrent):
    """LSTM, attention where configured, and a linear layer; the forget gate starts open.

    Example:
        >>> model = Lstm(LstmConfig(hidden=4), channels=2, outputs=1)
        >>> model(torch.zeros(5, 12, 2)).shape, model.sequence(torch.zeros(5, 12, 2)).shape
        (torch.Size([5, 1]), torch.Size([5, 12, 1]))
    """

    def __init__(self, config: LstmConfig, channels: int, outputs: int) -> None:
        super().__init__(channels, config.hidden, outputs, config.attention)
        self.memory = nn.LSTM(channels, config.hidden, config.layers, batch_first=True)
        with torch.no_grad():
            for layer in range(config.layers):
                # The biases of the input gate come first, those of the forget gate second.
                biases = getattr(self.memory, f"bias_ih_l{layer}")
                biases[config.hidden : 2 * config.hidden] += FORGET_BIAS

    def states(self, x: Tensor) -> Tensor:
        """(batch, window, channels) to hidden states (batch, window, hidden)."""
        states, _ = self.memory(x)
        result: Tensor = states
        return result
