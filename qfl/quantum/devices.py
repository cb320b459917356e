"""What a circuit's QNode runs on when no engine of ours runs it: device, noise, gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from qfl.conf.schema import QuantumConfig
from qfl.errors import ConfigError

# How gradients are computed where PennyLane is left the choice.
_EXACT_METHODS = {"default.qubit": "backprop", "default.mixed": "backprop"}
_WITH_SHOTS = ("parameter-shift", "spsa")


@dataclass(frozen=True)
class Noise:
    """Simulated noise (:mod:`qfl.quantum.noise`).

    Attributes:
        depolarizing: Probability of a random Pauli on each wire of a gate, after the gate.
        amplitude_damping: Probability that a wire of a gate decays to 0 after the gate.
        readout_error: Probability that a wire is read wrongly.
    """

    depolarizing: float = 0.0
    amplitude_damping: float = 0.0
    readout_error: float = 0.0

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.depolarizing or self.amplitude_damping or self.readout_error)


@dataclass(frozen=True)
class Backend:
    """A PennyLane device, what it does to circuits, and how gradients are computed on it.

    Attributes:
        device: Name of the device.
        diff_method: PennyLane's differentiation method.
        shots: Times that a circuit is run for one value; None for exact expectations.
        noise: Simulated noise, on ``default.mixed``.
        mitigation: ``none``, ``readout``, ``zne`` or ``both`` (:mod:`qfl.quantum.mitigation`).
        seed: Of shots and of SPSA's directions.
        computer: For ``qiskit.remote``: IBM's name of the computer, or ``fake_NAME``.
    """

    device: str = "default.qubit"
    diff_method: str = "backprop"
    shots: int | None = None
    noise: Noise = Noise()
    mitigation: str = "none"
    seed: int = 0
    computer: str | None = None

    @classmethod
    def of(cls, quantum: QuantumConfig) -> Backend:
        """The backend that a configuration names."""
        return cls(
            device=quantum.device,
            diff_method=quantum.diff_method,
            shots=quantum.shots,
            noise=Noise(**asdict(quantum.noise)),
            mitigation=quantum.mitigation,
            seed=quantum.seed,
            computer=quantum.backend,
        )

    @property
    def gradient(self) -> str:
        """The differentiation method, chosen where it is ``best``."""
        if self.diff_method != "best":
            return self.diff_method
        if self.shots is not None:
            return "parameter-shift"
        if self.device.startswith("lightning."):
            return "adjoint"
        return _EXACT_METHODS.get(self.device, "parameter-shift")


def make_qnode(function: Callable[..., Any], n_qubits: int, backend: Backend) -> Any:
    """A QNode of ``function`` on a backend.

    Args:
        function: ``f(inputs, **weights)`` that queues gates and returns measurements.
        n_qubits: Wires, numbered from 0.
        backend: Device, noise and differentiation.

    Returns:
        A QNode, or something called like one that runs a batch circuit by circuit
        (:class:`qfl.quantum.one_by_one.OneByOneQNode`).

    Raises:
        ConfigError: The device does not exist, or cannot do what is asked.
        MissingDependencyError: The device is in a package that is not installed.

    Example:
        >>> import pennylane as qml
        >>> node = make_qnode(lambda inputs: qml.expval(qml.PauliZ(0)), 1, Backend())
        >>> float(node(0.0))
        1.0
    """
    import pennylane as qml

    from qfl.quantum.one_by_one import OneByOneQNode
    from qfl.quantum.plugins import open_device

    _check(backend)
    wires = list(range(n_qubits))

    def build(seed: int) -> Any:
        device = open_device(backend, wires, seed)
        qnode = qml.QNode(function, device, interface="torch", diff_method=backend.gradient)
        if backend.shots is not None:
            qnode = qml.set_shots(qnode, backend.shots)
        return _transformed(qnode, wires, backend)

    try:
        if backend.gradient == "backprop":
            return build(backend.seed)
        return OneByOneQNode(build, backend.seed)
    except qml.exceptions.DeviceError as error:
        raise ConfigError(f"quantum.device={backend.device} is not available: {error}") from None
    except qml.exceptions.QuantumFunctionError as error:
        raise ConfigError(
            f"quantum.diff_method={backend.diff_method} does not work on "
            f"quantum.device={backend.device}: {error}"
        ) from None


def _transformed(qnode: Any, wires: list[int], backend: Backend) -> Any:
    """Mitigation first, noise last: what is mitigated has to go through the noise."""
    if not backend.noise and backend.mitigation == "none":
        return qnode
    from qfl.quantum import mitigation, noise

    qnode = noise.to_gates(qnode)
    if backend.noise.readout_error or backend.mitigation in ("readout", "both"):
        qnode = noise.measured_in_z(qnode)
    if backend.mitigation in ("readout", "both"):
        qnode = mitigation.correct_readout(qnode, wires=wires)
    if backend.mitigation in ("zne", "both"):
        qnode = mitigation.extrapolate_to_zero_noise(qnode, wires=wires)
    if backend.noise:
        qnode = noise.add_noise(qnode, noise=backend.noise, wires=wires)
    return qnode


def _check(backend: Backend) -> None:
    if backend.noise and backend.device != "default.mixed":
        raise ConfigError(
            f"quantum.device={backend.device} has no simulated noise: set "
            "quantum.device=default.mixed, or the settings of quantum.noise to 0"
        )
    if backend.computer is not None and backend.device != "qiskit.remote":
        raise ConfigError(
            f"quantum.backend={backend.computer} is for quantum.device=qiskit.remote, not "
            f"{backend.device}: set quantum.backend=null, or use quantum=ibm"
        )
    if backend.device == "qiskit.remote" and backend.shots is None:
        raise ConfigError(
            "quantum.shots=null is not possible on quantum.device=qiskit.remote, which counts: set "
            "quantum.shots=1000 or the like"
        )
    if backend.shots is not None and backend.gradient not in _WITH_SHOTS:
        raise ConfigError(
            f"quantum.diff_method={backend.diff_method} needs exact expectations, and "
            f"quantum.shots={backend.shots} estimates them: set quantum.diff_method to "
            f"{' or '.join(_WITH_SHOTS)}, or quantum.shots=null"
        )
    if backend.mitigation in ("readout", "both") and backend.gradient == "adjoint":
        raise ConfigError(
            f"quantum.mitigation={backend.mitigation} works on probabilities, which "
            "quantum.diff_method=adjoint does not differentiate: set "
            "quantum.diff_method=parameter-shift, or quantum.mitigation=zne"
        )
