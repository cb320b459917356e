from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from qfl.errors import ConfigError
from qfl.quantum.kernel_engine import KernelEngine
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

PAULI = {
    "I": torch.eye(2, dtype=torch.complex128),
    "X": torch.tensor([[0, 1], [1, 0]], dtype=torch.complex128),
    "Y": torch.tensor([[0, -1j], [1j, 0]], dtype=torch.complex128),
    "Z": torch.tensor([[1, 0], [0, -1]], dtype=torch.complex128),
}


# ------------------------------------------------------------------ reference: dense matrices


def word_matrix(word: str) -> Tensor:
    return functools.reduce(torch.kron, [PAULI[letter] for letter in word])


def on_wires(matrix: Tensor, wires: tuple[int, ...], n: int) -> Tensor:
    """A matrix on some wires as one on all, entry by entry."""
    size = 1 << n
    full = torch.zeros(size, size, dtype=torch.complex128)
    bits = [1 << (n - 1 - w) for w in wires]
    for column in range(size):
        part = sum(bool(column & b) << i for i, b in enumerate(reversed(bits)))
        rest = column & ~sum(bits)
        for row in range(len(matrix)):
            spread = sum(b for i, b in enumerate(reversed(bits)) if row >> i & 1)
            full[rest | spread, column] = matrix[row, part]
    return full


def reference(plan: Plan, inputs: Tensor, weights: Tensor) -> Tensor:
    """One sample; differentiable."""
    n, size = plan.n_wires, 1 << plan.n_wires
    identity = torch.eye(size, dtype=torch.complex128)
    state = identity[0]

    def value(angle: Angle) -> Tensor:
        if angle.source == "constant":
            return torch.tensor(angle.offset, dtype=torch.float64)
        given = inputs if angle.source == "input" else weights
        return angle.scale * given[angle.index] + angle.offset

    for op in plan.operations:
        if isinstance(op, Unitary):
            state = on_wires(torch.tensor(op.matrix), op.wires, n) @ state
        elif isinstance(op, Monomial):
            state = state[torch.tensor(op.source)]
            if op.phases is not None:
                state = torch.tensor(op.phases) * state
        else:
            if isinstance(op, Rotation):
                word = "".join("XYZ"[op.axis] if w == op.wire else "I" for w in range(n))
            else:
                word = "".join("Z" if w in op.wires else "I" for w in range(n))
            half = value(op.angle) / 2
            state = torch.cos(half) * state - 1j * torch.sin(half) * (word_matrix(word) @ state)

    measured = plan.measurement
    if isinstance(measured, Probabilities):
        probabilities = (state.abs() ** 2).reshape((2,) * n)
        others = [w for w in range(n) if w not in measured.wires]
        kept = probabilities.permute(*measured.wires, *others)
        return kept.reshape(1 << len(measured.wires), -1).sum(1)
    assert isinstance(measured, Expectations)
    return torch.stack(
        [
            sum(
                (
                    t.coefficient * torch.vdot(state, word_matrix(t.word) @ state).real
                    for t in terms
                ),
                torch.zeros((), dtype=torch.float64),
            )
            for terms in measured.observables
        ]
    )


def reference_gradients(
    plan: Plan, inputs: Tensor, weights: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs, and each sample's gradients by inputs and weights."""
    rows = []
    for x, g in zip(inputs, grad, strict=True):
        x, w = x.clone().requires_grad_(), weights.clone().requires_grad_()
        y = reference(plan, x, w)
        total = (y * g).sum() + 0 * x.sum() + 0 * w.sum()
        rows.append((y.detach(), *torch.autograd.grad(total, (x, w))))
    if not rows:
        return torch.zeros(0, plan.outputs), torch.zeros_like(inputs), torch.zeros(0, len(weights))
    ys, gx, gw = zip(*rows, strict=True)
    return torch.stack(ys), torch.stack(gx), torch.stack(gw)


# ------------------------------------------------------------------ random plans

N_INPUTS, N_WEIGHTS = 3, 4
BATCHES = [0, 1, 3, 17, 40]
SQRT2 = 1 / math.sqrt(2)


def random_unitary(size: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.normal(size=(size, size)) + 1j * rng.normal(size=(size, size)))
    return q


@st.composite
def angles(draw: st.DrawFn) -> Angle:
    source = draw(st.sampled_from(["input", "weight", "weight", "constant"]))
    offset = draw(st.sampled_from([0.0, 0.0, 0.7, -math.pi / 2, math.pi]))
    if source == "constant":
        return Angle(source, offset=offset)
    scale = draw(st.sampled_from([1.0, 1.0, -1.0, 2.0, 0.3]))
    return Angle(source, draw(st.integers(0, 2 if source == "input" else 3)), scale, offset)


def cnot(n: int, control: int, target: int) -> np.ndarray:
    k = np.arange(1 << n)
    return k ^ (((k >> (n - 1 - control)) & 1) << (n - 1 - target))


@st.composite
def monomials(draw: st.DrawFn, n: int) -> Monomial:
    kind = draw(st.sampled_from(["cnot", "cz", "x", "any", "phases"]))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    k = np.arange(1 << n)
    if kind in ("cnot", "cz") and n > 1:
        a, b = draw(st.permutations(range(n)))[:2]
        if kind == "cnot":
            return Monomial(cnot(n, a, b))
        both = (k >> (n - 1 - a)) & (k >> (n - 1 - b)) & 1
        return Monomial(k, np.where(both, -1, 1).astype(complex))
    if kind == "x":
        return Monomial(k ^ (1 << draw(st.integers(0, n - 1))))
    phases = np.exp(2j * np.pi * rng.random(1 << n))
    if kind == "phases":
        return Monomial(k, phases)
    return Monomial(rng.permutation(1 << n), phases if rng.random() < 0.5 else None)


@st.composite
def operations(draw: st.DrawFn, n: int) -> Rotation | Unitary | Monomial | MultiRZ:
    kind = draw(st.sampled_from(["turn"] * 5 + ["monomial"] * 3 + ["multi"] * 2 + ["one", "two"]))
    order = tuple(draw(st.permutations(range(n))))
    if kind == "turn":
        return Rotation(order[0], draw(st.integers(0, 2)), draw(angles()))
    if kind == "multi":
        return MultiRZ(order[: draw(st.integers(1, n))], draw(angles()))
    if kind == "two" and n > 1:
        return Unitary(order[:2], random_unitary(4, draw(st.integers(0, 1000))))
    if kind == "monomial":
        return draw(monomials(n))
    fixed = {
        0: np.array([[SQRT2, SQRT2], [SQRT2, -SQRT2]]),
        1: np.array([[0, 1], [1, 0]]),
        2: np.diag([1, 1j]),
    }
    seed = draw(st.integers(0, 5))
    return Unitary(order[:1], np.asarray(fixed.get(seed, random_unitary(2, seed)), complex))


@st.composite
def measurements(draw: st.DrawFn, n: int) -> Expectations | Probabilities:
    kind = draw(st.sampled_from(["z", "zz", "pauli", "probabilities"]))
    if kind == "probabilities":
        order = draw(st.permutations(range(n)))
        return Probabilities(tuple(order[: draw(st.integers(1, n))]))
    if kind == "z":
        wires = draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=4))
        return Expectations(
            tuple((PauliTerm(1.0 + w, "I" * w + "Z" + "I" * (n - 1 - w)),) for w in wires)
        )
    words = st.text("IZ" if kind == "zz" else "IXYZ", min_size=n, max_size=n)
    terms = st.lists(st.builds(PauliTerm, st.floats(-2, 2), words), min_size=1, max_size=4)
    return Expectations(tuple(map(tuple, draw(st.lists(terms, min_size=1, max_size=3)))))


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    n = draw(st.integers(1, 6))
    ops = tuple(draw(st.lists(operations(n), max_size=14)))
    return Plan(n, ops, draw(measurements(n)), N_INPUTS, N_WEIGHTS)


def data(plan: Plan, batch: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    shapes = (batch, plan.n_inputs), (plan.n_weights,), (batch, plan.outputs)
    x, w, g = (torch.tensor(rng.normal(size=shape)) for shape in shapes)
    return x, w, g


def close(got: Tensor, expected: Tensor, tolerance: float) -> None:
    assert got.shape == expected.shape
    if got.numel():
        scale = max(1.0, expected.abs().max().item())
        assert (got.double() - expected).abs().max().item() <= tolerance * scale


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(plan=plans(), batch=st.sampled_from(BATCHES), seed=st.integers(0, 1000))
def test_values_and_gradients_are_those_of_dense_matrices(
    plan: Plan, batch: int, seed: int
) -> None:
    x, w, g = data(plan, batch, seed)
    y, gx, gw = reference_gradients(plan, x, w, g)
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-5)):
        engine = KernelEngine(plan)
        x_, w_ = x.to(dtype).requires_grad_(), w.to(dtype).requires_grad_()
        out = engine(x_, w_)
        assert out.dtype == dtype
        close(out, y, tolerance)
        got = torch.autograd.grad((out * g.to(dtype)).sum(), (x_, w_))
        close(got[0], gx, tolerance)
        close(got[1], gw.sum(0), tolerance)
        per_sample = engine.per_sample_gradients(x_.detach(), w_.detach(), g.to(dtype))
        close(per_sample[0], gx, tolerance)
        close(per_sample[1], gw, tolerance)


# ------------------------------------------------------------------ larger circuits


def layered_plan(n: int, depth: int, *, upload: bool = False, words: bool = False) -> Plan:
    """RX of inputs, then layers of RZ RY RZ by weights and a ring of CNOT."""
    ops: list[Rotation | Unitary | Monomial | MultiRZ] = []
    ring = np.arange(1 << n)
    for wire in range(n):
        ring = ring[cnot(n, wire, (wire + 1) % n)]
    for layer in range(depth):
        if layer == 0 or upload:
            ops += [Rotation(w, 0, Angle("input", w)) for w in range(n)]
        for wire in range(n):
            first = 3 * (layer * n + wire)
            ops += [Rotation(wire, a, Angle("weight", first + i)) for i, a in enumerate((2, 1, 2))]
        ops.append(Monomial(ring))
    letters = "XYZ" if words else "Z"
    observables = tuple(
        (PauliTerm(1.0, "I" * w + letters[w % len(letters)] + "I" * (n - 1 - w)),) for w in range(n)
    )
    return Plan(n, tuple(ops), Expectations(observables), n, 3 * n * depth)


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


def test_not_a_number_stays_one() -> None:
    plan = layered_plan(4, 2)
    x, w, g = data(plan, 20, 3)
    x[7, 1] = math.nan
    x[9, 0] = math.inf
    y = KernelEngine(plan)(x.float(), w.float())
    assert torch.isnan(y[[7, 9]]).any(dim=1).all()
    assert torch.isfinite(y[[0, 1, 2, 3, 4, 5, 6, 8, 10]]).all()
    gx, _ = KernelEngine(plan).per_sample_gradients(x, w, g)
    assert torch.isnan(gx[7]).any()
    assert torch.isfinite(gx[:7]).all()


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
        (Plan(1, (), StateVector(), 0, 0), "not the state"),
        (Plan(1, (), Probabilities((0,)), 0, 0, amplitudes=True), "amplitudes"),
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
        (plan_of(Monomial(np.array([0, 1, 2, 4]))), r"0\.\.3"),
        (plan_of(Monomial(np.arange(4), np.array([1, 1, 1, 2], complex))), "modulus 1"),
    ],
)
def test_plans_that_cannot_be_run(plan: Plan, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        KernelEngine(plan)


def test_refuses_says_why_or_nothing() -> None:
    assert KernelEngine.refuses(layered_plan(2, 1)) is None
    assert "state" in str(KernelEngine.refuses(Plan(1, (), StateVector(), 0, 0)))


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
