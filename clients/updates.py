"""What a ClientApp returned, as the integers that are summed: update, weight, metrics."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable

import numpy as np
from flwr.app import Message, MetricRecord
from numpy.typing import NDArray

from qfl.crypto import Arrays, IntVector, Layout, Step, to_grid, to_limbs
from qfl.errors import PayloadError
from qfl.privacy import ClientLevel, Stream
from qfl.records import NUM_EXAMPLES, arrays_of

_log = logging.getLogger(__name__)


def numbers(step: Step, reply: Message) -> IntVector:
    """Numbers of unknown size: all arrays of the reply, as limbs."""
    parts = [
        np.asarray(array, dtype=np.float64).ravel()
        for record in reply.content.array_records.values()
        for array in arrays_of(record).values()
    ]
    return to_limbs(np.concatenate(parts) if parts else np.zeros(0), step.sums)


def weighed(
    step: Step, reply: Message, before: dict[str, Arrays], level: ClientLevel | None = None
) -> IntVector:
    """Update, weight and metrics as one vector.

    Args:
        step: What was asked for.
        reply: The app's own.
        before: Arrays that the app was sent, by record.
        level: What is done to the update where each client is protected.

    Raises:
        PayloadError: The reply does not fit what was sent or asked for.
        RangeError: A value cannot be summed.
    """
    metrics = next(iter(reply.content.metric_records.values()), MetricRecord())
    weight = _weight(step, metrics)
    values = [_update(step, reply, before, weight, level)] if step.step == "train" else []
    values.append(to_grid([1.0], weight, step.sums))
    if missing := [name for name in step.metrics if not isinstance(metrics.get(name), int | float)]:
        raise PayloadError(
            f"the app returned no number for metric '{missing[0]}'; it returned: "
            f"{', '.join(metrics) or 'none'}"
        )
    weighed = [weight * float(metrics[name]) for name in step.metrics]  # type: ignore[arg-type]
    values.append(to_limbs(weighed, step.sums))
    return np.concatenate(values)


def _update(
    step: Step,
    reply: Message,
    before: dict[str, Arrays],
    weight: float,
    level: ClientLevel | None,
) -> IntVector:
    if len(before) != 1 or len(reply.content.array_records) != 1:
        raise PayloadError(
            f"the server sent {len(before)} array records and the app returned "
            f"{len(reply.content.array_records)}; exactly one each can be summed"
        )
    (old,) = before.values()
    layout = Layout.of(old)
    new = arrays_of(next(iter(reply.content.array_records.values())))
    change = layout.flatten(new) - layout.flatten(old)
    if level is not None:
        if not np.isfinite(change).all():
            # A refusal would tell, without noise, that these data make training diverge.
            _log.warning("training diverged: the update counts as none; lower client.lr")
            change = np.zeros_like(change)
        return level.encode(change, Stream())
    uniform = _uniform(change, step) if step.rounding == "stochastic" else None
    return to_grid(change, weight, step.sums, uniform)


def _uniform(change: NDArray[np.float64], step: Step) -> Callable[[int], NDArray[np.float64]]:
    """Numbers in [0, 1) that follow from the update and the round, so that runs repeat."""
    digest = hashlib.sha256(f"qfl rounding {step.round} {step.label}".encode())
    digest.update(change.tobytes())
    key = int.from_bytes(digest.digest()[:16], "little")
    return np.random.Generator(np.random.Philox(key=key)).random


def _weight(step: Step, metrics: MetricRecord) -> float:
    if step.examples == 0:
        return 1.0 / step.clients
    examples = metrics.get(NUM_EXAMPLES)
    if not isinstance(examples, int | float) or not 0 <= examples <= step.examples:
        raise PayloadError(
            f"the app returned no {NUM_EXAMPLES} between 0 and the {step.examples} counted at the "
            "start, which weighting by examples needs"
        )
    return float(examples) / step.examples
