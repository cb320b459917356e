"""How models declare their circuits: memory asked for first, weights near the identity."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor, nn

from qfl.conf.schema import QuantumConfig
from qfl.quantum import Backend, Circuit, QuantumLayer, build_circuit, check_states

_LARGEST_STD = 0.1


def near_identity(n_layers: int) -> Callable[[Tensor], Tensor]:
    """Fill circuit weights with small normal numbers, against barren plateaus.

    Uniform angles make gradients vanish exponentially in the number of qubits (McClean et al.
    2018). Zhang, Hsieh, Liu, Tao 2022, "Escaping from the barren plateau via Gaussian
    initializations in deep variational quantum circuits", bound the gradient of a one-wire
    observable from below, by a bound that is polynomial in depth and independent of width, for
    normal angles of variance 1/(4 (L + 2)) under L layers. The standard deviation here is that, or
    0.1 where that is smaller: with an entangler of CZ, every wire then starts out reading its own
    feature (identity blocks: Grant et al. 2019).

    Args:
        n_layers: Layers of the ansatz.

    Example:
        >>> import torch
        >>> weights = near_identity(2)(torch.empty(1000))
        >>> 0.09 < float(weights.std()) < 0.11
        True
    """
    std = min(_LARGEST_STD, 1 / math.sqrt(4 * (n_layers + 2)))

    def fill(parameter: Tensor) -> Tensor:
        return nn.init.normal_(parameter, std=std)

    return fill


def declare(
    quantum: QuantumConfig, batch: int, *, n_qubits: int, n_layers: int, **options: str
) -> Circuit:
    """A layered circuit, unless its states would not fit into memory.

    Args:
        quantum: Device and differentiation.
        batch: Most samples at once, for the memory estimate.
        n_qubits: Wires.
        n_layers: Layers of the ansatz.
        **options: Encoding, ansatz, entangler and readout of
            :func:`qfl.quantum.build_circuit`.

    Raises:
        ConfigError: The circuit does not fit into memory, or the device cannot run it.
    """
    # Asked before the device is made: some allocate their state at once.
    check_states(n_qubits, batch, n_layers * n_qubits * 3, quantum)
    return build_circuit(
        n_qubits=n_qubits, n_layers=n_layers, backend=Backend.of(quantum), **options
    )


def circuit_layer(
    circuit: Circuit, quantum: QuantumConfig, copies: int | None = None
) -> QuantumLayer:
    """A declared circuit as a layer whose weights start near the identity.

    Args:
        circuit: From :func:`declare`.
        quantum: Engine and threads.
        copies: Circuits with weights of their own that run on the same inputs in one call.
    """
    n_layers = circuit.weight_shapes["weights"][0]
    return QuantumLayer(
        circuit.qnode,
        circuit.weight_shapes,
        init=near_identity(n_layers),
        engine=quantum.engine,
        threads=quantum.threads,
        copies=copies,
    )
