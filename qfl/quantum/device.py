"""``qml.device("qfl.fast")``: the engines as a PennyLane device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from pennylane.devices import Device, ExecutionConfig
from pennylane.devices.modifiers import simulator_tracking, single_tape_support
from pennylane.exceptions import DeviceError
from pennylane.math import Interface
from pennylane.transforms.core import CompilePipeline

from qfl.quantum.preprocess import NAME, prepared
from qfl.quantum.runner import Runner
from qfl.quantum.structure import RewriteError
from qfl.quantum.tapes import runner

_METHODS = ("backprop", "best", "device", "adjoint")
# Interfaces whose numbers go through the engine with their history. NumPy's have none; at a QNode's
# making it also stands for an interface not known yet.
_FOLLOWED = (Interface.TORCH, Interface.AUTOGRAD, Interface.NUMPY)


@simulator_tracking
@single_tape_support
class FastDevice(Device):  # type: ignore[misc]
    """A simulator of pure states, exact in values and gradients, fast on batches.

    Circuits run on the compiled kernel of qfl where it is built and takes them, else on its torch
    engine. Gates, templates and batches need nothing special; expectations, probabilities and the
    state can be measured, without shots. Gradients come from the engine itself: of any order in
    PyTorch (with ``max_diff=2`` for more than the first), first and second ones in autograd.

    Args:
        wires: Their number, or their labels; None takes any circuit's own.
        shots: For PennyLane's sake: only None runs.

    Example:
        >>> import pennylane as qml
        >>> device = FastDevice(wires=2)
        >>> @qml.qnode(device)
        ... def circuit(angle):
        ...     qml.RX(angle, wires=0)
        ...     qml.CNOT(wires=[0, 1])
        ...     return qml.expval(qml.PauliZ(1))
        >>> round(float(circuit(1.0)), 4)
        0.5403
    """

    def __init__(self, wires: Any = None, shots: Any = None) -> None:
        super().__init__(wires=wires, shots=shots)
        self._labels = None if self.wires is None else tuple(self.wires)

    @property
    def name(self) -> str:
        """Its name among PennyLane's devices."""
        return NAME

    def supports_derivatives(
        self, execution_config: ExecutionConfig | None = None, circuit: Any = None
    ) -> bool:
        """Whether the device differentiates, rather than a transform of PennyLane."""
        config = execution_config
        if config is None:
            return True
        if config.interface in _FOLLOWED:
            return config.gradient_method in _METHODS
        return config.gradient_method in _METHODS[1:] and config.derivative_order == 1

    def supports_vjp(
        self, execution_config: ExecutionConfig | None = None, circuit: Any = None
    ) -> bool:
        """Whether :meth:`compute_vjp` can be used."""
        return self.supports_derivatives(execution_config, circuit)

    def setup_execution_config(
        self, config: ExecutionConfig | None = None, circuit: Any = None
    ) -> ExecutionConfig:
        """Fill in what PennyLane leaves to the device.

        Raises:
            DeviceError: An option is unknown, or measurements amid the circuit are not deferred.
        """
        config = config or ExecutionConfig()
        for option in config.device_options:
            raise DeviceError(f"{NAME} has no option {option}: it takes none")
        mcm = config.mcm_config
        if mcm.mcm_method not in (None, "deferred"):
            raise DeviceError(
                f"mcm_method={mcm.mcm_method} does not run on {NAME}: use 'deferred', or "
                "default.qubit"
            )
        # PennyLane asks twice at every call; this takes longer than it seems.
        changed: dict[str, Any] = {}
        if mcm.mcm_method is None:
            changed["mcm_config"] = replace(mcm, mcm_method="deferred")
        if config.gradient_method in _METHODS and not config.use_device_gradient:
            # PennyLane's own boundary to torch takes no gradients of different shapes, its boundary
            # to autograd makes zeros of second derivatives, and both copy the circuit.
            followed = config.interface in _FOLLOWED
            changed |= {
                "gradient_method": "backprop" if followed else "adjoint",
                "use_device_gradient": True,
                "use_device_jacobian_product": not followed,
                "grad_on_execution": False,
            }
        return replace(config, **changed) if changed else config

    def preprocess_transforms(
        self, execution_config: ExecutionConfig | None = None
    ) -> CompilePipeline:
        """One transform: most circuits pass it as they are."""
        pipeline = CompilePipeline()
        pipeline.add_transform(prepared, wires=self._labels)
        return pipeline

    def execute(self, circuits: Any, execution_config: ExecutionConfig | None = None) -> Any:
        """Results of tapes, of the interface's kind.

        Raises:
            DeviceError: A tape has not been preprocessed, and cannot run as it is.
            ConfigError: It does not fit into memory.
            DataError: A parameter is infinite or not a number.
        """
        config = execution_config or ExecutionConfig()
        return tuple(self._execute(tape, config) for tape in circuits)

    def compute_derivatives(
        self, circuits: Any, execution_config: ExecutionConfig | None = None
    ) -> Any:
        """Jacobians by the trainable parameters of tapes, as PennyLane nests them."""
        found = []
        for tape in circuits:
            run = self._runner(tape)
            found.append(run.jacobian(_parameters(tape), _trainable(tape, run)))
        return tuple(found)

    def compute_vjp(
        self,
        circuits: Any,
        cotangents: Sequence[Any],
        execution_config: ExecutionConfig | None = None,
    ) -> Any:
        """Gradients of ``sum(results * cotangents)`` by the trainable parameters of tapes."""
        found = []
        for tape, given in zip(circuits, cotangents, strict=True):
            run = self._runner(tape)
            found.append(run.vjp(_parameters(tape), _trainable(tape, run), given))
        return tuple(found)

    def _execute(self, tape: Any, config: ExecutionConfig) -> Any:
        parameters, run = _parameters(tape), self._runner(tape)
        interface = config.interface if config.gradient_method == "backprop" else Interface.NUMPY
        results: tuple[Any, ...]
        if interface == Interface.AUTOGRAD:
            from qfl.quantum.autograd_runner import run_boxed

            results = run_boxed(run, parameters)
        else:
            results = run(parameters, twice=config.derivative_order > 1)
            if interface != Interface.TORCH and not any(map(torch.is_tensor, parameters)):
                results = tuple(result.numpy()[()] for result in results)
        return results[0] if len(results) == 1 else results

    def _runner(self, tape: Any) -> Runner:
        try:
            return runner(tape, self._labels)
        except RewriteError:
            raise DeviceError(
                f"{NAME} does not run this tape as it is: execute it by qml.execute or a QNode, "
                "which prepare it"
            ) from None


def _parameters(tape: Any) -> list[Any]:
    return [value for operation in tape.operations for value in operation.data]


def _trainable(tape: Any, run: Runner) -> list[int]:
    numbers: list[int] = tape.trainable_params
    if not set(numbers) <= set(run.angles):
        raise DeviceError(
            f"{NAME} differentiates a tape by angles and amplitudes, not by matrices or "
            "coefficients of observables: set trainable_params to others"
        )
    return numbers
