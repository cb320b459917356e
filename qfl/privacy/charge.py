"""What one round costs a data set, as plain numbers that a ledger can keep."""

from __future__ import annotations

import math
from dataclasses import dataclass

from qfl.errors import PrivacyError, unknown_name

MECHANISMS = ("gaussian", "discrete_gaussian", "skellam")


@dataclass(frozen=True)
class Charge:
    """Releases of one mechanism on one data set.

    Attributes:
        mechanism: ``gaussian``, whose noise may also be the same rounded; ``discrete_gaussian`` or
            ``skellam``, on integers.
        noise_multiplier: Standard deviation of the noise that counts, over the L2 sensitivity.
            Noise of colluders does not count. 0: no noise, no guarantee.
        sample_rate: Probability with which each record takes part in a release, drawn by the owner
            of the data and known to nobody else; 1 where all take part or somebody knows who does.
        steps: Releases.
        delta: What is added to delta for all of them together: chances that a bound does not hold
            or that a sampler's distribution differs.
        sensitivity: Integers: L2 sensitivity in units of the grid.
        shares: Integers: honest parties whose independent noise adds up.
        dimension: Integers: coordinates.

    Raises:
        PrivacyError: A value is out of range.

    Example:
        >>> Charge("gaussian", noise_multiplier=1.1, sample_rate=0.01, steps=100).steps
        100
    """

    mechanism: str
    noise_multiplier: float
    sample_rate: float = 1.0
    steps: int = 1
    delta: float = 0.0
    sensitivity: float = 0.0
    shares: int = 1
    dimension: int = 0

    def __post_init__(self) -> None:
        if self.mechanism not in MECHANISMS:
            raise PrivacyError(unknown_name("mechanism", self.mechanism, MECHANISMS))
        discrete = self.mechanism != "gaussian"
        ranges = {
            "noise_multiplier": 0 <= self.noise_multiplier < math.inf,
            "sample_rate": 0 < self.sample_rate <= 1,
            "steps": self.steps >= 1,
            "delta": 0 <= self.delta < 1,
            "sensitivity": 0 < self.sensitivity < math.inf if discrete else self.sensitivity == 0,
            "shares": self.shares >= 1,
            "dimension": self.dimension >= 1 if discrete else self.dimension == 0,
        }
        for name, right in ranges.items():
            if not right:
                raise PrivacyError(
                    f"a charge of mechanism {self.mechanism} has {name}="
                    f"{getattr(self, name)}, which is out of range"
                )
        if discrete and self.sample_rate != 1:
            raise PrivacyError(
                f"a charge of mechanism {self.mechanism} has sample_rate={self.sample_rate}: "
                "amplification by sampling is accounted for with mechanism gaussian only"
            )
