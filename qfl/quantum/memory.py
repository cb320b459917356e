"""How much memory a circuit's simulation needs, asked before it is allocated."""

from __future__ import annotations

import os

from qfl.errors import ConfigError

COMPLEX_BYTES = 16


def memory_needed(n_qubits: int, batch: int, gates: int, diff_method: str) -> int:
    """Bytes for one forward and backward pass.

    Backpropagation keeps the state before every gate; other methods keep a few states.

    Args:
        n_qubits: Wires.
        batch: Examples simulated at once.
        gates: Gates in the circuit.
        diff_method: PennyLane's differentiation method.

    Example:
        >>> memory_needed(n_qubits=10, batch=1, gates=30, diff_method="adjoint")
        65536
    """
    states = gates + 4 if diff_method == "backprop" else 4
    return states * batch * (1 << n_qubits) * COMPLEX_BYTES


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


def check_memory(n_qubits: int, batch: int, gates: int, diff_method: str) -> None:
    """Refuse a circuit that does not fit.

    Raises:
        ConfigError: Says how much it would need and how much there is.
    """
    needed, there = memory_needed(n_qubits, batch, gates, diff_method), available_memory()
    if needed > there:
        raise ConfigError(
            f"model.n_qubits={n_qubits} needs about {needed / 2**30:,.1f} GiB of memory for "
            f"{batch} states at once and their gradients by {diff_method}; "
            f"{there / 2**30:.1f} GiB are free: use fewer qubits, a smaller client.batch_size, or "
            "quantum=lightning, which takes examples one by one and keeps fewer states"
        )
