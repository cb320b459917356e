"""Local training and evaluation of a model, as plain functions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qfl.conf.schema import ClientConfig
from qfl.data import Examples


@dataclass(frozen=True)
class Evaluation:
    """Loss and predictions.

    Attributes:
        loss: Mean cross-entropy, or mean squared error in the model's units.
        predictions: Class indices, or numbers in the model's units.
    """

    loss: float
    predictions: NDArray[np.generic]


def train(
    model: nn.Module, examples: Examples, config: ClientConfig, task: str, seed: tuple[int, ...]
) -> float:
    """Train in place.

    Args:
        model: Starts as the global model.
        examples: The client's own.
        config: Optimizer, epochs, batch size; ``proximal_mu`` > 0 adds FedProx's term (Li et al.
            2020), half of mu times the squared distance to the global model.
        task: ``classification`` or ``regression``.
        seed: Order of the batches.

    Returns:
        Mean loss over all batches, without the proximal term; 0 without examples.
    """
    if len(examples) == 0:
        return 0.0
    model.train()
    x, y = _tensors(examples)
    loss_of = _loss(task)
    start = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer = local_optimizer(model, config)
    order = np.random.default_rng(seed)
    total, seen = 0.0, 0
    for _ in range(config.local_epochs):
        shuffled = torch.from_numpy(order.permutation(len(examples)))
        for batch in torch.split(shuffled, config.batch_size):
            optimizer.zero_grad()
            loss = loss_of(model(x[batch]), y[batch])
            total, seen = total + float(loss.detach()) * len(batch), seen + len(batch)
            if config.proximal_mu:
                loss = loss + config.proximal_mu / 2 * _distance(model, start)
            loss.backward()
            optimizer.step()
    return total / seen


def evaluate(model: nn.Module, examples: Examples, task: str, batch_size: int = 256) -> Evaluation:
    """Loss and predictions without training; a loss of 0 without examples."""
    if len(examples) == 0:
        return Evaluation(0.0, np.zeros(0))
    model.eval()
    x, y = _tensors(examples)
    with torch.no_grad():
        outputs = torch.cat([model(part) for part in torch.split(x, batch_size)])
        loss = float(_loss(task)(outputs, y))
    predicted = outputs.argmax(dim=1) if task == "classification" else outputs[:, 0]
    return Evaluation(loss, predicted.numpy())


def _tensors(examples: Examples) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(examples.x), torch.from_numpy(examples.y)


def _loss(task: str) -> nn.Module:
    return nn.CrossEntropyLoss() if task == "classification" else _SquaredError()


class _SquaredError(nn.Module):
    def forward(self, outputs: Tensor, y: Tensor) -> Tensor:
        return ((outputs[:, 0] - y) ** 2).mean()


def local_optimizer(model: nn.Module, config: ClientConfig) -> torch.optim.Optimizer:
    """The optimizer that a client is configured to train with."""
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            model.parameters(),
            lr=config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )
    return torch.optim.Adam(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)


def _distance(model: nn.Module, start: list[Tensor]) -> Tensor:
    pairs = zip(model.parameters(), start, strict=True)
    terms = [((moved - origin) ** 2).sum() for moved, origin in pairs]
    return torch.stack(terms).sum()
