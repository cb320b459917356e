from __future__ import annotations

import math

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
    reference_gradients,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from qfl.errors import ConfigError, DataError
from qfl.quantum.kernel_engine import INSTRUCTIONS, KernelEngine
from qfl.quantum.plan import (
    Angle,
    Expectations,
    Monomial,
    MultiRZ,
    PauliTerm,
    Plan,
    Probabilities,
    Rotation,
    StateVector,
    Unitary,
)

pytestmark = pytest.mark.skipif(
    KernelEngine.available() is not None, reason=str(KernelEngine.available())
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(plan=plans(), batch=st.sampled_from(BATCHES), seed=st.integers(0, 1000))
def test_values_and_gradients_are_those_of_dense_matrices(
    plan: Plan, batch: int, seed: int
) -> None:
    agrees_with_dense_matrices(KernelEngine(plan), plan, batch, seed)


@pytest.mark.parametrize("most", INSTRUCTIONS)
def test_every_instruction_set_gives_the_same(most: str) -> None:
    """Where a processor lacks one, asking for it must take what there is, and be right too."""

    @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
    @given(plan=plans(), batch=st.sampled_from(BATCHES), seed=st.integers(0, 1000))
    def check(plan: Plan, batch: int, seed: int) -> None:
        agrees_with_dense_matrices(KernelEngine(plan), plan, batch, seed)

    best = INSTRUCTIONS.index(KernelEngine.instructions())
    used = KernelEngine.instructions(most)
    try:
        assert INSTRUCTIONS.index(used) == min(best, INSTRUCTIONS.index(most))
        check()
        # Turns of many wires at angles near pi take another way than those of small ones.
        plan = layered_plan(7, 2, upload=False)
        x, w, g = data(plan, 33, 1)
        w = torch.where(torch.arange(len(w)) % 3 == 1, w + math.pi, w)
        y, gx, gw = reference_gradients(plan, x, w, g)
        close(KernelEngine(plan)(x, w), y, 1e-9)
        found = KernelEngine(plan).per_sample_gradients(x, w, g)
        close(found[0], gx, 1e-9)
        close(found[1], gw, 1e-9)
    finally:
        KernelEngine.instructions()


# ------------------------------------------------------------------ larger circuits


@pytest.mark.parametrize("upload", [False, True])
def test_threads_do_not_change_a_bit(upload: bool) -> None:
    plan = layered_plan(9, 3, upload=upload)
    x, w, g = data(plan, 203, 1)
    results = []
    for threads in (1, 2, 4):
        engine = KernelEngine(plan, threads)
        x_, w_ = x.float().requires_grad_(), w.float().requires_grad_()
        y = engine(x_, w_)
        results.append((y, *torch.autograd.grad((y * g.float()).sum(), (x_, w_))))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("words", [False, True])
def test_more_layers_than_states_are_kept(words: bool) -> None:
    # 12 wires in double: 256 KiB a state, 16 of them kept; the others are undone.
    plan = layered_plan(12, 24, upload=True, words=words)
    x, w, g = data(plan, 3, 2)
    engine = KernelEngine(plan)
    gx, gw = engine.per_sample_gradients(x, w, g)
    step = 1e-5
    for index in (0, 40, 36 * 12 + 5, 36 * 24 - 4):
        shift = torch.zeros_like(w)
        shift[index] = step
        slope = (engine(x, w + shift) - engine(x, w - shift)) / (2 * step)
        close(gw[:, index], (slope * g).sum(1), 1e-7)
    for index in (0, 11):
        shift = torch.zeros_like(x)
        shift[:, index] = step
        slope = (engine(x + shift, w) - engine(x - shift, w)) / (2 * step)
        close(gx[:, index], (slope * g).sum(1), 1e-7)


def test_memory_does_not_grow_with_depth() -> None:
    n, batch = 12, 64
    shallow, deep = (KernelEngine(layered_plan(n, depth)) for depth in (40, 400))
    state_bytes = (1 << n) * 8 * 8
    angles_more = 3 * n * 360
    growth = deep.scratch_bytes(batch) - shallow.scratch_bytes(batch)
    assert growth <= angles_more * 64 < 360 * state_bytes / 10
    assert deep.scratch_bytes(10**9) == deep.scratch_bytes(batch)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_that_are_none_are_refused(wrong: float, dtype: torch.dtype) -> None:
    plan = layered_plan(4, 2)
    x, w, _ = (part.to(dtype) for part in data(plan, 20, 3))
    engine = KernelEngine(plan)
    spoilt = x.clone()
    spoilt[7, 1] = wrong
    with pytest.raises(DataError, match=r"1 inputs of a circuit .* row 7, column 1"):
        engine(spoilt, w)
    spoilt = w.clone()
    spoilt[-1] = wrong
    with pytest.raises(DataError, match="weights of a circuit"):
        engine(x, spoilt)


@pytest.mark.parametrize("batch", [1, 5, 40])
def test_copies_are_runs_with_weights_of_their_own(batch: int) -> None:
    plan = layered_plan(3, 2)
    x, w, g = data(plan, batch, 3)
    weights = torch.stack([w, 2 * w, w - 1]).requires_grad_()
    grads = torch.stack([g, -g, g + 1])
    x = x.requires_grad_()
    engine = KernelEngine(plan)
    together = engine(x, weights, copies=3)
    apart = torch.stack([engine(x, row) for row in weights])
    assert torch.equal(together, apart)
    found = torch.autograd.grad((together * grads).sum(), (x, weights))
    wanted = torch.autograd.grad((apart * grads).sum(), (x, weights))
    for ours, theirs in zip(found, wanted, strict=True):
        close(ours, theirs, 1e-12)
    x, weights = x.detach(), weights.detach()
    _, per_sample = engine.per_sample_gradients(x, weights, grads, copies=3)
    for row, upstream, by_weights in zip(weights, grads, per_sample, strict=True):
        assert torch.equal(by_weights, engine.per_sample_gradients(x, row, upstream)[1])
    with pytest.raises(ConfigError, match="for each of 2 copies"):
        engine(x, weights, copies=2)


def test_views_that_are_not_contiguous() -> None:
    plan = layered_plan(3, 1)
    x, w, _ = data(plan, 5, 4)
    engine = KernelEngine(plan)
    wide = torch.stack([w, w], 1)[:, 0]
    assert torch.equal(engine(x.t().contiguous().t(), wide), engine(x, w))


@pytest.mark.parametrize("power", [1, 2])
def test_second_derivatives_are_refused_not_wrong(power: int) -> None:
    plan = layered_plan(2, 1)
    x, w, _ = data(plan, 2, 5)
    w.requires_grad_()
    loss = (KernelEngine(plan)(x, w) ** power).sum()
    (gw,) = torch.autograd.grad(loss, w, create_graph=True)
    with pytest.raises(ConfigError, match="differentiates once"):
        (gw.sum() + w.sum()).backward()


# ------------------------------------------------------------------ refusals


def plan_of(*ops: Rotation | Unitary | Monomial | MultiRZ, word: str = "ZI") -> Plan:
    return Plan(2, ops, Expectations(((PauliTerm(1.0, word),),)), 1, 1)


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (Plan(29, (), Probabilities((0,)), 0, 0), "up to 28 wires"),
        (Plan(0, (), Probabilities((0,)), 0, 0), "1 to 28"),
        (Plan(2, (), Probabilities((0, 2)), 0, 0), r"0\.\.1"),
        (plan_of(word="Z"), "Pauli word 'Z'"),
        (plan_of(word="ZA"), "Pauli word 'ZA'"),
        (plan_of(Rotation(2, 0, Angle("input"))), "operation 0 of the plan: wires"),
        (plan_of(Rotation(0, 3, Angle("input"))), "axis 3"),
        (plan_of(Rotation(0, 0, Angle("input", 1))), "1 inputs"),
        (plan_of(Rotation(0, 0, Angle("weight", -1))), "1 weights"),
        (plan_of(Rotation(0, 0, Angle("weigth"))), "weigth"),
        (plan_of(MultiRZ((0, 0), Angle("input"))), "different ones"),
        (plan_of(Unitary((0,), np.ones((2, 2), complex))), "unitary"),
        (plan_of(Unitary((0, 1), np.eye(2, dtype=complex))), "unitary, 4 by 4"),
        (plan_of(Monomial((0, 1), np.array([0, 1, 2, 4]))), r"0\.\.3"),
        (plan_of(Monomial((0, 1), np.arange(4), np.array([1, 1, 1, 2], complex))), "modulus 1"),
    ],
)
def test_plans_that_cannot_be_run(plan: Plan, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        KernelEngine(plan)


def test_refuses_says_why_or_nothing() -> None:
    assert KernelEngine.refuses(layered_plan(2, 1)) is None
    assert "up to 28" in str(KernelEngine.refuses(Plan(29, (), StateVector(), 0, 0)))


@pytest.mark.parametrize(
    ("x", "w", "words"),
    [
        (torch.zeros(3), torch.zeros(6), "shape"),
        (torch.zeros(2, 3), torch.zeros(6), r"inputs have shape \(2, 3\): \(2, 2\)"),
        (torch.zeros(2, 2), torch.zeros(5), r"weights have shape \(5,\): 6 are needed"),
        (torch.zeros(2, 2), torch.zeros(6).double(), "make them equal"),
        (torch.zeros(2, 2).half(), torch.zeros(6).half(), "float32 or float64"),
        (torch.zeros(2, 2, device="meta"), torch.zeros(6), "on meta"),
    ],
)
def test_arguments_that_do_not_fit(x: Tensor, w: Tensor, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        KernelEngine(layered_plan(2, 1))(x, w)


def test_output_gradients_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match="grad_outputs"):
        KernelEngine(layered_plan(2, 1)).per_sample_gradients(
            torch.zeros(1, 2), torch.zeros(6), torch.zeros(1, 3)
        )


def test_no_threads() -> None:
    with pytest.raises(ConfigError, match="at least one"):
        KernelEngine(layered_plan(2, 1), threads=0)
