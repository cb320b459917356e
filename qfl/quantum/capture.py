"""Looking at a QNode once: from its circuit to a plan.

The circuit is run three times with random probes in place of inputs and weights, outside of any
device, only to be recorded. What changes between the recordings is a parameter: each angle must be
a sum of multiples of inputs and weights and a constant, which the gradient suggests and the other
two recordings confirm. If the sequence of gates changes, the circuit depends on its data and cannot
be captured; a branch that none of the probes takes is not seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from qfl.quantum.lower import UnsupportedError, expand, lower
from qfl.quantum.plan import (
    Angle,
    Expectations,
    Measurement,
    Operation,
    PauliTerm,
    Plan,
    Probabilities,
)

_PROBES = 3
_BATCH = 3
_EXACT = 1e-10


@dataclass
class _Recording:
    inputs: Tensor
    weights: Tensor
    operations: list[Any]
    measurements: list[Any]


def capture(qnode: Any, weight_shapes: Mapping[str, tuple[int, ...]], features: int) -> Plan:
    """The plan of ``qnode(inputs, **weights)``.

    Args:
        qnode: A PennyLane QNode.
        weight_shapes: Shapes of the trainable arguments; the plan's flat weights are these, one
            after the other.
        features: Columns of ``inputs``.

    Raises:
        UnsupportedError: Says what cannot be captured.
    """
    if getattr(qnode, "shots", None) and qnode.shots.total_shots:
        raise UnsupportedError("finite shots")
    recordings = [_record(qnode, weight_shapes, features, seed) for seed in range(_PROBES)]
    first = recordings[0]
    for other in recordings[1:]:
        if _structure(other) != _structure(first):
            raise UnsupportedError("a circuit whose gates depend on its data")
    wires = list(qnode.device.wires or [])
    wires = wires or sorted({wire for piece in first.operations for wire in piece.wires.tolist()})
    places = {wire: number for number, wire in enumerate(wires)}
    operations: list[Operation] = []
    for position, operation in enumerate(first.operations):
        angles = partial(_angles, recordings, position)
        operations.extend(lower(operation, places.__getitem__, len(wires), angles))
    return Plan(
        n_wires=len(wires),
        operations=tuple(operations),
        measurement=_measurement(first.measurements, places),
        n_inputs=features,
        n_weights=int(first.weights.numel()),
    )


def _record(
    qnode: Any, weight_shapes: Mapping[str, tuple[int, ...]], features: int, seed: int
) -> _Recording:
    from pennylane.queuing import AnnotatedQueue
    from pennylane.tape import QuantumScript

    source = torch.Generator().manual_seed(seed)
    sizes = [int(torch.Size(shape).numel()) for shape in weight_shapes.values()]
    inputs = _probe((_BATCH, features), seed, source)
    weights = _probe((sum(sizes),), seed, source)
    parts = torch.split(weights, sizes)
    named = {
        name: part.reshape(shape)
        for (name, shape), part in zip(weight_shapes.items(), parts, strict=True)
    }
    with AnnotatedQueue() as queue:
        qnode.func(inputs, **named)
    tape = QuantumScript.from_queue(queue)
    operations = [piece for operation in tape.operations for piece in expand(operation)]
    return _Recording(inputs, weights, operations, tape.measurements)


def _probe(shape: tuple[int, ...], number: int, source: torch.Generator) -> Tensor:
    """Positive numbers first, then negative, then both: branches on a sign are noticed."""
    drawn = torch.rand(shape, generator=source, dtype=torch.float64) + 0.1
    if number == 1:
        drawn = -3 * drawn
    elif number == 2:
        drawn = 8 * drawn - 4
    return drawn.requires_grad_()


def _structure(recording: _Recording) -> list[tuple[Any, ...]]:
    return [
        (operation.name, tuple(operation.wires), len(operation.data))
        for operation in recording.operations
    ]


def _angles(recordings: list[_Recording], position: int, parameter: int) -> list[Angle]:
    """Where one parameter comes from, as the gradient says and the other probes confirm.

    Returns:
        Terms whose sum is the parameter.
    """
    values = [recording.operations[position].data[parameter] for recording in recordings]
    name = recordings[0].operations[position].name
    terms = _linear_terms(recordings[0], values[0])
    offsets = []
    for recording, value in zip(recordings, values, strict=True):
        rest = torch.as_tensor(value, dtype=torch.float64).detach()
        for term in terms:
            source = recording.inputs.T if term.source == "input" else recording.weights
            rest = rest - term.scale * source[term.index].detach()
        offsets.append(rest.reshape(-1))
    found = torch.cat(offsets)
    if float(found.max() - found.min()) > _EXACT:
        raise UnsupportedError(
            f"an angle of {name} that is no linear function of inputs and weights"
        )
    offset = float(found[0])
    if not terms:
        return [Angle("constant", offset=offset)]
    return [replace(terms[0], offset=offset if abs(offset) > _EXACT else 0.0), *terms[1:]]


def _linear_terms(recording: _Recording, value: Any) -> list[Angle]:
    """The inputs and weights that a parameter follows, with their slopes at the probe."""
    if not isinstance(value, Tensor) or not value.requires_grad:
        return []
    by_input, by_weight = torch.autograd.grad(
        value.sum(), (recording.inputs, recording.weights), retain_graph=True, allow_unused=True
    )
    terms = []
    if by_input is not None:
        # A parameter of one sample may follow that sample's inputs only, all in the same way.
        slopes = by_input[0]
        terms += [
            Angle("input", index, float(slopes[index]))
            for index in torch.nonzero(slopes.abs() > _EXACT).flatten().tolist()
        ]
    if by_weight is not None:
        slopes = by_weight / value.numel()
        terms += [
            Angle("weight", index, float(slopes[index]))
            for index in torch.nonzero(slopes.abs() > _EXACT).flatten().tolist()
        ]
    return terms


def _measurement(measurements: list[Any], places: dict[Any, int]) -> Measurement:
    kinds = {type(measurement).__name__ for measurement in measurements}
    if kinds == {"ExpectationMP"}:
        return Expectations(tuple(_terms(entry.obs, places) for entry in measurements))
    if kinds == {"ProbabilityMP"} and len(measurements) == 1 and measurements[0].obs is None:
        wires = measurements[0].wires
        return Probabilities(tuple(places[wire] for wire in wires) or tuple(places.values()))
    raise UnsupportedError(f"measurement {', '.join(sorted(kinds))}")


def _terms(observable: Any, places: dict[Any, int]) -> tuple[PauliTerm, ...]:
    sentence = observable.pauli_rep
    if sentence is None:
        raise UnsupportedError(f"observable {observable.name}")
    terms = []
    for word, coefficient in sentence.items():
        if isinstance(coefficient, Tensor) and coefficient.requires_grad:
            raise UnsupportedError("trainable coefficients of an observable")
        value = complex(coefficient)
        if abs(value.imag) > _EXACT:
            raise UnsupportedError("an observable that is not Hermitian")
        letters = ["I"] * len(places)
        for wire, letter in word.items():
            letters[places[wire]] = letter
        terms.append(PauliTerm(value.real, "".join(letters)))
    return tuple(terms)
