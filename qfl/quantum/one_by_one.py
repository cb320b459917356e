"""QNodes that run a batch circuit by circuit, as hardware does.

Gradients come from the device (``adjoint``) or from further circuits. Parameter shifts (Mitarai
et al. 2018; Schuld et al. 2019) are exact; SPSA (Spall 1992) estimates the gradient of each circuit
from two runs, along one random direction. Everything random in a call, shots and directions,
follows from a seed and from the numbers that the circuit was called with: the same call gives the
same numbers in whichever thread, and nothing has to be kept across a restart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from qfl.quantum.recording import RECORDING

# Half the step of SPSA. Shots make a difference uncertain by about 1/sqrt(shots), which is divided
# by the step; exact values allow one so small that the third derivative does not count.
_STEP_WITH_SHOTS = 0.2
_STEP = 1e-3


class OneByOneQNode:
    """Called like a QNode with torch arguments; has its attributes.

    Args:
        build: Makes the QNode, with a device whose shots follow from the seed given.
        seed: Of everything random.
    """

    def __init__(self, build: Callable[[int], Any], seed: int) -> None:
        self._build = build
        self._seed = seed
        self._shown = build(seed)

    def __getattr__(self, name: str) -> Any:
        """What a QNode has: ``func``, ``device``, ``shots``, ``compile_pipeline``."""
        if name.startswith("__") or "_shown" not in vars(self):
            raise AttributeError(name)
        return getattr(self._shown, name)

    def __deepcopy__(self, memo: Any) -> OneByOneQNode:
        """Itself: it holds no state, and a device may hold a connection."""
        return self

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Results of the circuit, in float64; differentiable once by every tensor."""
        given = [*arguments, *named.values()]
        places = [place for place, value in enumerate(given) if isinstance(value, Tensor)]
        tensors = [given[place] for place in places]

        def run(parts: Sequence[Tensor]) -> tuple[Tensor, ...]:
            values = list(given)
            for place, part in zip(places, parts, strict=True):
                values[place] = part
            keywords = dict(zip(named, values[len(arguments) :], strict=True))
            outputs = self._fresh(values)(*values[: len(arguments)], **keywords)
            return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)

        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
            outputs = _Run.apply(run, *tensors)  # type: ignore[no-untyped-call]
        else:
            with RECORDING:
                outputs = run([_on_cpu(tensor) for tensor in tensors])
        if tensors:
            outputs = tuple(output.to(tensors[0].device) for output in outputs)
        return outputs[0] if len(outputs) == 1 else list(outputs)

    def _fresh(self, values: Sequence[Any]) -> Any:
        """The QNode with random numbers of this call's own, if it has any."""
        import pennylane as qml

        qnode = self._shown
        shots = qnode.shots.total_shots
        if shots or qnode.diff_method == "spsa":
            of_shots, of_directions = _seeds(self._seed, values)
            qnode = self._build(of_shots)
            if qnode.diff_method == "spsa":
                qnode.gradient_kwargs["h"] = _STEP_WITH_SHOTS if shots else _STEP
                qnode.gradient_kwargs["sampler_rng"] = np.random.default_rng(of_directions)
        return qml.transform(_split)(qnode)


def _split(tape: Any) -> tuple[Sequence[Any], Callable[[Sequence[Any]], Any]]:
    """PennyLane's ``broadcast_expand``, except that its copies of some gates stay batches."""
    import pennylane as qml

    if tape.batch_size is None:
        return (tape,), lambda results: results[0]
    # Templates are taken apart once for the batch, and not once for every sample.
    (tape,), _ = qml.devices.preprocess.decompose(
        tape, stopping_condition=_is_one_piece, skip_initial_state_prep=False, name="qfl"
    )

    def sample(operation: Any, number: int) -> Any:
        if operation.batch_size is None:
            return operation
        data, structure = qml.pytrees.flatten(operation)
        parts = [
            value if qml.math.ndim(value) == dimensions else value[number]
            for value, dimensions in zip(data, operation.ndim_params, strict=True)
        ]
        return qml.pytrees.unflatten(parts, structure)

    def join(results: Sequence[Any]) -> Any:
        if len(tape.measurements) == 1:
            return qml.math.stack(results)
        return tuple(qml.math.stack(parts) for parts in zip(*results, strict=True))

    samples = range(tape.batch_size)
    operations = [
        [sample(operation, number) for operation in tape.operations] for number in samples
    ]
    return [tape.copy(operations=each) for each in operations], join


def _is_one_piece(operation: Any) -> bool:
    import pennylane as qml

    kept = (qml.operation.StatePrepBase, qml.Barrier)
    whole = isinstance(operation, kept) or operation.has_matrix
    return bool(whole or not operation.has_decomposition)


class _Run(torch.autograd.Function):
    """Keeps PennyLane's backward pass, which makes circuits, from meeting other threads' ones."""

    @staticmethod
    def forward(ctx: Any, run: Callable[[Sequence[Tensor]], Any], *tensors: Tensor) -> Any:
        leaves = [
            _on_cpu(tensor).requires_grad_(wanted)
            for tensor, wanted in zip(tensors, ctx.needs_input_grad[1:], strict=True)
        ]
        with RECORDING, torch.enable_grad():
            outputs = run(leaves)
        ctx.leaves, ctx.outputs = leaves, outputs
        ctx.like = [tensor.new_empty(0) for tensor in tensors]
        return tuple(output.detach() for output in outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        found: list[Tensor | None] = [None] * len(ctx.leaves)
        places = [place for place, leaf in enumerate(ctx.leaves) if leaf.requires_grad]
        pairs = zip(ctx.outputs, gradients, strict=True)
        used = [(output, gradient) for output, gradient in pairs if output.requires_grad]
        if used:
            outputs, upstream = zip(*used, strict=True)
            leaves = [ctx.leaves[place] for place in places]
            with RECORDING:
                made = torch.autograd.grad(
                    outputs, leaves, upstream, retain_graph=True, allow_unused=True
                )
            for place, gradient in zip(places, made, strict=True):
                found[place] = None if gradient is None else gradient.to(ctx.like[place])
        return None, *found


def _on_cpu(tensor: Tensor) -> Tensor:
    """A copy that gradients stop at, in float64, where devices compute."""
    return tensor.detach().to("cpu", torch.float64, copy=True)


def _seeds(seed: int, values: Sequence[Any]) -> tuple[int, int]:
    """Two seeds of 32 bits, which every simulator takes."""
    digest = hashlib.sha256(str(seed).encode())
    for value in values:
        known = (
            value.detach().numpy().tobytes() if isinstance(value, Tensor) else repr(value).encode()
        )
        digest.update(known)
    words = digest.digest()
    return int.from_bytes(words[:4], "big"), int.from_bytes(words[4:8], "big")
