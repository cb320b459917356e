"""How gradients of single records are taken out of a backward pass that sums over the batch.

A module whose class has an attribute ``record`` tells the gradients by its parameters itself. The
attribute is None, except while somebody collects. Then, in every backward pass, the module calls
it with the name of a parameter, as :meth:`torch.nn.Module.named_parameters` has it, and that
parameter's gradient for each record, (batch, *shape); several calls for one parameter add up. And
it keeps autograd from that parameter, as what autograd would sum over the batch is computed for
nothing. :class:`qfl.quantum.QuantumLayer` is such a module. The others have a rule in
:mod:`qfl.privacy.samplers`.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Record = Callable[[str, Tensor], None]


def tapped(values: Tensor, callback: Callable[[Tensor], None]) -> Tensor:
    """The same values; the backward pass calls ``callback`` with the gradient by them.

    Args:
        values: Computed from detached parameters; not to be changed in place.
        callback: Gets a tensor of their shape.

    Example:
        >>> import torch
        >>> seen = []
        >>> (3 * tapped(torch.ones(2), seen.append)).sum().backward()
        >>> seen[0].tolist()
        [3.0, 3.0]
    """
    if not values.requires_grad:
        values.requires_grad_()
    values.register_hook(callback)  # type: ignore[no-untyped-call]
    return values
