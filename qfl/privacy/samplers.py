"""Rules by which layers of torch tell gradients of single records in one backward pass.

A rule belongs to one class of layers, not to its subclasses, whose forward pass may be another. It
takes a layer and a collector and returns the forward pass to use while gradients are collected.
Modules with an attribute ``record`` (:mod:`qfl.privacy.taps`) need none.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from qfl.privacy.collector import Collector
from qfl.privacy.lstm_sampler import lstm_rule, refuses_lstm
from qfl.privacy.taps import tapped

Rule = Callable[[Any, Collector], Callable[..., Any]]


class _First(torch.autograd.Function):
    """A linear layer whose inputs need no gradients."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, found: Callable[..., None]
    ) -> Tensor:
        ctx.inputs, ctx.found = inputs, found
        return F.linear(inputs, weight, bias)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[None, None, None, None]:
        ctx.found(ctx.inputs, upstream)
        return None, None, None, None


def _linear(layer: nn.Linear, collector: Collector) -> Callable[..., Tensor]:
    weight, bias = layer.weight.detach(), None if layer.bias is None else layer.bias.detach()
    found = collector.linear(layer.weight, layer.bias)

    def forward(inputs: Tensor) -> Tensor:
        if inputs.requires_grad:
            return tapped(F.linear(inputs, weight, bias), partial(found, inputs))
        return cast(
            Tensor,
            _First.apply(inputs, layer.weight, layer.bias, found),  # type: ignore[no-untyped-call]
        )

    return forward


def _conv2d(layer: nn.Conv2d, collector: Collector) -> Callable[..., Tensor]:
    weight, bias = layer.weight.detach(), None if layer.bias is None else layer.bias.detach()
    add = collector.linear(layer.weight, layer.bias)
    size, dilation, stride = layer.kernel_size, layer.dilation, layer.stride
    padding = cast(tuple[int, int], layer.padding)

    def forward(inputs: Tensor) -> Tensor:
        def found(upstream: Tensor) -> None:
            # (batch, inputs of one place, places): every place is a use of a linear layer.
            seen = F.unfold(inputs.detach(), size, dilation, padding, stride)
            add(seen.mT, upstream.flatten(2).mT)

        return tapped(F.conv2d(inputs, weight, bias, stride, padding, dilation), found)

    return forward


def _normed(
    layer: nn.LayerNorm | nn.GroupNorm,
    collector: Collector,
    norm: Callable[[Tensor], Tensor],
    shape: Callable[[Tensor], tuple[int, ...]],
    summed: Callable[[Tensor], Tensor],
) -> Callable[..., Tensor]:
    """A normalisation of single records, times a weight, plus a bias.

    Args:
        layer: Holds weight and bias.
        collector: Gets their gradients.
        norm: The normalisation.
        shape: In which weight and bias meet what is normalised.
        summed: Adds up what belongs to the same weight, (batch, …) to (batch, *weight).
    """
    weight, bias = layer.weight.detach(), None if layer.bias is None else layer.bias.detach()
    by_weight = collector.rows(layer.weight)
    by_bias = None if layer.bias is None else collector.rows(layer.bias)

    def forward(inputs: Tensor) -> Tensor:
        normal = norm(inputs)

        def found(upstream: Tensor) -> None:
            by_weight(summed(upstream * normal.detach()))
            if by_bias is not None:
                by_bias(summed(upstream))

        result = normal * weight.reshape(shape(inputs))
        if bias is not None:
            result = result + bias.reshape(shape(inputs))
        return tapped(result, found)

    return forward


def _layer_norm(layer: nn.LayerNorm, collector: Collector) -> Callable[..., Tensor]:
    own = len(layer.normalized_shape)
    return _normed(
        layer,
        collector,
        lambda inputs: F.layer_norm(inputs, layer.normalized_shape, eps=layer.eps),
        lambda inputs: tuple(layer.normalized_shape),
        lambda values: values.reshape(len(values), -1, *values.shape[-own:]).sum(1),
    )


def _group_norm(layer: nn.GroupNorm, collector: Collector) -> Callable[..., Tensor]:
    return _normed(
        layer,
        collector,
        lambda inputs: F.group_norm(inputs, layer.num_groups, eps=layer.eps),
        lambda inputs: (1, -1, *(1 for _ in inputs.shape[2:])),
        lambda values: values.reshape(*values.shape[:2], -1).sum(2),
    )


RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: _linear,
    nn.Conv2d: _conv2d,
    nn.LayerNorm: _layer_norm,
    nn.GroupNorm: _group_norm,
    nn.LSTM: lstm_rule,
}


def records_itself(module: nn.Module) -> bool:
    """Whether a module has the attribute ``record``."""
    return hasattr(type(module), "record")


def refuses(module: nn.Module) -> str | None:
    """None where gradients of single records by a module's own parameters can be told.

    Returns:
        Otherwise what about the module is in the way.
    """
    if records_itself(module):
        return None
    if type(module) not in RULES:
        return "has no rule for gradients of single records"
    if isinstance(module, nn.LSTM):
        return refuses_lstm(module)
    if isinstance(module, nn.Conv2d) and (
        module.groups != 1 or module.padding_mode != "zeros" or isinstance(module.padding, str)
    ):
        return "has a rule for groups=1, padding_mode='zeros' and padding in numbers only"
    return None
