"""Opening devices, in PennyLane and in packages of others, with shots that follow from a seed.

IBM's computers: the token of an account is read by IBM's own package from the environment variable
``QISKIT_IBM_TOKEN`` (and the instance from ``QISKIT_IBM_INSTANCE``). It is kept nowhere else and
taken out of what the service says in refusals. ``fake_NAME`` is a simulation of a computer's size,
connections and noise that comes with the package and needs no account. Expectations come from
IBM's estimator, which corrects readout errors by itself on its computers, and not on ``fake_NAME``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property, lru_cache
from importlib import import_module
from typing import Any

import numpy as np

from qfl.errors import ConfigError, MissingDependencyError
from qfl.quantum.devices import Backend

TOKEN = "QISKIT_IBM_TOKEN"  # noqa: S105  the variable's name
_SEEDED = ("default.qubit", "default.mixed", "lightning.qubit")


def open_device(backend: Backend, wires: Sequence[int], seed: int) -> Any:
    """A device.

    Args:
        backend: Names it.
        wires: Its wires.
        seed: Of its shots, where they are simulated: the devices of PennyLane,
            ``qiskit.aer``, ``cirq.simulator`` and ``fake_NAME`` take one.

    Raises:
        ConfigError: There is no such computer, or no token to reach it with.
        MissingDependencyError: A package is not installed.
    """
    import pennylane as qml

    settings: dict[str, Any] = {}
    if backend.device in _SEEDED:
        settings["seed"] = seed
    elif backend.device == "qiskit.aer":
        settings["backend"] = _aer(seed, exact=backend.shots is None)
        settings["optimization_level"] = 0
    elif backend.device == "cirq.simulator":
        cirq = _package("cirq", backend.device, "cirq")
        settings["simulator"] = cirq.Simulator(seed=seed, dtype=np.complex128)
    elif backend.device == "qiskit.remote":
        settings["backend"] = _computer(backend.computer, len(wires))
        if _is_fake(backend.computer):
            settings["simulator"] = {"seed_simulator": seed}
            settings["seed_transpiler"] = seed
    return qml.device(backend.device, wires=wires, **settings)


def _aer(seed: int, exact: bool) -> Any:
    """Aer's simulator; its own description of itself takes 0.1 s and is asked for per circuit."""
    base: Any = _package("qiskit_aer", "qiskit.aer", "qiskit").AerSimulator
    source = np.random.default_rng(seed)

    class Simulator(base):  # type: ignore[misc]
        @cached_property
        def target(self) -> Any:
            return super().target

        def run(self, circuits: Any, **options: Any) -> Any:
            options["seed_simulator"] = int(source.integers(2**31))
            return super().run(circuits, **options)

    return Simulator(method="statevector" if exact else "automatic")


def _is_fake(name: str | None) -> bool:
    return name is not None and name.startswith("fake_")


@lru_cache(maxsize=8)
def _computer(name: str | None, n_qubits: int) -> Any:
    runtime = _package("qiskit_ibm_runtime", "qiskit.remote", "ibm")
    if _is_fake(name):
        provider = import_module("qiskit_ibm_runtime.fake_provider").FakeProviderForBackendV2()
        known = sorted(backend.name for backend in provider.backends())
        if name not in known:
            raise ConfigError(f"quantum.backend={name} is unknown; known: {', '.join(known)}")
        return provider.backend(name)
    token = os.environ.get(TOKEN)
    if not token:
        raise ConfigError(
            f"quantum.device=qiskit.remote needs the token of an IBM Quantum account: set the "
            f"environment variable {TOKEN}, or try the simulation quantum.backend=fake_manila"
        )
    try:
        service = runtime.QiskitRuntimeService()
        if name is None:
            return service.least_busy(min_num_qubits=n_qubits, simulator=False, operational=True)
        return service.backend(name)
    except Exception as error:
        said = str(error).replace(token, "…")
        raise ConfigError(
            f"quantum.backend={name or 'null'} cannot be reached at IBM: {said}"
        ) from None


def _package(module: str, device: str, extra: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        raise MissingDependencyError(
            f"quantum.device={device} needs a package that is not installed: "
            f"pip install 'qfl[{extra}]'"
        ) from None
