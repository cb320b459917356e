"""The classical twin of the quantum neural network: the circuit replaced by a dense layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qfl.conf.schema import MlpConfig
from qfl.models.inputs import check_width


class Mlp(nn.Module):
    """Linear, tanh, linear, tanh, linear.

    Example:
        >>> Mlp(MlpConfig(width=8, hidden=8), features=64, outputs=10)(torch.zeros(5, 64)).shape
        torch.Size([5, 10])
    """

    def __init__(self, config: MlpConfig, features: int, outputs: int) -> None:
        super().__init__()
        self.features = features
        self.pre = nn.Linear(features, config.width)
        self.middle = nn.Linear(config.width, config.hidden)
        self.post = nn.Linear(config.hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, features) to (batch, outputs)."""
        check_width(x, self.features)
        hidden = torch.tanh(self.middle(torch.tanh(self.pre(x))))
        result: Tensor = self.post(hidden)
        return result
