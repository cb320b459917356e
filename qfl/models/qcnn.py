"""Hybrid convolutional network for small square images: convolution, circuits, linear layer.

Two kinds of circuit, each shared by all patches and channels like a filter. ``quanvolution``
(Henderson, Shakya, Pradhan, Cook 2020; here its weights are trained) gives four numbers for the
four pixels of a patch. ``pooling`` is the convolution and pooling of Cong, Choi, Lukin 2019 and
gives one, as a pooling layer does.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from qfl.conf.schema import QcnnConfig, QuantumConfig
from qfl.models.circuit_layer import circuit_layer, declare
from qfl.models.images import PATCH, image_side, patches
from qfl.models.inputs import check_width, squash
from qfl.quantum import Backend, QuantumLayer, build_pooling_circuit, check_states

_WIRES = PATCH * PATCH


class Qcnn(nn.Module):
    """3 x 3 convolution, a circuit on every 2 x 2 patch of every channel, linear.

    Weights of a quanvolution start near the identity
    (:func:`qfl.models.circuit_layer.near_identity`). Those of a pooling circuit are uniform in a
    full turn: its depth grows with the logarithm of its width, and its gradients vanish no faster
    than polynomially from random angles (Pesah et al. 2021, "Absence of barren plateaus in quantum
    convolutional neural networks"), while near the identity it would ignore three pixels of four.

    Args:
        config: Kind, channels, layers, ansatz.
        quantum: Engine, device and differentiation.
        features: Pixels of an image: 4, 16, 36, 64, …
        outputs: Classes, or 1.
        batch: Most examples at once, for the memory estimate.

    Raises:
        ConfigError: The features are no square image with an even side, or the circuits do not fit
            into memory.

    Example:
        >>> import torch
        >>> model = Qcnn(QcnnConfig(kind="pooling"), QuantumConfig(), features=64, outputs=10)
        >>> model(torch.zeros(5, 64)).shape
        torch.Size([5, 10])
    """

    def __init__(
        self,
        config: QcnnConfig,
        quantum: QuantumConfig,
        features: int,
        outputs: int,
        batch: int = 32,
    ) -> None:
        super().__init__()
        self.features, self.side = features, image_side(features)
        places = config.channels * features // _WIRES
        self.front = nn.Conv2d(1, config.channels, kernel_size=3, padding=1)
        if config.kind == "pooling":
            self.circuit, each = _pooling(quantum, batch * places), 1
        else:
            self.circuit, each = _quanvolution(config, quantum, batch * places), _WIRES
        self.post = nn.Linear(places * each, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, pixels) to (batch, outputs).

        Raises:
            DataError: ``x`` has another width.
        """
        check_width(x, self.features)
        images = x.reshape(-1, 1, self.side, self.side)
        read = self.circuit(patches(squash(self.front(images))))
        result: Tensor = self.post(read.flatten(1))
        return result


def _quanvolution(config: QcnnConfig, quantum: QuantumConfig, batch: int) -> QuantumLayer:
    circuit = declare(
        quantum,
        batch,
        n_qubits=_WIRES,
        n_layers=config.n_layers,
        ansatz=config.ansatz,
        entangler=config.entangler,
    )
    return circuit_layer(circuit, quantum)


def _pooling(quantum: QuantumConfig, batch: int) -> QuantumLayer:
    check_states(_WIRES, batch, 90, quantum)
    circuit = build_pooling_circuit(n_qubits=_WIRES, backend=Backend.of(quantum))
    return QuantumLayer(
        circuit.qnode,
        circuit.weight_shapes,
        init=_any_turn,
        engine=quantum.engine,
        threads=quantum.threads,
    )


def _any_turn(parameter: Tensor) -> Tensor:
    return nn.init.uniform_(parameter, 0, 2 * math.pi)
