"""The weakest terms on which a client takes part; from its own settings, never from a server."""

from __future__ import annotations

import math
from dataclasses import dataclass

from qfl.errors import PrivacyError
from qfl.privacy.terms import Terms


@dataclass(frozen=True)
class PrivacyFloor:
    """What a client insists on.

    Attributes:
        mechanisms: Mechanisms that it accepts.
        noise_multiplier: Smallest; under ``dpsgd`` of its own training.
        clipping_norm: Largest.
        sample_rate: ``dpsgd``: largest.
        epsilon: Largest budget; a run without a budget is refused where this is finite.
        delta: Largest. With a large one any epsilon is cheap, so it is small unless set.
        honest: ``distributed``: fewest clients whose noise counts.
        own_noise: ``distributed``: smallest standard deviation of this client's own share of the
            noise, over the sensitivity. It is what is left where a server invented the others.

    Example:
        >>> floor = PrivacyFloor(("central",), noise_multiplier=1.0)
        >>> floor.check(Terms("central", noise_multiplier=0.5), min_clients=3)
        Traceback (most recent call last):
        ...
        qfl.errors.PrivacyError: the server asks for noise_multiplier=0.5; this client requires at least 1
    """  # noqa: E501

    mechanisms: tuple[str, ...] = ("dpsgd", "central", "distributed", "local")
    noise_multiplier: float = 0.0
    clipping_norm: float = math.inf
    sample_rate: float = 1.0
    epsilon: float = math.inf
    delta: float = 1e-5
    honest: int = 1
    own_noise: float = 0.0

    def check(self, terms: Terms | None, min_clients: int) -> None:
        """Refuse weaker terms, by name.

        Raises:
            PrivacyError: Says what was asked for and what this client requires.
        """
        if terms is None:
            raise PrivacyError(
                "the server asks for an update without differential privacy; this client requires "
                f"{' or '.join(self.mechanisms)}"
            )
        if terms.mechanism not in self.mechanisms:
            raise PrivacyError(
                f"the server asks for mechanism {terms.mechanism}; this client requires "
                f"{' or '.join(self.mechanisms)}"
            )
        self.check_budget(terms.epsilon or None, terms.delta)
        self._at_most("clipping_norm", terms.clipping_norm, self.clipping_norm)
        if terms.protects == "client":
            self._at_least("noise_multiplier", terms.noise_multiplier, self.noise_multiplier)
        if terms.mechanism == "distributed":
            honest = min_clients - terms.colluders
            self._at_least("clients whose noise counts", honest, self.honest)
            share = terms.noise_multiplier / math.sqrt(max(1, honest))
            self._at_least("noise of its own", share, self.own_noise)

    def check_budget(self, epsilon: float | None, delta: float) -> None:
        """Refuse a larger budget, by name.

        Args:
            epsilon: None where there is no budget.
            delta: Of the budget.

        Raises:
            PrivacyError: Says what was asked for and what this client requires.
        """
        self._at_most("epsilon", math.inf if epsilon is None else epsilon, self.epsilon)
        self._at_most("delta", delta, self.delta)

    def check_training(
        self, noise_multiplier: float, clipping_norm: float, sample_rate: float
    ) -> None:
        """Refuse weaker training with DP-SGD, by name.

        Raises:
            PrivacyError: Says what was asked for and what this client requires.
        """
        if "dpsgd" not in self.mechanisms:
            self.check(Terms("dpsgd"), 1)
        self._at_least("noise_multiplier", noise_multiplier, self.noise_multiplier)
        self._at_most("clipping_norm", clipping_norm, self.clipping_norm)
        self._at_most("sample_rate", sample_rate, self.sample_rate)

    def _at_least(self, name: str, given: float, least: float) -> None:
        if given < least:
            raise PrivacyError(
                f"the server asks for {name}={given:g}; this client requires at least {least:g}"
            )

    def _at_most(self, name: str, given: float, most: float) -> None:
        if given > most:
            said = "no budget" if given == math.inf else f"{name}={given:g}"
            raise PrivacyError(
                f"the server asks for {said}; this client requires {name} of at most {most:g}"
            )
