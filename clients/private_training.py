"""Local training under record-level differential privacy (DP-SGD).

The counterpart of :mod:`qfl.clients.training`: batches by Poisson sampling, gradients clipped
record by record, noise, and then the same local optimizer on the noisy mean gradient. What it
returns, and the model, are all that leaves: no loss, no batch size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from qfl.clients.training import local_optimizer
from qfl.conf.schema import ClientConfig
from qfl.data import Examples
from qfl.errors import DataError
from qfl.privacy.dpsgd import DpSgd, FlatParameters, NoisyGradients, collecting
from qfl.privacy.gradient_probe import check_gradients
from qfl.privacy.per_sample import LossOf, Places
from qfl.privacy.poisson import poisson_batches
from qfl.privacy.randomness import Stream
from qfl.privacy.supported import check_layers


@dataclass(frozen=True)
class Trained:
    """What training tells besides the model.

    Attributes:
        clipping_norm: The last one; with adaptive clipping another than the first.
    """

    clipping_norm: float


def train_privately(
    model: nn.Module,
    examples: Examples,
    config: ClientConfig,
    privacy: DpSgd,
    task: str,
    *,
    stream: Stream | None = None,
) -> Trained:
    """Train in place; what it costs is ``privacy.charge()``, to be paid before.

    Args:
        model: Starts as the global model.
        examples: The client's own. Their number is not a secret; records that are not numbers
            count as records, and change nothing.
        config: Optimizer. Epochs and batch size are those of ``privacy``; FedProx's term and
            weight decay depend on no record, and are added to the noisy gradient.
        privacy: Sampling, clipping and noise.
        task: ``classification`` or ``regression``.
        stream: Where sampling and noise come from; set it in tests alone.

    Raises:
        PrivacyError: The model cannot be trained privately.
        DataError: Training has diverged.

    Example:
        >>> import numpy as np
        >>> examples = Examples(np.ones((8, 2), np.float32), np.ones(8, np.float32))
        >>> privacy = DpSgd(noise_multiplier=1.0, sample_rate=0.25, steps=4)
        >>> config = ClientConfig(lr=0.1)
        >>> train_privately(nn.Linear(2, 1), examples, config, privacy, "regression")
        Trained(clipping_norm=1.0)
    """
    check_layers(model, privacy.gradients)
    if len(examples) == 0:
        return Trained(privacy.clipping_norm)
    stream = stream or Stream()
    model.train()
    x, y = torch.from_numpy(examples.x), torch.from_numpy(examples.y)
    usable = torch.isfinite(x.flatten(1)).all(1)
    if y.is_floating_point():
        usable &= torch.isfinite(y)
    x, y = x[usable], y[usable]
    loss_of, places = _sum_of_losses(task), Places(model)
    flat = FlatParameters(places)
    vector, start = flat.vector, flat.vector.detach().clone()
    optimizer = local_optimizer(nn.ParameterList([vector]), config)
    try:
        session = collecting(privacy.gradients, model, loss_of, places)
        check_gradients(model, loss_of, session, places, (x, y))
        with session as gradients:
            noisy = NoisyGradients(privacy, gradients, places, len(examples), stream)
            for batch in poisson_batches(len(x), privacy.sample_rate, privacy.steps, stream):
                taken = torch.from_numpy(batch)
                gradient = torch.from_numpy(noisy(x[taken], y[taken])).to(vector.dtype)
                if config.proximal_mu:
                    gradient.add_(vector.detach() - start, alpha=config.proximal_mu)
                vector.grad = gradient
                optimizer.step()
        if not torch.isfinite(vector).all():
            raise DataError(
                "private training has diverged: take a smaller client.lr or privacy.clipping_norm"
            )
    finally:
        flat.close()
    return Trained(noisy.clipping_norm)


def _sum_of_losses(task: str) -> LossOf:
    if task == "classification":
        return lambda outputs, y: F.cross_entropy(outputs, y, reduction="sum")
    return lambda outputs, y: ((outputs[:, 0] - y) ** 2).sum()
