"""A PennyLane circuit as a torch module that owns its parameters and runs on a fast engine.

The circuit is looked at once and becomes a plan, which an engine of ours runs. What cannot be
captured runs on the QNode's own device, announced once by a warning that names the reason.
``forward`` reads the module's registered parameters, which ``qml.qnn.TorchLayer`` does not, so
that ``torch.func`` and per-sample gradients see them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from qfl.errors import ConfigError, DataError
from qfl.quantum.affine import complex_type
from qfl.quantum.capture import capture
from qfl.quantum.columns import Columns, eager_on_cpu
from qfl.quantum.compiled import Compiled
from qfl.quantum.engines import check_engine, choose_engine
from qfl.quantum.kernel_engine import check_finite
from qfl.quantum.lower import UnsupportedError
from qfl.quantum.plan import Plan
from qfl.quantum.private import Found, apart
from qfl.quantum.recording import RECORDING


@dataclass(frozen=True)
class _Captured:
    """What became of a circuit for one width of inputs."""

    compiled: Compiled | None
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
        copies: Run so many copies of the circuit on the same inputs in one call, each with weights
            of its own: every parameter gets a leading dimension of this size, and so do outputs.
        threads: The kernel shares a batch among at most so many threads.

    Attributes:
        record: None, except while somebody collects each sample's own gradients. Then every
            backward pass calls it with the name of a weight and (batch, *shape), and the weights
            get no gradient of the whole batch.

    Example:
        >>> from qfl.quantum import build_circuit
        >>> circuit = build_circuit(n_qubits=2, n_layers=1)
        >>> layer = QuantumLayer(circuit.qnode, circuit.weight_shapes, engine="torch")
        >>> layer(torch.zeros(5, 7, 2)).shape
        torch.Size([5, 7, 2])
        >>> layer.engine
        'torch'
    """

    record: Callable[[str, Tensor], None] | None = None

    def __init__(
        self,
        qnode: Any,
        weight_shapes: Mapping[str, tuple[int, ...] | int],
        init: Callable[[Tensor], Tensor] = _small_normal,
        engine: str = "auto",
        copies: int | None = None,
        threads: int = 1,
    ) -> None:
        super().__init__()
        check_engine(engine)
        if copies is not None and copies < 1:
            raise ConfigError(f"copies={copies}: at least one copy is needed, or None")
        self.qnode = qnode
        self.wanted = engine
        self.copies = copies
        self.threads = threads
        self.weight_names = tuple(weight_shapes)
        for name, shape in weight_shapes.items():
            sizes = (shape,) if isinstance(shape, int) else tuple(shape)
            parameter = nn.Parameter(torch.empty(sizes if copies is None else (copies, *sizes)))
            with torch.no_grad():
                init(parameter)
            self.register_parameter(name, parameter)
        self._features = 0
        self._compiled: Compiled | None = None
        self._largest = 0

    def __getstate__(self) -> dict[str, Any]:
        # Engines hold what cannot be copied or pickled; they are found again at the next call.
        return {**self.__dict__, "_features": 0, "_compiled": None, "_largest": 0}

    @property
    def engine(self) -> str:
        """Engine of the last call; before the first, the one that was asked for."""
        if not self._features:
            return self.wanted
        compiled = self._captured(self._features).compiled
        return "pennylane" if compiled is None else compiled.engine.name

    def explain(self) -> str:
        """Plan, gate counts, memory and engine of the last call, in words."""
        if not self._features:
            return "not called yet: the circuit is looked at when its first inputs come"
        found = self._captured(self._features)
        if found.compiled is None:
            return f"engine pennylane, on {self.qnode.device.name}: {found.why}"
        words = [f"engine {self.engine}: {found.why}", *found.compiled.describe(self._largest)]
        return "\n".join(words)

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs of the circuit.

        Args:
            inputs: (..., features).

        Returns:
            (..., outputs), in the type of ``inputs``.
        """
        if self.record is None:
            return self._run(inputs)
        return self._run_recording(inputs, self.record)

    def _run(self, inputs: Tensor, found: Found | None = None) -> Tensor:
        """Outputs; with ``found``, of a circuit whose engine gives all gradients at once."""
        if not inputs.is_floating_point():
            raise ConfigError(f"inputs are {inputs.dtype}: a type of real numbers is needed")
        features = inputs.shape[-1]
        if features != self._features:
            self._compiled = self._captured(features).compiled
            self._features, self._largest = features, 0
        flat = inputs if inputs.ndim == 2 else inputs.reshape(-1, features)
        compiled = self._compiled
        if compiled is None:
            outputs = self._on_device(flat)
        else:
            weights = self._weights()
            if flat.dtype != weights.dtype:
                weights = weights.to(flat.dtype)
            if flat.shape[0] > self._largest:
                compiled.check_memory(len(flat), flat, self.copies)
                self._largest = len(flat)
            outputs = compiled(flat, weights, self.copies, found)
        if inputs.ndim == 2:
            return outputs
        leading = () if self.copies is None else (self.copies,)
        return outputs.reshape(*leading, *inputs.shape[:-1], outputs.shape[-1])

    def _weights(self) -> Tensor:
        if len(self.weight_names) == 1:
            only: Tensor = getattr(self, self.weight_names[0])
            return only
        parts: list[Tensor] = [getattr(self, name) for name in self.weight_names]
        if self.copies is None:
            return torch.cat([part.reshape(-1) for part in parts]) if parts else torch.zeros(0)
        return torch.cat([part.reshape(self.copies, -1) for part in parts], dim=1)

    def per_sample_gradients(self, inputs: Tensor, grad_outputs: Tensor) -> dict[str, Tensor]:
        """Gradients of every sample's own outputs by the weights, as DP-SGD needs them.

        Args:
            inputs: (batch, …, features).
            grad_outputs: Gradients by the outputs, of their shape.

        Returns:
            For each weight (batch, *shape), summed over the dimensions in between.
        """
        features = inputs.shape[-1]
        # Not a call: this runs inside a hook, and must not set off others.
        self._run(inputs[:1])
        flat = inputs.detach().reshape(-1, features)
        copies = self.copies
        leading = () if copies is None else (copies,)
        upstream = grad_outputs.detach().reshape(*leading, len(flat), grad_outputs.shape[-1])
        found = None
        if self._compiled is not None:
            weights = self._weights().detach().to(flat.dtype)
            found = self._compiled.per_sample_gradients(flat, weights, upstream, copies)
        if found is None:
            found = self._one_by_one(flat, upstream)
        return self._by_name(found, inputs.shape)

    def _run_recording(self, inputs: Tensor, record: Callable[[str, Tensor], None]) -> Tensor:
        shape, compiled = inputs.shape, self._compiled
        if shape[-1] != self._features:
            compiled = self._captured(shape[-1]).compiled

        def hand_over(gradients: dict[str, Tensor]) -> None:
            for name, rows in gradients.items():
                record(name, rows)

        if compiled is not None and compiled.gives_all(inputs):
            return self._run(inputs, lambda rows: hand_over(self._by_name(rows, shape)))
        return apart(
            self._run,
            lambda flat, upstream: hand_over(self.per_sample_gradients(flat, upstream)),
            inputs,
            [getattr(self, name) for name in self.weight_names],
        )

    def _by_name(self, found: Tensor, shape: torch.Size) -> dict[str, Tensor]:
        """Gradients (copies, rows, weights of a copy) for inputs of a shape, by weight."""
        copies, batch, between = self.copies, shape[0], prod(shape[1:-1])
        if between == 1 and copies is None and len(self.weight_names) == 1:
            (only,) = self.weight_names
            return {only: found.reshape(batch, *getattr(self, only).shape)}
        if between == 1:
            found = found.reshape(copies or 1, batch, found.shape[-1])
        else:
            found = found.reshape(copies or 1, batch, between, found.shape[-1]).sum(2)
        shapes = [getattr(self, name).shape for name in self.weight_names]
        sizes = [shape.numel() // (copies or 1) for shape in shapes]
        return {
            name: piece.transpose(0, 1).reshape(batch, *shape)
            for name, piece, shape in zip(
                self.weight_names, torch.split(found, sizes, dim=2), shapes, strict=True
            )
        }

    def _one_by_one(self, flat: Tensor, upstream: Tensor) -> Tensor:
        weights = [getattr(self, name) for name in self.weight_names]
        copies = self.copies or 1
        rows = []
        for number, sample in enumerate(torch.split(flat, 1)):
            with torch.enable_grad():
                outputs = self._run(sample)
            gradient = upstream[..., number : number + 1, :].to(outputs.dtype)
            found = dict.fromkeys(weights)
            learning = [weight for weight in weights if weight.requires_grad]
            found |= zip(
                learning,
                torch.autograd.grad(outputs, learning, gradient, allow_unused=True),
                strict=True,
            )
            parts = [torch.zeros_like(w) if g is None else g for w, g in found.items()]
            rows.append(torch.cat([part.reshape(copies, -1) for part in parts], dim=1))
        total = sum(weight.numel() for weight in weights) // copies
        return torch.stack(rows, dim=1) if len(flat) else flat.new_zeros((copies, 0, total))

    def _on_device(self, flat: Tensor) -> Tensor:
        weights = {name: getattr(self, name) for name in self.weight_names}
        for weight in weights.values() or [flat]:
            if eager_on_cpu(flat, weight):
                check_finite(flat, weight)
        if self.copies is None:
            return self._run_qnode(flat, weights)
        return torch.stack(
            [
                self._run_qnode(flat, {name: weight[copy] for name, weight in weights.items()})
                for copy in range(self.copies)
            ]
        )

    def _run_qnode(self, flat: Tensor, weights: dict[str, Tensor]) -> Tensor:
        if not len(flat):
            # PennyLane runs no empty batch: the shape is that of a batch of one.
            return self._run_qnode(flat.new_zeros((1, flat.shape[1])), weights)[:0]
        with RECORDING:
            results = self.qnode(flat, **weights)
        if isinstance(results, Tensor):
            results = [results]
        columns = torch.cat([_per_sample(result, len(flat)) for result in results], dim=-1)
        if eager_on_cpu(columns) and not torch.isfinite(columns.detach()).all():
            row = int((~torch.isfinite(columns.detach())).nonzero()[0, 0])
            raise DataError(
                f"the circuit gives no numbers for row {row} of its inputs: rows that become "
                "amplitudes must not be zero"
            )
        return columns.to(complex_type(flat.dtype) if columns.is_complex() else flat.dtype)

    def _captured(self, features: int) -> _Captured:
        leading = 0 if self.copies is None else 1
        shapes = tuple(
            (name, tuple(getattr(self, name).shape)[leading:]) for name in self.weight_names
        )
        key = (features, shapes, self.wanted, self.threads)
        known = _CAPTURED.setdefault(self.qnode, {})
        if key not in known:
            known[key] = self._capture(features, dict(shapes))
        return known[key]

    def _capture(self, features: int, shapes: dict[str, tuple[int, ...]]) -> _Captured:
        if self.wanted == "pennylane":
            return _Captured(None, "asked for")
        try:
            plan, columns = _capture_apart(self.qnode, shapes, features)
            engine, why = choose_engine(plan, self.wanted, self.threads)
            return _Captured(Compiled(plan, engine, columns), why)
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
            return _Captured(None, str(reason))


def _capture_apart(
    qnode: Any, shapes: dict[str, tuple[int, ...]], features: int
) -> tuple[Plan, Columns | None]:
    """Capture in a thread of its own.

    The probes' gradients tell inputs from weights, whatever the caller is in: ``no_grad``,
    ``inference_mode`` and ``torch.func`` transforms all belong to the calling thread.
    """

    def look() -> tuple[Plan, Columns | None]:
        with RECORDING:
            return capture(qnode, shapes, features)

    if RECORDING._is_owned():  # type: ignore[attr-defined]
        # Inside of another circuit, which another thread would wait for.
        with torch.inference_mode(False), torch.enable_grad():
            return look()
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(look).result()


def _per_sample(result: Tensor, batch: int) -> Tensor:
    """(batch, outputs) of one measurement; a circuit without inputs gives the same for all."""
    if result.ndim == 0 or (result.ndim == 1 and len(result) != batch):
        return result.reshape(1, -1).expand(batch, -1)
    return result.reshape(batch, -1)
