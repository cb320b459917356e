"""Simulated noise, as transforms of circuits.

After every gate, each of its wires goes through a depolarizing channel and then an amplitude
damping channel (Nielsen and Chuang 2010, sections 8.3.4 and 8.3.5); when a wire is read, its bit
is flipped with a probability. Channels need a device that holds density matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pennylane as qml

from qfl.errors import ConfigError
from qfl.quantum.devices import Noise

Tapes = tuple[Sequence[Any], Callable[[Sequence[Any]], Any]]


def _only(results: Sequence[Any]) -> Any:
    return results[0]


def _to_gates(tape: Any) -> Tapes:
    tapes, _ = qml.devices.preprocess.decompose(
        tape,
        stopping_condition=_is_gate,
        skip_initial_state_prep=False,
        name="noise and mitigation",
    )
    return tapes, _only


def _is_gate(operation: Any) -> bool:
    if isinstance(operation, qml.operation.StatePrepBase):
        return False
    marks = isinstance(operation, qml.Barrier | qml.Snapshot)
    return marks or (operation.has_matrix and len(operation.wires) <= 2)


def _add_noise(tape: Any, noise: Noise, wires: Sequence[int]) -> Tapes:
    operations = []
    for operation in tape.operations:
        operations.append(operation)
        if not isinstance(operation, qml.Barrier | qml.Snapshot):
            for wire in operation.wires:
                operations.extend(_channels(noise, wire))
    if noise.readout_error:
        flipped = qml.wires.Wires.all_wires(
            [measurement.wires or qml.wires.Wires(wires) for measurement in tape.measurements]
        )
        operations.extend(qml.BitFlip(noise.readout_error, wires=wire) for wire in flipped)
    return (tape.copy(operations=operations),), _only


def _channels(noise: Noise, wire: int) -> list[Any]:
    channels = []
    if noise.depolarizing:
        channels.append(qml.DepolarizingChannel(noise.depolarizing, wires=wire))
    if noise.amplitude_damping:
        channels.append(qml.AmplitudeDamping(noise.amplitude_damping, wires=wire))
    return channels


def _check_readable(tape: Any) -> Tapes:
    for measurement in tape.measurements:
        kind, observable = type(measurement).__name__, measurement.obs
        if kind not in ("ExpectationMP", "ProbabilityMP"):
            raise ConfigError(
                f"readout errors are simulated and corrected in expectations and probabilities; "
                f"the circuit measures {kind}: set quantum.noise.readout_error=0 and a "
                "quantum.mitigation without readout"
            )
        if observable is not None and observable.pauli_rep is None:
            raise ConfigError(
                f"readout errors are simulated and corrected in products of Paulis and their sums; "
                f"the circuit measures {observable.name}: write it as such, with "
                "qml.pauli_decompose"
            )
    return (tape,), _only


to_gates = qml.transform(_to_gates)
"""Take a circuit apart into gates on one or two wires; states that it starts from as well."""

add_noise = qml.transform(_add_noise)
"""Channels after every gate, and bit flips before circuits are measured in the basis of Z."""


def measured_in_z(qnode: Any) -> Any:
    """Split and turn a circuit so that every wire is read in the basis of Z, as hardware does.

    Calls raise ConfigError for what is neither an expectation of Paulis nor a probability.
    """
    split = qml.transforms.split_non_commuting(qml.transform(_check_readable)(qnode))
    return qml.transforms.diagonalize_measurements(split)
