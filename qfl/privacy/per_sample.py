"""Gradients of single records, in the form in which they can be clipped and summed cheaply.

The gradient of a record by the matrix of a linear layer that it passes once is an outer product
``g x^T``. It is kept as its two factors: its norm is ``|g| |x|``, and a weighted sum over records
is one product of two matrices (Goodfellow 2015, "Efficient per-example gradient computations"; Li
et al. 2022, "Large language models can be strong differentially private learners", call it ghost
clipping). Everything else, also a layer that a record passes at several points in time, is kept as
rows of numbers: a norm computed from products of several factors could cancel, and would then not
bound the sum.

All arithmetic is in float64, in which the squares of a model's float32 neither overflow nor vanish.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

Floats = NDArray[np.float64]
LossOf = Callable[[Tensor, Tensor], Tensor]
"""Outputs and targets to the sum of the losses over the batch."""


class Block(Protocol):
    """Gradients of every record by some parameters of one layer.

    Attributes:
        layer: Number of the layer.
        places: Where the parameters stand among all.
    """

    layer: int
    places: tuple[slice, ...]

    def squares(self) -> Floats:
        """Squared norm of each record's gradient, (batch,)."""

    def add_to(self, total: Floats, scale: Floats) -> None:
        """Write the sum over records, each times its scale (batch,), to its place in ``total``."""

    def drop(self, wrong: NDArray[np.bool_]) -> None:
        """Make the gradients of some records, (batch,), zero."""


class Session(Protocol):
    """While entered, gives the gradients of every record of a batch."""

    def __enter__(self) -> Session:
        """Change the model so that it tells."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the model as it was."""

    def __call__(self, x: Tensor, y: Tensor) -> list[Block]:
        """Gradients by all trainable parameters; what is left out is zero."""


class Rows:
    """A gradient in full for each record.

    Args:
        rows: (batch, size).
        place: Where they belong among all parameters.
        layer: Number of the layer.
    """

    def __init__(self, rows: Tensor, place: slice, layer: int) -> None:
        self.rows, self.place, self.layer = _numbers(rows), place, layer
        self.places: tuple[slice, ...] = (place,)

    def squares(self) -> Floats:
        """Squared norms."""
        found: Floats = np.einsum("ij,ij->i", self.rows, self.rows)
        return found

    def add_to(self, total: Floats, scale: Floats) -> None:
        """Write the weighted sum."""
        np.dot(scale, self.rows, out=total[self.place])

    def drop(self, wrong: NDArray[np.bool_]) -> None:
        """Zeros for some."""
        self.rows[wrong] = 0


class Outer:
    """An outer product for each record: the gradient by a linear layer's matrix, and by its bias.

    Args:
        inputs: (batch, inputs).
        upstream: Gradient by the layer's outputs, (batch, outputs).
        weight: Where the matrix (outputs, inputs) belongs among all parameters; None if frozen.
        bias: The same for the bias.
        layer: Number of the layer.
    """

    def __init__(
        self,
        inputs: Tensor,
        upstream: Tensor,
        weight: slice | None,
        bias: slice | None,
        layer: int,
    ) -> None:
        self.inputs, self.upstream = _numbers(inputs), _numbers(upstream)
        self.weight, self.bias, self.layer = weight, bias, layer
        self.places = tuple(place for place in (weight, bias) if place is not None)

    def squares(self) -> Floats:
        """Squared norms, as products of norms."""
        found: Floats = np.einsum("ij,ij->i", self.upstream, self.upstream)
        if self.weight is not None:
            factors: Floats = np.einsum("ij,ij->i", self.inputs, self.inputs)
            if self.bias is not None:
                factors += 1
            found *= factors
        return found

    def add_to(self, total: Floats, scale: Floats) -> None:
        """Write the weighted sum."""
        if self.weight is not None:
            shape = self.upstream.shape[1], self.inputs.shape[1]
            scaled = self.upstream * scale[:, None]
            np.matmul(scaled.T, self.inputs, out=total[self.weight].reshape(shape))
        if self.bias is not None:
            np.dot(scale, self.upstream, out=total[self.bias])

    def drop(self, wrong: NDArray[np.bool_]) -> None:
        """Zeros for some."""
        self.inputs[wrong] = 0
        self.upstream[wrong] = 0


class Places:
    """Where every trainable parameter stands in one vector, and to which layer it belongs.

    Args:
        model: Its trainable parameters in the order of ``parameters()``.

    Attributes:
        size: Of the vector.
        layers: Layers with trainable parameters.
    """

    def __init__(self, model: nn.Module) -> None:
        self.parameters = [one for one in model.parameters() if one.requires_grad]
        self._places: dict[Tensor, slice] = {}
        self._layers: dict[Tensor, int] = {}
        start = 0
        for parameter in self.parameters:
            self._places[parameter] = slice(start, start + parameter.numel())
            start += parameter.numel()
        self.size, self.layers = start, 0
        for module in model.modules():
            own = [one for one in module.parameters(recurse=False) if one in self._places]
            self._layers |= dict.fromkeys(own, self.layers)
            self.layers += bool(own)

    def place(self, parameter: Tensor | None) -> slice | None:
        """None for a parameter that is frozen or missing."""
        return None if parameter is None else self._places.get(parameter)

    def layer(self, parameters: Iterable[Tensor | None]) -> int:
        """Layer of the first that is trainable."""
        known = (self._layers.get(one) for one in parameters if one is not None)
        return next(layer for layer in known if layer is not None)


def _numbers(values: Tensor) -> Floats:
    # A copy also of float64, because what comes from a backward pass may be a view.
    return values.detach().numpy().astype(np.float64, order="C")
