"""Quantum circuits as torch layers."""

from __future__ import annotations

from qfl.quantum.circuits import Circuit, build_circuit, build_pooling_circuit
from qfl.quantum.devices import Backend, make_qnode
from qfl.quantum.interface import (
    counts_to_probabilities,
    features_to_amplitudes,
    features_to_angles,
    probabilities_to_features,
)
from qfl.quantum.layer import QuantumLayer
from qfl.quantum.memory import check_memory, check_states, memory_needed

__all__ = [
    "Backend",
    "Circuit",
    "QuantumLayer",
    "build_circuit",
    "build_pooling_circuit",
    "check_memory",
    "check_states",
    "counts_to_probabilities",
    "features_to_amplitudes",
    "features_to_angles",
    "make_qnode",
    "memory_needed",
    "probabilities_to_features",
]
