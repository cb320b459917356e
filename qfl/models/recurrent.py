"""What recurrent models share: states over a window, attention where wanted, a linear layer."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from qfl.models.attention import CausalAttention
from qfl.models.inputs import check_width

# Added to the first biases of the forget gate, so that cells start out keeping what they hold
# (Gers, Schmidhuber, Cummins 2000; Jozefowicz, Zaremba, Sutskever 2015).
FORGET_BIAS = 1.0


class Recurrent(nn.Module, ABC):
    """Base of the recurrent models; reads their states at the last point or at all.

    Args:
        channels: Numbers at each point of the window.
        hidden: Size of a state.
        outputs: Classes, or 1.
        attention: Whether a state attends to those before it.
    """

    def __init__(self, channels: int, hidden: int, outputs: int, attention: bool) -> None:
        super().__init__()
        self.channels = channels
        self.attention = CausalAttention(hidden) if attention else None
        self.post = nn.Linear(hidden, outputs)

    @abstractmethod
    def states(self, x: Tensor) -> Tensor:
        """(batch, window, channels) to hidden states (batch, window, hidden)."""

    def forward(self, x: Tensor) -> Tensor:
        """Many to one: (batch, window, channels) to (batch, outputs), read at the last point.

        Raises:
            DataError: ``x`` has another number of channels.
        """
        check_width(x, self.channels)
        states = self.states(x)
        last = states[:, -1] if self.attention is None else self.attention.last(states)
        result: Tensor = self.post(last)
        return result

    def sequence(self, x: Tensor) -> Tensor:
        """Many to many: (batch, window, channels) to (batch, window, outputs).

        The output at a point depends on that point and those before it, and is what
        :meth:`forward` gives for a window that ends there.

        Raises:
            DataError: ``x`` has another number of channels.
        """
        check_width(x, self.channels)
        states = self.states(x)
        if self.attention is not None:
            states = self.attention(states)
        result: Tensor = self.post(states)
        return result
