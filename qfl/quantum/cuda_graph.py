"""Forward and backward passes of fixed shapes, recorded once and replayed.

On a GPU a small circuit takes as long as its kernels take to launch. A CUDA graph launches all of
them at once. It works on fixed memory: arguments are copied in, results are copied out. What a
forward pass leaves for its backward pass lies in that memory too; where another forward pass of
the same shape came in between, the backward pass replays its own forward pass first.
"""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")
Gradients = tuple[Tensor | None, Tensor | None]

# A shape is recorded when it comes for the third time: batches of random size never are.
_SEEN_BEFORE = 2
_KEPT = 8
_REMEMBERED = 256
_WARM_UP = 3


def record(work: Callable[[], Result]) -> tuple[Callable[[], None], Result]:
    """Record what ``work`` launches on the current GPU.

    Returns:
        A function that launches it again, and the result, whose tensors each launch fills.
    """
    # Libraries allocate and constants are made at first use, which must not be recorded.
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UP):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    # Other threads may use the GPU meanwhile.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        result = work()
    return graph.replay, result


def stream_of(device: torch.device) -> int | None:
    """The stream on which work goes to a GPU now; None where nothing can be recorded."""
    if device.type != "cuda" or torch.cuda.is_current_stream_capturing():
        return None
    return int(torch.cuda.current_stream(device).cuda_stream)


class Recorded:
    """One pass forward and one backward, for arguments of one shape.

    Args:
        forward: (inputs, weights) to outputs and what to keep.
        backward: What was kept and gradients by the outputs to gradients; None where none are
            wanted.
        inputs: Arguments of the shape.
        weights: Likewise.
    """

    def __init__(
        self,
        forward: Callable[[Tensor, Tensor], tuple[Tensor, Any]],
        backward: Callable[[Any, Tensor], Gradients] | None,
        inputs: Tensor,
        weights: Tensor,
    ) -> None:
        self._lock = threading.Lock()
        self._latest: object = None
        # Ordinary tensors, even if this is called in inference mode.
        device = torch.cuda.device_of(inputs)  # type: ignore[no-untyped-call]
        with device, torch.inference_mode(False), torch.no_grad():
            self._inputs, self._weights = inputs.clone(), weights.clone()
            self._forward, found = record(lambda: forward(self._inputs, self._weights))
            self._outputs: Tensor = found[0]
            kept = found[1]
            if backward is not None:
                self._forward()
                self._grad_outputs = torch.zeros_like(self._outputs)
                self._backward, self._gradients = record(lambda: backward(kept, self._grad_outputs))

    def forward(self, inputs: Tensor, weights: Tensor) -> tuple[Tensor, object]:
        """Outputs, and a token for :meth:`backward`."""
        with self._lock:
            return self._run(inputs, weights).clone(), self._latest

    def backward(
        self, token: object, inputs: Tensor, weights: Tensor, grad_outputs: Tensor
    ) -> Gradients:
        """Gradients of the pass that gave ``token`` for these arguments."""
        with self._lock:
            if self._latest is not token:
                self._run(inputs, weights)
            self._grad_outputs.copy_(grad_outputs)
            self._backward()
            by_inputs, by_weights = self._gradients
            return (
                None if by_inputs is None else by_inputs.clone(),
                None if by_weights is None else by_weights.clone(),
            )

    def _run(self, inputs: Tensor, weights: Tensor) -> Tensor:
        self._inputs.copy_(inputs)
        self._weights.copy_(weights)
        self._forward()
        self._latest = object()
        return self._outputs


class Recordings:
    """The recorded shapes of one engine: those used last, and only such as come again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: OrderedDict[Hashable, int] = OrderedDict()
        self._kept: OrderedDict[Hashable, Recorded | None] = OrderedDict()

    def find(self, key: Hashable, make: Callable[[], Recorded | None]) -> Recorded | None:
        """What is recorded for a shape; None for as long as it has to run by itself.

        Args:
            key: The shape, and all else that the passes depend on.
            make: Records it; None where it is better left.
        """
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            seen = self._seen.pop(key, 0)
            if seen < _SEEN_BEFORE:
                self._seen[key] = seen + 1
                if len(self._seen) > _REMEMBERED:
                    self._seen.popitem(last=False)
                return None
            found = None
            try:
                found = make()
            except RuntimeError as error:
                # It runs without, as before.
                warnings.warn(f"a circuit is not recorded as a CUDA graph: {error}", stacklevel=2)
            self._kept[key] = found
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
            return found
