"""Gathers what the layers say about single records during one backward pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from qfl.errors import PrivacyError
from qfl.privacy.per_sample import Block, Outer, Places, Rows


class Collector:
    """Gradients of single records, by parameter.

    Args:
        places: Where parameters belong.
    """

    def __init__(self, places: Places) -> None:
        self._places = places
        self._batch = 0
        self._sums: list[_Sum] = []
        self._uses: list[_Uses] = []

    def start(self, batch: int) -> None:
        """Forget the last batch, and expect so many records."""
        self._batch = batch
        for found in self._sums:
            found.rows = None
        for uses in self._uses:
            uses.pairs.clear()

    def rows(self, parameter: Tensor) -> Callable[[Tensor], None]:
        """What a layer calls with gradients (batch, *shape) by a parameter; calls add up."""
        place = self._places.place(parameter)
        if place is None:
            return lambda rows: None
        found = _Sum(place, self._places.layer([parameter]))
        self._sums.append(found)

        def add(rows: Tensor) -> None:
            self._check(rows)
            rows = rows.reshape(len(rows), -1)
            found.rows = rows if found.rows is None else found.rows + rows

        return add

    def linear(self, weight: Tensor, bias: Tensor | None) -> Callable[[Tensor, Tensor], None]:
        """What a layer calls with a use of ``inputs @ weight.T + bias``; calls add up.

        Args:
            weight: (outputs, inputs).
            bias: (outputs,), or None.

        Returns:
            Takes inputs (batch, …, inputs), and gradients by the results (batch, …, outputs).
        """
        places = self._places.place(weight), self._places.place(bias)
        if places == (None, None):
            return lambda inputs, upstream: None
        uses = _Uses(*places, self._places.layer([weight, bias]))
        self._uses.append(uses)

        def add(inputs: Tensor, upstream: Tensor) -> None:
            self._check(inputs)
            uses.pairs.append((inputs, upstream))

        return add

    def blocks(self) -> list[Block]:
        """Everything that was said, ready to be clipped."""
        blocks = [block for uses in self._uses for block in uses.blocks()]
        for found in self._sums:
            if found.rows is not None:
                blocks.append(Rows(found.rows, found.place, found.layer))
        return blocks

    def _check(self, given: Tensor) -> None:
        if given.ndim == 0 or given.shape[0] != self._batch:
            raise PrivacyError(
                f"a layer of this model sees {tuple(given.shape)} for {self._batch} records: "
                "the first dimension must be that of the records in every layer with parameters"
            )


@dataclass
class _Sum:
    """Rows of one parameter."""

    place: slice
    layer: int
    rows: Tensor | None = None


@dataclass
class _Uses:
    """Uses of one linear layer: what went in, and gradients by what came out."""

    weight: slice | None
    bias: slice | None
    layer: int
    pairs: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def blocks(self) -> list[Block]:
        """Outer products where records pass once, else rows."""
        if not self.pairs:
            return []
        inputs, upstream = self.pairs[0]
        if len(self.pairs) == 1 and inputs.ndim == 2:
            return [Outer(inputs, upstream, self.weight, self.bias, self.layer)]
        inputs, upstream = (
            torch.cat([_points(part) for part in parts], dim=1)
            for parts in zip(*self.pairs, strict=True)
        )
        blocks: list[Block] = []
        if self.weight is not None:
            rows = (upstream.mT @ inputs).flatten(1)
            blocks.append(Rows(rows, self.weight, self.layer))
        if self.bias is not None:
            blocks.append(Rows(upstream.sum(1), self.bias, self.layer))
        return blocks


def _points(values: Tensor) -> Tensor:
    """(batch, points, size) of (batch, …, size)."""
    return values.detach().reshape(len(values), -1, values.shape[-1])
