"""Circuits made such that ``qfl.fast`` runs them, by PennyLane's own transforms.

Most circuits need nothing: they are recognised and passed on. The others lose measurements amid the
circuit, gates that depend on their numbers in other ways than by angles, and mixtures of
measurements.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pennylane as qml
from pennylane.devices.preprocess import validate_device_wires
from pennylane.exceptions import DeviceError
from pennylane.queuing import QueuingManager
from pennylane.transforms.core import CompilePipeline, transform

from qfl.quantum.lower import UnsupportedError, is_state
from qfl.quantum.structure import RewriteError, Wires
from qfl.quantum.tapes import needs_one_by_one, runner, runs_whole, wire_order

NAME = "qfl.fast"
Tapes = tuple[Any, ...]
After = Callable[[Sequence[Any]], Any]

_WIDEST_MATRIX = 5
_INSTEAD = "use default.qubit or lightning.qubit for it"


@transform  # type: ignore[untyped-decorator]
def prepared(tape: Any, wires: Wires | None) -> tuple[Tapes, After]:
    """Tapes that run, and what makes one tape's results of theirs.

    Raises:
        DeviceError: There are shots, or a gate or measurement that does not run.
        WireError: A wire is not on the device.
        ConfigError: It needs more memory than there is, or a matrix is not unitary.
    """
    if tape.shots:
        raise DeviceError(f"{NAME} is exact and takes no shots: leave them out, or {_INSTEAD}")
    try:
        runner(tape, wires)
        return (tape,), _first
    except RewriteError:
        tapes, after = _pipeline(wires)((tape,))
        return tapes, lambda results: after(results)[0]


def _first(results: Sequence[Any]) -> Any:
    return results[0]


def _pipeline(wires: Wires | None) -> Any:
    pipeline = CompilePipeline()
    pipeline.add_transform(qml.defer_measurements, allow_postselect=False)
    pipeline.add_transform(_wires_named, wires=wires)
    pipeline.add_transform(_decomposed)
    pipeline.add_transform(_in_pauli_words)
    pipeline.add_transform(_by_measurement)
    pipeline.add_transform(_one_by_one)
    return pipeline


@transform  # type: ignore[untyped-decorator]
def _wires_named(tape: Any, wires: Wires | None) -> tuple[Tapes, After]:
    """Measurements of all wires name them: the tapes of a mixture have different ones."""
    named = qml.wires.Wires(wire_order(tape, ()) if wires is None else wires)
    tapes, after = validate_device_wires(tape, wires=named, name=NAME)
    return tuple(tapes), after


@transform  # type: ignore[untyped-decorator]
def _decomposed(tape: Any) -> tuple[Tapes, After]:
    operations = list(tape.operations)
    kept = [_dense(operations.pop(0))] if operations and is_state(operations[0]) else []
    with QueuingManager.stop_recording():
        for operation in operations:
            kept.extend(_pieces(operation))
    return (tape.copy(operations=kept),), _first


def _dense(prepared: Any) -> Any:
    if not prepared.is_sparse:
        return prepared
    return qml.StatePrep(prepared.data[0].toarray().reshape(-1), wires=prepared.wires)


def _pieces(operation: Any) -> Iterator[Any]:
    try:
        if not is_state(operation) and (needs_one_by_one(operation) or runs_whole(operation)):
            yield operation
            return
    except UnsupportedError as error:
        raise DeviceError(f"{NAME} does not run {error}: {_INSTEAD}") from None
    yield from (_with_its_numbers(operation) if _has_rule(operation) else _matrix(operation))


def _has_rule(operation: Any) -> bool:
    if operation.name == "QubitUnitary" and len(operation.wires) <= 2:
        return False
    return bool(operation.has_decomposition)


def _with_its_numbers(operation: Any) -> Iterator[Any]:
    """The pieces of an operation whose gates or angles follow its parameters in their own way."""
    rotation = _pauli_rotation(operation) if isinstance(operation, qml.ops.Exp) else None
    for piece in operation.decomposition() if rotation is None else [rotation]:
        yield from _pieces(piece)


def _pauli_rotation(exponential: Any) -> Any:
    """``exp(coefficient * word)`` as a gate; None where the exponent is no single Pauli word.

    PennyLane's own rule does not take tensors.
    """
    words = exponential.base.pauli_rep
    if words is None or len(words) != 1:
        return None
    ((word, factor),) = words.items()
    coefficient = exponential.coeff * factor
    angle = -2 * qml.math.imag(coefficient)
    if not word:
        return qml.GlobalPhase(angle / 2)
    return qml.PauliRot(angle, "".join(word.values()), wires=list(word))


def _matrix(operation: Any) -> Iterator[Any]:
    trained = any(qml.math.requires_grad(value) for value in operation.data)
    if trained and operation.has_matrix:
        raise DeviceError(
            f"{NAME} has no gradients by what makes the matrix of a {operation.name}: use gates "
            "with angles, or default.qubit"
        )
    if operation.name == "QubitUnitary" or not operation.has_matrix:
        raise DeviceError(
            f"{NAME} does not run {operation.name}, which has no decomposition: {_INSTEAD}"
        )
    matrix = qml.matrix(operation, wire_order=operation.wires)
    yield from _pieces(qml.QubitUnitary(matrix, wires=operation.wires))


@transform  # type: ignore[untyped-decorator]
def _in_pauli_words(tape: Any) -> tuple[Tapes, After]:
    """Observables as sums of Pauli words; terms one by one where their coefficients are trained."""
    measurements = [_in_words(entry) for entry in tape.measurements]
    tape = tape.copy(measurements=measurements)
    observables = [entry.obs for entry in measurements if entry.obs is not None]
    if any(qml.math.requires_grad(value) for found in observables for value in found.data):
        tapes, after = qml.transforms.split_to_single_terms(tape)
        return tuple(tapes), after
    return (tape,), _first


def _in_words(entry: Any) -> Any:
    observable = entry.obs
    if type(entry).__name__ != "ExpectationMP" or observable is None:
        return entry
    if observable.pauli_rep is None:
        trained = any(qml.math.requires_grad(value) for value in observable.data)
        if trained or not observable.has_matrix or len(observable.wires) > _WIDEST_MATRIX:
            raise DeviceError(
                f"{NAME} measures no expectation of {observable.name} on "
                f"{len(observable.wires)} wires{' with trained entries' * trained}: write it as a "
                f"sum of Pauli words, or {_INSTEAD}"
            )
        matrix = qml.matrix(observable, wire_order=observable.wires)
        return qml.expval(qml.pauli_decompose(matrix, wire_order=observable.wires))
    if any(
        abs(complex(qml.math.unwrap([value])[0]).imag) > 0
        for value in observable.pauli_rep.values()
    ):
        raise DeviceError(f"{NAME} measures Hermitian observables, not {observable}")
    return entry


@transform  # type: ignore[untyped-decorator]
def _by_measurement(tape: Any) -> tuple[Tapes, After]:
    """One tape for all expectations, one for each other measurement."""
    groups: dict[int, list[int]] = {}
    for number, entry in enumerate(tape.measurements):
        kind = type(entry).__name__
        if kind not in ("ExpectationMP", "ProbabilityMP", "StateMP"):
            raise DeviceError(
                f"{NAME} measures expectations, probabilities and the state, not {entry}: "
                f"{_INSTEAD}"
            )
        groups.setdefault(-1 if kind == "ExpectationMP" else number, []).append(number)
    tapes = tuple(_only(tape, numbers) for numbers in groups.values())

    def after(results: Sequence[Any]) -> Any:
        found = [None] * len(tape.measurements)
        for numbers, result in zip(groups.values(), results, strict=True):
            several = result if len(numbers) > 1 else (result,)
            for number, one in zip(numbers, several, strict=True):
                found[number] = one
        return found[0] if len(found) == 1 else tuple(found)

    return tapes, after


def _only(tape: Any, numbers: list[int]) -> Any:
    chosen = [tape.measurements[number] for number in numbers]
    operations = tape.operations
    if type(chosen[0]).__name__ == "ProbabilityMP" and chosen[0].obs is not None:
        observable = chosen[0].obs
        turned = [piece for gate in observable.diagonalizing_gates() for piece in _pieces(gate)]
        operations, chosen = operations + turned, [qml.probs(wires=observable.wires)]
    return tape.copy(operations=operations, measurements=chosen)


@transform  # type: ignore[untyped-decorator]
def _one_by_one(tape: Any) -> tuple[Tapes, After]:
    """A batch of matrices becomes as many circuits."""
    if any(needs_one_by_one(operation) for operation in tape.operations):
        tapes, after = qml.transforms.broadcast_expand(tape)
        return tuple(tapes), after
    return (tape,), _first
