"""DP-SGD: noisy sums of clipped gradients of single records, over batches that chance picks.

Abadi et al. 2016, "Deep learning with differential privacy". Neighbours are data sets of which one
has one record more. The sum is divided by the expected size of a batch, never by the real one,
which depends on the records. Clipping and its arithmetic are in
:mod:`qfl.privacy.gradient_clipping`, noise and what it costs in :mod:`qfl.privacy.noised_sum`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from qfl.errors import ConfigError, DataError, PrivacyError, unknown_name
from qfl.privacy.charge import Charge
from qfl.privacy.client_level import LARGEST_NORM, SMALLEST_NORM, next_clipping_norm
from qfl.privacy.fused_gradients import FusedGradients
from qfl.privacy.gradient_clipping import LARGEST_BATCH, Clipped, clipped_sum
from qfl.privacy.noised_sum import (
    LARGEST_SIZE,
    Noise,
    check_size,
    delta_of,
    gradient_multiplier,
    noisy_fraction,
)
from qfl.privacy.per_sample import Block, Floats, LossOf, Places, Session
from qfl.privacy.randomness import Stream

CLIPPINGS = ("flat", "per_layer", "adaptive")
ROUTES = ("fused", "opacus")


@dataclass(frozen=True)
class DpSgd:
    """How a model is trained privately.

    Attributes:
        noise_multiplier: Standard deviation of the noise over the clipping norm, z; with adaptive
            clipping of gradient and count together. 0 adds none, and guarantees nothing.
        clipping_norm: Largest norm C of a record's gradient; where adaptive clipping starts.
        clipping: ``flat`` (the whole gradient), ``per_layer`` (each layer's part, to C / sqrt(k))
            or ``adaptive`` (a norm that follows a quantile of the norms).
        sample_rate: Probability that a record is in a batch.
        steps: Batches.
        target_quantile: ``adaptive``: share of gradients that should be within the norm.
        clipping_lr: ``adaptive``: step on the logarithm of the norm.
        count_noise: ``adaptive``: standard deviation of the noise on the count of those within.
        gradients: ``fused`` (ours) or ``opacus`` (Opacus' hooks).

    Raises:
        ConfigError: A value is unknown or out of range.
        PrivacyError: ``count_noise`` is too small for ``noise_multiplier``.

    Example:
        >>> DpSgd(noise_multiplier=1.1, sample_rate=0.01, steps=100).charge(1000).noise_multiplier
        1.1
    """

    noise_multiplier: float
    clipping_norm: float = 1.0
    clipping: str = "flat"
    sample_rate: float = 1.0
    steps: int = 1
    target_quantile: float = 0.5
    clipping_lr: float = 0.2
    count_noise: float = 10.0
    gradients: str = "fused"

    def __post_init__(self) -> None:
        ranges = {
            "noise_multiplier": (0 <= self.noise_multiplier < math.inf, "at least 0"),
            "clipping_norm": (
                SMALLEST_NORM <= self.clipping_norm <= LARGEST_NORM,
                f"{SMALLEST_NORM:g} to {LARGEST_NORM:g}",
            ),
            "sample_rate": (0 < self.sample_rate <= 1, "above 0 and at most 1"),
            "steps": (self.steps >= 1, "at least 1"),
            "target_quantile": (0 < self.target_quantile < 1, "between 0 and 1"),
            "clipping_lr": (0 < self.clipping_lr < math.inf, "above 0"),
            "count_noise": (0 < self.count_noise < math.inf, "above 0"),
        }
        for name, (right, allowed) in ranges.items():
            if not right:
                raise ConfigError(f"privacy.{name}={getattr(self, name)}: must be {allowed}")
        if self.clipping not in CLIPPINGS:
            raise ConfigError(unknown_name("privacy.clipping", self.clipping, CLIPPINGS))
        if self.gradients not in ROUTES:
            raise ConfigError(unknown_name("privacy.gradients", self.gradients, ROUTES))
        self.gradient_multiplier  # noqa: B018  # raises where there is none

    @property
    def gradient_multiplier(self) -> float:
        """Noise multiplier of the gradient alone."""
        if self.clipping != "adaptive":
            return self.noise_multiplier
        return gradient_multiplier(self.noise_multiplier, self.count_noise)

    def charge(self, size: int = LARGEST_SIZE) -> Charge:
        """What all steps cost a data set.

        Args:
            size: Parameters of the model; unset, the most that there may be.
        """
        return Charge(
            "gaussian",
            noise_multiplier=self.noise_multiplier,
            sample_rate=self.sample_rate,
            steps=self.steps,
            # One more for the count of adaptive clipping.
            delta=delta_of(size + 1, self.steps) if self.noise_multiplier else 0.0,
        )


def collecting(route: str, model: nn.Module, loss_of: LossOf, places: Places) -> Session:
    """Gradients of single records, by one of the two routes.

    Args:
        route: ``fused`` or ``opacus``.
        model: Checked by :func:`qfl.privacy.supported.check_layers`; in training mode.
        loss_of: Sum of losses over the batch.
        places: Of the model's parameters.
    """
    if route == "fused":
        return FusedGradients(model, loss_of, places)
    from qfl.privacy.opacus_gradients import OpacusGradients

    return OpacusGradients(model, loss_of, places)


class NoisyGradients:
    """The mean gradient of each step, private.

    Args:
        privacy: What to do.
        gradients: Gradients of every record of a batch.
        places: Of the model's parameters.
        records: How many records there are.
        stream: Where the noise comes from.

    Attributes:
        clipping_norm: Of the next step.

    Raises:
        PrivacyError: The model, the batches or the noise are too large for the arithmetic.
    """

    def __init__(
        self,
        privacy: DpSgd,
        gradients: Callable[[Tensor, Tensor], list[Block]],
        places: Places,
        records: int,
        stream: Stream,
    ) -> None:
        multiplier = privacy.gradient_multiplier
        check_size(places.size, multiplier)
        self._expected = privacy.sample_rate * records
        # Four times the mean is next to impossible.
        if self._expected > LARGEST_BATCH / 4:
            raise PrivacyError(
                f"batches of {self._expected:.0f} records are too large: lower "
                f"privacy.sample_rate, to {LARGEST_BATCH / 4 / records:.3g} at most"
            )
        self._privacy, self._gradients, self._size = privacy, gradients, places.size
        self._layers = places.layers if privacy.clipping == "per_layer" else None
        self._multiplier = multiplier
        self._noise = Noise(places.size, privacy.steps, stream)
        self._count_noise = Noise(1, privacy.steps, stream)
        self.clipping_norm = privacy.clipping_norm

    def __call__(self, x: Tensor, y: Tensor) -> Floats:
        """Noisy sum of the clipped gradients over the expected size of a batch, (parameters,).

        Args:
            x: The records of a batch; there may be none.
            y: Their targets.
        """
        norm = self.clipping_norm
        clipped = self._clipped(x, y)
        total = clipped.total
        if self._multiplier:
            total = self._noise.add(total, self._multiplier * norm)
        if self._privacy.clipping == "adaptive":
            privacy = self._privacy
            fraction = noisy_fraction(
                clipped.within, len(x), self._expected, self._count_noise, privacy.count_noise
            )
            self.clipping_norm = next_clipping_norm(
                norm, fraction, privacy.target_quantile, privacy.clipping_lr
            )
        total /= self._expected
        return total

    def _clipped(self, x: Tensor, y: Tensor) -> Clipped:
        if not len(x):
            return Clipped(np.zeros(self._size), 0)
        try:
            return self._sum(x, y)
        except DataError:
            # Some record is refused by a layer. It must not show which, nor that there is one.
            found = [
                self._one(*record)
                for record in zip(torch.split(x, 1), torch.split(y, 1), strict=True)
            ]
            total = np.sum([one.total for one in found], axis=0)
            return Clipped(total, sum(one.within for one in found))

    def _one(self, x: Tensor, y: Tensor) -> Clipped:
        try:
            return self._sum(x, y)
        except DataError:
            return Clipped(np.zeros(self._size), 1)

    def _sum(self, x: Tensor, y: Tensor) -> Clipped:
        blocks = self._gradients(x, y)
        return clipped_sum(blocks, len(x), self._size, self.clipping_norm, self._layers)


class FlatParameters:
    """All trainable parameters as one vector, of which they are views until it is closed.

    An optimizer then has one parameter to step instead of many.

    Args:
        places: Of the parameters.

    Attributes:
        vector: (parameters,).

    Raises:
        PrivacyError: Parameters are of another type than float32, or not on the CPU.
    """

    def __init__(self, places: Places) -> None:
        self._parameters = places.parameters
        # The squares of float32 neither overflow nor vanish in the float64 of norms.
        wrong = {
            f"{one.dtype} on {one.device}"
            for one in self._parameters
            if one.dtype != torch.float32 or not one.is_cpu
        }
        if wrong:
            raise PrivacyError(
                "a model is trained privately on the CPU, with trainable parameters in float32: "
                f"this one has {', '.join(sorted(wrong))}"
            )
        joined = torch.cat([one.detach().reshape(-1) for one in self._parameters])
        self.vector = nn.Parameter(joined)
        parts = torch.split(joined, [one.numel() for one in self._parameters])
        for parameter, part in zip(self._parameters, parts, strict=True):
            parameter.data = part.view_as(parameter)

    def close(self) -> None:
        """Give every parameter memory of its own again."""
        for parameter in self._parameters:
            parameter.data = parameter.data.clone()
