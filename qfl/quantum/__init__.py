"""Quantum circuits as torch layers."""

from __future__ import annotations

from qfl.quantum.circuits import Circuit, build_circuit
from qfl.quantum.layer import QuantumLayer
from qfl.quantum.memory import check_memory, memory_needed

__all__ = ["Circuit", "QuantumLayer", "build_circuit", "check_memory", "memory_needed"]
