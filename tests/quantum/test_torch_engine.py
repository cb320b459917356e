from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from dense_reference import (
    BATCHES,
    WORDS,
    agrees_with_dense_matrices,
    close,
    data,
    layered_plan,
    mixed_plan,
    plans,
    reference,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from qfl.errors import ConfigError
from qfl.quantum import signs, torch_program, torch_readout, torch_steps
from qfl.quantum.plan import Angle, Plan, Probabilities, Rotation, StateVector
from qfl.quantum.torch_engine import TorchEngine

RANDOM = {"deadline": None, "suppress_health_check": list(HealthCheck)}


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
