"""What the server asks for in one step of a round, as plain data that travels.

The server proposes it, so the client checks every field before it acts on it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from qfl.crypto.encoding import SumRange
from qfl.errors import ConfigError, PayloadError, unknown_name

_LEAST = {"round": 0, "longest": 0, "examples": 0, "min_clients": 1, "clients": 1}
STEPS = ("hello", "keygen", "sum", "train", "evaluate", "open")


@dataclass(frozen=True)
class Step:
    """One step of the round protocol.

    Attributes:
        step: ``hello`` (who are you), ``keygen``, ``sum`` (numbers of unknown size), ``train``
            (an update and metrics), ``evaluate`` (metrics), ``open``.
        run: Run, as text.
        round: Round, 0 before the first.
        label: What is summed, such as ``train`` or ``count``; part of every payload's header.
        scheme: Aggregation scheme.
        key_id: Key to protect with; empty where there is none.
        longest: Values in the run's longest vector, from which parameters follow.
        fraction_bits: Grid of the sums.
        bound: Bound of the sums.
        additions: Most contributions in a sum.
        min_clients: Fewest contributions in a sum that is opened.
        clients: Number of clients among whom uniform weights are shared.
        examples: Total number of examples; 0 where weights are uniform.
        metrics: Names of the metrics that are summed beside the update.
    """

    step: str
    run: str
    round: int
    label: str
    scheme: str
    key_id: str
    longest: int
    fraction_bits: int
    bound: float
    additions: int
    min_clients: int
    clients: int
    examples: int
    metrics: tuple[str, ...] = ()

    @property
    def sums(self) -> SumRange:
        """Grid and capacity of the sums."""
        return SumRange(self.fraction_bits, self.bound, self.additions)

    def to_json(self) -> str:
        """Text for the message."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Step:
        """Parse and check a step.

        Raises:
            PayloadError: A field is missing, unknown, of a wrong type or out of range.
        """
        try:
            values = json.loads(text)
            if isinstance(values.get("metrics"), list):
                values["metrics"] = tuple(values["metrics"])
            step = Step(**values)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise PayloadError(f"the server's step cannot be read: {error}") from None
        for item in fields(Step):
            _check_type(item.name, str(item.type), getattr(step, item.name))
        if step.step not in STEPS:
            raise PayloadError(unknown_name("step", step.step, STEPS))
        for name, least in _LEAST.items():
            if getattr(step, name) < least:
                raise PayloadError(
                    f"the server's step has {name}={getattr(step, name)}, expected {least} or more"
                )
        if not (0 < step.bound <= 64 and 8 <= step.fraction_bits <= 22):
            raise PayloadError(
                f"the server's step has bound={step.bound}, expected more than 0 and at most 64, "
                f"and fraction_bits={step.fraction_bits}, expected 8 to 22"
            )
        try:
            _ = step.sums
        except ConfigError as error:
            raise PayloadError(f"the server's step cannot be summed: {error}") from None
        return step


def _check_type(name: str, kind: str, value: Any) -> None:
    if kind == "float" and type(value) is int:
        return
    if kind.startswith("tuple"):
        right = isinstance(value, tuple) and all(isinstance(entry, str) for entry in value)
    else:
        right = type(value).__name__ == kind
    if not right:
        raise PayloadError(f"the server's step has {name}={value!r}, expected {kind}")
