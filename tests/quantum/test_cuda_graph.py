"""Passes of the torch engine recorded as CUDA graphs: where a GPU is, and where one is played."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from dense_reference import WORDS, close, data, layered_plan, mixed_plan
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from qfl.quantum import cuda_graph, torch_engine
from qfl.quantum.plan import Plan, Probabilities, StateVector
from qfl.quantum.torch_engine import TorchEngine

ON_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


# ------------------------------------------------------------------ without a GPU


def tensors_in(found: Any) -> Iterator[Tensor]:
    if isinstance(found, Tensor):
        yield found
    elif isinstance(found, tuple | list):
        for part in found:
            yield from tensors_in(part)
    elif dataclasses.is_dataclass(found):
        for field in dataclasses.fields(found):
            yield from tensors_in(getattr(found, field.name))


class Recorder:
    """Stands for a GPU: what is recorded runs again, into the tensors of the first time."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def __call__(self, work: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        self.recorded += 1
        result = work()

        def replay() -> None:
            self.replayed += 1
            for kept, found in zip(tensors_in(result), tensors_in(work()), strict=True):
                kept.copy_(found.clone())

        return replay, result


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    made = Recorder()
    monkeypatch.setattr(cuda_graph, "record", made)
    monkeypatch.setattr(torch_engine, "stream_of", lambda device: 0)
    return made


def step(engine: TorchEngine, x: Tensor, w: Tensor, g: Tensor) -> tuple[Tensor, ...]:
    x, w = x.clone().requires_grad_(), w.clone().requires_grad_()
    y = engine(x, w)
    return y.detach(), *torch.autograd.grad((y * g).sum(), (x, w))


def test_a_shape_is_recorded_when_it_comes_again_and_gives_the_same(recorder: Recorder) -> None:
    plan = layered_plan(3, 2, upload=True)
    engine = TorchEngine(plan)
    for number in range(6):
        x, w, g = data(plan, 5, number)
        found = step(engine, x, w, g)
        by_inputs, by_weights = TorchEngine(plan).per_sample_gradients(x, w, g)
        close(found[1], by_inputs, 1e-12)
        close(found[2], by_weights.sum(0), 1e-12)
        # One pass forward and one backward, from the third call on.
        assert recorder.recorded == (2 if number >= 2 else 0)
    for batch in range(6, 30):
        step(engine, *data(plan, batch, 0))
    assert recorder.recorded == 2


def test_passes_of_one_shape_may_be_open_at_once(recorder: Recorder) -> None:
    plan = layered_plan(3, 2)
    engine = TorchEngine(plan)
    x, w, g = data(plan, 4, 0)
    for _ in range(3):
        step(engine, x, w, g)
    assert recorder.recorded == 2
    weights = [(w + shift).requires_grad_() for shift in range(3)]
    outputs = [engine(x, row) for row in weights]
    for row, y in zip(weights, outputs, strict=True):
        close(y, TorchEngine(plan)(x, row.detach()), 1e-12)
    # First forward, last backward, and then the others.
    for number in (2, 0, 1, 0):
        (found,) = torch.autograd.grad(
            (outputs[number] * g).sum(), weights[number], retain_graph=True
        )
        expected = TorchEngine(plan).per_sample_gradients(x, weights[number].detach(), g)[1].sum(0)
        close(found, expected, 1e-12)


def test_what_cannot_be_recorded_runs_by_itself(recorder: Recorder) -> None:
    plan = layered_plan(2, 1)
    engine = TorchEngine(plan)
    x, w, g = data(plan, 3, 1)
    for _ in range(3):
        step(engine, x, w, g)
    assert torch.autograd.gradgradcheck(
        lambda x, w: engine(x, w), (x.requires_grad_(), w.requires_grad_())
    )
    replayed = recorder.replayed
    expected = engine.per_sample_gradients(x, w, g)[1]
    jacobian = torch.func.jacrev(lambda v: engine(x.detach(), v))(w.detach())
    close((jacobian * g[..., None]).sum(1), expected, 1e-12)
    assert recorder.replayed == replayed
    whole = torch.autograd.functional.jacobian(lambda v: engine(x, v), w, vectorize=True)
    close(whole, jacobian, 1e-12)


def test_large_passes_are_not_recorded(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = layered_plan(2, 1)
    engine = TorchEngine(plan)
    monkeypatch.setattr(torch_engine, "_LARGEST_RECORDED", engine.bytes_needed(4, torch.float64))
    for batch in (4, 5):
        for _ in range(4):
            step(engine, *data(plan, batch, 0))
    assert recorder.recorded == 2


def test_a_recording_that_fails_is_given_up_with_a_warning(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(work: Callable[[], Any]) -> Any:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(cuda_graph, "record", fail)
    plan = layered_plan(2, 1)
    engine, arguments = TorchEngine(plan), data(plan, 3, 0)
    expected = [step(engine, *arguments) for _ in range(2)]
    with pytest.warns(UserWarning, match="not recorded as a CUDA graph: out of memory"):
        found = step(engine, *arguments)
    for ours, theirs in zip(found, expected[0], strict=True):
        assert torch.equal(ours, theirs)
    monkeypatch.setattr(cuda_graph, "record", recorder)
    step(engine, *arguments)
    assert recorder.recorded == 0


def test_only_the_shapes_used_last_are_kept() -> None:
    recordings = cuda_graph.Recordings()
    made: list[int] = []

    def use(key: int) -> None:
        for _ in range(3):
            recordings.find(key, lambda: made.append(key))

    for key in range(9):
        use(key)
        recordings.find(0, lambda: made.append(0))
    assert made == list(range(9))
    use(1)  # 1 had to go for 8, 0 was used between
    assert made == [*range(9), 1]
    use(0)
    assert made == [*range(9), 1]


class Noticed(TorchDispatchMode):
    """The names of the operations that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.names.add(operation.name())
        return operation(*args, **(kwargs or {}))


@pytest.mark.parametrize("amplitudes", [False, True])
@pytest.mark.parametrize("measurement", [WORDS, Probabilities((2, 0)), StateVector()])
def test_passes_neither_ask_a_gpu_nor_send_it_constants(measurement: Any, amplitudes: bool) -> None:
    plan = mixed_plan(measurement, amplitudes=amplitudes)
    engine, arguments = TorchEngine(plan), data(plan, 3, 0)
    step(engine, *arguments)
    with Noticed() as noticed:
        step(engine, *arguments)
    assert "aten::bmm" in noticed.names
    asking = {"aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero", "aten::equal"}
    sending = {"aten::_to_copy", "aten::lift_fresh", "aten::copy_", "aten::scalar_tensor"}
    assert not noticed.names & (asking | sending)


# ------------------------------------------------------------------ on a GPU


@ON_GPU
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "plan",
    [
        mixed_plan(WORDS),
        mixed_plan(StateVector(), amplitudes=True),
        mixed_plan(Probabilities((2, 0))),
        layered_plan(4, 2),
        layered_plan(6, 3, upload=True),
        layered_plan(12, 2, words=True),
        layered_plan(16, 1),
    ],
)
def test_a_gpu_gives_what_the_cpu_gives(plan: Plan, dtype: torch.dtype) -> None:
    on_cpu, on_gpu = TorchEngine(plan), TorchEngine(plan)
    for number in range(5):
        x, w, g = (part.to(dtype) for part in data(plan, 6, number))
        found = step(on_gpu, x.cuda(), w.cuda(), g.cuda())
        for ours, theirs in zip(found, step(on_cpu, x, w, g), strict=True):
            close(ours.cpu(), theirs.double(), 1e-9 if dtype == torch.float64 else 1e-5)


@ON_GPU
def test_a_gpu_replays_passes_that_are_open_at_once() -> None:
    plan = layered_plan(4, 2)
    engine = TorchEngine(plan)
    x, w, g = (part.cuda() for part in data(plan, 8, 0))
    for _ in range(4):
        step(engine, x, w, g)
    weights = [(w + shift).requires_grad_() for shift in range(3)]
    outputs = [engine(x, row) for row in weights]
    for row, y in reversed(list(zip(weights, outputs, strict=True))):
        (found,) = torch.autograd.grad((y * g).sum(), row)
        expected = engine.per_sample_gradients(x, row.detach(), g)[1].sum(0)
        close(found.cpu(), expected.cpu(), 1e-9)


@ON_GPU
def test_a_gpu_differentiates_twice() -> None:
    plan = mixed_plan(WORDS)
    x, w, _ = (part.cuda() for part in data(plan, 2, 0))
    engine = TorchEngine(plan)
    for _ in range(4):
        step(engine, x, w, torch.ones_like(engine(x, w)))
    x, w = x.requires_grad_(), w.requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x, w: engine(x, w), (x, w), atol=1e-6)
