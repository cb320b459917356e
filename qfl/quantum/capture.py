"""Looking at a QNode once: from its circuit to a plan.

The circuit is run on random probes in place of inputs and weights (``probes.py``); what changes
between the recordings is a parameter (``parameters.py``). If gates, matrices or measurements
change, the circuit depends on its data and cannot be captured; a branch that none of the probes
takes is not seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from qfl.quantum.columns import Columns
from qfl.quantum.lower import GlobalPhase, UnsupportedError, is_state, lower
from qfl.quantum.measurements import Words, measurement_of, pauli_words
from qfl.quantum.memory import check_capture
from qfl.quantum.parameters import Parameters
from qfl.quantum.plan import Angle, Operation, Plan
from qfl.quantum.probes import Circuit, check_leaves, record_probes, structure_of

# Devices that do without noise what engines do; on others a circuit means what they make of it.
EXACT_DEVICES = {
    *("default.qubit", "qfl.fast", "reference.qubit"),
    *("lightning.qubit", "lightning.kokkos", "lightning.gpu", "lightning.tensor"),
}


def capture(
    qnode: Any, weight_shapes: Mapping[str, tuple[int, ...]], features: int
) -> tuple[Plan, Columns | None]:
    """The plan of ``qnode(inputs, **weights)``, and what it computes before its gates.

    Args:
        qnode: A PennyLane QNode.
        weight_shapes: Shapes of the trainable arguments; the plan's flat weights are these, one
            after the other.
        features: Columns of ``inputs``.

    Raises:
        UnsupportedError: Says what cannot be captured.
        ConfigError: The circuit itself fails, or needs more memory than there is.
    """
    _check_exact(qnode)
    circuit = Circuit(qnode, weight_shapes, features)
    recordings = record_probes(circuit)
    first = recordings[0]
    for other in recordings[1:]:
        if structure_of(other) != structure_of(first):
            raise UnsupportedError("a circuit whose gates depend on its data")
    check_leaves(first)
    wires = list(qnode.device.wires or first.wires)
    if not qnode.device.wires and set(wires) == set(range(len(wires))):
        wires.sort()
    if not set(first.wires) <= set(wires):
        raise UnsupportedError(f"wires {set(first.wires) - set(wires)}, not on the device")
    check_capture(len(wires))
    places = {wire: number for number, wire in enumerate(wires)}
    parameters = Parameters(circuit, recordings, places)
    operations: list[Operation] = []
    phase: list[Angle] = []
    for position, operation in enumerate(first.operations):
        if is_state(operation):
            parameters.add_state(position)
            continue
        for piece in lower(operation, places.__getitem__, parameters.angles_of(position)):
            if isinstance(piece, GlobalPhase):
                phase.append(piece.angle)
            else:
                operations.append(piece)
    measured = [measurement_of(r.measurements, places, tuple(phase), _words) for r in recordings]
    if any(other != measured[0] for other in measured[1:]):
        raise UnsupportedError("a measurement that depends on its data")
    plan = Plan(
        n_wires=len(wires),
        operations=tuple(operations),
        measurement=measured[0],
        n_inputs=features + len(parameters.samples),
        n_weights=int(first.weights.numel()) + len(parameters.shared),
        amplitudes=parameters.state is not None,
    )
    return plan, parameters.columns()


def _words(measurement: Any) -> Words:
    return pauli_words(measurement.obs, lambda c: isinstance(c, Tensor) and c.requires_grad)


def _check_exact(qnode: Any) -> None:
    if getattr(qnode, "shots", None) and qnode.shots.total_shots:
        raise UnsupportedError("finite shots")
    if len(qnode.compile_pipeline):
        raise UnsupportedError("a QNode with transforms of its own (noise, mitigation, …)")
    if qnode.device.name not in EXACT_DEVICES:
        raise UnsupportedError(f"circuits for {qnode.device.name}, which has its own behaviour")
