"""Plans drawn at random, and what they give by dense matrices: what engines are compared with."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

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
    if plan.amplitudes:
        state = torch.complex(*inputs[plan.n_inputs :].chunk(2))

    def value(angle: Angle) -> Tensor:
        if angle.source == "constant":
            return torch.tensor(angle.offset, dtype=torch.float64)
        given = inputs if angle.source == "input" else weights
        return angle.scale * given[angle.index] + angle.offset

    for op in plan.operations:
        if isinstance(op, Unitary):
            state = on_wires(torch.tensor(op.matrix), op.wires, n) @ state
        elif isinstance(op, Monomial):
            phases = np.ones(len(op.source)) if op.phases is None else op.phases
            matrix = np.zeros((len(op.source),) * 2, complex)
            matrix[np.arange(len(op.source)), op.source] = phases
            state = on_wires(torch.tensor(matrix), op.wires, n) @ state
        else:
            if isinstance(op, Rotation):
                word = "".join("XYZ"[op.axis] if w == op.wire else "I" for w in range(n))
            else:
                word = "".join("Z" if w in op.wires else "I" for w in range(n))
            half = value(op.angle) / 2
            state = torch.cos(half) * state - 1j * torch.sin(half) * (word_matrix(word) @ state)

    measured = plan.measurement
    if isinstance(measured, StateVector):
        return torch.cat([state.real, state.imag])
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
HADAMARD = np.array([[1, 1], [1, -1]], complex) / np.sqrt(2)


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


CNOT = np.array([0, 1, 3, 2])


@st.composite
def monomials(draw: st.DrawFn, n: int) -> Monomial:
    kind = draw(st.sampled_from(["cnot", "cz", "x", "any", "phases"]))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    order = tuple(draw(st.permutations(range(n))))
    if kind in ("cnot", "cz") and n > 1:
        signs = np.array([1, 1, 1, -1], complex)
        return Monomial(order[:2], *((CNOT, None) if kind == "cnot" else (np.arange(4), signs)))
    if kind == "x":
        return Monomial(order[:1], np.array([1, 0]))
    wires = order[: draw(st.integers(1, n))]
    k = np.arange(1 << len(wires))
    phases = np.exp(2j * np.pi * rng.random(len(k)))
    if kind == "phases":
        return Monomial(wires, k, phases)
    return Monomial(wires, rng.permutation(len(k)), phases if rng.random() < 0.5 else None)


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
    matrix = np.asarray(fixed.get(seed, random_unitary(2, seed)), complex)
    # Engines leave out global phases: with determinant 1 there is none.
    return Unitary(order[:1], matrix / np.sqrt(np.linalg.det(matrix) + 0j))


@st.composite
def measurements(draw: st.DrawFn, n: int) -> Expectations | Probabilities | StateVector:
    kind = draw(st.sampled_from(["z", "zz", "pauli", "probabilities", "state"]))
    if kind == "state":
        return StateVector()
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
    return Plan(n, ops, draw(measurements(n)), N_INPUTS, N_WEIGHTS, draw(st.booleans()))


def data(plan: Plan, batch: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    shapes = (batch, plan.columns), (plan.n_weights,), (batch, plan.outputs)
    x, w, g = (torch.tensor(rng.normal(size=shape)) for shape in shapes)
    x[:, plan.n_inputs :] = torch.nn.functional.normalize(x[:, plan.n_inputs :], dim=1)
    return x, w, g


def close(got: Tensor, expected: Tensor, tolerance: float) -> None:
    assert got.shape == expected.shape
    if got.numel():
        scale = max(1.0, expected.abs().max().item())
        assert (got.double() - expected).abs().max().item() <= tolerance * scale


def layered_plan(n: int, depth: int, *, upload: bool = False, words: bool = False) -> Plan:
    """RX of inputs, then layers of RZ RY RZ by weights and a ring of CNOT."""
    ops: list[Rotation | Unitary | Monomial | MultiRZ] = []
    for layer in range(depth):
        if layer == 0 or upload:
            ops += [Rotation(w, 0, Angle("input", w)) for w in range(n)]
        for wire in range(n):
            first = 3 * (layer * n + wire)
            ops += [Rotation(wire, a, Angle("weight", first + i)) for i, a in enumerate((2, 1, 2))]
        ops += [Monomial((wire, (wire + 1) % n), CNOT) for wire in range(n)]
    letters = "XYZ" if words else "Z"
    observables = tuple(
        (PauliTerm(1.0, "I" * w + letters[w % len(letters)] + "I" * (n - 1 - w)),) for w in range(n)
    )
    return Plan(n, tuple(ops), Expectations(observables), n, 3 * n * depth)


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


def agrees_with_dense_matrices(engine: Any, plan: Plan, batch: int, seed: int) -> None:
    """Values, gradients and per-sample gradients of an engine, in both precisions."""
    x, w, g = data(plan, batch, seed)
    y, gx, gw = reference_gradients(plan, x, w, g)
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-5)):
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
