"""Long short-term memory over a window (Hochreiter, Schmidhuber 1997), read at the last point."""

from __future__ import annotations

from torch import Tensor, nn

from qfl.conf.schema import LstmConfig


class Lstm(nn.Module):
    """LSTM and a linear layer.

    Example:
        >>> import torch
        >>> Lstm(LstmConfig(hidden=4), channels=2, outputs=1)(torch.zeros(5, 12, 2)).shape
        torch.Size([5, 1])
    """

    def __init__(self, config: LstmConfig, channels: int, outputs: int) -> None:
        super().__init__()
        self.memory = nn.LSTM(channels, config.hidden, config.layers, batch_first=True)
        self.post = nn.Linear(config.hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, window, channels) to (batch, outputs)."""
        states, _ = self.memory(x)
        result: Tensor = self.post(states[:, -1])
        return result
