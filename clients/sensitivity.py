"""How much a gradient says about the labels: what FedML-HE protects first (Jin et al. 2023).

The sensitivity of parameter w is the size of the second derivative of the loss by w and the true
label, averaged over examples. For cross-entropy with a label as a distribution y the gradient is
the sum over classes of y_c times the gradient of -log p_c, so that derivative is the gradient of
-log p_c itself; for squared error it is twice the gradient of the prediction.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from qfl.data import Examples

MOST_EXAMPLES = 32


def sensitivities(
    model: torch.nn.Module, examples: Examples, task: str
) -> dict[str, NDArray[np.float64]]:
    """Sensitivity of every parameter, by name, in its shape; 0 for buffers.

    Args:
        model: The global model.
        examples: The client's own; at most the first :data:`MOST_EXAMPLES` are used.
        task: ``classification`` or ``regression``.
    """
    model.eval()
    x = torch.as_tensor(examples.x[:MOST_EXAMPLES], dtype=torch.float32)
    parameters = dict(model.named_parameters())
    total = {name: torch.zeros_like(value) for name, value in parameters.items()}
    for row in x:
        out = model(row[None])[0]
        rates = -torch.log_softmax(out, dim=-1) if task == "classification" else 2 * out
        squares = {name: torch.zeros_like(value) for name, value in parameters.items()}
        for rate in rates.reshape(-1):
            found = torch.autograd.grad(
                rate, list(parameters.values()), retain_graph=True, allow_unused=True
            )
            for name, gradient in zip(parameters, found, strict=True):
                if gradient is not None:
                    squares[name] += gradient**2
        for name, square in squares.items():
            total[name] += square.sqrt()
    count = max(1, len(x))
    return {
        name: (total[name] / count).numpy().astype(np.float64)
        if name in total
        else np.zeros(tuple(value.shape))
        for name, value in model.state_dict().items()
    }
