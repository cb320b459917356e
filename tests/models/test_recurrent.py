"""The recurrent models: the cell written out again, many to many, attention, speed's shortcuts."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from qfl.conf.schema import LstmConfig, ModelConfig, QlstmConfig, QuantumConfig
from qfl.models import DataShape, initial_model
from qfl.models.attention import CausalAttention
from qfl.models.qlstm import Qlstm
from qfl.models.recurrent import Recurrent

SHAPE = DataShape(features=2, window=7, outputs=2)
CONFIGS: list[ModelConfig] = [
    LstmConfig(hidden=3),
    LstmConfig(hidden=3, attention=True),
    QlstmConfig(n_qubits=2, n_layers=1, hidden=3),
    QlstmConfig(n_qubits=2, n_layers=1, hidden=3, attention=True),
]
each_model = pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.name}-{c.attention}")


def windows(seed: int = 0) -> Tensor:
    return torch.randn(5, SHAPE.window, 2, generator=torch.Generator().manual_seed(seed)).double()


def model_of(config: ModelConfig) -> Recurrent:
    model = initial_model(config, QuantumConfig(), SHAPE, seed=4).double()
    assert isinstance(model, Recurrent)
    return model


def four_circuits(model: Qlstm, angles: Tensor) -> list[Tensor]:
    """The gates' circuits one by one, on PennyLane's own simulator."""
    found = []
    for weights in model.circuits.weights:
        state = model.circuits.qnode(torch.atan(angles), weights)
        found.append(torch.stack(list(state), dim=-1))
    return found


@pytest.mark.parametrize("ansatz", ["strongly_entangling", "basic_entangler"])
def test_a_quantum_lstm_is_the_cell_of_the_paper(ansatz: str) -> None:
    model = model_of(QlstmConfig(n_qubits=3, n_layers=2, hidden=4, ansatz=ansatz))
    assert isinstance(model, Qlstm)
    x = windows()
    state, cell = torch.zeros(2, 5, 4).double()
    for point in x.unbind(1):
        angles = model.from_input(point) + model.from_state(state)
        gates = [
            read @ model.gate_weights[k] + model.gate_biases[4 * k : 4 * (k + 1)]
            for k, read in enumerate(four_circuits(model, angles))
        ]
        forget, take, give = (torch.sigmoid(gate) for gate in gates[:3])
        cell = forget * cell + take * torch.tanh(gates[3])
        state = give * torch.tanh(cell)
    expected = model.post(state)
    assert torch.allclose(model(x), expected, atol=1e-10)
    ours = torch.autograd.grad((model(x) ** 2).sum(), list(model.parameters()))
    theirs = torch.autograd.grad((expected**2).sum(), list(model.parameters()))
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=1e-9)


def test_every_engine_gives_the_same_quantum_lstm() -> None:
    found = []
    for engine in ("auto", "torch", "pennylane"):
        config = QlstmConfig(n_qubits=2, n_layers=1, hidden=3)
        model = initial_model(config, QuantumConfig(engine=engine), SHAPE, seed=4).double()
        found.append(model(windows()))
    assert torch.allclose(found[0], found[1], atol=1e-9)
    assert torch.allclose(found[0], found[2], atol=1e-9)


@each_model
def test_the_sequence_holds_what_each_shorter_window_gives(config: ModelConfig) -> None:
    model, x = model_of(config), windows()
    whole = model.sequence(x)
    assert whole.shape == (5, SHAPE.window, SHAPE.outputs)
    for length in range(1, SHAPE.window + 1):
        assert torch.allclose(whole[:, length - 1], model(x[:, :length]), atol=1e-12)


@each_model
def test_an_output_does_not_see_what_comes_after_it(config: ModelConfig) -> None:
    model, x = model_of(config), windows()
    changed = x.clone()
    changed[:, 4:] += 10.0
    before, after = model.sequence(x), model.sequence(changed)
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4:], after[:, 4:])


@each_model
def test_many_to_many_can_be_trained(config: ModelConfig) -> None:
    model, x = model_of(config), windows()
    truth = x.cumsum(1).tanh()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model.sequence(x), truth)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_attention_by_hand() -> None:
    attend = CausalAttention(2)
    with torch.no_grad():
        attend.match.weight.copy_(torch.eye(2))
    states = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
    first, second = 0.0, 4.0 / 2**0.5
    share = torch.softmax(torch.tensor([first, second]), dim=0)
    expected = states[0, 1] + share[0] * states[0, 0] + share[1] * states[0, 1]
    assert torch.allclose(attend.last(states)[0], expected)
    assert torch.allclose(attend(states)[0], torch.stack([2 * states[0, 0], expected]))


@pytest.mark.parametrize("config", CONFIGS[::2], ids=lambda c: c.name)
def test_forget_gates_start_open(config: ModelConfig) -> None:
    model, x = model_of(config), torch.zeros(1, SHAPE.window, 2).double()
    closed = copy.deepcopy(model)
    with torch.no_grad():
        if isinstance(closed, Qlstm):
            closed.gate_biases[:3] -= 1.0
            bias = model.gate_biases[:3]
        else:
            closed.memory.bias_ih_l0[3:6] -= 1.0
            bias = model.memory.bias_ih_l0[3:6]
    assert (bias > 0.2).all()
    assert not torch.allclose(model(x), closed(x))
