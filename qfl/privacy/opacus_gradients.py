"""Gradients of single records by Opacus' hooks, in the form that :mod:`qfl.privacy` clips.

Opacus (Yousefpour et al. 2021, arXiv:2109.12298) has a sampler for each class of layers. Layers of
ours that have ``per_sample_gradients`` are registered with theirs; other modules that tell their
gradients themselves are left to Opacus' functorch, which is exact. ``nn.LSTM`` gives its place to
Opacus' DPLSTM, which works with the same parameters.
"""

from __future__ import annotations

import warnings
from types import TracebackType
from typing import Any

from torch import Tensor, nn

from qfl.privacy.per_sample import Block, LossOf, Places, Rows

_LSTM_PARTS = {"weight_ih": "ih.weight", "weight_hh": "hh.weight",
               "bias_ih": "ih.bias", "bias_hh": "hh.bias"}  # fmt: skip


class OpacusGradients:
    """Wraps a model while it is entered.

    Args:
        model: Checked by :func:`qfl.privacy.supported.check_layers`; in training mode.
        loss_of: Sum of losses over the batch.
        places: Of its parameters.

    Example:
        >>> import torch
        >>> model = nn.Linear(1, 1, bias=False)
        >>> def loss_of(outputs: Tensor, y: Tensor) -> Tensor:
        ...     return (outputs * y).sum()
        >>> with OpacusGradients(model, loss_of, Places(model)) as gradients:
        ...     (block,) = gradients(torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0], [3.0]]))
        >>> block.squares().tolist()
        [1.0, 36.0]
    """

    def __init__(self, model: nn.Module, loss_of: LossOf, places: Places) -> None:
        self._model, self._loss_of, self._places = model, loss_of, places
        self._replaced: list[tuple[nn.Module, str, nn.LSTM]] = []
        self._wrapped: Any = None

    def __enter__(self) -> OpacusGradients:
        from opacus.grad_sample import GradSampleModule

        # Of a first layer, whose inputs need no gradients: Opacus does without them.
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        for parent in list(self._model.modules()):
            _register(type(parent))
            for name, child in list(parent.named_children()):
                if type(child) is nn.LSTM:
                    setattr(parent, name, _as_dplstm(child))
                    self._replaced.append((parent, name, child))
        self._wrapped = GradSampleModule(self._model, loss_reduction="sum")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._wrapped.remove_hooks()
        for parent, name, child in self._replaced:
            setattr(parent, name, child)
        self._replaced.clear()
        self._clear()
        for parameter in self._model.parameters():
            for left in ("grad_sample", "_forward_counter"):
                parameter.__dict__.pop(left, None)

    def __call__(self, x: Tensor, y: Tensor) -> list[Block]:
        """Gradients of every record of a batch."""
        try:
            self._loss_of(self._wrapped(x), y).backward()  # type: ignore[no-untyped-call]
        except BaseException:
            self._clear()
            raise
        blocks: list[Block] = []
        for parameter in self._places.parameters:
            found: Any = parameter
            rows, found.grad_sample, parameter.grad = found.grad_sample, None, None
            place = self._places.place(parameter)
            if rows is not None and place is not None:
                layer = self._places.layer([parameter])
                blocks.append(Rows(rows.reshape(len(rows), -1), place, layer))
        return blocks

    def _clear(self) -> None:
        """Forget what a pass that was not finished has left."""
        for module in self._model.modules():
            for left in ("activations", "max_batch_len"):
                module.__dict__.pop(left, None)
        for parameter in self._model.parameters():
            parameter.__dict__.pop("_current_grad_sample", None)
            parameter.__dict__.update(grad_sample=None, _forward_counter=0)
            parameter.grad = None


def _register(kind: type[nn.Module]) -> None:
    """Tell Opacus of a class of layers that has ``per_sample_gradients``."""
    from opacus.grad_sample import GradSampleModule, register_grad_sampler

    if kind in GradSampleModule.GRAD_SAMPLERS or not hasattr(kind, "per_sample_gradients"):
        return

    def sample(layer: Any, activations: list[Tensor], backprops: Tensor) -> dict[Any, Tensor]:
        found = layer.per_sample_gradients(activations[0], backprops)
        return {
            parameter: found[name]
            for name, parameter in layer.named_parameters()
            if parameter.requires_grad
        }

    register_grad_sampler(kind)(sample)


def _as_dplstm(lstm: nn.LSTM) -> nn.Module:
    """Opacus' LSTM on the very parameters of torch's."""
    from opacus.layers import DPLSTM

    made: nn.Module = DPLSTM(
        lstm.input_size, lstm.hidden_size, lstm.num_layers, bias=lstm.bias, batch_first=True
    )
    for number, cell in enumerate(made.cells):  # type: ignore[arg-type]
        for name, part in _LSTM_PARTS.items():
            parameter = getattr(lstm, f"{name}_l{number}", None)
            if parameter is not None:
                linear, _, kind = part.partition(".")
                setattr(getattr(cell, linear), kind, parameter)
    return made.train(lstm.training)
