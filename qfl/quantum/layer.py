"""A PennyLane circuit as a torch module that owns its parameters.

Differs from ``qml.qnn.TorchLayer`` where it matters: ``forward`` reads the module's registered
parameters, so that ``torch.func`` and per-sample gradients see them. The circuit runs on the
QNode's own device here; faster engines take their place behind the same interface.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

# PennyLane records circuits in a list that belongs to the class: two threads recording at the same
# time could take each other's gates.
_RECORDING = threading.RLock()


def _small_normal(parameter: Tensor) -> Tensor:
    return nn.init.normal_(parameter, std=0.1)


class QuantumLayer(nn.Module):
    """A QNode as a layer.

    Args:
        qnode: ``f(inputs, **weights)``, returning one expectation per output, or a list of them;
            ``inputs`` has shape (batch, features).
        weight_shapes: Shape of every trainable argument.
        init: Fills a parameter in place. Default: normal with standard deviation 0.1, which starts
            near the identity, where gradients do not vanish (Grant et al. 2019; Zhang et al. 2022).

    Example:
        >>> from qfl.quantum import build_circuit
        >>> circuit = build_circuit(n_qubits=2, n_layers=1)
        >>> layer = QuantumLayer(circuit.qnode, circuit.weight_shapes)
        >>> layer(torch.zeros(5, 7, 2)).shape
        torch.Size([5, 7, 2])
    """

    engine = "pennylane"

    def __init__(
        self,
        qnode: Any,
        weight_shapes: Mapping[str, tuple[int, ...] | int],
        init: Callable[[Tensor], Tensor] = _small_normal,
    ) -> None:
        super().__init__()
        self.qnode = qnode
        self.weight_names = tuple(weight_shapes)
        for name, shape in weight_shapes.items():
            parameter = nn.Parameter(torch.empty(shape))
            with torch.no_grad():
                init(parameter)
            self.register_parameter(name, parameter)

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs of the circuit.

        Args:
            inputs: (..., features).

        Returns:
            (..., outputs), in the type of ``inputs``.
        """
        flat = inputs.reshape(-1, inputs.shape[-1])
        weights = {name: getattr(self, name) for name in self.weight_names}
        with _RECORDING:
            results = self.qnode(flat, **weights)
        if isinstance(results, Tensor):
            results = [results]
        columns = [result.reshape(flat.shape[0], -1) for result in results]
        outputs = torch.cat(columns, dim=-1).to(inputs.dtype)
        return outputs.reshape(*inputs.shape[:-1], outputs.shape[-1])
