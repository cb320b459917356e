"""Rows of pixels as square images, and images as patches."""

from __future__ import annotations

import math

from torch import Tensor

from qfl.errors import ConfigError

PATCH = 2


def image_side(features: int) -> int:
    """Side of the square image that a row of pixels is.

    Raises:
        ConfigError: The row is no square image that 2 x 2 patches cover.

    Example:
        >>> image_side(64)
        8
    """
    side = math.isqrt(features)
    if features < PATCH * PATCH or side * side != features or side % PATCH:
        raise ConfigError(
            f"this model takes square images with an even side, as rows of 4, 16, 36, 64, … "
            f"pixels; the data give {features} features: choose another data set or model"
        )
    return side


def patches(images: Tensor) -> Tensor:
    """Cut images into 2 x 2 patches that do not overlap.

    Args:
        images: (batch, channels, side, side), with an even side.

    Returns:
        (batch, channels, patches, 4): patches row by row, and so the pixels of each.

    Example:
        >>> import torch
        >>> patches(torch.arange(16.0).reshape(1, 1, 4, 4))[0, 0].tolist()[:2]
        [[0.0, 1.0, 4.0, 5.0], [2.0, 3.0, 6.0, 7.0]]
    """
    batch, channels, side, _ = images.shape
    half = side // PATCH
    cut = images.reshape(batch, channels, half, PATCH, half, PATCH).transpose(3, 4)
    return cut.reshape(batch, channels, half * half, PATCH * PATCH)
