"""Quantum layers under Opacus: exact per-sample gradients for DP-SGD.

Opacus computes a layer's per-sample gradients with a sampler of that layer's kind. Without one it
falls back on ``functional_call``, under which ``qml.qnn.TorchLayer`` gives zeros without a word.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from qfl.quantum.layer import QuantumLayer


def register_grad_sampler() -> None:
    """Tell Opacus about :class:`QuantumLayer`; call it once, before wrapping a model.

    Example:
        >>> from opacus.grad_sample import GradSampleModule
        >>> from qfl.quantum import build_circuit
        >>> register_grad_sampler()
        >>> circuit = build_circuit(n_qubits=2, n_layers=1)
        >>> model = GradSampleModule(QuantumLayer(circuit.qnode, circuit.weight_shapes))
    """
    from opacus.grad_sample import register_grad_sampler as register

    register(QuantumLayer)(_sample)


def _sample(layer: QuantumLayer, activations: list[Tensor], backprops: Tensor) -> dict[Any, Tensor]:
    found = layer.per_sample_gradients(activations[0], backprops)
    return {
        parameter: found[name]
        for name, parameter in layer.named_parameters()
        if parameter.requires_grad
    }
