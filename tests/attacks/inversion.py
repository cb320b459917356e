"""Gradient inversion: images, from the gradient that training on them gave.

The attacker looks for images whose own gradient is the one that it holds (Zhu, Liu, Han 2019,
"Deep leakage from gradients"). It reads the labels from the gradient by the last bias first, as
Zhao, Mopuri, Bilen 2020 ("iDLG") do for one image, and prefers images that look like others of
their kind; Geiping et al. 2020 ("Inverting gradients") prefer smooth ones for the same reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

Images = NDArray[np.float64]

# Of images, beside the mismatch of gradients: small enough to give way to what a gradient says.
PREFERENCE = 1e-3


@dataclass(frozen=True)
class Attacker:
    """What an attacker knows beside what it received.

    Attributes:
        model: The global model that the gradient was taken at, in double precision.
        known: Other images of the same kind, scaled as the victim's, (images, pixels).
    """

    model: nn.Module
    known: Tensor

    @property
    def mean(self) -> Images:
        """The mean of known images, (1, pixels): the best guess without any gradient."""
        found: Images = self.known.mean(0, keepdim=True).numpy()
        return found

    def invert(self, gradient: Images, images: int, steps: int, seed: int = 0) -> Found:
        """Images and labels that explain a gradient.

        Args:
            gradient: Of the mean loss over all images, flat, in the order of the parameters.
            images: How many they were.
            steps: Of L-BFGS.
            seed: Of the first guess.
        """
        goal = torch.from_numpy(np.ascontiguousarray(gradient, dtype=np.float64))
        labels = self.labels(goal, images)
        # Images are written as a mean and independent deviations, as a Gaussian of known images has
        # them: what is likely is then what has few and small deviations.
        mean, spread = self.known.mean(0), _spread(self.known)
        random = torch.Generator().manual_seed(seed)
        guess = 0.1 * torch.randn(images, len(mean), generator=random, dtype=torch.float64)
        guess.requires_grad_(True)
        optimizer = torch.optim.LBFGS(
            [guess], max_iter=steps, history_size=20, line_search_fn="strong_wolfe"
        )
        size = goal.square().sum()

        def objective() -> Tensor:
            optimizer.zero_grad()
            mismatch = (self.gradient(mean + guess @ spread, labels) - goal).square().sum() / size
            total = mismatch + PREFERENCE * guess.square().mean()
            total.backward()
            return total.detach()

        optimizer.step(objective)
        found = (mean + guess @ spread).detach()
        return Found(found.clamp(self.known.min(), self.known.max()).numpy(), labels.numpy())

    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        """Gradient of the mean loss, flat and itself differentiable."""
        loss = cross_entropy(self.model(x), y)
        parts = torch.autograd.grad(loss, list(self.model.parameters()), create_graph=True)
        return torch.cat([part.flatten() for part in parts])

    def labels(self, gradient: Tensor, images: int) -> Tensor:
        """Labels of a batch, sorted, from the gradient by the last bias.

        That is the mean of predicted probabilities less the share of each label. The former is
        taken from known images.
        """
        with torch.no_grad():
            predicted = torch.softmax(self.model(self.known), dim=1).mean(0)
        share = images * (predicted - gradient[-len(predicted) :])
        labels = []
        for _ in range(images):
            label = int(share.argmax())
            share[label] -= 1
            labels.append(label)
        return torch.tensor(sorted(labels))


@dataclass(frozen=True)
class Found:
    """What an attack gave: images (images, pixels) in no particular order, and their labels."""

    images: Images
    labels: NDArray[np.int64]


def _spread(known: Tensor) -> Tensor:
    """(pixels, pixels), which makes independent numbers vary together as pixels do."""
    away = known - known.mean(0)
    covariance = away.T @ away / len(known)
    # Pixels that are the same in all known images would make it singular.
    constant = torch.eye(len(covariance), dtype=known.dtype)
    found: Tensor = torch.linalg.cholesky(covariance + 1e-4 * constant).T
    return found


@dataclass(frozen=True)
class Likeness:
    """How near found images come to the originals, each original to one found image.

    Attributes:
        order: Which found image stands for each original.
        correlation: Of the two over pixels, the mean of known images taken off both: 1 for the
            original, 0 for what is no nearer than that mean.
        error: Mean squared difference over pixels, as a share of the square of their range.
    """

    order: NDArray[np.intp]
    correlation: Images
    error: Images


def likeness(found: Images, originals: NDArray[Any], mean: Images) -> Likeness:
    """Compare, with the assignment that is best for the attacker.

    Args:
        found: At least as many as there are originals, (found, pixels), within [-1, 1].
        originals: (originals, pixels), within [-1, 1].
        mean: (1, pixels).
    """
    table = _directions(originals - mean) @ _directions(found - mean).T
    _, order = linear_sum_assignment(-table)
    chosen = np.asarray(order)
    error = np.mean((found[chosen] - originals) ** 2, axis=1) / 4
    return Likeness(chosen, table[np.arange(len(originals)), chosen], error)


def _directions(rows: NDArray[Any]) -> Images:
    away = rows - rows.mean(1, keepdims=True)
    found: Images = away / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-12)
    return found


def chance(attacker: Attacker, originals: NDArray[Any], found: int, tries: int = 50) -> float:
    """Likeness of as many other images, drawn without any gradient; mean over tries."""
    known, random = attacker.known.numpy(), np.random.default_rng(0)
    draws = (known[random.choice(len(known), found, replace=False)] for _ in range(tries))
    return float(
        np.mean([likeness(drawn, originals, attacker.mean).correlation.mean() for drawn in draws])
    )


def readings(body: bytes, length: int, size: float) -> Iterator[Images]:
    """Bytes as a gradient, in the ways in which a vector of numbers might be written.

    Args:
        body: Of a contribution.
        length: Numbers in the gradient.
        size: Norm that a gradient usually has; every reading is brought to it.
    """
    for kind in ("<f4", "i1", "<i2", "<i4"):
        values = np.frombuffer(body, kind, length)
        if kind == "<f4":
            # Random bytes may be infinite, no number, or larger than any update.
            values = np.where(np.abs(np.nan_to_num(values, nan=9.0)) <= 2.0, values, 0.0)
        # An update goes down the gradient.
        downhill = -values.astype(np.float64)
        yield downhill * (size / float(np.linalg.norm(downhill)))
