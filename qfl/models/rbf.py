"""Gaussian kernel with trainable landmarks (Broomhead, Lowe 1988), and a model made of it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from qfl.conf.schema import RbfConfig
from qfl.models.inputs import check_width
from qfl.privacy.taps import Record, tapped


class Landmarks(nn.Module):
    """Kernel values k_j = exp(-gamma |x - z_j|^2) to landmarks z_j, relative to their mean.

    The feature of a landmark is k_j / mean(k) - 1: normalised (Moody, Darken 1989), so that an
    example far from all landmarks is still told apart, and centred. Without the centring all
    features of all examples are positive; clients whose labels differ then pull the same weights in
    opposite directions, and on the digits of the demo a federation ends at half the accuracy.

    Landmarks and gamma are weights like any other: they are trained and averaged, and no example of
    a client's is ever one of them.

    Args:
        points: Where the landmarks start, (landmarks, features).
        gamma: Where gamma starts, > 0; its logarithm is trained.

    Example:
        >>> kernel = Landmarks(torch.tensor([[0.0, 0.0], [3.0, 4.0]]), gamma=math.log(3) / 25)
        >>> [round(value, 4) for value in kernel(torch.zeros(1, 2))[0].tolist()]
        [0.5, -0.5]
    """

    record: Record | None = None

    def __init__(self, points: Tensor, gamma: float) -> None:
        super().__init__()
        self.points = nn.Parameter(points.detach().clone())
        self.log_gamma = nn.Parameter(torch.tensor(math.log(gamma)))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, features) to (batch, landmarks), each row summing to 0."""
        points: Tensor = self.points
        log_gamma: Tensor = self.log_gamma
        record = self.record
        if record is not None:
            points, log_gamma = points.detach(), log_gamma.detach()
        # Only differences between landmarks count: the square of x itself falls out.
        distances = torch.addmm((points * points).sum(-1), x, points.T, alpha=-2.0)
        if record is not None:
            of, seen, so_far = record, x.detach(), distances.detach()

            def told(by_distances: Tensor) -> None:
                apart = points - seen[:, None]
                of("points", 2 * by_distances[..., None] * apart)
                # gamma multiplies distances, and its logarithm is what is trained.
                of("log_gamma", (by_distances * so_far).sum(1))

            distances = tapped(distances, told)
        shares = torch.softmax(-torch.exp(log_gamma) * distances, dim=-1)
        return len(points) * shares - 1


class Rbf(nn.Module):
    """Linear, tanh, kernel features, linear: the classical twin of the quantum kernel.

    Example:
        >>> Rbf(RbfConfig(width=8, landmarks=16), features=64, outputs=10)(torch.ones(5, 64)).shape
        torch.Size([5, 10])
    """

    def __init__(self, config: RbfConfig, features: int, outputs: int) -> None:
        super().__init__()
        self.features = features
        self.pre = nn.Linear(features, config.width)
        points = torch.empty(config.landmarks, config.width).uniform_(-1, 1)
        self.kernel = Landmarks(points, gamma=1 / config.width)
        self.post = nn.Linear(config.landmarks, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, features) to (batch, outputs)."""
        check_width(x, self.features)
        result: Tensor = self.post(self.kernel(torch.tanh(self.pre(x))))
        return result
