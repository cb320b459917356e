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

    def forward(inputs: Tensor, state: States | None = None) -> tuple[Tensor, States]:
        if state is not None:
            raise PrivacyError(
                "an LSTM that is given its first state has no rule for gradients of single "
                "records: start from zeros"
            )
        hidden, cells = [], []
        for number in range(layer.num_layers):
            names = ("weight_ih_l", "weight_hh_l", "bias_ih_l", "bias_hh_l")
            weights = [getattr(layer, f"{name}{number}", None) for name in names]
            inputs, cell = _Lstm.apply(inputs, *weights, collector)  # type: ignore[no-untyped-call]
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
        collector: Collector,
    ) -> tuple[Tensor, Tensor]:
        (batch, window, _), size = inputs.shape, by_state.shape[1]
        # In the order of time, so that a point lies together in memory.
        gates = torch.matmul(inputs.transpose(0, 1), by_input.T)
        if input_bias is not None and state_bias is not None:
            gates += input_bias + state_bias
        hidden = inputs.new_zeros((window + 1, batch, size))
        cells = inputs.new_zeros((window + 1, batch, size))
        squashed = inputs.new_empty((window, batch, size))
        to_gates = by_state.T
        for t in range(window):
            gate = gates[t]
            if t:
                gate.addmm_(hidden[t], to_gates)
            candidate = torch.tanh(gate[:, 2 * size : 3 * size])
            gate.sigmoid_()
            gate[:, 2 * size : 3 * size] = candidate
            take, forget, candidate, give = gate.chunk(4, dim=1)
            torch.mul(take, candidate, out=cells[t + 1])
            cells[t + 1].addcmul_(forget, cells[t])
            torch.tanh(cells[t + 1], out=squashed[t])
            torch.mul(give, squashed[t], out=hidden[t + 1])
        ctx.save_for_backward(inputs, by_input, by_state, gates, hidden, cells, squashed)
        ctx.biases, ctx.weights, ctx.collector = (
            (input_bias, state_bias),
            (by_input, by_state),
            collector,
        )
        return hidden[1:].transpose(0, 1).contiguous(), cells[-1].clone()

    @staticmethod
    def backward(ctx: Any, by_hidden: Tensor, by_cell: Tensor) -> tuple[Tensor | None, ...]:
        inputs, by_input, by_state, gates, hidden, cells, squashed = ctx.saved_tensors
        window, batch, size = squashed.shape
        take, forget, candidate, give = gates.chunk(4, dim=2)
        # What gradients by a cell, or by a hidden state, are multiplied by, for all points at once.
        slope = gates * (1 - gates)
        slope[..., 2 * size : 3 * size] = 1 - candidate * candidate
        factors = torch.cat((candidate, cells[:-1], take, squashed), dim=2).mul_(slope)
        factors = factors.reshape(window, batch, 4, size)
        through = give * (1 - squashed * squashed)
        found = torch.empty_like(factors)
        by_hidden = by_hidden.transpose(0, 1)
        by_state_before: Tensor | None = None
        for t in reversed(range(window)):
            now = by_hidden[t] if by_state_before is None else by_hidden[t] + by_state_before
            by_cell = torch.addcmul(by_cell, now, through[t])
            torch.mul(factors[t, :, :3], by_cell[:, None], out=found[t, :, :3])
            torch.mul(factors[t, :, 3], now, out=found[t, :, 3])
            if t:
                by_cell = by_cell * forget[t]
                by_state_before = found[t].reshape(batch, 4 * size) @ by_state
        gathered = found.reshape(window, batch, 4 * size).transpose(0, 1)
        weights, biases, collector = ctx.weights, ctx.biases, ctx.collector
        collector.linear(weights[0], biases[0], inputs, gathered)
        collector.linear(weights[1], biases[1], hidden[:-1].transpose(0, 1), gathered)
        by_inputs = gathered @ by_input if ctx.needs_input_grad[0] else None
        return by_inputs, None, None, None, None, None
