"""How much memory a circuit's simulation needs, asked before it is allocated."""

from __future__ import annotations

import os

from torch import Tensor

from qfl.conf.schema import QuantumConfig
from qfl.errors import ConfigError

COMPLEX_BYTES = 16
_WORTH_ASKING = 64 << 20


def memory_needed(
    n_qubits: int, batch: int, gates: int, diff_method: str, density: bool = False
) -> int:
    """Bytes for one forward and backward pass.

    Backpropagation keeps the state before every gate; other methods keep a few states. A density
    matrix is as large as a state of twice the wires, and channels follow its gates.

    Args:
        n_qubits: Wires.
        batch: Examples simulated at once.
        gates: Gates in the circuit.
        diff_method: PennyLane's differentiation method.
        density: Whether the device simulates density matrices.

    Example:
        >>> memory_needed(n_qubits=10, batch=1, gates=30, diff_method="adjoint")
        65536
    """
    states = gates + 4 if diff_method == "backprop" else 4
    size = 4 << 2 * n_qubits if density else 1 << n_qubits
    return states * batch * size * COMPLEX_BYTES


def available_memory() -> int:
    """Bytes of memory that this machine can still give."""
    try:
        with open("/proc/meminfo") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check_memory(
    n_qubits: int, batch: int, gates: int, diff_method: str, density: bool = False
) -> None:
    """Refuse a circuit that does not fit.

    Raises:
        ConfigError: Says how much it would need and how much there is.
    """
    needed = memory_needed(n_qubits, batch, gates, diff_method, density)
    there = available_memory()
    if needed > there:
        lighter = (
            ""
            if density
            else (", or quantum=lightning, which takes examples one by one and keeps fewer states")
        )
        raise ConfigError(
            f"model.n_qubits={n_qubits} needs about {needed / 2**30:,.1f} GiB of memory for "
            f"{batch} states at once and their gradients by {diff_method}; "
            f"{there / 2**30:.1f} GiB are free: use fewer qubits, or a smaller "
            f"client.batch_size{lighter}"
        )


def check_states(n_qubits: int, batch: int, gates: int, quantum: QuantumConfig) -> None:
    """Refuse a configured circuit that does not fit, before a device is made for it.

    Args:
        n_qubits: Wires.
        batch: Most examples at once.
        gates: Gates in the circuit.
        quantum: Device and differentiation.

    Raises:
        ConfigError: Says how much it would need and how much there is.
    """
    at_once = batch if quantum.device in ("default.qubit", "default.mixed") else 1
    density = quantum.device == "default.mixed"
    check_memory(n_qubits, at_once, gates, quantum.diff_method, density)


def check_capture(n_wires: int) -> None:
    """Refuse a circuit whose very description does not fit.

    Raises:
        ConfigError: Says how much it would need and how much there is.
    """
    # Tables over all basis states: places (8 bytes each), phases (16), their inverses and copies.
    _refuse_beyond(96 << n_wires, f"a circuit of {n_wires} wires", "fewer wires")


def check_free(needed: int, n_wires: int, batch: int, like: Tensor) -> None:
    """Refuse a batch that does not fit into the memory of its device.

    Args:
        needed: Bytes.
        n_wires: For the message.
        batch: For the message.
        like: A tensor on the device.

    Raises:
        ConfigError: Says how much it would need and how much there is.
    """
    # Asking takes longer than a small circuit.
    if needed > _WORTH_ASKING and like.device.type == "cpu":
        what = f"a batch of {batch} through {n_wires} wires"
        _refuse_beyond(needed, what, "a smaller batch or fewer wires")


def _refuse_beyond(needed: int, what: str, instead: str) -> None:
    there = available_memory()
    if needed > there:
        raise ConfigError(
            f"{what} needs about {needed / 2**30:,.1f} GiB of memory; {there / 2**30:.1f} GiB are "
            f"free: use {instead}"
        )
