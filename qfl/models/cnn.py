"""The classical twin of the hybrid convolutional network: circuits replaced by a dense layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qfl.conf.schema import CnnConfig
from qfl.models.images import PATCH, image_side, patches
from qfl.models.inputs import check_width


class Cnn(nn.Module):
    """3 x 3 convolution, tanh, a dense layer on every 2 x 2 patch of every channel, tanh, linear.

    Raises:
        ConfigError: The features are no square image with an even side.

    Example:
        >>> Cnn(CnnConfig(channels=2), features=64, outputs=10)(torch.zeros(5, 64)).shape
        torch.Size([5, 10])
    """

    def __init__(self, config: CnnConfig, features: int, outputs: int) -> None:
        super().__init__()
        self.features, self.side = features, image_side(features)
        self.front = nn.Conv2d(1, config.channels, kernel_size=3, padding=1)
        self.dense = nn.Linear(PATCH * PATCH, config.per_patch)
        places = config.channels * features // (PATCH * PATCH)
        self.post = nn.Linear(places * config.per_patch, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, pixels) to (batch, outputs)."""
        check_width(x, self.features)
        images = x.reshape(-1, 1, self.side, self.side)
        read = torch.tanh(self.dense(patches(torch.tanh(self.front(images)))))
        result: Tensor = self.post(read.flatten(1))
        return result
