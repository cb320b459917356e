"""A PennyLane circuit as a torch module that owns its parameters and runs on a fast engine.

The circuit is looked at once and becomes a plan, which an engine of ours runs. What cannot be
captured runs on the QNode's own device, announced once by a warning that names the reason.
``forward`` reads the module's registered parameters, which ``qml.qnn.TorchLayer`` does not, so
that ``torch.func`` and per-sample gradients see them.
"""

from __future__ import annotations

import threading
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from qfl.errors import ConfigError
from qfl.quantum.capture import capture
from qfl.quantum.engines import Engine, check_engine, choose_engine
from qfl.quantum.kernel_engine import KernelEngine
from qfl.quantum.lower import UnsupportedError
from qfl.quantum.plan import Plan
from qfl.quantum.torch_engine import TorchEngine

# PennyLane records circuits in a list that belongs to the class: two threads recording at the same
# time could take each other's gates.
_RECORDING = threading.RLock()


@dataclass(frozen=True)
class _Captured:
    """What became of a circuit for one width of inputs."""

    plan: Plan | None
    engine: Engine | None
    why: str


# One circuit serves many layers: a federation builds a model for every client and round.
_CAPTURED: WeakKeyDictionary[Any, dict[tuple[Any, ...], _Captured]] = WeakKeyDictionary()


def _small_normal(parameter: Tensor) -> Tensor:
    return nn.init.normal_(parameter, std=0.1)


class QuantumLayer(nn.Module):
    """A QNode as a layer.

    Args:
        qnode: ``f(inputs, **weights)``, returning one expectation per output, a list of them, or
            probabilities; ``inputs`` has shape (batch, features).
        weight_shapes: Shape of every trainable argument.
        init: Fills a parameter in place. Default: normal with standard deviation 0.1, which starts
            near the identity, where gradients do not vanish (Grant et al. 2019; Zhang et al. 2022).
        engine: ``auto`` (the fastest that runs the circuit), ``kernel`` (compiled), ``torch``
            (differentiable twice, any device) or ``pennylane`` (the QNode's own device).

    Example:
        >>> from qfl.quantum import build_circuit
        >>> circuit = build_circuit(n_qubits=2, n_layers=1)
        >>> layer = QuantumLayer(circuit.qnode, circuit.weight_shapes, engine="torch")
        >>> layer(torch.zeros(5, 7, 2)).shape
        torch.Size([5, 7, 2])
        >>> layer.engine
        'torch'
    """

    def __init__(
        self,
        qnode: Any,
        weight_shapes: Mapping[str, tuple[int, ...] | int],
        init: Callable[[Tensor], Tensor] = _small_normal,
        engine: str = "auto",
    ) -> None:
        super().__init__()
        check_engine(engine)
        self.qnode = qnode
        self.wanted = engine
        self.weight_names = tuple(weight_shapes)
        for name, shape in weight_shapes.items():
            parameter = nn.Parameter(torch.empty(shape))
            with torch.no_grad():
                init(parameter)
            self.register_parameter(name, parameter)
        self._features = 0
        self._engine: Engine | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Engines hold what cannot be copied or pickled; they are found again at the next call.
        return {**self.__dict__, "_features": 0, "_engine": None}

    @property
    def engine(self) -> str:
        """Engine of the last call; before the first, the one that was asked for."""
        if not self._features:
            return self.wanted
        engine = self._captured(self._features).engine
        return "pennylane" if engine is None else engine.name

    def explain(self) -> str:
        """Plan, gate counts, memory and engine of the last call, in words."""
        if not self._features:
            return "not called yet: the circuit is looked at when its first inputs come"
        found = self._captured(self._features)
        if found.plan is None:
            return f"engine pennylane, on {self.qnode.device.name}: {found.why}"
        plan = found.plan
        counts = Counter(type(operation).__name__ for operation in plan.operations)
        state = 16 << plan.n_wires
        return (
            f"engine {self.engine}: {found.why}\n"
            f"{plan.n_wires} wires, {len(plan.operations)} operations "
            f"({', '.join(f'{count} {name}' for name, count in sorted(counts.items()))}), "
            f"{plan.n_inputs} inputs, {plan.n_weights} weights, {plan.outputs} outputs\n"
            f"at most {state} bytes for one state of one sample"
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs of the circuit.

        Args:
            inputs: (..., features).

        Returns:
            (..., outputs), in the type of ``inputs``.
        """
        features = inputs.shape[-1]
        if features != self._features:
            self._features, self._engine = features, self._captured(features).engine
        flat = inputs if inputs.ndim == 2 else inputs.reshape(-1, features)
        engine = self._engine
        if engine is None:
            outputs = self._on_device(flat)
        else:
            parts = [getattr(self, name) for name in self.weight_names]
            weights = parts[0]
            if len(parts) > 1:
                weights = torch.cat([part.reshape(-1) for part in parts])
            if flat.dtype != weights.dtype:
                weights = weights.to(flat.dtype)
            if engine.name == "kernel" and _needs_torch(flat, weights):
                engine = _torch_engine(engine)
            outputs = engine(flat, weights)
        if inputs.ndim == 2:
            return outputs
        return outputs.reshape(*inputs.shape[:-1], outputs.shape[-1])

    def per_sample_gradients(self, inputs: Tensor, grad_outputs: Tensor) -> dict[str, Tensor]:
        """Gradients of every sample's own outputs by the weights, as DP-SGD needs them.

        Args:
            inputs: (batch, …, features).
            grad_outputs: (batch, …, outputs): gradients by the outputs.

        Returns:
            For each weight (batch, *shape), summed over the dimensions in between.
        """
        batch, features = len(inputs), inputs.shape[-1]
        # ``forward`` and not a call: this runs inside a hook, and must not set off others.
        self.forward(inputs[:1])
        flat = inputs.detach().reshape(-1, features)
        upstream = grad_outputs.detach().reshape(len(flat), -1)
        parts = [getattr(self, name).detach() for name in self.weight_names]
        weights = torch.cat([part.reshape(-1) for part in parts])
        engine = self._engine
        if isinstance(engine, KernelEngine) and flat.device.type == "cpu":
            _, found = engine.per_sample_gradients(flat, weights, upstream)
        else:
            found = self._one_by_one(flat, upstream)
        found = found.reshape(batch, -1, weights.numel()).sum(1)
        pieces = torch.split(found, [part.numel() for part in parts], dim=1)
        return {
            name: piece.reshape(batch, *part.shape)
            for name, piece, part in zip(self.weight_names, pieces, parts, strict=True)
        }

    def _one_by_one(self, flat: Tensor, upstream: Tensor) -> Tensor:
        rows = []
        weights = [getattr(self, name) for name in self.weight_names]
        for sample, gradient in zip(torch.split(flat, 1), torch.split(upstream, 1), strict=True):
            with torch.enable_grad():
                outputs = self.forward(sample)
            found = torch.autograd.grad(outputs, weights, gradient.to(outputs.dtype))
            rows.append(torch.cat([part.reshape(-1) for part in found]))
        return torch.stack(rows) if rows else flat.new_zeros((0, sum(w.numel() for w in weights)))

    def _on_device(self, flat: Tensor) -> Tensor:
        weights = {name: getattr(self, name) for name in self.weight_names}
        with _RECORDING:
            results = self.qnode(flat, **weights)
        if isinstance(results, Tensor):
            results = [results]
        columns = [_per_sample(result, len(flat)) for result in results]
        return torch.cat(columns, dim=-1).to(flat.dtype)

    def _captured(self, features: int) -> _Captured:
        shapes = tuple((name, tuple(getattr(self, name).shape)) for name in self.weight_names)
        key = (features, shapes, self.wanted)
        known = _CAPTURED.setdefault(self.qnode, {})
        if key not in known:
            known[key] = self._capture(features, dict(shapes))
        return known[key]

    def _capture(self, features: int, shapes: dict[str, tuple[int, ...]]) -> _Captured:
        if self.wanted == "pennylane":
            return _Captured(None, None, "asked for")
        try:
            plan = _capture_apart(self.qnode, shapes, features)
            engine, why = choose_engine(plan, self.wanted)
            return _Captured(plan, engine, why)
        except UnsupportedError as reason:
            if self.wanted != "auto":
                raise ConfigError(
                    f"quantum.engine={self.wanted} cannot run this circuit: {reason}; use "
                    "quantum.engine=auto or pennylane"
                ) from None
            warnings.warn(
                f"this circuit runs on {self.qnode.device.name}, which is slower: no engine of "
                f"qfl runs {reason}",
                stacklevel=4,
            )
            return _Captured(None, None, str(reason))


def _capture_apart(qnode: Any, shapes: dict[str, tuple[int, ...]], features: int) -> Plan:
    """Capture in a thread of its own.

    The probes' gradients tell inputs from weights, whatever the caller is in: ``no_grad``,
    ``inference_mode`` and ``torch.func`` transforms all belong to the calling thread.
    """

    def look() -> Plan:
        with _RECORDING:
            return capture(qnode, shapes, features)

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(look).result()


def _per_sample(result: Tensor, batch: int) -> Tensor:
    """(batch, outputs) of one measurement; a circuit without inputs gives the same for all."""
    if result.ndim == 0 or (result.ndim == 1 and len(result) != batch):
        return result.reshape(1, -1).expand(batch, -1)
    return result.reshape(batch, -1)


def _needs_torch(*tensors: Tensor) -> bool:
    """Whether tensors are on a GPU, or inside a ``torch.func`` transform."""
    return any(
        tensor.device.type != "cpu" or torch._C._functorch.is_functorch_wrapped_tensor(tensor)
        for tensor in tensors
    )


def _torch_engine(engine: Any) -> Engine:
    """The torch engine of the same plan, made once and kept beside the other."""
    if not hasattr(engine, "in_torch"):
        engine.in_torch = TorchEngine(engine.plan)
    made: Engine = engine.in_torch
    return made
