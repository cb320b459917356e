"""What a circuit computes from its inputs and weights before a gate sees it.

Engines take angles that are linear in inputs and weights. Others (``arctan(x)``, ``x[0] * x[1]``,
``x * w``) and initial states become further columns of the batch and further weights, computed by
torch operations that were traced once from the user's own function.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from qfl.errors import DataError
from qfl.quantum.lower import UnsupportedError

# A size that nothing else in a circuit has: where it appears in a trace, it is the batch.
TRACED_BATCH = 1009
_NORM_TOLERANCE = 1e-4
_is_wrapped = torch._C._functorch.is_functorch_wrapped_tensor


class Columns:
    """Inputs and weights with what a circuit computes from them.

    Attributes:
        n_inputs: Columns before the amplitudes.
        by_weights: Whether anything computed follows the weights.
    """

    def __init__(
        self, graph: Any, n_inputs: int, amplitudes: bool, by_weights: bool, mixes: bool = False
    ) -> None:
        self.mixes = mixes
        self.n_inputs = n_inputs
        self.by_weights = by_weights
        self._amplitudes = amplitudes
        self._graphs = {torch.device("cpu"): graph}

    def __call__(self, inputs: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, features) and (n,) to what an engine takes, in the type of ``inputs``.

        Raises:
            DataError: A row that is to be an initial state has no direction.
        """
        # The graph was traced in float64, and holds constants of that type.
        columns, entries = self._graph(inputs.device)(inputs.double(), weights.double())
        if self._amplitudes and eager_on_cpu(columns):
            self._check_norm(columns.detach())
        return columns.to(inputs.dtype), entries.to(inputs.dtype)

    def _graph(self, device: torch.device) -> Any:
        if device not in self._graphs:
            self._graphs[device] = deepcopy(self._graphs[torch.device("cpu")]).to(device)
        return self._graphs[device]

    def _check_norm(self, columns: Tensor) -> None:
        norms = torch.linalg.vector_norm(columns[:, self.n_inputs :], dim=1)
        wrong = (~((norms - 1).abs() < _NORM_TOLERANCE)).nonzero()
        if len(wrong):
            row = int(wrong[0])
            raise DataError(
                f"{len(wrong)} rows cannot be amplitudes, first row {row} (norm {norms[row]:.3g} "
                "after the circuit's own normalisation): rows must be finite and not zero, and of "
                "norm 1 where the circuit does not normalise them"
            )


def eager_on_cpu(*tensors: Tensor) -> bool:
    """Whether tensors are plain ones on the CPU: not on a GPU, not inside ``torch.func``."""
    return all(tensor.is_cpu and not _is_wrapped(tensor) for tensor in tensors)


def trace(
    function: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], inputs: Tensor, weights: Tensor
) -> Any:
    """The torch operations of ``function``, for any batch size.

    Args:
        function: To be traced.
        inputs: (TRACED_BATCH, features).
        weights: (n,).

    Raises:
        UnsupportedError: The function looks at values, or leaves torch.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    try:
        graph = make_fx(function)(inputs, weights)
    except (RuntimeError, TypeError, ValueError) as error:
        raise UnsupportedError(
            f"an angle whose computation cannot be followed ({str(error).splitlines()[0]})"
        ) from None
    _free_batch(graph)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


def _free_batch(graph: Any) -> None:
    """Put the size of the inputs wherever the traced size stands."""
    nodes = graph.graph
    inputs = next(iter(nodes.nodes))
    with nodes.inserting_after(inputs):
        size = nodes.call_function(torch.ops.aten.sym_size.int, (inputs, 0))

    def freed(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return type(value)(freed(entry) for entry in value)
        return size if type(value) is int and value == TRACED_BATCH else value

    for node in list(nodes.nodes):
        if node.op == "get_attr":
            _free_constant(graph, node, size)
        elif node.op == "call_function" and node is not size:
            node.args = freed(node.args)
            node.kwargs = {key: freed(value) for key, value in node.kwargs.items()}


def _free_constant(graph: Any, node: Any, size: Any) -> None:
    """A table with one row for each sample, all alike, becomes that row repeated."""
    value = getattr(graph, node.target)
    if value.ndim == 0 or len(value) != TRACED_BATCH or not (value == value[:1]).all():
        return
    setattr(graph, node.target, value[:1].clone())
    with graph.graph.inserting_after(node):
        sizes = [size, *value.shape[1:]]
        repeated = graph.graph.call_function(torch.ops.aten.expand.default, (node, sizes))
    node.replace_all_uses_with(repeated, delete_user_cb=lambda user: user is not repeated)
