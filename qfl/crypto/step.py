"""What the server asks for in one step of a round, as plain data that travels.

The server proposes it, so the client checks every field before it acts on it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from qfl.conf.trust import RELEASES, check_trust
from qfl.crypto.encoding import ROUNDINGS, SumRange
from qfl.crypto.payload import LARGEST_NUMBER, Header, is_text
from qfl.errors import ConfigError, PayloadError, unknown_name

_LEAST = {
    "round": 0,
    "longest": 0,
    "examples": 0,
    "min_clients": 1,
    "clients": 1,
    "attempt": 0,
}
STEPS = (
    "hello",
    "keygen",
    "adopt",
    "advertise",
    "deal",
    "sum",
    "train",
    "evaluate",
    "agree",
    "open",
    "reveal",
    "combine",
)


@dataclass(frozen=True)
class Step:
    """One step of the round protocol.

    Attributes:
        step: ``hello`` (who are you), ``keygen``, ``adopt`` (keep the model), ``sum`` (numbers of
            unknown size), ``train`` (an update and metrics), ``evaluate`` (metrics), ``open``;
            under masking first ``advertise`` and ``deal`` (keys and shares); before an opening
            by several ``agree`` (on whose contributions are opened), and after it ``combine``
            (their shares, where only one of them may learn the sum).
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
        trust: Who can open a sum; see :data:`TRUSTS`.
        release: Who learns what is opened: ``server``, or ``clients`` only.
        rounding: How updates are brought to the grid: ``nearest`` or ``stochastic``.
        attempt: 0, and one more each time that the step is repeated.
        content: Digest of the model and settings that go with the step.
        privacy: Terms of differential privacy, as text; empty where there are none.
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
    trust: str = "key_holder"
    release: str = "server"
    rounding: str = "nearest"
    attempt: int = 0
    content: str = ""
    privacy: str = ""

    @property
    def place(self) -> str:
        """Run, round, label and attempt as one text; see :attr:`Header.place`."""
        return self.header(0).place

    def header(self, length: int, contributions: int = 1) -> Header:
        """The header of a payload that answers this step."""
        return Header(
            scheme=self.scheme,
            key_id=self.key_id,
            run=self.run,
            round=self.round,
            step=self.label,
            length=length,
            contributions=contributions,
            attempt=self.attempt,
            terms=self.weights,
        )

    @property
    def weights(self) -> str:
        """Digest of all that decides how much each client counts, and of what it was sent.

        Were clients told different numbers, or sent different models, all but one could be made to
        add nothing. Where protection is bound to a place, it is bound to this too.
        """
        told = (
            self.clients,
            self.examples,
            self.longest,
            self.additions,
            float(self.bound),
            self.fraction_bits,
            self.metrics,
            self.content,
            self.min_clients,
            self.privacy,
        )
        return hashlib.sha256(repr(told).encode()).hexdigest()

    @property
    def terms(self) -> str:
        """What does not change in a run, once a node has heard of it."""
        return (
            f"scheme {self.scheme}, trust {self.trust}, release {self.release}, at least "
            f"{self.min_clients} clients, bound {self.bound:g}, grid 2^-{self.fraction_bits}"
        )

    @property
    def sums(self) -> SumRange:
        """Grid and capacity of the sums."""
        return SumRange(self.fraction_bits, self.bound, self.additions)

    def clear_header(self, length: int) -> Header:
        """The header of the part of an update that travels in the clear."""
        return replace(self.header(length), scheme="plain", key_id="", step=f"{self.label}/clear")

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
            if missing := {item.name for item in fields(Step)} - set(values):
                raise TypeError(f"it has no '{min(missing)}'")
            step = Step(**values)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            said = str(error).encode(errors="backslashreplace").decode()
            raise PayloadError(f"the server's step cannot be read: {said}") from None
        for item in fields(Step):
            _check_type(item.name, str(item.type), getattr(step, item.name))
        if step.step not in STEPS:
            raise PayloadError(unknown_name("step", step.step, STEPS))
        if step.step in ("train", "evaluate") and step.label != step.step:
            raise PayloadError(
                f"the server's step {step.step} has label '{step.label}'; it must be the step's own"
            )
        for name, least in _LEAST.items():
            if getattr(step, name) < least:
                raise PayloadError(
                    f"the server's step has {name}={getattr(step, name)}, expected {least} or more"
                )
        if not (0 < step.bound <= 64 and 8 <= step.fraction_bits <= 30):
            raise PayloadError(
                f"the server's step has bound={step.bound}, expected more than 0 and at most 64, "
                f"and fraction_bits={step.fraction_bits}, expected 8 to 30"
            )
        for name, allowed in (("release", RELEASES), ("rounding", ROUNDINGS)):
            if getattr(step, name) not in allowed:
                raise PayloadError(unknown_name(name, getattr(step, name), allowed))
        try:
            check_trust(step.scheme, step.trust)
        except ConfigError as error:
            raise PayloadError(f"the server's step is refused: {error}") from None
        try:
            _ = step.sums
        except ConfigError as error:
            raise PayloadError(f"the server's step cannot be summed: {error}") from None
        return step


def _check_type(name: str, kind: str, value: Any) -> None:
    if kind == "float" and type(value) is int:
        return
    texts: tuple[Any, ...] = ()
    if kind.startswith("tuple"):
        right = isinstance(value, tuple) and all(isinstance(entry, str) for entry in value)
        texts = value if right else ()
    else:
        right = type(value).__name__ == kind
        texts = (value,) if right and kind == "str" else ()
    if not right or not all(map(is_text, texts)):
        raise PayloadError(f"the server's step has {name}={value!a}, expected {kind}")
    if kind == "int" and abs(value) > LARGEST_NUMBER:
        raise PayloadError(
            f"the server's step has a number {name} beyond {LARGEST_NUMBER} in magnitude"
        )
