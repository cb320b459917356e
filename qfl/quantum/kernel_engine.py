"""The fast engine on a CPU: a compiled kernel, called through ctypes.

The kernel (``native/kernel.cpp``) is built with the package where there is a C++ compiler; where
there is none, ``KernelEngine.available`` says so and other engines do the work.
"""

from __future__ import annotations

import ctypes
import functools
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from qfl.errors import ConfigError, MissingDependencyError
from qfl.quantum.kernel_program import KernelProgram, pack
from qfl.quantum.plan import Plan, StateVector
from qfl.quantum.program import MAX_WIRES, lower

VERSION = 1


class KernelEngine:
    """Runs a plan on the CPU, with gradients; float32 or float64.

    Memory is a few states for each block of some samples, whatever the depth. Results do not
    depend on the number of threads. It may be called from several threads at once.

    Args:
        plan: What to run.
        threads: At most so many threads; small batches use one.

    Raises:
        ConfigError: The plan cannot be run here (see ``refuses``), or is wrong in itself.
        MissingDependencyError: The kernel is not built.

    Example:
        >>> from qfl.quantum.plan import Angle, Expectations, PauliTerm, Rotation
        >>> plan = Plan(1, (Rotation(0, 0, Angle("input", 0)),),
        ...             Expectations(((PauliTerm(1.0, "Z"),),)), n_inputs=1, n_weights=0)
        >>> if KernelEngine.available() is None:
        ...     engine = KernelEngine(plan)
        ...     assert engine(torch.tensor([[0.0]]), torch.zeros(0)).item() == 1.0
    """

    name = "kernel"

    @staticmethod
    def available() -> str | None:
        """None where the engine can be used, otherwise the reason why not."""
        library = _library()
        return library if isinstance(library, str) else None

    @staticmethod
    def refuses(plan: Plan) -> str | None:
        """None where a plan can be run here, otherwise the reason why not."""
        if isinstance(plan.measurement, StateVector):
            return "the kernel engine measures expectation values and probabilities, not the state"
        if plan.amplitudes:
            return "the kernel engine starts from |0…0>, not from amplitudes given"
        if plan.n_wires > MAX_WIRES:
            return f"the kernel engine runs up to {MAX_WIRES} wires, not {plan.n_wires}"
        return None

    def __init__(self, plan: Plan, threads: int = 1) -> None:
        reason = self.refuses(plan)
        if reason is not None:
            raise ConfigError(f"{reason}: choose another engine")
        if threads < 1:
            raise ConfigError(f"{threads} threads: at least one is needed")
        library = _library()
        if isinstance(library, str):
            raise MissingDependencyError(f"the kernel engine cannot be used: {library}")
        self.plan = plan
        self.threads = threads
        self._library = library
        self._program, self._arrays = pack(lower(plan))
        self._reference = ctypes.byref(self._program)

    def __call__(self, inputs: Tensor, weights: Tensor) -> Tensor:
        """Run a batch; differentiable once in both arguments.

        Args:
            inputs: (B, n_inputs), float32 or float64, on the CPU; B may be 0.
            weights: n_weights in any shape, of the same type.

        Returns:
            (B, outputs) of the same type.

        Raises:
            ConfigError: Shapes, types or devices are others.
        """
        self._check(inputs, weights)
        return cast(Tensor, _Run.apply(inputs, weights, self))  # type: ignore[no-untyped-call]

    def per_sample_gradients(
        self, inputs: Tensor, weights: Tensor, grad_outputs: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Gradient of each sample's ``(outputs * grad_outputs).sum()`` by its inputs and weights.

        Args:
            inputs: (B, n_inputs).
            weights: (n_weights,).
            grad_outputs: (B, outputs).

        Returns:
            (B, n_inputs) and (B, n_weights).

        Raises:
            ConfigError: Shapes, types or devices are others than said.
        """
        self._check(inputs, weights)
        self._check_one("grad_outputs", grad_outputs, (len(inputs), self.plan.outputs), inputs)
        return self.backward(inputs.contiguous(), weights.contiguous(), grad_outputs, True)

    def scratch_bytes(self, batch: int, dtype: torch.dtype = torch.float32) -> int:
        """Bytes of working memory of each thread, for a batch of this size."""
        return int(
            self._library.qfl_kernel_scratch_bytes(
                self._reference, int(dtype == torch.float64), batch
            )
        )

    def _check(self, inputs: Tensor, weights: Tensor) -> None:
        # Shapes are compared as sizes first: this runs at every call.
        if inputs.dim() != 2:
            raise ConfigError(
                f"inputs have shape {tuple(inputs.shape)}: (batch, {self.plan.n_inputs}) is needed"
            )
        if inputs.dtype not in (torch.float32, torch.float64):
            raise ConfigError(f"inputs are {inputs.dtype}: float32 or float64 is needed")
        self._check_one("inputs", inputs, (inputs.shape[0], self.plan.n_inputs), inputs)
        if weights.numel() != self.plan.n_weights:
            raise ConfigError(
                f"weights have shape {tuple(weights.shape)}: {self.plan.n_weights} are needed"
            )
        self._check_one("weights", weights, tuple(weights.shape), inputs)

    def _check_one(self, name: str, given: Tensor, shape: tuple[int, ...], like: Tensor) -> None:
        if given.shape != shape:
            raise ConfigError(f"{name} have shape {tuple(given.shape)}: {shape} is needed")
        if given.dtype != like.dtype:
            raise ConfigError(f"{name} are {given.dtype} and inputs {like.dtype}: make them equal")
        if not given.is_cpu:
            raise ConfigError(f"{name} are on {given.device}: the kernel engine runs on the CPU")

    def forward(self, inputs: Tensor, weights: Tensor) -> Tensor:
        """Outputs for contiguous arguments that have been checked, without a graph."""
        outputs = inputs.new_empty((inputs.shape[0], self.plan.outputs))
        failed = self._library.qfl_kernel_forward(
            self._reference,
            inputs.dtype == torch.float64,
            self.threads,
            inputs.shape[0],
            inputs.data_ptr(),
            weights.data_ptr(),
            outputs.data_ptr(),
        )
        if failed:
            raise MemoryError(self._lacking(inputs))
        return outputs

    def backward(
        self, inputs: Tensor, weights: Tensor, grad_outputs: Tensor, per_sample: bool
    ) -> tuple[Tensor, Tensor]:
        """Gradients for contiguous arguments that have been checked."""
        grad_outputs = grad_outputs.contiguous()
        grad_inputs = torch.empty_like(inputs)
        grad_weights = weights.new_empty(
            (inputs.shape[0], self.plan.n_weights) if per_sample else (self.plan.n_weights,)
        )
        failed = self._library.qfl_kernel_backward(
            self._reference,
            inputs.dtype == torch.float64,
            self.threads,
            inputs.shape[0],
            inputs.data_ptr(),
            weights.data_ptr(),
            grad_outputs.data_ptr(),
            per_sample,
            grad_inputs.data_ptr(),
            grad_weights.data_ptr(),
        )
        if failed:
            raise MemoryError(self._lacking(inputs))
        return grad_inputs, grad_weights

    def _lacking(self, inputs: Tensor) -> str:
        needed = self.scratch_bytes(inputs.shape[0], inputs.dtype) * self.threads
        return (
            f"{self.plan.n_wires} wires on {self.threads} threads need about "
            f"{needed / 2**30:.1f} GiB: use fewer wires or threads"
        )


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weights: Tensor, engine: KernelEngine) -> Tensor:
        inputs, weights = inputs.contiguous(), weights.contiguous()
        ctx.engine = engine
        ctx.save_for_backward(inputs, weights)
        return engine.forward(inputs, weights)

    @staticmethod
    def backward(ctx: Any, grad_outputs: Tensor) -> tuple[Tensor, Tensor, None]:
        inputs, weights = ctx.saved_tensors
        # Grad mode is on here only under create_graph=True.
        gradients = _Gradients.apply if torch.is_grad_enabled() else _gradients
        by_inputs, by_weights = gradients(inputs, weights, grad_outputs, ctx.engine)
        return by_inputs, by_weights.view(weights.shape), None


def _gradients(
    inputs: Tensor, weights: Tensor, grad_outputs: Tensor, engine: KernelEngine
) -> tuple[Tensor, Tensor]:
    return engine.backward(inputs, weights, grad_outputs, False)


class _Gradients(torch.autograd.Function):
    """Gradients that are part of a graph.

    torch's ``once_differentiable`` returns gradients cut off from inputs and weights where the
    loss is linear in the outputs: second derivatives would silently lack terms.
    """

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, Tensor]:
        return _gradients(*arguments)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        raise ConfigError(
            "the kernel engine differentiates once: choose the torch engine for second derivatives"
        )


@functools.cache
def _library() -> ctypes.CDLL | str:
    folder = Path(__file__).parent
    found = [
        folder / f"_kernel{s}" for s in EXTENSION_SUFFIXES if (folder / f"_kernel{s}").exists()
    ]
    if not found:
        return "it is not built; install a C++ compiler and install qfl again"
    try:
        library = ctypes.CDLL(str(found[0]))
        if library.qfl_kernel_version() != VERSION:
            return f"{found[0].name} belongs to another version of qfl; install qfl again"
        if library.qfl_kernel_program_bytes() != ctypes.sizeof(KernelProgram):
            return f"{found[0].name} lays its data out differently; install qfl again"
    except (OSError, AttributeError) as error:
        return f"{found[0].name} cannot be loaded: {error}"
    pointer, int32, int64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
    library.qfl_kernel_scratch_bytes.argtypes = [pointer, int32, int64]
    library.qfl_kernel_scratch_bytes.restype = int64
    library.qfl_kernel_forward.argtypes = [
        *(pointer, int32, int32, int64),
        *(pointer, pointer, pointer),
    ]
    library.qfl_kernel_backward.argtypes = [
        *(pointer, int32, int32, int64),
        *(pointer, pointer, pointer, int32, pointer, pointer),
    ]
    return library
