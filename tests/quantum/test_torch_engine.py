from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from dense_reference import (
    BATCHES,
    agrees_with_dense_matrices,
    close,
    data,
    layered_plan,
    plans,
    reference,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from qfl.errors import ConfigError
from qfl.quantum import cuda_graph, signs, torch_engine, torch_program, torch_readout, torch_steps
from qfl.quantum.plan import (
    Angle,
    Expectations,
    MultiRZ,
    PauliTerm,
    Plan,
    Probabilities,
    Rotation,
    StateVector,
    Unitary,
)
from qfl.quantum.torch_engine import TorchEngine

RANDOM = {"deadline": None, "suppress_health_check": list(HealthCheck)}
ON_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
HADAMARD = np.array([[1, 1], [1, -1]], complex) / np.sqrt(2)


# ------------------------------------------------------------------ values and gradients


@settings(max_examples=150, **RANDOM)
@given(plan=plans(), batch=st.sampled_from(BATCHES), seed=st.integers(0, 1000))
def test_values_and_gradients_are_those_of_dense_matrices(
    plan: Plan, batch: int, seed: int
) -> None:
    agrees_with_dense_matrices(TorchEngine(plan), plan, batch, seed)


@pytest.fixture
def _as_for_many_wires(monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups of two wires and tables of two bits: what many wires go through."""
    monkeypatch.setattr(torch_program, "_SMALL_GROUP", 2)
    for module in (signs, torch_readout):
        monkeypatch.setattr(module, "TABLE_WIRES", 2)


@pytest.mark.usefixtures("_as_for_many_wires")
@pytest.mark.parametrize("narrow", [0, 64])
def test_many_wires_are_cut_into_groups(monkeypatch: pytest.MonkeyPatch, narrow: int) -> None:
    monkeypatch.setattr(torch_steps, "_NARROW", narrow)

    @settings(max_examples=60, **RANDOM)
    @given(plan=plans(), batch=st.sampled_from([1, 3]), seed=st.integers(0, 1000))
    def check(plan: Plan, batch: int, seed: int) -> None:
        agrees_with_dense_matrices(TorchEngine(plan), plan, batch, seed)

    check()


@settings(max_examples=40, **RANDOM)
@given(plan=plans(), copies=st.integers(1, 3), seed=st.integers(0, 1000))
def test_copies_have_weights_of_their_own(plan: Plan, copies: int, seed: int) -> None:
    x, _, _ = data(plan, 3, seed)
    rng = np.random.default_rng(seed + 1)
    w = torch.tensor(rng.normal(size=(copies, plan.n_weights))).requires_grad_()
    g = torch.tensor(rng.normal(size=(copies, 3, plan.outputs)))
    x = x.requires_grad_()
    engine = TorchEngine(plan)
    together = engine(x, w, copies=copies)
    apart = torch.stack([torch.stack([reference(plan, row, one) for row in x]) for one in w])
    close(together, apart.detach(), 1e-9)
    ours = torch.autograd.grad((together * g).sum(), (x, w))
    theirs = torch.autograd.grad((apart * g).sum() + 0 * (x.sum() + w.sum()), (x, w))
    close(ours[0], theirs[0], 1e-9)
    close(ours[1], theirs[1], 1e-9)
    by_inputs, by_weights = engine.per_sample_gradients(x, w, g, copies=copies)
    close(by_inputs, theirs[0], 1e-9)
    close(by_weights.sum(1), theirs[1], 1e-9)


def mixed_plan(measurement: Any, *, amplitudes: bool = False) -> Plan:
    """Everything that a plan may hold, on three wires."""
    ops = (
        Rotation(0, 0, Angle("input", 0)),
        Unitary((1,), HADAMARD),
        Rotation(2, 1, Angle("weight", 0, 2.0, 0.3)),
        MultiRZ((0, 2), Angle("weight", 1)),
        MultiRZ((0, 1), Angle("input", 1)),
        Unitary((0,), HADAMARD),
        Rotation(1, 0, Angle("input", 0, 0.5)),
        Rotation(1, 1, Angle("weight", 0)),
        Unitary((2, 0), np.kron(HADAMARD, np.diag([1, 1j]))),
        Rotation(0, 2, Angle("weight", 1)),
        Rotation(0, 0, Angle("weight", 0)),
    )
    return Plan(3, ops, measurement, 2, 2, amplitudes)


WORDS = Expectations(
    ((PauliTerm(1.0, "ZII"), PauliTerm(0.5, "XYI")), (PauliTerm(2.0, "YZX"), PauliTerm(1.0, "YII")))
)


@pytest.mark.parametrize("copies", [None, 2])
@pytest.mark.parametrize(
    "plan",
    [
        mixed_plan(WORDS),
        mixed_plan(Probabilities((2, 0)), amplitudes=True),
        mixed_plan(StateVector()),
        layered_plan(2, 2, upload=True),
    ],
)
def test_second_derivatives(plan: Plan, copies: int | None) -> None:
    x, w, _ = data(plan, 2, 0)
    w = w if copies is None else torch.stack([w, w + 1])
    engine = TorchEngine(plan)
    x, w = x.requires_grad_(), w.requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x, w: engine(x, w, copies), (x, w), atol=1e-6)


def test_second_derivatives_of_a_loss_that_is_linear_in_the_outputs() -> None:
    plan = layered_plan(2, 1)
    x, w, g = data(plan, 3, 1)
    w.requires_grad_()
    (first,) = torch.autograd.grad((TorchEngine(plan)(x, w) * g).sum(), w, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), w)
    step = 1e-5
    slopes = torch.zeros_like(w)
    for index in range(len(w)):
        shift = torch.zeros_like(w)
        shift[index] = step
        ends = []
        for moved in (w + shift, w - shift):
            moved = moved.detach().requires_grad_()
            loss = (TorchEngine(plan)(x, moved) * g).sum()
            ends.append(torch.autograd.grad(loss, moved)[0].sum())
        slopes[index] = (ends[0] - ends[1]) / (2 * step)
    close(second, slopes.detach(), 1e-7)


@pytest.mark.parametrize(
    "plan", [mixed_plan(WORDS), mixed_plan(Probabilities((1,))), layered_plan(6, 2, upload=True)]
)
def test_transforms_of_torch_func_and_forward_mode(plan: Plan) -> None:
    x, w, g = data(plan, 3, 2)
    engine = TorchEngine(plan)
    by_inputs, by_weights = engine.per_sample_gradients(x, w, g)

    def one(weights: Tensor, sample: Tensor, upstream: Tensor) -> Tensor:
        return (engine(sample[None], weights)[0] * upstream).sum()

    gradients = torch.func.vmap(torch.func.grad(one, (0, 1)), (None, 0, 0))(w, x, g)
    close(gradients[0], by_weights, 1e-9)
    close(gradients[1], by_inputs, 1e-9)
    rows = torch.stack([w, w + 1])
    close(torch.func.vmap(lambda row: engine(x, row))(rows), engine(x, rows, copies=2), 1e-12)
    jacobian = torch.func.jacrev(lambda weights: engine(x, weights))(w)
    close((jacobian * g[..., None]).sum(1), by_weights, 1e-9)
    close(torch.func.jacfwd(lambda weights: engine(x, weights))(w), jacobian, 1e-9)
    whole = torch.autograd.functional.jacobian(lambda v: engine(x, v), w, vectorize=True)
    close(whole, jacobian, 1e-9)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(w, torch.ones_like(w))
        tangent = torch.autograd.forward_ad.unpack_dual(engine(x, dual)).tangent
    close(tangent, jacobian.sum(2), 1e-9)


@pytest.mark.parametrize("amplitudes", [False, True])
@pytest.mark.parametrize("wanted", ["inputs", "weights"])
def test_gradients_of_one_argument_alone(wanted: str, amplitudes: bool) -> None:
    plan = mixed_plan(WORDS, amplitudes=amplitudes)
    x, w, g = data(plan, 3, 3)
    by_inputs, by_weights = TorchEngine(plan).per_sample_gradients(x, w, g)
    argument = x if wanted == "inputs" else w
    argument.requires_grad_()
    (TorchEngine(plan)(x, w) * g).sum().backward()
    close(argument.grad, by_inputs if wanted == "inputs" else by_weights.sum(0), 1e-9)


def test_weights_changed_between_the_passes_are_noticed() -> None:
    plan = layered_plan(2, 1)
    x, w, _ = data(plan, 2, 4)
    w.requires_grad_()
    loss = TorchEngine(plan)(x, w).sum()
    with torch.no_grad():
        w.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_first_call_in_inference_mode_leaves_an_engine_that_trains() -> None:
    plan = mixed_plan(WORDS)
    x, w, g = data(plan, 2, 5)
    engine = TorchEngine(plan)
    with torch.inference_mode():
        before = engine(x, w)
    w.requires_grad_()
    after = engine(x, w)
    assert torch.equal(before, after)
    (after * g).sum().backward()
    assert float(w.grad.abs().max()) > 0


def test_autocast_does_not_round_to_half_precision() -> None:
    plan = layered_plan(3, 2)
    x, w, _ = (part.float() for part in data(plan, 4, 6))
    w.requires_grad_()
    engine = TorchEngine(plan)
    exact = engine(x, w)
    (gradient,) = torch.autograd.grad(exact.sum(), w)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = engine(x, w)
        (again,) = torch.autograd.grad(found.sum(), w)
    assert torch.equal(found, exact)
    assert torch.equal(again, gradient)


# ------------------------------------------------------------------ memory


def peak(work: Callable[[], object]) -> int:
    """Bytes that torch held at most."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        work()
    found = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    found.sort(key=lambda event: event.start_ns())
    return int(np.cumsum([event.nbytes() for event in found]).max())


def peak_of(engine: TorchEngine, batch: int, dtype: torch.dtype) -> int:
    x, w, _ = (part.to(dtype) for part in data(engine.plan, batch, 0))
    x, w = x.requires_grad_(), w.requires_grad_()

    def work() -> None:
        engine(x, w).sum().backward()

    work()
    return peak(work)


@pytest.mark.parametrize("batch", [1, 48])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "plan",
    [
        layered_plan(4, 2),
        layered_plan(8, 6, upload=True),
        layered_plan(11, 3),
        layered_plan(10, 2, words=True),
        mixed_plan(WORDS),
        dataclasses.replace(layered_plan(10, 3), amplitudes=True, measurement=StateVector()),
    ],
)
def test_bytes_needed_is_an_upper_estimate(plan: Plan, batch: int, dtype: torch.dtype) -> None:
    engine = TorchEngine(plan)
    needed, found = engine.bytes_needed(batch, dtype), peak_of(engine, batch, dtype)
    assert found <= needed <= 2.5 * found


@pytest.mark.parametrize("upload", [False, True])
def test_memory_does_not_grow_with_depth(upload: bool) -> None:
    batch, states = 8, 8 * (1 << 12) * 8
    shallow, deep = (
        peak_of(TorchEngine(layered_plan(12, depth, upload=upload)), batch, torch.float32)
        for depth in (3, 23)
    )
    # 20 layers more: what grows are the angles.
    assert deep - shallow < 2 * states


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("x", "w", "copies", "words"),
    [
        (torch.zeros(3), torch.zeros(6), None, "shape"),
        (torch.zeros(2, 3), torch.zeros(6), None, r"inputs have shape \(2, 3\): \(batch, 2\)"),
        (torch.zeros(2, 2), torch.zeros(5), None, r"weights have shape \(5,\): 6 are needed"),
        (torch.zeros(2, 2), torch.zeros(6), 2, "6 are needed for each of 2 copies"),
        (torch.zeros(2, 2), torch.zeros(6).double(), None, "make them equal"),
        (torch.zeros(2, 2), torch.zeros(6, device="meta"), None, "make them equal"),
        (torch.zeros(2, 2).half(), torch.zeros(6).half(), None, "float32 or float64"),
    ],
)
def test_arguments_that_do_not_fit(x: Tensor, w: Tensor, copies: int | None, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        TorchEngine(layered_plan(2, 1))(x, w, copies)


def test_output_gradients_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match=r"grad_outputs have shape \(1, 3\): \(1, 2\)"):
        TorchEngine(layered_plan(2, 1)).per_sample_gradients(
            torch.zeros(1, 2), torch.zeros(6), torch.zeros(1, 3)
        )


def test_plans_that_are_wrong() -> None:
    with pytest.raises(ConfigError, match="axis 3"):
        TorchEngine(Plan(1, (Rotation(0, 3, Angle("input")),), Probabilities((0,)), 1, 0))


# ------------------------------------------------------------------ CUDA graphs, without a GPU


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
