"""What ``qfl.fast`` refuses, and with which words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pennylane as qml
import pytest
import torch
from pennylane.exceptions import DeviceError, WireError

from qfl.errors import ConfigError, DataError
from qfl.quantum.device import FastDevice
from qfl.quantum.kernel_engine import KernelEngine


@pytest.mark.parametrize(
    "measurement",
    [
        lambda: qml.var(qml.PauliZ(0)),
        lambda: qml.purity(wires=0),
        lambda: qml.density_matrix(0),
        lambda: qml.classical_shadow(wires=0),
    ],
)
def test_other_measurements_are_refused(measurement: Any) -> None:
    with pytest.raises(DeviceError, match=r"expectations, probabilities and the state.*default"):
        qml.QNode(measurement, FastDevice(wires=1))()


def test_shots_are_refused() -> None:
    node = qml.set_shots(qml.QNode(lambda: qml.expval(qml.PauliZ(0)), FastDevice(wires=1)), 10)
    with pytest.raises(DeviceError, match="takes no shots"):
        node()


class Strange(qml.operation.Operation):
    num_wires = 1
    num_params = 1


def bad(gate: Callable[[], Any], measured: Any = None) -> Any:
    def circuit() -> Any:
        gate()
        return qml.expval(qml.PauliZ(0) if measured is None else measured)

    return circuit


TRAINED = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
REFUSED = {
    "unknown gate": (bad(lambda: Strange(0.1, wires=0)), DeviceError, "Strange.*no decomposition"),
    "complex angle": (bad(lambda: qml.RX(1j, 0)), DataError, "is complex"),
    "unequal batches": (
        bad(lambda: (qml.RX(np.ones(2), 0), qml.RY(np.ones(3), 0))),
        DataError,
        "batches of 2 and 3",
    ),
    "dimensions": (bad(lambda: qml.RX(np.ones((2, 2)), 0)), ValueError, "wrong number"),
    "dimensions of a template": (
        bad(lambda: qml.StronglyEntanglingLayers(np.ones((1, 1, 1, 2, 3)), wires=[0, 1])),
        ValueError,
        "wrong number",
    ),
    "wire": (bad(lambda: qml.RX(0.1, 7)), WireError, "not found on the device"),
    "repeated wire": (bad(lambda: qml.CNOT([0, 0])), ValueError, "control wires must be different"),
    "not unitary": (bad(lambda: qml.QubitUnitary(2 * np.eye(2), 0)), ConfigError, "not unitary"),
    "not unitary exponential": (
        bad(lambda: qml.exp(qml.PauliX(0), 0.3)),
        ConfigError,
        "not unitary",
    ),
    "not Hermitian": (bad(lambda: None, 1j * qml.PauliX(0)), DeviceError, "Hermitian"),
    "wide matrix": (
        bad(lambda: None, qml.Hermitian(np.eye(64), range(6))),
        DeviceError,
        "Hermitian on 6 wires: write it as a sum of Pauli words",
    ),
    "trained matrix": (
        bad(lambda: qml.QubitUnitary(torch.eye(2, dtype=torch.complex128) * TRAINED, 0)),
        DeviceError,
        "no gradients by what makes the matrix of a QubitUnitary",
    ),
    "postselection": (bad(lambda: qml.measure(1, postselect=1)), ValueError, "Postselection"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_circuits_are_refused(name: str) -> None:
    circuit, error, words = REFUSED[name]
    with pytest.raises(error, match=words):
        qml.QNode(circuit, FastDevice(wires=6))()


@pytest.mark.skipif(bool(KernelEngine.available()), reason="only the kernel looks at numbers")
@pytest.mark.parametrize(
    ("angle", "words"),
    [(float("nan"), "infinite or not a number"), (np.array([1, np.inf]), "row 1, column 0")],
)
def test_numbers_that_are_none_are_refused(angle: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        qml.QNode(bad(lambda: qml.RX(angle, 0)), FastDevice(wires=1))()


@pytest.mark.parametrize("wires", [29, 34, 60])
def test_circuits_that_do_not_fit_are_refused_before_they_are_built(
    wires: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qfl.quantum.memory.available_memory", lambda: 1 << 30)
    node = qml.QNode(lambda: (qml.RX(0.1, 0), qml.probs())[1], FastDevice(wires=wires))
    with pytest.raises(ConfigError, match=f"{wires} wires needs about .* GiB"):
        node()


def test_options_are_refused() -> None:
    device = FastDevice()
    with pytest.raises(DeviceError, match="no option max_workers"):
        device.setup_execution_config(
            qml.devices.ExecutionConfig(device_options={"max_workers": 2})
        )
    node = qml.QNode(bad(lambda: qml.measure(0)), device, mcm_method="tree-traversal")
    with pytest.raises(DeviceError, match="mcm_method=tree-traversal"):
        node()
