"""The circuits that models declare, as ordinary PennyLane QNodes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from qfl.errors import ConfigError, unknown_name

ENCODINGS = ("angle", "reuploading")
ANSATZE = ("strongly_entangling", "basic_entangler")
ENTANGLERS = ("cz", "cnot")


@dataclass(frozen=True)
class Circuit:
    """A QNode ``f(inputs, weights)`` and what a layer has to know about it.

    Attributes:
        qnode: Takes inputs (batch, n_qubits) and weights; returns <Z> of every wire.
        weight_shapes: Shape of each trainable argument.
        n_qubits: Wires.
    """

    qnode: Any
    weight_shapes: dict[str, tuple[int, ...]]
    n_qubits: int


@lru_cache(maxsize=32)
def build_circuit(
    *,
    n_qubits: int,
    n_layers: int,
    encoding: str = "angle",
    ansatz: str = "strongly_entangling",
    entangler: str = "cz",
    device: str = "default.qubit",
    diff_method: str = "backprop",
) -> Circuit:
    """Angle encoding, a layered ansatz, and <Z> on every wire.

    The same request gives the same object, so that it is captured once.

    Features turn the equator state: Hadamard, then RY, so that <Z> = -sin(angle), which has a
    sign and a slope at 0, where cos has neither (Mari et al. 2020).

    Args:
        n_qubits: Wires; one input feature each, as a rotation angle in radians.
        n_layers: Layers of the ansatz.
        encoding: ``angle`` encodes once; ``reuploading`` encodes a share of the angle before every
            layer (Pérez-Salinas et al. 2020).
        ansatz: ``strongly_entangling`` (Schuld et al. 2020; three angles per wire and layer) or
            ``basic_entangler`` (one RX angle).
        entangler: Two-qubit gate of the strongly entangling ansatz. ``cz`` commutes with Z: with
            small initial angles every wire starts out reading its own feature, and gradients do
            not vanish. ``cnot`` starts out reading products of many features, which are tiny.
        device: PennyLane device.
        diff_method: PennyLane's differentiation method.

    Raises:
        ConfigError: A name is unknown, or the device does not exist or cannot use the method.

    Example:
        >>> build_circuit(n_qubits=2, n_layers=3).weight_shapes
        {'weights': (3, 2, 3)}
    """
    if encoding not in ENCODINGS:
        raise ConfigError(unknown_name("encoding", encoding, ENCODINGS))
    if ansatz not in ANSATZE:
        raise ConfigError(unknown_name("ansatz", ansatz, ANSATZE))
    if entangler not in ENTANGLERS:
        raise ConfigError(unknown_name("entangler", entangler, ENTANGLERS))
    import pennylane as qml

    wires = list(range(n_qubits))
    gate = qml.CZ if entangler == "cz" else qml.CNOT
    strong = ansatz == "strongly_entangling"
    shape: tuple[int, ...] = (n_layers, n_qubits, 3) if strong else (n_layers, n_qubits)

    # The template's own choice, kept when layers are called one by one.
    ranges = [layer % max(1, n_qubits - 1) + 1 for layer in range(n_layers)]

    def trainable(weights: Any, first: int = 0) -> None:
        if strong:
            reach = ranges[first : first + len(weights)] if n_qubits > 1 else None
            qml.StronglyEntanglingLayers(weights, wires=wires, ranges=reach, imprimitive=gate)
        else:
            qml.BasicEntanglerLayers(weights, wires=wires)

    def circuit(inputs: Any, weights: Any) -> Any:
        for wire in wires:
            qml.Hadamard(wire)
        if encoding == "reuploading":
            for layer in range(n_layers):
                qml.AngleEmbedding(inputs / n_layers, wires=wires, rotation="Y")
                trainable(weights[layer : layer + 1], layer)
        else:
            qml.AngleEmbedding(inputs, wires=wires, rotation="Y")
            trainable(weights)
        return [qml.expval(qml.PauliZ(wire)) for wire in wires]

    try:
        made = qml.device(device, wires=n_qubits)
        qnode = qml.QNode(circuit, made, interface="torch", diff_method=diff_method)
    except qml.exceptions.DeviceError as error:
        raise ConfigError(f"quantum.device={device} is not available: {error}") from None
    except qml.exceptions.QuantumFunctionError as error:
        raise ConfigError(
            f"quantum.diff_method={diff_method} does not work on quantum.device={device}: {error}"
        ) from None
    return Circuit(qnode, {"weights": shape}, n_qubits)
