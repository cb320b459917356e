"""Running a circuit's function on random numbers, outside of any device, only to be recorded.

What the recordings of several probes have in common is the circuit; what differs are parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qfl.errors import ConfigError
from qfl.quantum.lower import UnsupportedError, expand, fixed_matrix

# Scale and shift of numbers from 0.1 to 1.1: inside of the domains of arcsin and sqrt first, then
# negative, then both, then large: what follows a sign, a clamp or a threshold is noticed.
RANGES = ((0.85, 0.0), (-3.0, 0.0), (8.0, -4.0), (1e3, 0.0), (-1e3, 0.0))
SIGNS = 2  # the range that holds both signs
# Samples of a probe: a parameter with so many values has one for each sample.
BATCH = 3


@dataclass
class Recording:
    """A circuit as it was queued for one probe.

    Attributes:
        inputs: (BATCH, features) of the probe.
        weights: All trainable numbers of the probe.
        operations: Gates, split until a plan knows every piece.
        measurements: In the order returned.
        wires: In the order of first use.
    """

    inputs: Tensor
    weights: Tensor
    operations: list[Any]
    measurements: list[Any]
    wires: list[Any]


class Circuit:
    """The function of a QNode, recorded without running."""

    def __init__(
        self, qnode: Any, weight_shapes: Mapping[str, tuple[int, ...]], features: int
    ) -> None:
        self.qnode = qnode
        self.features = features
        self.shapes = dict(weight_shapes)
        self.sizes = [int(torch.Size(shape).numel()) for shape in weight_shapes.values()]
        # Amplitudes that a circuit does not normalise itself have to come with norm 1.
        self.unit_rows = False

    def probe(self, seed: int) -> Recording:
        """The recording of one of :data:`RANGES`, by its number."""
        source = torch.Generator().manual_seed(seed)
        inputs, weights = self.draw(BATCH, seed, source)
        return self.record(inputs.requires_grad_(), weights.requires_grad_())

    def draw(self, batch: int, number: int, source: torch.Generator) -> tuple[Tensor, Tensor]:
        """Inputs and trainable numbers of one range."""

        def drawn(*shape: int) -> Tensor:
            found = torch.rand(shape, generator=source, dtype=torch.float64) + 0.1
            scale, shift = RANGES[number]
            return scale * found + shift

        inputs = drawn(batch, self.features)
        if self.unit_rows:
            inputs = torch.nn.functional.normalize(inputs, dim=1)
        return inputs, drawn(sum(self.sizes))

    def record(self, inputs: Tensor, weights: Tensor) -> Recording:
        """What the function queues for these numbers.

        Raises:
            UnsupportedError: Its measurements are not what it returns, or a gate has no parts.
        """
        from pennylane.queuing import AnnotatedQueue
        from pennylane.tape import QuantumScript

        parts = torch.split(weights, self.sizes)
        named = {
            name: part.reshape(shape)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }
        with AnnotatedQueue() as queue:
            returned = self.qnode.func(inputs, **named)
        tape = QuantumScript.from_queue(queue)
        listed = list(returned) if isinstance(returned, list | tuple) else [returned]
        if list(map(id, listed)) != list(map(id, tape.measurements)):
            raise UnsupportedError("a circuit that does not return its measurements in order")
        try:
            operations = [piece for operation in tape.operations for piece in expand(operation)]
        except UnsupportedError:
            raise
        except Exception as error:
            raise UnsupportedError(f"a gate that cannot be taken apart ({error})") from error
        return Recording(inputs, weights, operations, tape.measurements, tape.wires.tolist())


def record_probes(circuit: Circuit) -> list[Recording]:
    """One recording for each of :data:`RANGES`.

    Raises:
        UnsupportedError: The circuit cannot be recorded as it is run.
        ConfigError: The circuit itself fails.
    """
    try:
        return [circuit.probe(seed) for seed in range(len(RANGES))]
    except UnsupportedError:
        raise
    except Exception as error:
        if "norm" in str(error) and not circuit.unit_rows:
            circuit.unit_rows = True
            return record_probes(circuit)
        if "dtype" in str(error):
            raise UnsupportedError("a circuit that does not take float64") from error
        shapes = ", ".join(f"{name} {shape}" for name, shape in circuit.shapes.items())
        raise ConfigError(
            f"the circuit fails with inputs of {circuit.features} features and weights of shape "
            f"{shapes or 'none'}: {error}"
        ) from error


def structure_of(recording: Recording) -> list[tuple[Any, ...]]:
    """What has to be the same for all probes."""
    return [
        (operation.name, tuple(operation.wires), len(operation.data), fixed_matrix(operation))
        for operation in recording.operations
    ]


def check_leaves(recording: Recording) -> None:
    """Refuse angles that follow a trainable tensor from outside, whose gradient would be lost.

    Raises:
        UnsupportedError: There is one.
    """
    todo = [
        value
        for operation in recording.operations
        for value in operation.data
        if isinstance(value, Tensor) and value.requires_grad
    ]
    own = (recording.inputs, recording.weights)
    leaves = [value for value in todo if value.grad_fn is None]
    nodes, seen = [value.grad_fn for value in todo], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaves += [node.variable] if hasattr(node, "variable") else []
        nodes += [parent for parent, _ in node.next_functions]
    if any(all(leaf is not known for known in own) for leaf in leaves):
        raise UnsupportedError("a trainable tensor that is not among the layer's weights")
