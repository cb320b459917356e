"""Gradients of single records by the parameters of an LSTM, out of one pass back through time.

A record's gradient by a matrix is the sum over points in time of outer products of the gradient by
the gates' inputs with what the matrix multiplies. So one pass that keeps the gradients by the
gates' inputs, (batch, window, 4 hidden), gives all. The cell is that of ``torch.nn.LSTM``
(Hochreiter, Schmidhuber 1997; gates in the order input, forget, candidate, output).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from qfl.errors import PrivacyError
from qfl.privacy.collector import Collector

States = tuple[Tensor, Tensor]


def refuses_lstm(layer: nn.LSTM) -> str | None:
    """None where the rule covers an LSTM, otherwise what is in the way."""
    if layer.bidirectional or layer.proj_size or layer.dropout or not layer.batch_first:
        return (
            "has a rule for batch_first=True, in one direction, without dropout and projection only"
        )
    return None


def lstm_rule(layer: nn.LSTM, collector: Collector) -> Callable[..., tuple[Tensor, States]]:
    """The forward pass of an LSTM that tells its gradients to a collector."""
    names = ("weight_ih_l", "weight_hh_l", "bias_ih_l", "bias_hh_l")
    layers = []
    for number in range(layer.num_layers):
        weights = [getattr(layer, f"{name}{number}", None) for name in names]
        by_input, by_state, input_bias, state_bias = weights
        assert by_input is not None and by_state is not None
        found = collector.linear(by_input, input_bias), collector.linear(by_state, state_bias)
        layers.append((weights, found))

    def forward(inputs: Tensor, state: States | None = None) -> tuple[Tensor, States]:
        if state is not None:
            raise PrivacyError(
                "an LSTM that is given its first state has no rule for gradients of single "
                "records: start from zeros"
            )
        hidden, cells = [], []
        for weights, found in layers:
            inputs, cell = _Lstm.apply(inputs, *weights, found)  # type: ignore[no-untyped-call]
            hidden.append(inputs[:, -1])
            cells.append(cell)
        return inputs, (torch.stack(hidden), torch.stack(cells))

    return forward


class _Lstm(torch.autograd.Function):
    """One layer: (batch, window, inputs) to all hidden states and the last cell state."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        by_input: nn.Parameter,
        by_state: nn.Parameter,
        input_bias: nn.Parameter | None,
        state_bias: nn.Parameter | None,
        found: tuple[Callable[[Tensor, Tensor], None], Callable[[Tensor, Tensor], None]],
    ) -> tuple[Tensor, Tensor]:
        (batch, window, _), size = inputs.shape, by_state.shape[1]
        # Speed is in the number of operations. Gates in the order output, input, forget,
        # candidate: those that are squashed alike lie together, and so do those behind the cell.
        # In the order of time, so that a point lies together in memory.
        gates = torch.matmul(inputs.transpose(0, 1), torch.roll(by_input, size, 0).T)
        if input_bias is not None and state_bias is not None:
            gates += torch.roll(input_bias + state_bias, size, 0)
        to_gates = torch.roll(by_state, size, 0).T
        hidden = inputs.new_zeros((window + 1, batch, size))
        cells = inputs.new_zeros((window + 1, batch, size))
        squashed = inputs.new_empty((window, batch, size))
        points = zip(
            gates.unbind(0),
            gates[..., : 3 * size].unbind(0),
            *(gate.unbind(0) for gate in gates.chunk(4, dim=2)),
            strict=True,
        )
        states, memory, small = hidden.unbind(0), cells.unbind(0), squashed.unbind(0)
        for t, (gate, between, give, take, forget, candidate) in enumerate(points):
            if t:
                gate.addmm_(states[t], to_gates)
            between.sigmoid_()
            candidate.tanh_()
            torch.mul(take, candidate, out=memory[t + 1])
            memory[t + 1].addcmul_(forget, memory[t])
            torch.tanh(memory[t + 1], out=small[t])
            torch.mul(give, small[t], out=states[t + 1])
        ctx.save_for_backward(inputs, by_input, by_state, gates, hidden, cells, squashed)
        ctx.found = found
        return hidden[1:].transpose(0, 1).contiguous(), cells[-1].clone()

    @staticmethod
    def backward(ctx: Any, by_hidden: Tensor, by_cell: Tensor) -> tuple[Tensor | None, ...]:
        inputs, by_input, by_state, gates, hidden, cells, squashed = ctx.saved_tensors
        window, batch, size = squashed.shape
        give, take, forget, candidate = gates.chunk(4, dim=2)
        # What gradients by a hidden state, or by a cell, are multiplied by, for all points at once.
        slope = gates * (1 - gates)
        torch.sub(1, candidate * candidate, out=slope[..., 3 * size :])
        factors = torch.cat((squashed, candidate, cells[:-1], take), dim=2).mul_(slope)
        through = give * (1 - squashed * squashed)
        back = torch.roll(by_state, size, 0)
        found = torch.empty_like(factors)
        points = zip(
            by_hidden.unbind(1),
            through.unbind(0),
            forget.unbind(0),
            factors[..., :size].unbind(0),
            factors[..., size:].view(window, batch, 3, size).unbind(0),
            found.unbind(0),
            found[..., :size].unbind(0),
            found[..., size:].view(window, batch, 3, size).unbind(0),
            strict=True,
        )
        by_last: Tensor | None = None
        for upstream, to_cell, keep, of_give, of_others, whole, give_part, others in reversed(
            list(points)
        ):
            if by_last is not None:
                upstream = upstream + by_last
            by_cell = torch.addcmul(by_cell, upstream, to_cell)
            torch.mul(of_give, upstream, out=give_part)
            torch.mul(of_others, by_cell[:, None], out=others)
            by_cell = by_cell * keep
            by_last = whole @ back
        gathered = torch.roll(found, -size, 2).transpose(0, 1)
        with_inputs, with_states = ctx.found
        with_inputs(inputs, gathered)
        with_states(hidden[:-1].transpose(0, 1), gathered)
        by_inputs = gathered @ by_input if ctx.needs_input_grad[0] else None
        return by_inputs, None, None, None, None, None
