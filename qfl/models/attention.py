"""Attention of every time step to those before it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class CausalAttention(nn.Module):
    """Add to every state a mean of the states so far, weighted by how well they match.

    Scores are products of states through a trained matrix (Luong, Pham, Manning 2015, "general"),
    divided by the square root of their size (Vaswani et al. 2017). A state sees none after it, so
    that an output at a step is a prediction from that step.

    Args:
        hidden: Size of a state.

    Example:
        >>> attend = CausalAttention(3)
        >>> states = torch.randn(2, 5, 3)
        >>> attend(states).shape, attend.last(states).shape
        (torch.Size([2, 5, 3]), torch.Size([2, 3]))
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.match = nn.Linear(hidden, hidden, bias=False)
        self.scale = 1 / math.sqrt(hidden)

    def forward(self, states: Tensor) -> Tensor:
        """(batch, window, hidden) to the same."""
        window = states.shape[1]
        scores = self.match(states) @ states.transpose(1, 2) * self.scale
        later = torch.ones(window, window, dtype=torch.bool, device=states.device).triu(1)
        weights = torch.softmax(scores.masked_fill(later, -math.inf), dim=-1)
        return states + weights @ states

    def last(self, states: Tensor) -> Tensor:
        """(batch, window, hidden) to (batch, hidden): the last step alone."""
        asking = states[:, -1]
        # Sums, because batched products of this size spend their time on waking threads.
        scores = (self.match(asking)[:, None] * states).sum(-1) * self.scale
        weights = torch.softmax(scores, dim=-1)
        return asking + (weights[..., None] * states).sum(1)
