"""Gathers what the layers say about single records during one backward pass."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qfl.errors import PrivacyError
from qfl.privacy.per_sample import Block, Outer, Places, Rows

Weights = tuple[nn.Parameter | None, nn.Parameter | None]


class Collector:
    """Gradients of single records, by parameter.

    Args:
        places: Where parameters belong.
    """

    def __init__(self, places: Places) -> None:
        self._places = places
        self._batch = 0
        self._rows: dict[nn.Parameter, Tensor] = {}
        self._linear: dict[Weights, list[tuple[Tensor, Tensor]]] = {}

    def start(self, batch: int) -> None:
        """Forget the last batch, and expect so many records."""
        self._batch = batch
        self._rows.clear()
        self._linear.clear()

    def rows(self, parameter: nn.Parameter, rows: Tensor) -> None:
        """Add gradients (batch, *shape) by a parameter.

        Raises:
            PrivacyError: There are more or fewer rows than records.
        """
        if self._places.place(parameter) is None:
            return
        self._check(rows)
        rows = rows.detach().reshape(len(rows), -1)
        known = self._rows.get(parameter)
        self._rows[parameter] = rows if known is None else known + rows

    def linear(
        self,
        weight: nn.Parameter,
        bias: nn.Parameter | None,
        inputs: Tensor,
        upstream: Tensor,
    ) -> None:
        """Add a use of ``inputs @ weight.T + bias``.

        Args:
            weight: (outputs, inputs).
            bias: (outputs,), or None.
            inputs: (batch, …, inputs).
            upstream: Gradients by the results, (batch, …, outputs).

        Raises:
            PrivacyError: There are more or fewer rows than records.
        """
        self._check(inputs)
        self._linear.setdefault((weight, bias), []).append((inputs, upstream))

    def blocks(self) -> list[Block]:
        """Everything that was said, ready to be clipped."""
        blocks: list[Block] = []
        for weights, uses in self._linear.items():
            weight, bias = (self._places.place(one) for one in weights)
            if weight is None and bias is None:
                continue
            inputs, upstream = uses[0]
            if len(uses) == 1 and inputs.ndim == 2:
                layer = self._places.layer(weights)
                blocks.append(Outer(inputs, upstream, weight, bias, layer))
            else:
                self._in_full(weights, uses)
        for parameter, rows in self._rows.items():
            place = self._places.place(parameter)
            assert place is not None
            blocks.append(Rows(rows, place, self._places.layer([parameter])))
        return blocks

    def _in_full(self, weights: Weights, uses: list[tuple[Tensor, Tensor]]) -> None:
        """A linear layer that records pass at several points."""
        inputs, upstream = (
            torch.cat([_points(part) for part in parts], dim=1) for parts in zip(*uses, strict=True)
        )
        weight, bias = weights
        if weight is not None:
            self.rows(weight, upstream.transpose(1, 2) @ inputs)
        if bias is not None:
            self.rows(bias, upstream.sum(1))

    def _check(self, given: Tensor) -> None:
        if given.ndim == 0 or len(given) != self._batch:
            raise PrivacyError(
                f"a layer of this model sees {tuple(given.shape)} for {self._batch} records: "
                "the first dimension must be that of the records in every layer with parameters"
            )


def _points(values: Tensor) -> Tensor:
    """(batch, points, size) of (batch, …, size)."""
    return values.reshape(len(values), -1, values.shape[-1])
