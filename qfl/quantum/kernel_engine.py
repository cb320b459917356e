"""The fast engine on a CPU: a compiled kernel, called through ctypes.

The kernel (``native/kernel.cpp``) is built with the package where there is a C++ compiler; where
there is none, ``KernelEngine.available`` says so and other engines do the work.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from qfl.errors import ConfigError, DataError, MissingDependencyError
from qfl.quantum.kernel_program import KernelProgram, pack
from qfl.quantum.plan import Plan
from qfl.quantum.private import Found
from qfl.quantum.program import MAX_WIRES, lower

VERSION = 2
NOT_A_NUMBER = 2
_TYPES = (torch.float32, torch.float64)
INSTRUCTIONS = ("baseline", "avx2", "avx512")
TABLES = 4 << 20  # phases that all samples share are kept up to this size


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
        self._columns, self._weights, self._outputs = plan.columns, plan.n_weights, plan.outputs
        self._library = library
        self._program, self._arrays = pack(lower(plan))
        self._reference = ctypes.byref(self._program)

    def __call__(
        self,
        inputs: Tensor,
        weights: Tensor,
        copies: int | None = None,
        found: Found | None = None,
    ) -> Tensor:
        """Run a batch; differentiable once in both arguments.

        Args:
            inputs: (B, columns of the plan), float32 or float64, on the CPU; B may be 0.
            weights: n_weights in any shape, of the same type; or (copies, n_weights).
            copies: Run so many times on the same inputs, each time with weights of its own.
            found: The backward pass calls it with each sample's own gradient by the weights,
                (B, n_weights) or (copies, B, n_weights), and gives ``weights`` none.

        Returns:
            (B, outputs), or (copies, B, outputs), of the same type.

        Raises:
            ConfigError: Shapes, types or devices are others.
            DataError: An input or a weight is infinite or not a number.
        """
        self._check(inputs, weights, copies or 1)
        return cast(Tensor, _Run.apply(inputs, weights, self, copies, found))  # type: ignore[no-untyped-call]

    def per_sample_gradients(
        self, inputs: Tensor, weights: Tensor, grad_outputs: Tensor, copies: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Gradient of each sample's ``(outputs * grad_outputs).sum()`` by its inputs and weights.

        Args:
            inputs: (B, columns of the plan).
            weights: (n_weights,), or (copies, n_weights).
            grad_outputs: (B, outputs), or (copies, B, outputs).
            copies: As in a call.

        Returns:
            (B, columns), and (B, n_weights) or (copies, B, n_weights).

        Raises:
            ConfigError: Shapes, types or devices are others than said.
        """
        self._check(inputs, weights, copies or 1)
        shape: tuple[int, ...] = (len(inputs), self.plan.outputs)
        shape = shape if copies is None else (copies, *shape)
        self._check_one("grad_outputs", grad_outputs, shape, inputs)
        return self.backward(_plain(inputs), _plain(weights), grad_outputs, True, copies)

    @staticmethod
    def instructions(most: str = INSTRUCTIONS[-1]) -> str:
        """Instructions that the kernel uses from now on, for the whole process.

        Args:
            most: One of :data:`INSTRUCTIONS`; what the processor lacks is not used.

        Returns:
            What is used.
        """
        library = _library()
        if isinstance(library, str):
            raise MissingDependencyError(f"the kernel engine cannot be used: {library}")
        return INSTRUCTIONS[library.qfl_kernel_instructions(INSTRUCTIONS.index(most))]

    def scratch_bytes(self, batch: int, dtype: torch.dtype = torch.float32) -> int:
        """Bytes of working memory of each thread, for a batch of this size."""
        return int(
            self._library.qfl_kernel_scratch_bytes(
                self._reference, int(dtype == torch.float64), batch
            )
        )

    def bytes_needed(self, batch: int, dtype: torch.dtype) -> int:
        """Upper estimate of memory for values and gradients of a batch."""
        size = 8 if dtype == torch.float64 else 4
        rows = 2 * batch * (self.plan.columns + self.plan.outputs) * size
        return self.scratch_bytes(batch, dtype) * self.threads + rows + TABLES

    def _check(self, inputs: Tensor, weights: Tensor, copies: int) -> None:
        # This runs at every call: first whether all is well, then what is not.
        if (
            inputs.dim() == 2
            and inputs.shape[1] == self._columns
            and weights.numel() == copies * self._weights
            and inputs.dtype is weights.dtype
            and inputs.dtype in _TYPES
            and inputs.is_cpu
            and weights.is_cpu
        ):
            return
        if inputs.dim() != 2:
            raise ConfigError(
                f"inputs have shape {tuple(inputs.shape)}: (batch, {self.plan.columns}) is needed"
            )
        if inputs.dtype not in _TYPES:
            raise ConfigError(f"inputs are {inputs.dtype}: float32 or float64 is needed")
        self._check_one("inputs", inputs, (inputs.shape[0], self.plan.columns), inputs)
        if weights.numel() != copies * self.plan.n_weights:
            raise ConfigError(
                f"weights have shape {tuple(weights.shape)}: {self.plan.n_weights} are needed"
                + (f" for each of {copies} copies" if copies > 1 else "")
            )
        self._check_one("weights", weights, tuple(weights.shape), inputs)

    def _check_one(self, name: str, given: Tensor, shape: tuple[int, ...], like: Tensor) -> None:
        if given.shape != shape:
            raise ConfigError(f"{name} have shape {tuple(given.shape)}: {shape} is needed")
        if given.dtype != like.dtype:
            raise ConfigError(f"{name} are {given.dtype} and inputs {like.dtype}: make them equal")
        if not given.is_cpu:
            raise ConfigError(f"{name} are on {given.device}: the kernel engine runs on the CPU")

    def forward(self, inputs: Tensor, weights: Tensor, copies: int | None = None) -> Tensor:
        """Outputs for contiguous arguments that have been checked, without a graph."""
        batch = inputs.shape[0]
        shape = (batch, self._outputs) if copies is None else (copies, batch, self._outputs)
        outputs = inputs.new_empty(shape)
        self._call(self._library.qfl_kernel_forward, inputs, weights, copies, outputs.data_ptr())
        return outputs

    def backward(
        self,
        inputs: Tensor,
        weights: Tensor,
        grad_outputs: Tensor,
        per_sample: bool,
        copies: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Gradients for contiguous arguments that have been checked."""
        grad_outputs = _plain(grad_outputs)
        grad_inputs = torch.empty_like(inputs)
        if per_sample:
            leading = () if copies is None else (copies,)
            grad_weights = weights.new_empty((*leading, inputs.shape[0], self._weights))
        else:
            grad_weights = torch.empty_like(weights)
        self._call(
            self._library.qfl_kernel_backward,
            *(inputs, weights, copies, grad_outputs.data_ptr(), per_sample),
            *(grad_inputs.data_ptr(), grad_weights.data_ptr()),
        )
        return grad_inputs, grad_weights

    def _call(
        self,
        function: Callable[..., int],
        inputs: Tensor,
        weights: Tensor,
        copies: int | None,
        *others: int,
    ) -> None:
        failed = function(
            self._reference,
            inputs.dtype == torch.float64,
            self.threads,
            inputs.shape[0],
            copies or 1,
            inputs.data_ptr(),
            weights.data_ptr(),
            *others,
        )
        if failed == NOT_A_NUMBER:
            raise DataError(_not_finite(inputs))
        if failed:
            raise MemoryError(self._lacking(inputs))

    def _lacking(self, inputs: Tensor) -> str:
        needed = self.scratch_bytes(inputs.shape[0], inputs.dtype) * self.threads
        return (
            f"{self.plan.n_wires} wires on {self.threads} threads need about "
            f"{needed / 2**30:.1f} GiB: use fewer wires or threads"
        )


def check_finite(inputs: Tensor, weights: Tensor) -> None:
    """Refuse numbers that are infinite or none.

    Raises:
        DataError: Says where they are.
    """
    if not (torch.isfinite(inputs).all() and torch.isfinite(weights).all()):
        raise DataError(_not_finite(inputs))


def _not_finite(inputs: Tensor) -> str:
    wrong = (~torch.isfinite(inputs)).nonzero()
    if len(wrong):
        row, column = wrong[0].tolist()
        return (
            f"{len(wrong)} inputs of a circuit are infinite or not a number, first in row {row}, "
            f"column {column}: a circuit takes finite numbers"
        )
    return (
        "weights of a circuit are infinite or not a number: training has diverged; take a smaller "
        "client.lr, or look at the inputs"
    )


def _plain(numbers: Tensor) -> Tensor:
    """As they lie in memory: in order, and with their signs (``z.conj().imag`` has them aside)."""
    return numbers.resolve_neg().contiguous()


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        weights: Tensor,
        engine: KernelEngine,
        copies: int | None,
        found: Found | None,
    ) -> Tensor:
        inputs, weights = _plain(inputs), _plain(weights)
        ctx.engine, ctx.copies, ctx.found = engine, copies, found
        ctx.save_for_backward(inputs, weights)
        return engine.forward(inputs, weights, copies)

    @staticmethod
    def backward(ctx: Any, grad_outputs: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:
        inputs, weights = ctx.saved_tensors
        if ctx.found is not None:
            by_inputs, rows = ctx.engine.backward(inputs, weights, grad_outputs, True, ctx.copies)
            ctx.found(rows)
            return by_inputs, None, None, None, None
        # Grad mode is on here only under create_graph=True.
        gradients = _Gradients.apply if torch.is_grad_enabled() else _gradients
        by_inputs, by_weights = gradients(inputs, weights, grad_outputs, ctx.engine, ctx.copies)
        return by_inputs, by_weights, None, None, None


def _gradients(
    inputs: Tensor,
    weights: Tensor,
    grad_outputs: Tensor,
    engine: KernelEngine,
    copies: int | None,
) -> tuple[Tensor, Tensor]:
    return engine.backward(inputs, weights, grad_outputs, False, copies)


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
            "the kernel engine differentiates once: choose the torch engine for second "
            'derivatives (engine="torch"; on qfl.fast: max_diff=2)'
        )


@functools.cache
def _library() -> ctypes.CDLL | str:
    folder = Path(__file__).parent
    # The build for every Python comes before one for this Python that an older checkout left.
    names = [folder / f"_kernel{suffix}" for suffix in reversed(EXTENSION_SUFFIXES)]
    found = [name for name in names if name.exists()]
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
    both = (pointer, int32, int32, int64, int32, pointer, pointer)
    library.qfl_kernel_forward.argtypes = [*both, pointer]
    library.qfl_kernel_backward.argtypes = [*both, pointer, int32, pointer, pointer]
    return library
