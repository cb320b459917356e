"""A trial on made-up records: are gradients of single records what the model's own are made of?

Rules look at layers one by one. What a model does between them, nobody can tell by looking: use a
parameter without calling its layer, take a mean over the batch, keep what it saw in a buffer. All
of that shows when the gradients of a few records are compared with autograd's.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from qfl.errors import PrivacyError
from qfl.privacy.per_sample import Floats, LossOf, Places, Session

_TOLERANCE = 1e-3  # of the gradient's norm; float32 comes to about 1e-6
_RECORDS = 3


def check_gradients(
    model: nn.Module,
    loss_of: LossOf,
    session: Session,
    places: Places,
    like: tuple[Tensor, Tensor],
) -> None:
    """Compare gradients of single records with autograd's, without looking at any data.

    Args:
        model: In training mode.
        loss_of: Sum of losses over the batch.
        session: Gives the gradients of single records; not entered.
        places: Of the parameters.
        like: Records and targets whose shapes and types are used, not their values.

    Raises:
        PrivacyError: They are others, or depend on the other records.
    """
    quiet = [one for one in model.modules() if isinstance(one, nn.modules.dropout._DropoutNd)]
    before = [buffer.clone() for buffer in model.buffers()]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((_RECORDS, *like[0].shape[1:]), generator=generator).to(like[0].dtype)
    y = torch.zeros((_RECORDS, *like[1].shape[1:]), dtype=like[1].dtype)
    for module in quiet:
        module.eval()
    try:
        whole = _by_autograd(model, loss_of, places, x, y)
        first = _of_one(model, loss_of, places, x[:1], y[:1])
        with session as gradients:
            blocks = gradients(x, y)
    finally:
        for module in quiet:
            module.train()
    for buffer, was in zip(model.buffers(), before, strict=True):
        if not torch.equal(buffer, was):
            raise PrivacyError(
                "this model keeps something of its records in a buffer, without noise: it cannot "
                "be trained privately"
            )
    told = [place.start for block in blocks for place in block.places]
    if len(told) != len(set(told)):
        raise PrivacyError(
            "two layers of this model tell gradients by the same parameter: it cannot be trained "
            "privately"
        )
    for weights, expected, what in (
        (np.ones(_RECORDS), whole, "do not add up to the gradient of the batch"),
        (np.eye(_RECORDS)[0], first, "depend on the other records of the batch"),
    ):
        found = np.zeros(places.size)
        for block in blocks:
            block.add_to(found, weights)
        off = float(np.linalg.norm(found - expected))
        if not off <= _TOLERANCE * float(np.linalg.norm(expected)) + 1e-12:
            raise PrivacyError(
                f"this model cannot be trained privately: gradients of single records {what}. Its "
                "layers must be called, and no record's outputs may depend on other records"
            )


def _of_one(model: nn.Module, loss_of: LossOf, places: Places, x: Tensor, y: Tensor) -> Floats:
    try:
        return _by_autograd(model, loss_of, places, x, y)
    except (RuntimeError, ValueError) as error:
        raise PrivacyError(
            f"this model does not take a batch of a single record ({str(error).splitlines()[0]}): "
            "it cannot be trained privately, because chance picks batches of any size"
        ) from None


def _by_autograd(model: nn.Module, loss_of: LossOf, places: Places, x: Tensor, y: Tensor) -> Floats:
    found = torch.autograd.grad(loss_of(model(x), y), places.parameters, allow_unused=True)
    parts = [
        torch.zeros_like(parameter) if gradient is None else gradient
        for parameter, gradient in zip(places.parameters, found, strict=True)
    ]
    joined: Floats = torch.cat([part.reshape(-1) for part in parts]).double().numpy()
    return joined
