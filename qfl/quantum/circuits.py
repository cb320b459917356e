"""The circuits that models declare, as ordinary PennyLane QNodes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from qfl.errors import ConfigError, unknown_name
from qfl.quantum.devices import Backend, make_qnode

ENCODINGS = ("angle", "reuploading", "iqp", "amplitude")
ANSATZE = ("strongly_entangling", "basic_entangler")
ENTANGLERS = ("cz", "cnot")
READOUTS = ("z", "xyz")
SIMULATOR = Backend()


@dataclass(frozen=True)
class Circuit:
    """A QNode ``f(inputs, weights)`` and what a layer has to know about it.

    Attributes:
        qnode: Takes inputs (batch, features) and weights; returns one expectation per output.
        weight_shapes: Shape of each trainable argument.
        n_qubits: Wires.
        features: Numbers that it encodes; for amplitudes, the most that it can.
        outputs: Expectations that it returns.
    """

    qnode: Any
    weight_shapes: dict[str, tuple[int, ...]]
    n_qubits: int
    features: int
    outputs: int


@lru_cache(maxsize=32)
def build_circuit(
    *,
    n_qubits: int,
    n_layers: int,
    encoding: str = "angle",
    ansatz: str = "strongly_entangling",
    entangler: str = "cz",
    readout: str = "z",
    backend: Backend = SIMULATOR,
) -> Circuit:
    """An encoding, a layered ansatz, and expectations of every wire.

    The same request gives the same object, so that it is captured once.

    ``angle`` and ``iqp`` are turned so that a wire whose features are small reads its own feature
    with a sign and a slope at 0, where plain embeddings read a cosine, which has neither: <Z> is
    -sin(x) for ``angle`` (Hadamard, then RY; Mari et al. 2020) and sin(x) times cosines of products
    for ``iqp`` (the embedding, then RX(pi/2), which brings Y to Z).

    Args:
        n_qubits: Wires.
        n_layers: Layers of the ansatz.
        encoding: ``angle`` encodes one feature per wire, as a rotation in radians, once;
            ``reuploading`` encodes a share of it before every layer (Pérez-Salinas et al. 2020);
            ``iqp`` encodes one feature per wire and the product of every two (Havlíček et al.
            2019); ``amplitude`` encodes up to 2**n_qubits features as the amplitudes of a state,
            normalised and filled up with zeros. Amplitudes forget the length of a row and the
            sign of the whole.
        ansatz: ``strongly_entangling`` (Schuld et al. 2020; three angles per wire and layer) or
            ``basic_entangler`` (one RX angle).
        entangler: Two-qubit gate of the strongly entangling ansatz. ``cz`` commutes with Z: with
            small initial angles every wire starts out reading its own feature, and gradients do
            not vanish. ``cnot`` starts out reading products of many features, which are tiny.
        readout: ``z`` returns <Z> of every wire, ``xyz`` <X> of every wire, then <Y>, then <Z>:
            all that one-wire measurements can tell.
        backend: What the QNode runs on where no engine of ours runs it.

    Raises:
        ConfigError: A name is unknown, or the device does not exist or cannot use the method. The
            QNode raises it for inputs of another width.

    Example:
        >>> circuit = build_circuit(n_qubits=2, n_layers=3, encoding="amplitude")
        >>> circuit.weight_shapes, circuit.features, circuit.outputs
        ({'weights': (3, 2, 3)}, 4, 2)
    """
    for kind, given, allowed in (
        ("encoding", encoding, ENCODINGS),
        ("ansatz", ansatz, ANSATZE),
        ("entangler", entangler, ENTANGLERS),
        ("readout", readout, READOUTS),
    ):
        if given not in allowed:
            raise ConfigError(unknown_name(kind, given, allowed))
    import pennylane as qml

    wires = list(range(n_qubits))
    features = 1 << n_qubits if encoding == "amplitude" else n_qubits
    shape, trainable = _ansatz(n_qubits, n_layers, ansatz, entangler)
    paulis = [getattr(qml, f"Pauli{axis.upper()}") for axis in readout]

    def circuit(inputs: Any, weights: Any) -> Any:
        _check_width(int(inputs.shape[-1]), features, encoding, n_qubits)
        if encoding == "amplitude":
            qml.AmplitudeEmbedding(inputs, wires=wires, normalize=True, pad_with=0.0)
            trainable(weights)
        elif encoding == "iqp":
            qml.IQPEmbedding(inputs, wires=wires)
            for wire in wires:
                qml.RX(math.pi / 2, wires=wire)
            trainable(weights)
        else:
            for wire in wires:
                qml.Hadamard(wire)
            shares = n_layers if encoding == "reuploading" else 1
            per_share = n_layers // shares
            for share in range(shares):
                qml.AngleEmbedding(inputs / shares, wires=wires, rotation="Y")
                first = share * per_share
                trainable(weights[first : first + per_share], first)
        return [qml.expval(pauli(wire)) for pauli in paulis for wire in wires]

    qnode = make_qnode(circuit, n_qubits, backend)
    outputs = len(paulis) * n_qubits
    return Circuit(qnode, {"weights": shape}, n_qubits, features, outputs)


def _ansatz(
    n_qubits: int, n_layers: int, ansatz: str, entangler: str
) -> tuple[tuple[int, ...], Callable[..., None]]:
    """Shape of the weights, and a function that queues the layers from ``first`` on."""
    import pennylane as qml

    wires = list(range(n_qubits))
    if ansatz == "basic_entangler":

        def basic(weights: Any, first: int = 0) -> None:
            qml.BasicEntanglerLayers(weights, wires=wires)

        return (n_layers, n_qubits), basic

    gate = qml.CZ if entangler == "cz" else qml.CNOT
    # The template's own choice, kept when layers are called one by one.
    ranges = [layer % max(1, n_qubits - 1) + 1 for layer in range(n_layers)]

    def strong(weights: Any, first: int = 0) -> None:
        reach = ranges[first : first + len(weights)] if n_qubits > 1 else None
        qml.StronglyEntanglingLayers(weights, wires=wires, ranges=reach, imprimitive=gate)

    return (n_layers, n_qubits, 3), strong


def _check_width(given: int, features: int, encoding: str, n_qubits: int) -> None:
    if encoding == "amplitude" and not 1 <= given <= features:
        raise ConfigError(
            f"{n_qubits} qubits hold 1 to {features} amplitudes; {given} features were given: "
            f"use at least {max(1, (given - 1).bit_length())} qubits"
        )
    if encoding != "amplitude" and given != features:
        raise ConfigError(
            f"the {encoding} encoding takes one feature per qubit, {features} here; {given} were "
            "given: change the number of qubits, or put a linear layer before the circuit"
        )


@lru_cache(maxsize=32)
def build_pooling_circuit(*, n_qubits: int, backend: Backend = SIMULATOR) -> Circuit:
    """Quantum convolution and pooling, repeated until one wire is left, whose <Z> is read.

    After Cong, Choi, Lukin 2019, "Quantum convolutional neural networks". A convolution puts the
    same gate on all neighbouring pairs of a ring: XX, YY and ZZ interactions, then RY on each wire.
    A pooling turns every second wire by its neighbour (RZ if that reads 1, RX if it reads 0, as in
    Hur, Kim, Park 2022) and forgets the neighbour. Every step has seven weights. Angles enter as
    in :func:`build_circuit`.

    Args:
        n_qubits: Wires, a power of two and at least 2.
        backend: What the QNode runs on where no engine of ours runs it.

    Raises:
        ConfigError: ``n_qubits`` is no power of two, or the device does not exist or cannot use
            the method. The QNode raises it for inputs of another width.

    Example:
        >>> build_pooling_circuit(n_qubits=4).weight_shapes
        {'weights': (2, 7)}
    """
    if n_qubits < 2 or n_qubits & (n_qubits - 1):
        raise ConfigError(
            f"a pooling circuit on {n_qubits} qubits is not possible, because every step halves "
            "them: use 2, 4, 8, …"
        )
    import pennylane as qml

    steps = n_qubits.bit_length() - 1

    def circuit(inputs: Any, weights: Any) -> Any:
        _check_width(int(inputs.shape[-1]), n_qubits, "angle", n_qubits)
        wires = list(range(n_qubits))
        for wire in wires:
            qml.Hadamard(wire)
        qml.AngleEmbedding(inputs, wires=wires, rotation="Y")
        for step in range(steps):
            xx, yy, zz, first, second, on_one, on_zero = (weights[step, i] for i in range(7))
            ring = zip(wires, wires[1:] + wires[:1], strict=True)
            for pair in [tuple(wires)] if len(wires) == 2 else ring:
                qml.IsingXX(xx, wires=pair)
                qml.IsingYY(yy, wires=pair)
                qml.IsingZZ(zz, wires=pair)
                qml.RY(first, wires=pair[0])
                qml.RY(second, wires=pair[1])
            for gone, kept in zip(wires[::2], wires[1::2], strict=True):
                qml.CRZ(on_one, wires=[gone, kept])
                qml.PauliX(gone)
                qml.CRX(on_zero, wires=[gone, kept])
            wires = wires[1::2]
        return [qml.expval(qml.PauliZ(wires[0]))]

    qnode = make_qnode(circuit, n_qubits, backend)
    return Circuit(qnode, {"weights": (steps, 7)}, n_qubits, n_qubits, 1)
