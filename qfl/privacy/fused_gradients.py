"""Gradients of single records in one forward and one backward pass, without hooks on modules."""

from __future__ import annotations

from types import TracebackType

from torch import Tensor, nn

from qfl.errors import PrivacyError
from qfl.privacy.collector import Collector
from qfl.privacy.per_sample import Block, LossOf, Places
from qfl.privacy.samplers import RULES, records_itself
from qfl.privacy.taps import Record


class FusedGradients:
    """Collects from a model's layers while it is entered.

    Args:
        model: Checked by :func:`qfl.privacy.supported.check_layers`. While entered, its backward
            passes fill no ``grad``.
        loss_of: Sum of losses over the batch.
        places: Of its parameters.

    Example:
        >>> import torch
        >>> model = nn.Linear(1, 1, bias=False)
        >>> def loss_of(outputs: Tensor, y: Tensor) -> Tensor:
        ...     return (outputs * y).sum()
        >>> with FusedGradients(model, loss_of, Places(model)) as gradients:
        ...     (block,) = gradients(torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0], [3.0]]))
        >>> block.squares().tolist()
        [1.0, 36.0]
    """

    def __init__(self, model: nn.Module, loss_of: LossOf, places: Places) -> None:
        self._model, self._loss_of, self._places = model, loss_of, places
        self._collector = Collector(places)
        self._changed: list[tuple[nn.Module, str]] = []

    def __enter__(self) -> FusedGradients:
        self._collector = Collector(self._places)
        for module in self._model.modules():
            name, change = "", None
            if records_itself(module):
                # Also where its children's parameters alone are trained: it may use them itself.
                if any(one.requires_grad for one in module.parameters()):
                    name, change = "record", self._record(module)
            elif any(one.requires_grad for one in module.parameters(recurse=False)):
                name, change = "forward", RULES[type(module)](module, self._collector)
            if change is not None:
                setattr(module, name, change)
                self._changed.append((module, name))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for module, name in self._changed:
            delattr(module, name)
        self._changed.clear()

    def __call__(self, x: Tensor, y: Tensor) -> list[Block]:
        """Gradients of every record of a batch.

        Raises:
            PrivacyError: The model uses a parameter in a way that its layer does not tell.
        """
        self._collector.start(len(x))
        self._loss_of(self._model(x), y).backward()  # type: ignore[no-untyped-call]
        for parameter in self._places.parameters:
            if parameter.grad is not None:
                parameter.grad = None
                raise PrivacyError(
                    f"{_name(self._model, parameter)} is used outside of its layer's own forward "
                    "pass, where gradients of single records are not seen: call the layer"
                )
        return self._collector.blocks()

    def _record(self, module: nn.Module) -> Record:
        own = {name: self._collector.rows(one) for name, one in module.named_parameters()}
        return lambda name, rows: own[name](rows)


def _name(model: nn.Module, wanted: nn.Parameter) -> str:
    return next(name for name, one in model.named_parameters() if one is wanted)
